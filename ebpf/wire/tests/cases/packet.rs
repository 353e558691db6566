//! Frames as networks carry them: where the TCP payload is, and whose connection it is of.

use etherparse::{IpHeaders, Ipv4Header, PacketBuilder};
use gauntlet_wire::Role;
use gauntlet_wire::bytes::Bytes;
use gauntlet_wire::event::Event;
use gauntlet_wire::packet::{Frame, Parsed, Skipped, parse, parse_network};
use gauntlet_wire::segment::Segment;
use zerocopy::FromZeros;

const PAYLOAD: &[u8] = b"\x16\x03\x01\x00\x02hi";
const CLIENT: [u8; 4] = [10, 0, 0, 1];
const SERVER: [u8; 4] = [10, 0, 0, 2];
const CLIENT6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const SERVER6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86DD;

fn parsed(frame: &[u8], ether_type: Option<u16>) -> Result<Parsed, Skipped> {
    let mut found = Parsed::new_zeroed();
    parse(&Bytes { frame, ether_type }, &mut found).map(|()| found)
}

fn payload(frame: &[u8]) -> Result<&[u8], Skipped> {
    let segment = parsed(frame, None)?.segment;
    Ok(&frame[segment.at as usize..segment.end as usize])
}

fn ethernet_ipv4(payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(CLIENT, SERVER, 64)
        .tcp(41_234, 443, 7, 1_000)
        .ack(9);
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).expect("a frame");
    frame
}

fn ethernet_ipv6(payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv6(CLIENT6, SERVER6, 64)
        .tcp(41_234, 443, 7, 1_000)
        .ack(9);
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).expect("a frame");
    frame
}

/// An IPv6 frame with these extension headers, each a type and its bytes after the next header's type.
fn extended(extensions: &[(u8, &[u8])]) -> Vec<u8> {
    let mut frame = ethernet_ipv6(PAYLOAD);
    let tcp = frame.split_off(54);
    let types = extensions.iter().map(|(kind, _)| *kind).chain([6]);
    let mut types = types.collect::<Vec<_>>().into_iter();
    frame[20] = types.next().expect("a type");
    for ((_, body), next) in extensions.iter().zip(types) {
        frame.push(next);
        frame.extend(*body);
    }
    frame.extend(tcp);
    let length = (frame.len() - 54) as u16;
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    frame
}

fn mapped(address: [u8; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[10..12].fill(0xff);
    bytes[12..].copy_from_slice(&address);
    bytes
}

#[test]
fn ethernet_with_ipv4_is_read() {
    let frame = ethernet_ipv4(PAYLOAD);
    let found = parsed(&frame, None).expect("a segment");
    assert_eq!(payload(&frame), Ok(PAYLOAD));
    assert_eq!((found.segment.sequence, found.segment.acknowledged), (7, 9));
    assert_eq!(found.segment.flags, Segment::ACK);
    assert_eq!(found.key.ports, [443, 41_234]);
    assert_eq!(found.key.addresses, [mapped(SERVER), mapped(CLIENT)]);
    assert_eq!(found.sender_first, 0);
}

#[test]
fn ethernet_with_ipv6_is_read() {
    let frame = ethernet_ipv6(PAYLOAD);
    let found = parsed(&frame, None).expect("a segment");
    assert_eq!(payload(&frame), Ok(PAYLOAD));
    assert_eq!(found.key.ports, [443, 41_234]);
    assert_eq!(found.key.addresses, [SERVER6, CLIENT6]);
}

#[test]
fn flags_are_those_of_the_header() {
    let frame = |flags: u8| {
        let mut frame = ethernet_ipv4(&[]);
        frame[14 + 20 + 13] = flags;
        frame
    };
    for flags in [
        Segment::SYN,
        Segment::SYN | Segment::ACK,
        Segment::FIN,
        Segment::RST,
    ] {
        assert_eq!(
            parsed(&frame(flags), None)
                .expect("a segment")
                .segment
                .flags,
            flags
        );
    }
}

#[test]
fn the_key_is_the_same_for_both_directions_and_tells_the_sender() {
    let frame = |from: ([u8; 4], u16), to: ([u8; 4], u16)| {
        let builder = PacketBuilder::ipv4(from.0, to.0, 64).tcp(from.1, to.1, 0, 0);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, &[]).expect("a packet");
        parsed(&bytes, Some(IPV4)).expect("a segment")
    };
    let ends = [
        ((SERVER, 443), (CLIENT, 41_234)),
        ((SERVER, 80), (CLIENT, 443)),
        ((CLIENT, 443), (SERVER, 443)),
        (([9, 255, 255, 255], 5), ([10, 0, 0, 0], 5)),
        (([127, 0, 0, 1], 5), ([128, 0, 0, 1], 5)),
    ];
    for (low, high) in ends {
        let (there, back) = (frame(low, high), frame(high, low));
        assert_eq!(there.key, back.key);
        assert_eq!(
            (there.sender_first, back.sender_first),
            (1, 0),
            "{low:?} {high:?}"
        );
        assert_eq!(there.key.endpoint(0).address, mapped(low.0));
        assert_eq!(
            (there.key.endpoint(0).port, there.key.endpoint(1).port),
            (low.1, high.1)
        );
        assert_eq!(there.key.endpoint(1).address, mapped(high.0));
    }
}

