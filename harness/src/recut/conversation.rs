//! A captured conversation, sent again in other packets: cut elsewhere, put together, out of order, twice,
//! overlapping, behind other headers, with other sequence numbers. The bytes of each direction, and who
//! had heard what when speaking, stay the same; so must everything that a probe says.
//!
//! Deterministic: a seed is a list of packets. Refuses to know TLS, and to do what no network and no TCP
//! does: a segment never comes before one of the peer's that its sender had answered.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use etherparse::{
    EtherType, Ethernet2Header, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv4Options,
    Ipv6Extensions, Ipv6Header, Ipv6RawExtHeader, NetSlice, PacketBuilder, SingleVlanHeader,
    SlicedPacket, TcpHeader, TransportSlice, VlanId, VlanPcp,
};
use fastrand::Rng;

use crate::lab::Role;

/// Time within which segments are of one flight, nanoseconds.
const PAUSE: u64 = 100_000_000;
/// Bytes of a segment on an ordinary Ethernet.
const MSS: usize = 1_448;
/// Bytes of the largest segment that is made by putting others together: with all its headers it still
/// fits into what old kernels take in one test run of a program, about a page.
const LARGEST: usize = 3_200;
/// Segments of one flight that change places with each other. A probe keeps some eight runs of bytes that
/// came early.
const DISORDER: usize = 6;

/// One TCP connection as it was captured.
#[derive(Debug, Clone)]
pub struct Conversation {
    /// Who opened it.
    pub client: SocketAddr,
    /// Who accepted it.
    pub server: SocketAddr,
    /// Sequence number of each SYN, the client's first.
    first: [u32; 2],
    /// When something was said last.
    last: u64,
    said: Vec<Said>,
    /// Which of `said` begin where, by side and sequence number: a long capture is not searched for each segment.
    places: HashMap<(Role, u32), Vec<usize>>,
}

/// A segment that has bytes, or ends its direction. Numbers are relative to the SYNs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    from: Role,
    /// Time since the connection said something before, nanoseconds.
    after: u64,
    sequence: u32,
    acknowledged: u32,
    fin: bool,
    rst: bool,
    bytes: Vec<u8>,
}

/// What is in front of every IP packet of a recut conversation, and what is in it before TCP.
#[derive(Debug, Clone, Copy, Default)]
struct Headers {
    /// VLAN tags: none, 802.1Q, or QinQ.
    tags: usize,
    /// Bytes of IPv4 options, or of IPv6 extension headers, in units of 8.
    options: usize,
    /// Bytes behind the packet, as short frames are padded.
    padding: usize,
}

