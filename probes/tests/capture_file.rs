//! Capture files of every form, written here byte by byte as their specifications have them, and read
//! back; cut anywhere, and damaged anyhow.

use std::io::{Read, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;
use gauntlet_probes::capture_file::{CaptureFile, CaptureFileError, Item};
use proptest::prelude::*;

/// What was read of a file, and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// Time, interface, frame, length on the wire.
    packets: Vec<(u64, u32, Vec<u8>, usize)>,
    unknown: Vec<u16>,
    key_log: Vec<u8>,
    names: Vec<Option<String>>,
    end: Option<String>,
}

fn read(file: &[u8]) -> Seen {
    let mut seen = Seen {
        packets: Vec::new(),
        unknown: Vec::new(),
        key_log: Vec::new(),
        names: Vec::new(),
        end: None,
    };
    let mut capture = match CaptureFile::read(file) {
        Ok(capture) => capture,
        Err(error) => {
            seen.end = Some(one_line(&error));
            return seen;
        }
    };
    loop {
        match capture.next() {
            Ok(Item::Packet(packet)) => {
                let frame = packet.frame.to_vec();
                let (time, interface) = (packet.time, packet.interface);
                seen.packets.push((time, interface, frame, packet.length));
            }
            Ok(Item::UnknownLink(link)) => seen.unknown.push(link),
            Ok(Item::KeyLog(lines)) => seen.key_log.extend(lines),
            Ok(Item::End) => break,
            Err(error) => {
                seen.end = Some(one_line(&error));
                break;
            }
        }
    }
    assert!(matches!(capture.next(), Ok(Item::End)), "the end stays");
    let known = |at| capture.interface(at).map(str::to_owned);
    seen.names = (0..4).map(known).collect();
    seen
}

fn one_line(error: &CaptureFileError) -> String {
    let line = error.to_string();
    assert!(!line.contains('\n') && !line.is_empty(), "{line:?}");
    line
}

/// The numbers of a file, in its byte order.
#[derive(Clone, Copy)]
struct Order {
    big: bool,
}

const BOTH: [Order; 2] = [Order { big: false }, Order { big: true }];

impl Order {
    fn four(self, number: u32) -> [u8; 4] {
        if self.big {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        }
    }

    fn two(self, number: u16) -> [u8; 2] {
        if self.big {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        }
    }

    fn pcap(self, magic: u32, link: u32) -> Vec<u8> {
        let version = [self.two(2), self.two(4)].concat();
        [
            &self.four(magic)[..],
            &version,
            &[0; 8],
            &self.four(65_535),
            &self.four(link),
        ]
        .concat()
    }

    fn pcap_packet(self, time: [u32; 2], kept: &[u8], length: u32) -> Vec<u8> {
        let kept_length = self.four(kept.len() as u32);
        let [seconds, parts] = time.map(|number| self.four(number));
        [&seconds[..], &parts, &kept_length, &self.four(length), kept].concat()
    }

    fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let length = self.four(body.len() as u32 + 12);
        [&self.four(kind)[..], &length, &body, &length].concat()
    }

    fn section(self) -> Vec<u8> {
        let version = [self.two(1), self.two(0)].concat();
        let body = [&self.four(0x1a2b_3c4d)[..], &version, &[0xff; 8]].concat();
        self.block(0x0a0d_0d0a, &body)
    }

    fn option(self, code: u16, value: &[u8]) -> Vec<u8> {
        let mut value = value.to_vec();
        let length = self.two(value.len() as u16);
        value.resize(value.len().next_multiple_of(4), 0);
        [&self.two(code)[..], &length, &value].concat()
    }

    fn interface(self, link: u16, snaplen: u32, options: &[Vec<u8>]) -> Vec<u8> {
        let mut body = [&self.two(link)[..], &[0, 0], &self.four(snaplen)].concat();
        body.extend(options.concat());
        if !options.is_empty() {
            body.extend(self.option(0, &[]));
        }
        self.block(1, &body)
    }

    fn packet(self, interface: u32, ticks: u64, kept: &[u8], length: u32) -> Vec<u8> {
        let mut body = self.four(interface).to_vec();
        body.extend(self.four((ticks >> 32) as u32));
        body.extend(self.four(ticks as u32));
        body.extend(self.four(kept.len() as u32));
        body.extend(self.four(length));
        body.extend(kept);
        self.block(6, &body)
    }

    fn secrets(self, lines: &[u8]) -> Vec<u8> {
        let kind = self.four(0x544c_534b);
        let length = self.four(lines.len() as u32);
        self.block(10, &[&kind[..], &length, lines].concat())
    }
}

