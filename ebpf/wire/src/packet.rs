//! Ethernet, IP and TCP headers: where a packet's TCP payload is, and which connection it is of.
//!
//! Follows RFC 9293 (TCP), RFC 791, RFC 8200 (extension headers), IEEE 802.1Q. Refuses IP fragments:
//! only the first has the ports, and TCP avoids them. What cannot be followed is named
//! ([`Skipped`]), so that it can be counted.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::segment::Segment;

/// A frame's bytes, however they are kept.
pub trait Frame {
    /// `N` bytes at `at`; `None` where the frame is shorter.
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]>;

    /// Length of the whole frame, bytes.
    fn length(&self) -> u32;

    /// The EtherType as the driver found it, where it is known: tags that the hardware removed do
    /// not stand in the bytes.
    fn ether_type(&self) -> Option<u16>;
}

/// A connection, the same for both directions: the end with the lower port, and where both have the
/// same, the lower address, comes first. IPv4 addresses are IPv4-mapped (RFC 4291 section 2.5.5.2).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct FlowKey {
    /// Addresses of both ends.
    pub addresses: [[u8; 16]; 2],
    /// Ports of both ends, host byte order.
    pub ports: [u16; 2],
}

/// An address and port that a server listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Endpoint {
    /// The address, IPv4-mapped.
    pub address: [u8; 16],
    /// The port, host byte order.
    pub port: u16,
}

/// A TCP segment of some connection. Plain memory, since in the kernel it outlives the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Parsed {
    /// Everything but its time and role.
    pub segment: Segment,
    /// The connection.
    pub key: FlowKey,
    /// 1 where the sender is the first of the key.
    pub sender_first: u8,
    /// 1 while the segment is one that was kept ([`crate::window`]).
    pub replaying: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

/// Why a packet was not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// Neither IPv4 nor IPv6, or IP but not TCP: nothing is missed.
    NotTcp,
    /// The link layer is none that is known.
    Link,
    /// An IP or TCP header is cut short or contradicts itself, or hides behind too many others.
    Network,
    /// An IP fragment.
    Fragment,
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86DD;
const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88A8;
const TCP: u8 = 6;

/// VLAN tags that are passed over: QinQ has two.
const MAX_TAGS: usize = 2;
/// IPv6 extension headers that are passed over. Each is a step that the verifier walks.
const MAX_EXTENSIONS: usize = 4;

/// Finds the TCP segment of a frame.
///
/// # Errors
/// [`Skipped`] says why there is none.
#[inline(always)]
pub fn parse(frame: &impl Frame, parsed: &mut Parsed) -> Result<(), Skipped> {
    let (ether_type, at) = link(frame)?;
    match ether_type {
        IPV4 => ipv4(frame, at, parsed),
        IPV6 => ipv6(frame, at, parsed),
        _ => Err(Skipped::NotTcp),
    }
}

/// The same for a packet that begins with its IP header, which says of what version it is.
///
/// # Errors
/// [`Skipped`], but for [`Skipped::Link`].
#[inline(always)]
pub fn parse_network(packet: &impl Frame, parsed: &mut Parsed) -> Result<(), Skipped> {
    // As much as either header has at least: of a single byte's bounds the verifier learns nothing.
    let header: [u8; 20] = packet.load(0).ok_or(Skipped::Network)?;
    match header[0] >> 4 {
        4 => ipv4(packet, 0, parsed),
        6 => ipv6(packet, 0, parsed),
        _ => Err(Skipped::Network),
    }
}

/// The network protocol, and where its header begins.
#[inline(always)]
fn link(frame: &impl Frame) -> Result<(u16, u32), Skipped> {
    let header: [u8; 14] = frame.load(0).ok_or(Skipped::Link)?;
    let mut ether_type = u16::from_be_bytes([header[12], header[13]]);
    let mut at = 14;
    if let Some(known) = frame.ether_type() {
        let tagged = ether_type == VLAN || ether_type == QINQ;
        if known != ether_type && !tagged {
            // No Ethernet header: a tunnel device hands over bare IP. (Where a source address reads
            // like an EtherType this is not noticed: 8.0.0.0/16, 129.0.0.0/16, 136.168.0.0/16.)
            return match (known, header[0] >> 4) {
                (IPV4, 4) | (IPV6, 6) => Ok((known, 0)),
                (IPV4 | IPV6, _) => Err(Skipped::Link),
                // ARP, LLC and whatever else is not IP.
                _ => Err(Skipped::NotTcp),
            };
        }
    }
    for _ in 0..MAX_TAGS {
        if ether_type != VLAN && ether_type != QINQ {
            break;
        }
        let tag: [u8; 4] = frame.load(at).ok_or(Skipped::Link)?;
        ether_type = u16::from_be_bytes([tag[2], tag[3]]);
        at += 4;
    }
    Ok((ether_type, at))
}

