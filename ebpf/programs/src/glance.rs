//! The way out for nearly all packets: those that neither begin a connection nor belong to one that is followed.
//! Nothing is written and no helper called for them.
//!
//! Only Ethernet with IPv4 or IPv6 right behind it, without options, and TCP: whatever else there may be, and
//! whatever has to be counted, takes the long way ([`gauntlet_wire::packet`]).

use aya_ebpf::programs::TcContext;
use gauntlet_wire::held::hash;
use gauntlet_wire::segment::Segment;

use crate::held;
use crate::skb::{byte, half, word};

const IPV4: u32 = 0x0800_u16.to_be() as u32;
const IPV6: u32 = 0x86dd_u16.to_be() as u32;
const TCP: u8 = 6;
/// Where the IP header begins.
const ETHERNET: usize = 14;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// Of a TCP header without options.
const TCP_HEADER: usize = 20;

/// EtherType and the first byte of what is behind it, as a word that begins with them has them: IPv4 without options.
const IPV4_BEGINS: u32 = u32::from_ne_bytes([0x08, 0x00, 0x45, 0]);
const IPV6_BEGINS: u32 = u32::from_ne_bytes([0x86, 0xdd, 0x60, 0]);
/// What of such a word is compared: not the lower half of an IPv6 traffic class.
const OF_IPV4: u32 = u32::from_ne_bytes([0xff, 0xff, 0xff, 0]);
const OF_IPV6: u32 = u32::from_ne_bytes([0xff, 0xff, 0xf0, 0]);
/// More fragments, and an offset.
const FRAGMENT: u16 = 0x3fff_u16.to_be();

/// Flags, where they stand behind the byte of the data offset.
const SYN: u16 = u16::from_ne_bytes([0, Segment::SYN]);
const LAST: u16 = u16::from_ne_bytes([0, Segment::FIN | Segment::RST]);

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

/// Whether there is nothing to do with a packet. One load for neighbours, and no length that is looked at twice: this is all
/// that nearly every packet costs.
#[inline(always)]
pub(crate) fn nothing_to_do(context: &TcContext) -> bool {
    let at = context.data();
    if at + ETHERNET + IPV4_HEADER + TCP_HEADER > context.data_end() {
        return false;
    }
    // SAFETY: the context is readable as long as the program runs.
    let protocol = unsafe { (*context.skb.skb).protocol };
    let begins = word::<12>(at);
    // Where there is no Ethernet, the protocol is not what stands there, or by chance.
    if begins & OF_IPV4 == IPV4_BEGINS && protocol == IPV4 {
        if half::<20>(at) & FRAGMENT != 0 {
            return false;
        }
        let length = usize::from(u16::from_be(half::<16>(at)));
        let addresses = word::<26>(at) ^ word::<30>(at);
        byte::<23>(at) != TCP || tcp::<34>(context, at, length, addresses)
    } else if begins & OF_IPV6 == IPV6_BEGINS && protocol == IPV6 {
        if at + ETHERNET + IPV6_HEADER + TCP_HEADER > context.data_end() || byte::<20>(at) != TCP {
            return false;
        }
        let length = IPV6_HEADER + usize::from(u16::from_be(half::<18>(at)));
        let addresses = word::<34>(at) ^ word::<50>(at);
        tcp::<54>(context, at, length, addresses)
    } else {
        false
    }
}

/// The same of the TCP header that is `HEADER` bytes into the packet, and whole. `length`: what the IP header says, its own
/// included.
#[inline(always)]
fn tcp<const HEADER: i16>(context: &TcContext, at: usize, length: usize, addresses: u32) -> bool {
    let at = at + HEADER as usize;
    let offset = half::<12>(at);
    // In words, in the upper half of its first byte.
    let header = usize::from(offset.to_ne_bytes()[0] >> 4) * 4;
    let payload = HEADER as usize + header;
    // One without a length (a jumbogram, BIG TCP) ends before its payload, so to speak: it takes the long way.
    let end = ETHERNET + length;
    if end > context.len() as usize || payload > end || header < TCP_HEADER || offset & SYN != 0 {
        return false;
    }
    if payload == end && offset & LAST == 0 {
        return true; // a bare acknowledgement
    }
    !held::may_hold(hash(addresses, word::<0>(at)))
}