/// An Ethernet frame that nobody looks into.
const FRAME: &[u8] = b"destinsource\x08\x00 what follows";

#[test]
fn pcap_of_both_precisions_and_byte_orders() {
    for order in BOTH {
        for (magic, nanoseconds) in [(0xa1b2_c3d4, 123_456_000), (0xa1b2_3c4d, 123_456)] {
            let file = [
                order.pcap(magic, 1),
                order.pcap_packet([1_700_000_000, 123_456], FRAME, FRAME.len() as u32),
                order.pcap_packet([4_294_967_295, 0], &FRAME[..20], 1_500),
            ]
            .concat();
            let seen = read(&file);
            assert_eq!(
                seen.packets,
                [
                    (
                        1_700_000_000_000_000_000 + nanoseconds,
                        1,
                        FRAME.to_vec(),
                        FRAME.len()
                    ),
                    (4_294_967_295_000_000_000, 1, FRAME[..20].to_vec(), 1_500),
                ]
            );
            assert_eq!(seen.end, None);
        }
    }
}

#[test]
fn the_modified_pcap_and_a_link_type_with_a_checksum_length() {
    let order = Order { big: false };
    let mut packet = order.pcap_packet([1, 2], FRAME, FRAME.len() as u32);
    packet.splice(16..16, [0; 8]);
    let seen = read(&[order.pcap(0xa1b2_cd34, 0x2400_0001), packet].concat());
    assert_eq!(
        seen.packets,
        [(1_000_002_000, 1, FRAME.to_vec(), FRAME.len())]
    );
    assert_eq!(seen.end, None);
}

#[test]
fn pcapng_of_two_sections_with_interfaces_of_every_resolution() {
    for order in BOTH {
        let other = Order { big: !order.big };
        let offset = if other.big {
            (-3_i64).to_be_bytes()
        } else {
            (-3_i64).to_le_bytes()
        };
        let length = FRAME.len() as u32;
        let file = [
            order.section(),
            order.interface(1, 0, &[order.option(2, b"eth0")]),
            order.interface(1, 0, &[order.option(2, b"eth1"), order.option(9, &[9])]),
            order.block(0x0bad, &[0; 8]), // nobody's
            order.packet(0, 1_700_000_000_123_456, FRAME, length),
            order.packet(1, 1_700_000_000_123_456_789, FRAME, length),
            order.secrets(b"SOME lines"),
            other.section(),
            // 2^-10 s, three seconds back.
            other.interface(1, 0, &[other.option(9, &[0x8a]), other.option(14, &offset)]),
            other.packet(0, 1_700_000_000 * 1_024 + 512, FRAME, length + 7),
            // A simple packet: all that the block has, of interface 0, at the last time.
            other.block(3, &[&other.four(length)[..], FRAME].concat()),
        ]
        .concat();
        let seen = read(&file);
        let packet = |time, interface, length| (time, interface, FRAME.to_vec(), length);
        let whole = FRAME.len();
        assert_eq!(
            seen.packets,
            [
                packet(1_700_000_000_123_456_000, 1, whole),
                packet(1_700_000_000_123_456_789, 2, whole),
                packet(1_699_999_997_500_000_000, 3, whole + 7),
                packet(1_699_999_997_500_000_000, 3, whole),
            ]
        );
        let names = [None, Some("eth0".to_owned()), Some("eth1".to_owned()), None];
        assert_eq!(seen.names, names);
        assert_eq!(seen.key_log, b"SOME lines");
        assert_eq!(seen.end, None);
    }
}

#[test]
fn a_simple_packet_is_as_long_as_the_snapshot_length_and_not_its_padding() {
    let order = Order { big: false };
    let length = order.four(1_500);
    for (kept, padded) in [(21, 24), (20, 20), (24, 24)] {
        let mut body = length.to_vec();
        body.extend(&FRAME[..kept]);
        body.resize(4 + padded, 0xee);
        let file = [
            order.section(),
            order.interface(1, kept as u32, &[]),
            order.block(3, &body),
        ]
        .concat();
        let seen = read(&file);
        assert_eq!(seen.packets, [(0, 1, FRAME[..kept].to_vec(), 1_500)]);
    }
}