impl Conversation {
    /// The connections in Ethernet frames with their times (nanoseconds), in the order of their SYNs.
    /// Frames that are no TCP, and connections whose SYN and SYN-ACK are not both there, are left out.
    #[must_use]
    pub fn read<'f>(frames: impl IntoIterator<Item = (u64, &'f [u8])>) -> Vec<Self> {
        let mut found: Vec<(Self, [bool; 2])> = Vec::new();
        for (time, frame) in frames {
            let Some((from, to, tcp)) = segment(frame) else {
                continue;
            };
            if tcp.syn() && !tcp.ack() {
                let known = found
                    .iter()
                    .any(|(talk, _)| (talk.client, talk.server) == (from, to));
                if !known {
                    let talk = Self {
                        client: from,
                        server: to,
                        first: [tcp.sequence_number(), 0],
                        last: time,
                        said: Vec::new(),
                        places: HashMap::new(),
                    };
                    found.push((talk, [true, false]));
                }
                continue;
            }
            let talk = found.iter_mut().find_map(|(talk, syns)| {
                if (talk.client, talk.server) == (from, to) {
                    Some((talk, syns, Role::Client))
                } else if (talk.client, talk.server) == (to, from) {
                    Some((talk, syns, Role::Server))
                } else {
                    None
                }
            });
            let Some((talk, syns, role)) = talk else {
                continue;
            };
            if tcp.syn() {
                talk.first[1] = tcp.sequence_number();
                syns[1] = true;
            } else if !tcp.payload().is_empty() || tcp.fin() || tcp.rst() {
                talk.add(role, time, &tcp);
            }
        }
        found
            .into_iter()
            .filter(|(_, syns)| syns[1])
            .map(|(talk, _)| talk)
            .collect()
    }

    /// A client that says what is no TLS to a port where TLS is meant: whoever is asked always says so, at once.
    pub(super) fn of_nonsense(number: u32, port: u16) -> Self {
        let [_, high, middle, low] = number.to_be_bytes();
        Self {
            client: ([12, high, middle, low], 40_000).into(),
            server: ([13, 0, 0, 1], port).into(),
            first: [0; 2],
            last: 0,
            said: vec![Said {
                from: Role::Client,
                after: 0,
                sequence: 1,
                acknowledged: 1,
                fin: false,
                rst: false,
                bytes: b"nonsense\r\n".to_vec(),
            }],
            places: HashMap::new(),
        }
    }

    fn add(&mut self, from: Role, time: u64, tcp: &etherparse::TcpSlice<'_>) {
        let (own, peer) = match from {
            Role::Client => (self.first[0], self.first[1]),
            Role::Server => (self.first[1], self.first[0]),
        };
        let said = Said {
            from,
            after: time.saturating_sub(self.last),
            sequence: tcp.sequence_number().wrapping_sub(own),
            acknowledged: tcp.acknowledgment_number().wrapping_sub(peer),
            fin: tcp.fin(),
            rst: tcp.rst(),
            bytes: tcp.payload().to_vec(),
        };
        // A retransmission is the network's doing, and other ones are made here.
        let places = self.places.entry((from, said.sequence)).or_default();
        let again = places.iter().map(|at| &self.said[*at]).any(|before| {
            before.bytes == said.bytes && (before.fin, before.rst) == (said.fin, said.rst)
        });
        if !again {
            self.last = time;
            places.push(self.said.len());
            self.said.push(said);
        }
    }

    /// The conversation as one of the ways that `seed` stands for: Ethernet frames, and how long after the
    /// one before each comes, nanoseconds. Seed 0 changes nothing but what was sent twice.
    #[must_use]
    pub fn recut(&self, seed: u64) -> Vec<(u64, Vec<u8>)> {
        let mut rng = Rng::with_seed(seed);
        let plain = seed == 0;
        let headers = if plain {
            Headers::default()
        } else {
            Headers {
                tags: rng.usize(..3),
                options: rng.usize(..5),
                padding: rng.usize(..8),
            }
        };
        let first = if plain {
            self.first
        } else {
            // Half of all begin so that numbers wrap within the handshake.
            [0; 2].map(|_| match rng.bool() {
                true => rng.u32(..),
                false => u32::MAX - rng.u32(..4_000),
            })
        };
        let mut frames = vec![
            (0, self.frame(headers, first, &Said::syn(Role::Client))),
            (0, self.frame(headers, first, &Said::syn(Role::Server))),
        ];
        let mut past: Vec<Said> = Vec::new();
        for flight in self.flights() {
            let pieces = if plain {
                flight.to_vec()
            } else {
                shuffled(&mut rng, flight)
            };
            let begins = flight.first().map_or(0, |said| said.after);
            for (at, piece) in pieces.iter().enumerate() {
                let after = if at == 0 { begins } else { 0 };
                frames.push((after, self.frame(headers, first, piece)));
                if !plain && rng.u8(..8) == 0 && !past.is_empty() {
                    // A retransmission of long ago.
                    let old = &past[rng.usize(..past.len())];
                    frames.push((0, self.frame(headers, first, old)));
                }
            }
            past.extend(pieces.into_iter().filter(|piece| !piece.fin && !piece.rst));
        }
        frames
    }

    /// Runs of segments of one side: within one, TCP may cut and the network may change the order. Not
    /// across a pause, where time is the subject.
    fn flights(&self) -> impl Iterator<Item = &[Said]> {
        self.said.chunk_by(|one, next| {
            one.from == next.from && !one.rst && !next.rst && next.after < PAUSE
        })
    }

    fn frame(&self, headers: Headers, first: [u32; 2], said: &Said) -> Vec<u8> {
        let (from, to, own, peer) = match said.from {
            Role::Client => (self.client, self.server, first[0], first[1]),
            Role::Server => (self.server, self.client, first[1], first[0]),
        };
        let syn = said.is_syn();
        let mut tcp = TcpHeader::new(
            from.port(),
            to.port(),
            own.wrapping_add(said.sequence),
            u16::MAX,
        );
        tcp.syn = syn;
        tcp.fin = said.fin;
        tcp.rst = said.rst;
        tcp.ack = !(syn && said.from == Role::Client);
        tcp.acknowledgment_number = peer.wrapping_add(said.acknowledged);
        packet(headers, from, to, tcp, &said.bytes)
    }
}