#[test]
fn an_event_knows_which_end_is_the_client() {
    let mut event = Event::new_zeroed();
    event.key = parsed(&ethernet_ipv4(PAYLOAD), None)
        .expect("a segment")
        .key;
    event.flow.client_first = 0;
    assert_eq!(event.endpoint(Role::Client).port, 41_234);
    assert_eq!(event.endpoint(Role::Server).port, 443);
    event.flow.client_first = 1;
    assert_eq!(event.endpoint(Role::Client).address, mapped(SERVER));
    assert_eq!(event.endpoint(Role::Server).address, mapped(CLIENT));
}

#[test]
fn ipv4_options_are_passed_over() {
    for words in 1..=10 {
        let options = vec![1; words * 4];
        let mut header = Ipv4Header::new(0, 64, 6.into(), CLIENT, SERVER).expect("a header");
        header.options = options[..].try_into().expect("options");
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ip(IpHeaders::Ipv4(header, Default::default()))
            .tcp(1, 2, 3, 4);
        let mut frame = Vec::new();
        builder.write(&mut frame, PAYLOAD).expect("a frame");
        assert_eq!(payload(&frame), Ok(PAYLOAD), "{words} words");
    }
}

#[test]
fn tcp_options_are_passed_over() {
    for words in 0..=10 {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(CLIENT, SERVER, 64)
            .tcp(1, 2, 3, 4)
            .options_raw(&vec![1; words * 4])
            .expect("options");
        let mut frame = Vec::new();
        builder.write(&mut frame, PAYLOAD).expect("a frame");
        assert_eq!(payload(&frame), Ok(PAYLOAD), "{words} words");
    }
}

#[test]
fn each_ipv6_extension_header_is_passed_over() {
    let eight = [0; 7];
    let mut sixteen = [0; 15];
    sixteen[0] = 1;
    for kind in [0, 43, 60] {
        assert_eq!(payload(&extended(&[(kind, &eight)])), Ok(PAYLOAD), "{kind}");
        assert_eq!(
            payload(&extended(&[(kind, &sixteen)])),
            Ok(PAYLOAD),
            "{kind}"
        );
    }
    let four: Vec<(u8, &[u8])> = vec![(0, &eight), (60, &sixteen), (43, &eight), (60, &eight)];
    assert_eq!(payload(&extended(&four)), Ok(PAYLOAD));
}

#[test]
fn the_authentication_header_counts_in_words_less_two() {
    // RFC 4302 section 2.2: 12 octets and a 12-octet check value are 6 words.
    let mut header = [0; 23];
    header[0] = 4;
    assert_eq!(payload(&extended(&[(51, &header)])), Ok(PAYLOAD));
    let hop = [0; 7];
    assert_eq!(payload(&extended(&[(0, &hop), (51, &header)])), Ok(PAYLOAD));
}