#[test]
fn every_link_comes_out_as_ethernet() {
    let ip4 = b"\x45 an IPv4 packet";
    let ip6 = b"\x60 an IPv6 packet";
    let cooked = |kind: u16| [&[0; 14][..], &kind.to_be_bytes()].concat();
    let cooked2 = |kind: u16| [&kind.to_be_bytes()[..], &[0; 18]].concat();
    let cases: Vec<(u16, Vec<u8>, u16, &[u8])> = vec![
        (113, cooked(0x0800), 0x0800, ip4),
        (113, cooked(0x86dd), 0x86dd, ip6),
        (113, cooked(0x8100), 0x8100, b"\x00\x01\x08\x00 tagged"),
        (276, cooked2(0x0800), 0x0800, ip4),
        (276, cooked2(0x86dd), 0x86dd, ip6),
        (101, vec![], 0x0800, ip4),
        (101, vec![], 0x86dd, ip6),
        (101, vec![], 0x88b5, b"\x10 neither"),
        (12, vec![], 0x0800, ip4),
        (14, vec![], 0x86dd, ip6),
        (228, vec![], 0x0800, ip4),
        (229, vec![], 0x86dd, ip6),
        (0, vec![2, 0, 0, 0], 0x0800, ip4),
        (0, vec![0, 0, 0, 2], 0x0800, ip4),
        (0, vec![10, 0, 0, 0], 0x86dd, ip6),
        (0, vec![0, 0, 0, 24], 0x86dd, ip6),
        (0, vec![28, 0, 0, 0], 0x86dd, ip6),
        (108, vec![0, 0, 0, 30], 0x86dd, ip6),
        (108, vec![0, 0, 0, 7], 0x88b5, b"something else"),
    ];
    let order = Order { big: false };
    for (link, header, ether_type, inside) in cases {
        let packet = [&header, inside].concat();
        let length = packet.len() as u32 + 100;
        let frame = [&[0; 12][..], &ether_type.to_be_bytes(), inside].concat();
        let expected = vec![(0, 1, frame, 14 + inside.len() + 100)];
        let pcap = [
            order.pcap(0xa1b2_c3d4, u32::from(link)),
            order.pcap_packet([0, 0], &packet, length),
        ]
        .concat();
        assert_eq!(read(&pcap).packets, expected, "{link}");
        let pcapng = [
            order.section(),
            order.interface(link, 0, &[]),
            order.packet(0, 0, &packet, length),
            // Not even its header.
            order.packet(0, 0, &packet[..header.len().saturating_sub(1)], length),
        ]
        .concat();
        let seen = read(&pcapng);
        assert_eq!(seen.packets[..1], expected, "{link}");
        assert!(seen.packets[1].2.len() < 20, "{link}");
        assert_eq!(seen.end, None);
    }
}

#[test]
fn a_link_that_is_not_known_is_said_and_the_others_are_read() {
    let order = Order { big: false };
    let end = read(&order.pcap(0xa1b2_c3d4, 105)).end.expect("refused");
    assert!(end.contains("link type 105 is not known"), "{end}");
    let file = [
        order.section(),
        order.interface(105, 0, &[]),
        order.interface(1, 0, &[]),
        order.packet(0, 0, b"radio", 5),
        order.packet(1, 0, FRAME, 5),
    ]
    .concat();
    let seen = read(&file);
    assert_eq!((seen.unknown, seen.packets.len()), (vec![105], 1));
}

#[test]
fn what_is_no_capture_is_refused_in_one_line() {
    let order = Order { big: false };
    let cases: [(&[u8], &str); 6] = [
        (b"", "it is empty"),
        (b"abc", "it has 3 bytes"),
        (b"\x7fELF\x02\x01\x01", r"it begins with \x7fELF"),
        (b"{\"type\":1}", r#"it begins with {\"ty"#),
        (&order.pcap(0xa1b2_c3d4, 1)[..23], "it has 23 bytes"),
        (&order.section()[..4], "damaged at byte 4"),
    ];
    for (file, expected) in cases {
        let end = read(file).end.expect("refused");
        assert!(end.contains(expected), "{end}");
    }
}

fn samples() -> [Vec<u8>; 3] {
    let order = Order { big: false };
    let length = FRAME.len() as u32;
    let pcapng: Vec<u8> = BOTH
        .into_iter()
        .flat_map(|order| {
            [
                order.section(),
                order.interface(1, 0, &[order.option(2, b"eth0"), order.option(9, &[9])]),
                order.secrets(b"SOME lines"),
                order.packet(0, 5, FRAME, length),
                order.block(3, &[&order.four(length)[..], FRAME].concat()),
                order.packet(0, 6, FRAME, length),
            ]
            .concat()
        })
        .collect();
    let pcap = [
        order.pcap(0xa1b2_3c4d, 113),
        order.pcap_packet([1, 2], FRAME, length),
        order.pcap_packet([1, 3], FRAME, length),
        order.pcap_packet([1, 4], FRAME, length),
    ]
    .concat();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&pcapng).expect("memory");
    [pcap, pcapng, gzip.finish().expect("memory")]
}