impl Said {
    fn syn(from: Role) -> Self {
        Self {
            from,
            after: 0,
            sequence: 0,
            acknowledged: u32::from(from == Role::Server),
            fin: false,
            rst: false,
            bytes: Vec::new(),
        }
    }

    /// Only a SYN has the number 0, and a RST in answer to one.
    fn is_syn(&self) -> bool {
        self.sequence == 0 && !self.rst
    }

    /// Bytes `from..to` of it; its end stays with its last byte.
    fn part(&self, from: usize, to: usize) -> Self {
        let last = to == self.bytes.len();
        Self {
            sequence: self.sequence.wrapping_add(from as u32),
            fin: self.fin && last,
            rst: self.rst && last,
            bytes: self.bytes[from..to].to_vec(),
            ..*self
        }
    }
}

/// A flight in other segments.
fn shuffled(rng: &mut Rng, flight: &[Said]) -> Vec<Said> {
    let mut pieces: Vec<Said> = Vec::new();
    // Most of the packets are of the few ways with the smallest segments.
    let way = rng.u8(..120);
    for said in joined(rng, flight) {
        match way {
            0 => cut(&mut pieces, &said, |_| 1),
            1 => cut(&mut pieces, &said, |_| rng.usize(1..=4)),
            2..15 => pieces.push(said),
            15..35 => cut(&mut pieces, &said, |_| MSS),
            35..65 => {
                let at = rng.usize(..said.bytes.len().max(1));
                cut(&mut pieces, &said, |from| {
                    if from == 0 { at.max(1) } else { LARGEST }
                });
            }
            _ => {
                let most = [40, 400, MSS][rng.usize(..3)];
                cut(&mut pieces, &said, |_| rng.usize(1..=most));
            }
        }
    }
    if rng.bool() {
        overlap(rng, &mut pieces);
    }
    if rng.bool() {
        for group in pieces.chunks_mut(DISORDER) {
            if group.iter().all(|piece| !piece.rst) {
                rng.shuffle(group);
            }
        }
    }
    if rng.bool() {
        let twice: Vec<Said> = pieces
            .iter()
            .filter(|piece| !piece.rst && comes_twice(piece))
            .cloned()
            .collect();
        for piece in twice {
            let after = pieces.iter().position(|other| *other == piece).unwrap_or(0);
            let at = rng.usize(after..=pieces.len().min(after + DISORDER));
            // Nothing comes after what ends the connection.
            let at = at.min(pieces.iter().position(|piece| piece.rst).unwrap_or(at));
            pieces.insert(at.max(after), piece);
        }
    }
    pieces
}

/// Which segments are sent twice, where some are: one in four, by their numbers.
fn comes_twice(piece: &Said) -> bool {
    piece.sequence % 4 == 1
}

/// Neighbours that acknowledge the same, put together now and then.
fn joined(rng: &mut Rng, flight: &[Said]) -> Vec<Said> {
    let mut whole: Vec<Said> = Vec::new();
    for said in flight {
        if let Some(last) = whole.last_mut()
            && last.acknowledged == said.acknowledged
            && last.sequence.wrapping_add(last.bytes.len() as u32) == said.sequence
            && last.bytes.len() + said.bytes.len() <= LARGEST
            && !last.fin
            && !said.rst
            && rng.bool()
        {
            last.bytes.extend(&said.bytes);
            last.fin = said.fin;
        } else {
            whole.push(said.clone());
        }
    }
    whole
}

fn cut(pieces: &mut Vec<Said>, said: &Said, mut size: impl FnMut(usize) -> usize) {
    let mut from = 0;
    while from < said.bytes.len() {
        let to = (from + size(from).min(LARGEST)).min(said.bytes.len());
        pieces.push(said.part(from, to));
        from = to;
    }
    if said.bytes.is_empty() {
        pieces.push(said.clone());
    }
}