#[test]
fn more_ipv6_extension_headers_than_are_followed_are_counted() {
    let eight = [0; 7];
    let five: Vec<(u8, &[u8])> = vec![(60, &eight); 5];
    assert_eq!(payload(&extended(&five)), Err(Skipped::Network));
}

#[test]
fn an_ipv6_packet_that_is_no_tcp_is_not_looked_at() {
    for kind in [17, 58, 50, 59] {
        assert_eq!(
            payload(&extended(&[(kind, &[0; 7])])),
            Err(Skipped::NotTcp),
            "{kind}"
        );
        let behind: Vec<(u8, &[u8])> = vec![(0, &[0; 7]), (kind, &[0; 7])];
        assert_eq!(payload(&extended(&behind)), Err(Skipped::NotTcp), "{kind}");
    }
}

#[test]
fn fragments_are_counted_and_not_read() {
    assert_eq!(payload(&extended(&[(44, &[0; 7])])), Err(Skipped::Fragment));
    for (high, low) in [(0x20, 0), (0, 1), (0x1f, 0xff), (0x20, 1)] {
        let mut frame = ethernet_ipv4(PAYLOAD);
        (frame[20], frame[21]) = (high, low);
        assert_eq!(payload(&frame), Err(Skipped::Fragment));
    }
    let mut whole = ethernet_ipv4(PAYLOAD);
    whole[20] = 0x40;
    assert_eq!(
        payload(&whole),
        Ok(PAYLOAD),
        "don't fragment is no fragment"
    );
}

#[test]
fn vlan_tags_in_the_bytes_are_passed_over() {
    let tagged = |tags: &[u16], inner: &[u8]| {
        let mut frame = inner[..12].to_vec();
        for tag in tags {
            frame.extend(tag.to_be_bytes());
            frame.extend([0x20, 5]);
        }
        frame.extend(&inner[12..]);
        frame
    };
    for (inner, ether_type) in [
        (ethernet_ipv4(PAYLOAD), IPV4),
        (ethernet_ipv6(PAYLOAD), IPV6),
    ] {
        for tags in [
            &[0x8100][..],
            &[0x88A8],
            &[0x88A8, 0x8100],
            &[0x8100, 0x8100],
        ] {
            let frame = tagged(tags, &inner);
            assert_eq!(payload(&frame), Ok(PAYLOAD), "{tags:x?}");
            // The driver may tell of the tag, or of what is in it.
            for known in [tags[0], ether_type] {
                let found = parsed(&frame, Some(known)).expect("a segment").segment;
                assert_eq!(&frame[found.at as usize..], PAYLOAD, "{tags:x?}");
            }
        }
        assert_eq!(
            payload(&tagged(&[0x88A8, 0x8100, 0x8100], &inner)),
            Err(Skipped::NotTcp)
        );
    }
    let cut = &tagged(&[0x8100], &ethernet_ipv4(PAYLOAD))[..16];
    assert_eq!(payload(cut), Err(Skipped::Link));
}

#[test]
fn a_tag_that_the_hardware_removed_changes_nothing() {
    let frame = ethernet_ipv4(PAYLOAD);
    let found = parsed(&frame, Some(IPV4)).expect("a segment").segment;
    assert_eq!(&frame[found.at as usize..found.end as usize], PAYLOAD);
}

#[test]
fn bare_ip_is_read_where_the_ether_type_is_known() {
    for (frame, ether_type) in [
        (ethernet_ipv4(PAYLOAD), IPV4),
        (ethernet_ipv6(PAYLOAD), IPV6),
    ] {
        let bare = &frame[14..];
        let found = parsed(bare, Some(ether_type)).expect("a segment").segment;
        assert_eq!(&bare[found.at as usize..found.end as usize], PAYLOAD);
    }
}