#[test]
fn a_file_that_breaks_off_gives_what_came_before_and_says_where() {
    let [pcap, pcapng, gzip] = samples();
    assert_eq!(read(&pcapng), read(&gzip));
    for file in [pcap, pcapng, gzip] {
        let whole = read(&file);
        assert_eq!(whole.end, None);
        let (mut before, mut orderly) = (0, 0);
        for cut in 0..file.len() {
            let seen = read(&file[..cut]);
            let count = seen.packets.len();
            assert!(count >= before, "{cut}");
            assert_eq!(seen.packets, whole.packets[..count], "{cut}");
            before = count;
            match seen.end {
                None => orderly += 1,
                Some(end) if end.starts_with("neither") => assert_eq!(count, 0, "{cut}: {end}"),
                Some(end) => {
                    assert!(end.starts_with("damaged at byte "), "{cut}: {end}");
                    assert!(
                        end.contains(&format!("after {count} packets")),
                        "{cut}: {end}"
                    );
                }
            }
        }
        // Only between two blocks is it no damage; a gzip file always has an end of its own.
        let blocks = if file.starts_with(&[0x1f, 0x8b]) {
            0
        } else {
            3
        };
        assert!(orderly >= blocks && orderly < 13, "{orderly}");
    }
}

#[test]
fn a_length_beyond_reason_costs_no_memory() {
    let order = Order { big: false };
    let mut packet = order.pcap_packet([1, 2], FRAME, 0);
    packet[8..12].copy_from_slice(&order.four(u32::MAX));
    let end = read(&[order.pcap(0xa1b2_c3d4, 1), packet].concat()).end;
    let end = end.expect("damaged");
    assert!(end.contains("damaged at byte 24, after 0 packets: a packet of 4294967295 bytes"));
    // As much as is allowed, from a file that has not even a part of it.
    let mut block = order.packet(0, 0, FRAME, 0);
    block[4..8].copy_from_slice(&order.four(1 << 28));
    let end = read(&[order.section(), block].concat())
        .end
        .expect("damaged");
    assert!(end.contains("it breaks off, 2684"), "{end}");
}

/// A source that gives one byte at a time, and fails at the end.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match (self.0.split_first(), into.first_mut()) {
            (Some((first, rest)), Some(place)) => {
                *place = *first;
                self.0 = rest;
                Ok(1)
            }
            _ => Err(std::io::Error::other("the disk is gone")),
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_further_says_so() {
    let [pcap, ..] = samples();
    let mut capture = CaptureFile::read(Failing(&pcap)).expect("its header can be read");
    for _ in 0..3 {
        assert!(matches!(capture.next(), Ok(Item::Packet(_))));
    }
    let error = capture.next().expect_err("no more");
    assert!(one_line(&error).ends_with("the disk is gone"), "{error}");
    assert!(matches!(error, CaptureFileError::Read { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_damage_is_a_panic_or_takes_away_what_came_before(
        which in 0..3_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut file = samples()[which].clone();
        let whole = read(&file);
        let mut first = file.len();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
            first = first.min(at);
        }
        file.truncate(cut.index(file.len()) + 1);
        let seen = read(&file);
        // A gzip file decompresses in large steps.
        if which < 2 {
            let untouched = read(&samples()[which][..first]).packets.len();
            let expected = untouched.min(read(&samples()[which][..file.len()]).packets.len());
            prop_assert_eq!(&seen.packets[..expected], &whole.packets[..expected]);
        }
    }

    #[test]
    fn no_bytes_after_a_beginning_are_a_panic(
        which in 0..2_usize,
        keep in 0..80_usize,
        rest in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let sample = &samples()[which];
        let file = [&sample[..keep.min(sample.len())], &rest].concat();
        let _ = read(&file);
    }
}
