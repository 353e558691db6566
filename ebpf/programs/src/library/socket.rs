//! Which TCP connection a session speaks on: the kernel's own socket, looked at while a thread that is
//! inside the library's function reads from it or writes to it.
//!
//! So it does not matter how the application gave its socket to the library (a descriptor, a BIO of its
//! own), and no descriptor can have been closed and used again meanwhile. What it takes is that the
//! reading or writing is done inside the call.

use core::mem::{MaybeUninit, size_of};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use gauntlet_wire::library::{Ends, Socket, SocketLayout};

/// Where the kernel keeps a socket's fields; the loader writes it.
#[unsafe(no_mangle)]
static SOCKET_LAYOUT: SocketLayout = SocketLayout {
    family: 0,
    protocol: 0,
    local_v4: 0,
    remote_v4: 0,
    local_v6: 0,
    remote_v6: 0,
    local_port: 0,
    remote_port: 0,
    sends: 0,
    expects: 0,
    net: 0,
    netns: 0,
};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;

/// A socket's connection; `None` if it is not TCP, or cannot be read.
#[inline(always)]
pub(crate) fn read(sock: u64) -> Option<Socket> {
    // SAFETY: the loader wrote it before the program was loaded; volatile, since the compiler must
    // not take the zeros above for its values.
    let at = unsafe { (&raw const SOCKET_LAYOUT).read_volatile() };
    if field::<u16>(sock, at.protocol)? != IPPROTO_TCP {
        return None;
    }
    let (local, remote) = match field::<u16>(sock, at.family)? {
        AF_INET => (
            mapped(field(sock, at.local_v4)?),
            mapped(field(sock, at.remote_v4)?),
        ),
        AF_INET6 => (field(sock, at.local_v6)?, field(sock, at.remote_v6)?),
        _ => return None,
    };
    Some(Socket {
        ends: Ends {
            local,
            remote,
            local_port: field(sock, at.local_port)?,
            remote_port: u16::from_be(field(sock, at.remote_port)?),
        },
        sends: field(sock, at.sends)?,
        expects: field(sock, at.expects)?,
        netns: netns(sock, &at).unwrap_or(0),
    })
}

/// Its network namespace.
#[inline(always)]
fn netns(sock: u64, at: &SocketLayout) -> Option<u32> {
    if at.net == 0 {
        return None;
    }
    field(field(sock, at.net)?, at.netns)
}

/// An IPv4 address as IPv6 has it.
#[inline(always)]
fn mapped(v4: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = v4;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// One field of plain memory.
#[inline(always)]
fn field<T: plain::Plain>(sock: u64, at: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    let from = (sock + u64::from(at)) as *const core::ffi::c_void;
    // SAFETY: the destination is as large as is said, and the helper checks the source.
    let read =
        unsafe { bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from) };
    // SAFETY: the helper has written all of it, and every bit pattern is a `T`.
    (read == 0).then(|| unsafe { value.assume_init() })
}

/// Types of which every bit pattern is a value.
mod plain {
    pub(crate) trait Plain: Copy {}
    impl Plain for u16 {}
    impl Plain for u32 {}
    impl Plain for u64 {}
    impl<const N: usize> Plain for [u8; N] {}
}