#[test]
fn a_packet_that_begins_with_its_ip_header_is_the_same_connection() {
    for whole in [ethernet_ipv4(PAYLOAD), ethernet_ipv6(PAYLOAD)] {
        let expected = parsed(&whole, None).expect("a segment");
        let packet = &whole[14..];
        let read = |packet: &[u8]| {
            let mut found = Parsed::new_zeroed();
            let bytes = Bytes {
                frame: packet,
                ether_type: None,
            };
            parse_network(&bytes, &mut found).map(|()| found)
        };
        let found = read(packet).expect("a segment");
        let segment = found.segment;
        assert_eq!(&packet[segment.at as usize..segment.end as usize], PAYLOAD);
        assert_eq!(
            (found.key, found.sender_first),
            (expected.key, expected.sender_first)
        );
        assert_eq!(segment.sequence, expected.segment.sequence);
        for end in 0..packet.len() - PAYLOAD.len() {
            assert_eq!(read(&packet[..end]), Err(Skipped::Network), "{end}");
        }
        let mut odd = packet.to_vec();
        odd[0] = 0x50;
        assert_eq!(read(&odd), Err(Skipped::Network));
    }
    // An address that reads like an EtherType where an Ethernet header is looked for.
    let builder = PacketBuilder::ipv4([8, 0, 1, 2], SERVER, 64).tcp(41_234, 443, 7, 1_000);
    let mut packet = Vec::new();
    builder.write(&mut packet, PAYLOAD).expect("a packet");
    let mut found = Parsed::new_zeroed();
    assert_eq!(parse_network(&Bytes::new(&packet), &mut found), Ok(()));
    assert_eq!(found.key.addresses, [mapped(SERVER), mapped([8, 0, 1, 2])]);
}

#[test]
fn what_is_not_ip_is_no_loss() {
    const ETH_P_802_2: u16 = 4;
    const ARP: u16 = 0x0806;
    // A spanning tree frame has a length where others have a type.
    let mut bpdu = [0_u8; 60];
    bpdu[..6].copy_from_slice(&[0x01, 0x80, 0xc2, 0, 0, 0]);
    bpdu[12..14].copy_from_slice(&[0, 39]);
    assert_eq!(parsed(&bpdu, Some(ETH_P_802_2)), Err(Skipped::NotTcp));
    assert_eq!(parsed(&[0xff; 60], Some(ARP)), Err(Skipped::NotTcp));
}

#[test]
fn a_link_layer_that_is_not_known_is_counted() {
    let bare = &ethernet_ipv4(PAYLOAD)[14..];
    assert_eq!(parsed(bare, Some(IPV6)), Err(Skipped::Link));
    assert_eq!(parsed(&[0; 60], Some(IPV4)), Err(Skipped::Link));
}

#[test]
fn what_is_no_ip_is_not_looked_at() {
    let mut arp = ethernet_ipv4(PAYLOAD);
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    assert_eq!(payload(&arp), Err(Skipped::NotTcp));
    let mut udp = ethernet_ipv4(PAYLOAD);
    udp[23] = 17;
    assert_eq!(payload(&udp), Err(Skipped::NotTcp));
}

#[test]
fn the_padding_of_short_frames_is_no_payload() {
    for mut frame in [
        ethernet_ipv4(&[]),
        ethernet_ipv4(b"abc"),
        ethernet_ipv6(b"abc"),
    ] {
        let said = payload(&frame).map(<[u8]>::to_vec);
        frame.resize(frame.len().max(60) + 6, 0xee);
        assert_eq!(payload(&frame).map(<[u8]>::to_vec), said);
    }
}

#[test]
fn a_length_of_zero_is_that_of_the_frame() {
    // BIG TCP.
    let large = vec![0x17; 70_000];
    let mut four = ethernet_ipv4(&[]);
    four.extend(&large);
    four[16..18].fill(0);
    assert_eq!(payload(&four).map(<[u8]>::len), Ok(70_000));
    let mut six = ethernet_ipv6(&[]);
    six.extend(&large);
    six[18..20].fill(0);
    assert_eq!(payload(&six).map(<[u8]>::len), Ok(70_000));
    // IPv6: behind a hop-by-hop header with the jumbo payload option (RFC 2675).
    let mut jumbo = extended(&[(0, &[0, 0xc2, 4, 0, 1, 0x11, 0x70])]);
    jumbo[18..20].fill(0);
    assert_eq!(payload(&jumbo), Ok(PAYLOAD));
}

