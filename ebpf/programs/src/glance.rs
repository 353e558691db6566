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

/// Whether there is nothing to do with a packet.
#[inline(always)]
pub(crate) fn nothing_to_do(context: &TcContext) -> bool {
    let at = context.data();
    if at + ETHERNET + 40 > context.data_end() {
        return false;
    }
    // SAFETY: the context is readable as long as the program runs.
    let known = unsafe { (*context.skb.skb).protocol } as u16;
    let ether_type = half(at + 12);
    if ether_type != known {
        return false;
    }
    let network = at + ETHERNET;
    match ether_type {
        IPV4 if byte(network) == 0x45 && half(network + 6) & FRAGMENT == 0 => {
            let length = u32::from(u16::from_be(half(network + 2)));
            let addresses = word(network + 12) ^ word(network + 16);
            byte(network + 9) != TCP || tcp(context, network + 20, 34, length, addresses)
        }
        IPV6 if byte(network) >> 4 == 6 && byte(network + 6) == TCP => {
            if network + 60 > context.data_end() {
                return false;
            }
            let length = u32::from(u16::from_be(half(network + 4)));
            let length = if length == 0 { 0 } else { length + 40 };
            let addresses = word(network + 20) ^ word(network + 36);
            tcp(context, network + 40, 54, length, addresses)
        }
        _ => false,
    }
}

/// The same, from the TCP header on, which is `offset` bytes into the packet and all there.
#[inline(always)]
fn tcp(context: &TcContext, at: usize, offset: u32, length: u32, addresses: u32) -> bool {
    let header = u32::from(byte(at + 12) >> 4) * 4;
    let flags = byte(at + 13);
    let payload = offset + header;
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
    let ports = word(at);
    let slot = slot_of(addresses, (ports ^ ports >> 16) as u16);
    !held::may_hold(slot)
}
