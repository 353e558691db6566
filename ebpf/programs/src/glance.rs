//! The way out for nearly all packets: those that neither begin a connection nor belong to one that is followed.
//! Nothing is written and no helper called for them.
//!
//! Only Ethernet with IPv4 or IPv6 right behind it, without options, and TCP: whatever else there may be, and
//! whatever has to be counted, takes the long way ([`gauntlet_wire::packet`]).

use aya_ebpf::programs::TcContext;
use gauntlet_wire::held::slot_of;
use gauntlet_wire::segment::Segment;

use crate::held;
use crate::skb::{byte, half, word};

const IPV4: u16 = 0x0800_u16.to_be();
const IPV6: u16 = 0x86dd_u16.to_be();
const TCP: u8 = 6;
const ETHERNET: usize = 14;
const FRAGMENT: u16 = 0x3fff_u16.to_be();

/// 0 where every packet takes the long way: what measurements are shown to notice. Set by the loader, so that
/// live programs have no trace of it.
#[unsafe(no_mangle)]
static GLANCE: u8 = 1;

/// Whether this way out may be taken.
#[inline(always)]
pub(crate) fn allowed() -> bool {
    // SAFETY: a constant of this object, which only the loader changes, before the kernel sees it.
    unsafe { core::ptr::read_volatile(&GLANCE) != 0 }
}

/// Whether there is nothing to do with a packet.
#[inline(always)]
pub(crate) fn nothing_to_do(context: &TcContext) -> bool {
    let at = context.data();
    if at + ETHERNET + 40 > context.data_end() {
        return false;
    }
    // SAFETY: the context is readable as long as the program runs.
    let known = unsafe { (*context.skb.skb).protocol } as u16;
    let ether_type = half::<12>(at);
    if ether_type != known {
        return false;
    }
    match ether_type {
        IPV4 if byte::<14>(at) == 0x45 && half::<20>(at) & FRAGMENT == 0 => {
            let length = u32::from(u16::from_be(half::<16>(at)));
            let addresses = word::<26>(at) ^ word::<30>(at);
            byte::<23>(at) != TCP || tcp::<34>(context, at, length, addresses)
        }
        IPV6 if byte::<14>(at) >> 4 == 6 && byte::<20>(at) == TCP => {
            if at + ETHERNET + 60 > context.data_end() {
                return false;
            }
            let length = u32::from(u16::from_be(half::<18>(at)));
            let length = if length == 0 { 0 } else { length + 40 };
            let addresses = word::<34>(at) ^ word::<50>(at);
            tcp::<54>(context, at, length, addresses)
        }
        _ => false,
    }
}

/// The same of the TCP header that is `HEADER` bytes into the packet, and whole.
#[inline(always)]
fn tcp<const HEADER: i16>(context: &TcContext, at: usize, length: u32, addresses: u32) -> bool {
    let at = at + HEADER as usize;
    let header = u32::from(byte::<12>(at) >> 4) * 4;
    let flags = byte::<13>(at);
    let payload = HEADER as u32 + header;
    let whole = context.len();
    let end = if length != 0 && ETHERNET as u32 + length < whole {
        ETHERNET as u32 + length
    } else {
        whole
    };
    if header < 20 || payload > end || flags & Segment::SYN != 0 {
        return false;
    }
    if payload == end && flags & (Segment::FIN | Segment::RST) == 0 {
        return true; // a bare acknowledgement
    }
    let ports = word::<0>(at);
    let slot = slot_of(addresses, (ports ^ ports >> 16) as u16);
    !held::may_hold(slot)
}