#[test]
fn a_frame_cut_anywhere_in_its_headers_is_no_segment() {
    for (frame, headers) in [(ethernet_ipv4(PAYLOAD), 54), (ethernet_ipv6(PAYLOAD), 74)] {
        for length in 0..frame.len() {
            let cut = &frame[..length];
            let expected = match length {
                0..14 => Err(Skipped::Link),
                _ if length < headers => Err(Skipped::Network),
                _ => Ok(&PAYLOAD[..length - headers]),
            };
            assert_eq!(payload(cut), expected, "{length} bytes");
        }
    }
}

#[test]
fn an_extension_header_cut_anywhere_is_no_segment() {
    let frame = extended(&[(0, &[0; 7]), (60, &[0; 7])]);
    for length in 54..54 + 16 + 20 {
        assert_eq!(
            payload(&frame[..length]),
            Err(Skipped::Network),
            "{length} bytes"
        );
    }
}

#[test]
fn headers_that_contradict_themselves_are_counted() {
    let broken = |at: usize, value: u8| {
        let mut frame = ethernet_ipv4(PAYLOAD);
        frame[at] = value;
        payload(&frame).map(<[u8]>::to_vec)
    };
    // IPv4: version, header length, total length within the headers.
    assert_eq!(broken(14, 0x65), Err(Skipped::Network));
    assert_eq!(broken(14, 0x44), Err(Skipped::Network));
    assert_eq!(broken(17, 39), Err(Skipped::Network));
    assert_eq!(broken(17, 40), Ok(vec![]));
    // TCP: data offset below the least, beyond the packet.
    assert_eq!(broken(46, 0x40), Err(Skipped::Network));
    assert_eq!(broken(46, 0x00), Err(Skipped::Network));
    assert_eq!(broken(46, 0x60), Ok(PAYLOAD[4..].to_vec()));
    assert_eq!(broken(46, 0x70), Err(Skipped::Network));
    assert_eq!(broken(46, 0xf0), Err(Skipped::Network));
    let mut six = ethernet_ipv6(PAYLOAD);
    six[14] = 0x45;
    assert_eq!(payload(&six), Err(Skipped::Network));
}

#[test]
fn options_do_not_reach_into_the_padding() {
    let mut frame = ethernet_ipv4(&[]);
    frame[46] = 0x60;
    frame.resize(60, 0);
    assert_eq!(payload(&frame), Err(Skipped::Network));
}

#[test]
fn a_frame_in_memory_says_what_it_has() {
    let bytes = Bytes::new(&[1, 2, 3]);
    assert_eq!((bytes.length(), Frame::ether_type(&bytes)), (3, None));
    assert_eq!(bytes.load::<2>(1), Some([2, 3]));
    assert_eq!(bytes.load::<2>(2), None);
    assert_eq!(bytes.load::<1>(u32::MAX), None);
}

proptest::proptest! {
    #[test]
    fn garbage_is_never_followed_beyond_its_end(
        frame in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        kind in 0..4_usize,
        lengths: [u8; 2],
    ) {
        let mut frame = frame;
        let known = [None, Some(IPV4), Some(IPV6), None][kind];
        // Enough of a header to come past the first checks.
        if frame.len() > 60 {
            let (ether_type, version, protocol) = if kind % 2 == 0 { (IPV4, 0x45, 23) } else { (IPV6, 0x60, 20) };
            frame[12..14].copy_from_slice(&ether_type.to_be_bytes());
            frame[14] = version | (lengths[0] & 0x0f);
            frame[protocol] = [6, 0, 51, 60][usize::from(lengths[1] & 3)];
        }
        if let Ok(found) = parsed(&frame, known) {
            proptest::prop_assert!(found.segment.at <= found.segment.end);
            proptest::prop_assert!(found.segment.end as usize <= frame.len());
            proptest::prop_assert!(found.key.ports[0] <= found.key.ports[1]);
        }
    }
}
