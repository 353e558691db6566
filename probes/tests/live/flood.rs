//! Failed handshakes by the hundred thousand: frames written to the wire as they are, from every CPU at once. How
//! many were offered is known from the wire (the kernel's count of the frames that came out of it), not hoped.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::Barrier;
use std::thread;

use gauntlet_probes::netns::NetNs;
use libtest_mimic::Failed;
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::raw::{UNKNOWN_CA, alert, client_hello};
use crate::stand::{SERVER, Stand};

pub(crate) const SYN: u8 = 2;
const ACK: u8 = 16;

/// How many of a flood's connections go how far.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// One connection after the other: SYN, ClientHello, alert.
    Each,
    /// All are opened and answered before the first of them says anything.
    AllOpen,
}

/// Sends `count` handshakes that the client rejects, from `cpus` CPUs at once. Every frame arrived, or this is
/// an error.
pub(crate) fn flood(stand: &Stand, count: u32, cpus: u32, order: Order) -> Result<(), Failed> {
    flood_from(stand, 0, count, cpus, order)
}

/// The same, of clients with the numbers from `first` on.
pub(crate) fn flood_from(
    stand: &Stand,
    first: u32,
    count: u32,
    cpus: u32,
    order: Order,
) -> Result<(), Failed> {
    let before = received(&stand.server)?;
    let barrier = Barrier::new(cpus as usize);
    let per_cpu = count / cpus;
    let sent = thread::scope(|scope| {
        let barrier = &barrier;
        let threads: Vec<_> = (0..cpus)
            .map(|cpu| {
                scope.spawn(move || -> Result<u64, String> {
                    let wire = stand
                        .client
                        .run(|| Wire::open("c0"))
                        .map_err(|error| error.to_string())?
                        .map_err(|error| error.to_string())?;
                    let mut set = CpuSet::new();
                    set.set(cpu as usize).map_err(|error| error.to_string())?;
                    sched_setaffinity(Pid::from_raw(0), &set).map_err(|error| error.to_string())?;
                    barrier.wait();
                    let begin = first + cpu * per_cpu;
                    wire.all(begin..begin + per_cpu, order)
                        .map_err(|error| error.to_string())
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("it panicked".into())))
            .sum::<Result<u64, String>>()
    })?;
    let arrived = received(&stand.server)? - before;
    if arrived < sent {
        return Err(format!("{sent} frames sent, {arrived} arrived: no verdict").into());
    }
    Ok(())
}

/// How many frames came out at the server's end.
fn received(namespace: &NetNs) -> Result<u64, Failed> {
    let table = namespace.run(|| std::fs::read_to_string("/proc/thread-self/net/dev"))??;
    let line = table
        .lines()
        .find_map(|line| line.trim().strip_prefix(SERVER)?.strip_prefix(':'))
        .ok_or("no such device")?;
    // bytes, packets
    let packets = line.split_whitespace().nth(1).ok_or("no count")?;
    Ok(packets.parse()?)
}

/// A device that frames are written to.
struct Wire(OwnedFd);

impl Wire {
    fn open(device: &str) -> io::Result<Self> {
        let index = if_nametoindex(device)?;
        // SAFETY: takes numbers only.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us.
        let wire = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        // SAFETY: zeros are a valid address of this kind.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index.cast_signed();
        // SAFETY: `address` is as long as is said, and outlives the call.
        let bound = unsafe {
            libc::bind(
                wire.0.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(wire)
    }

    fn send(&self, frame: &[u8]) -> io::Result<()> {
        loop {
            // SAFETY: the buffer is as long as is said.
            let sent =
                unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
            if sent >= 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            // The device's queue is full for the moment.
            if error.raw_os_error() != Some(libc::ENOBUFS) {
                return Err(error);
            }
            thread::yield_now();
        }
    }

    /// Sends a range of connections; how many frames that took.
    fn all(&self, range: std::ops::Range<u32>, order: Order) -> io::Result<u64> {
        let hello = client_hello("flood.test");
        let open = |number| self.send(&frame(number, true, SYN, 0, &[]));
        let fail = |number| {
            self.send(&frame(number, true, ACK, 1, &hello))?;
            self.send(&frame(
                number,
                true,
                ACK,
                1 + hello.len() as u32,
                &alert(UNKNOWN_CA),
            ))
        };
        let mut sent = 0;
        match order {
            Order::Each => {
                for number in range {
                    open(number)?;
                    fail(number)?;
                    sent += 3;
                }
            }
            Order::AllOpen => {
                for number in range.clone() {
                    open(number)?;
                    self.send(&frame(number, false, SYN | ACK, 0, &[]))?;
                    sent += 2;
                }
                for number in range {
                    fail(number)?;
                    sent += 2;
                }
            }
        }
        Ok(sent)
    }
}

/// A segment of the connection with this number, which is in the client's address and port.
pub(crate) fn frame(number: u32, of_client: bool, flags: u8, at: u32, bytes: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = number.to_be_bytes();
    let client = ([10, high, middle, low], 50_000_u16);
    let server = ([11, 0, 0, 1], 443_u16);
    let (from, to) = if of_client {
        (client, server)
    } else {
        (server, client)
    };
    let heard = if of_client { 1 } else { 1_001 };
    let mut frame = vec![2; 12];
    frame.extend([8, 0, 0x45, 0]);
    frame.extend((40 + bytes.len() as u16).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    frame.extend(from.0);
    frame.extend(to.0);
    frame.extend(from.1.to_be_bytes());
    frame.extend(to.1.to_be_bytes());
    frame.extend((if of_client { 1_000 } else { 0 } + at).to_be_bytes());
    frame.extend(if flags & ACK == 0 { 0_u32 } else { heard }.to_be_bytes());
    frame.extend([5 << 4, flags, 255, 255, 0, 0, 0, 0]);
    frame.extend(bytes);
    frame
}
