//! AF_PACKET sockets: to write frames to an interface, or to have a ring that the kernel fills with them.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Result, ensure};
use nix::libc;
use nix::net::if_::if_nametoindex;

/// One that is bound to an interface of this thread's network namespace, for writing: nothing is received.
pub(crate) fn open(interface: &str) -> Result<OwnedFd> {
    let socket = socket()?;
    bind(&socket, interface, 0)?;
    Ok(socket)
}

/// One with a ring (TPACKET_V3) of 8 MiB for whatever passes an interface.
pub(crate) fn tap(interface: &str) -> Result<OwnedFd> {
    let socket = socket()?;
    option(
        &socket,
        libc::PACKET_VERSION,
        &(libc::tpacket_versions::TPACKET_V3 as libc::c_int),
    )?;
    let ring = libc::tpacket_req3 {
        tp_block_size: 1 << 18,
        tp_block_nr: 32,
        tp_frame_size: 2_048,
        tp_frame_nr: 32 * (1 << 18) / 2_048,
        tp_retire_blk_tov: 60,
        tp_sizeof_priv: 0,
        tp_feature_req_word: 0,
    };
    option(&socket, libc::PACKET_RX_RING, &ring)?;
    bind(&socket, interface, libc::ETH_P_ALL as u16)?;
    Ok(socket)
}

/// Writes a frame.
pub(crate) fn send(socket: &OwnedFd, frame: &[u8]) -> Result<()> {
    loop {
        // SAFETY: the buffer is as long as is said.
        let sent = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        // The interface's queue is full for the moment.
        ensure!(error.raw_os_error() == Some(libc::ENOBUFS), "{error}");
        std::thread::yield_now();
    }
}

fn socket() -> Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    ensure!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bind(socket: &OwnedFd, interface: &str, protocol: u16) -> Result<()> {
    // SAFETY: zeros are a valid address of this kind.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = if_nametoindex(interface)?.cast_signed();
    // SAFETY: `address` is as long as is said, and outlives the call.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    ensure!(bound == 0, "{}", io::Error::last_os_error());
    Ok(())
}

fn option<T>(socket: &OwnedFd, name: libc::c_int, value: &T) -> Result<()> {
    // SAFETY: `value` is as long as is said, and outlives the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as u32,
        )
    };
    ensure!(set == 0, "{}", io::Error::last_os_error());
    Ok(())
}