/// Lets segments begin within the one before them, as a retransmission in other sizes does.
fn overlap(rng: &mut Rng, pieces: &mut [Said]) {
    for at in 1..pieces.len() {
        let (before, rest) = pieces.split_at_mut(at);
        let (Some(before), Some(piece)) = (before.last(), rest.first_mut()) else {
            continue;
        };
        let touching = before.acknowledged == piece.acknowledged
            && before.sequence.wrapping_add(before.bytes.len() as u32) == piece.sequence;
        let room = LARGEST
            .saturating_sub(piece.bytes.len())
            .min(before.bytes.len());
        if touching && !piece.rst && room > 0 && rng.bool() {
            let more = rng.usize(1..=room);
            let from = before.bytes.len() - more;
            let mut bytes = before.bytes[from..].to_vec();
            bytes.extend(&piece.bytes);
            piece.sequence = piece.sequence.wrapping_sub(more as u32);
            piece.bytes = bytes;
        }
    }
}

fn segment(frame: &[u8]) -> Option<(SocketAddr, SocketAddr, etherparse::TcpSlice<'_>)> {
    let sliced = SlicedPacket::from_ethernet(frame).ok()?;
    let (source, destination): (IpAddr, IpAddr) = match sliced.net? {
        NetSlice::Ipv4(ip) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        NetSlice::Ipv6(ip) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        NetSlice::Arp(_) => return None,
    };
    let TransportSlice::Tcp(tcp) = sliced.transport? else {
        return None;
    };
    let from = SocketAddr::new(source, tcp.source_port());
    let to = SocketAddr::new(destination, tcp.destination_port());
    Some((from, to, tcp))
}

/// One frame. What `etherparse` refuses would be a header that is too long, and none is.
fn packet(
    headers: Headers,
    from: SocketAddr,
    to: SocketAddr,
    tcp: TcpHeader,
    payload: &[u8],
) -> Vec<u8> {
    const FITS: &str = "the header is as long as its kind may be";
    let ip = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header =
                Ipv4Header::new(0, 64, IpNumber::TCP, from.octets(), to.octets()).expect(FITS);
            let nops = [1; 40];
            header.options = Ipv4Options::try_from(&nops[..8 * headers.options]).expect(FITS);
            IpHeaders::Ipv4(header, Ipv4Extensions::default())
        }
        (from, to) => {
            let octets = |address| match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            let header = Ipv6Header {
                source: octets(from),
                destination: octets(to),
                hop_limit: 64,
                next_header: IpNumber::TCP,
                ..Ipv6Header::default()
            };
            let mut extensions = Ipv6Extensions::default();
            // PadN fills what is neither type nor length (RFC 8200 section 4.2).
            let padded = |units: usize| {
                let mut options = vec![0; 8 * units - 2];
                (options[0], options[1]) = (1, (8 * units - 4) as u8);
                Ipv6RawExtHeader::new_raw(IpNumber::TCP, &options).expect(FITS)
            };
            if headers.options > 0 {
                extensions.hop_by_hop_options = Some(padded(headers.options));
            }
            if headers.options > 2 {
                extensions.destination_options = Some(padded(1));
            }
            IpHeaders::Ipv6(header, extensions)
        }
    };
    let ether_type = match from {
        SocketAddr::V4(_) => EtherType::IPV4,
        SocketAddr::V6(_) => EtherType::IPV6,
    };
    let mut frame = Vec::new();
    let tag = |of| SingleVlanHeader {
        pcp: VlanPcp::ZERO,
        drop_eligible_indicator: false,
        vlan_id: VlanId::try_new(100).expect(FITS),
        ether_type: of,
    };
    let outermost = match headers.tags {
        0 => ether_type,
        1 => EtherType::VLAN_TAGGED_FRAME,
        _ => EtherType::PROVIDER_BRIDGING,
    };
    let written = "memory takes every write";
    Ethernet2Header {
        source: [2, 0, 0, 0, 0, 1],
        destination: [2, 0, 0, 0, 0, 2],
        ether_type: outermost,
    }
    .write(&mut frame)
    .expect(written);
    if headers.tags > 1 {
        tag(EtherType::VLAN_TAGGED_FRAME)
            .write(&mut frame)
            .expect(written);
    }
    if headers.tags > 0 {
        tag(ether_type).write(&mut frame).expect(written);
    }
    PacketBuilder::ip(ip)
        .tcp_header(tcp)
        .write(&mut frame, payload)
        .expect(written);
    frame.extend(std::iter::repeat_n(0, headers.padding));
    frame
}