#[inline(always)]
fn mapped(address: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = address;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

#[inline(always)]
fn ipv4(frame: &impl Frame, at: u32, parsed: &mut Parsed) -> Result<(), Skipped> {
    let header: [u8; 20] = frame.load(at).ok_or(Skipped::Network)?;
    let header_length = u32::from(header[0] & 0x0f) * 4;
    if header[9] != TCP {
        return Err(Skipped::NotTcp);
    }
    if header[0] >> 4 != 4 || header_length < 20 {
        return Err(Skipped::Network);
    }
    // More fragments, or an offset.
    if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
        return Err(Skipped::Fragment);
    }
    let total = u32::from(u16::from_be_bytes([header[2], header[3]]));
    let source = mapped([header[12], header[13], header[14], header[15]]);
    let destination = mapped([header[16], header[17], header[18], header[19]]);
    let end = end_of_packet(frame, at, total);
    tcp(
        frame,
        at + header_length,
        end,
        [source, destination],
        parsed,
    )
}

#[inline(always)]
fn ipv6(frame: &impl Frame, at: u32, parsed: &mut Parsed) -> Result<(), Skipped> {
    let header: [u8; 40] = frame.load(at).ok_or(Skipped::Network)?;
    if header[0] >> 4 != 6 {
        return Err(Skipped::Network);
    }
    let length = u32::from(u16::from_be_bytes([header[4], header[5]]));
    let total = if length == 0 { 0 } else { length + 40 };
    let mut source = [0; 16];
    source.copy_from_slice(&header[8..24]);
    let mut destination = [0; 16];
    destination.copy_from_slice(&header[24..40]);

    let mut next = header[6];
    let mut offset = at + 40;
    for _ in 0..MAX_EXTENSIONS {
        if next == TCP {
            break;
        }
        let extension: [u8; 2] = match next {
            0 | 43 | 51 | 60 => frame.load(offset).ok_or(Skipped::Network)?,
            44 => return Err(Skipped::Fragment),
            _ => return Err(Skipped::NotTcp),
        };
        let units = u32::from(extension[1]);
        // RFC 4302 section 2.2: AH counts in 4 octets, less 2; the others in 8, less 1.
        offset += if next == 51 {
            (units + 2) * 4
        } else {
            (units + 1) * 8
        };
        next = extension[0];
    }
    if next != TCP {
        return Err(Skipped::Network);
    }
    let end = end_of_packet(frame, at, total);
    tcp(frame, offset, end, [source, destination], parsed)
}

/// Ethernet pads short frames, so the IP header knows better than the frame, except where a segment
/// is too large for its 16 bits and it says 0 (BIG TCP).
#[inline(always)]
fn end_of_packet(frame: &impl Frame, at: u32, total: u32) -> u32 {
    let length = frame.length();
    if total == 0 {
        length
    } else {
        length.min(at + total)
    }
}

#[inline(always)]
fn tcp(
    frame: &impl Frame,
    at: u32,
    end: u32,
    [source, destination]: [[u8; 16]; 2],
    parsed: &mut Parsed,
) -> Result<(), Skipped> {
    let header: [u8; 20] = frame.load(at).ok_or(Skipped::Network)?;
    let payload = at + u32::from(header[12] >> 4) * 4;
    if payload < at + 20 || payload > end {
        return Err(Skipped::Network);
    }
    let from = u16::from_be_bytes([header[0], header[1]]);
    let to = u16::from_be_bytes([header[2], header[3]]);
    let sender_first = from < to || (from == to && below(&source, &destination));
    parsed.sender_first = u8::from(sender_first);
    parsed.key = if sender_first {
        FlowKey {
            addresses: [source, destination],
            ports: [from, to],
        }
    } else {
        FlowKey {
            addresses: [destination, source],
            ports: [to, from],
        }
    };
    parsed.segment.at = payload;
    parsed.segment.end = end;
    parsed.segment.sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    parsed.segment.acknowledged =
        u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    parsed.segment.flags = header[13];
    Ok(())
}

/// Compares addresses a word at a time: the kernel has no `memcmp`.
#[inline(always)]
fn below(a: &[u8; 16], b: &[u8; 16]) -> bool {
    u128::from_be_bytes(*a) < u128::from_be_bytes(*b)
}

impl FlowKey {
    /// An end of the connection: 0 or 1.
    #[must_use]
    #[inline(always)]
    pub const fn endpoint(&self, which: usize) -> Endpoint {
        Endpoint {
            address: self.addresses[which & 1],
            port: self.ports[which & 1],
        }
    }
}
