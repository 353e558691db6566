//! From any link's header to an Ethernet header, which is what the programs read.
//!
//! <https://www.tcpdump.org/linktypes.html>

/// Link types that can be read, for people.
pub const KNOWN: &str = "Ethernet (1), Linux cooked v1 (113) and v2 (276), raw IP (12, 14, 101, 228, 229), \
     loopback (0, 108)";

const NULL: u16 = 0;
const ETHERNET: u16 = 1;
/// DLT_RAW: which of both depends on the system that wrote it.
const RAW_12: u16 = 12;
const RAW_14: u16 = 14;
const RAW: u16 = 101;
const LOOP: u16 = 108;
const LINUX_SLL: u16 = 113;
const IPV4: u16 = 228;
const IPV6: u16 = 229;
const LINUX_SLL2: u16 = 276;

/// EtherTypes.
const TYPE_IPV4: u16 = 0x0800;
const TYPE_IPV6: u16 = 0x86dd;
/// Local experimental (IEEE 802): what is not IP, and was no Ethernet.
const TYPE_OTHER: u16 = 0x88b5;

/// Bytes of an Ethernet header.
const HEADER: usize = 14;

/// Whether packets of this link can be read.
#[must_use]
pub fn is_known(link: u16) -> bool {
    matches!(
        link,
        NULL | ETHERNET | RAW_12 | RAW_14 | RAW | LOOP | LINUX_SLL | IPV4 | IPV6 | LINUX_SLL2
    )
}

/// Writes the packet as an Ethernet frame to `frame`; how long that frame was on the wire, where the
/// packet was `length` long. `None` where the link is not known.
///
/// A packet that has not even its link's header comes out as it is: too short to be read, which is what
/// it is.
pub fn ethernet(link: u16, packet: &[u8], length: usize, frame: &mut Vec<u8>) -> Option<usize> {
    if !is_known(link) {
        return None;
    }
    frame.clear();
    let header = match link {
        ETHERNET => None,
        NULL | LOOP => packet.first_chunk().map(|family| (family_type(*family), 4)),
        LINUX_SLL => short(packet, 14).map(|kind| (kind, 16)),
        LINUX_SLL2 => short(packet, 0).map(|kind| (kind, 20)),
        IPV4 => Some((TYPE_IPV4, 0)),
        IPV6 => Some((TYPE_IPV6, 0)),
        _ => packet.first().map(|first| (version_type(*first), 0)),
    };
    match header {
        Some((ether_type, at)) if at <= packet.len() => {
            frame.extend([0; HEADER - 2]);
            frame.extend(ether_type.to_be_bytes());
            frame.extend(&packet[at..]);
            Some((length + HEADER).saturating_sub(at))
        }
        _ => {
            frame.extend(packet);
            Some(length)
        }
    }
}

fn short(packet: &[u8], at: usize) -> Option<u16> {
    let bytes = packet.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*bytes))
}

/// An address family of whatever system wrote it, in its byte order (NULL) or in network order (LOOP).
/// All numbers are below 256, so the order shows.
fn family_type(bytes: [u8; 4]) -> u16 {
    match u32::from_le_bytes(bytes).min(u32::from_be_bytes(bytes)) {
        2 => TYPE_IPV4,
        // Linux; NetBSD and OpenBSD; FreeBSD; macOS.
        10 | 24 | 28 | 30 => TYPE_IPV6,
        _ => TYPE_OTHER,
    }
}

fn version_type(first: u8) -> u16 {
    match first >> 4 {
        4 => TYPE_IPV4,
        6 => TYPE_IPV6,
        _ => TYPE_OTHER,
    }
}
