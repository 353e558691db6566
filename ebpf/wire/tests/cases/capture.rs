//! What was kept of hellos and certificates, read back where the lengths in it lie.

use gauntlet_wire::Role::{self, Client, Server};
use gauntlet_wire::capture::{Hello, certificate};
use gauntlet_wire::event::Event;
use gauntlet_wire::flow::{
    CAPTURED_SUITES, CERTIFICATE_AT, CERTIFICATE_BYTES, CLIENT_HELLO_BYTES, Flow, HELLO_AT,
    RANDOM_AT, SERVER_HELLO_BYTES,
};
use gauntlet_wire::side::Side;
use proptest::prelude::*;
use zerocopy::{FromBytes, FromZeros};

use crate::bytes::{ClientHello, client_hello, handshake, message, record, server_hello_12};
use crate::play::Conversation;

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const VERSIONS: u16 = 43;

/// A flow whose client's hello was kept as this.
fn kept(parts: &[(u16, u16, &[u8])]) -> Flow {
    let mut bytes = Vec::new();
    for (kind, length, body) in parts {
        bytes.extend(kind.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(*body);
    }
    let mut flow = Flow::new_zeroed();
    flow.bytes[..bytes.len()].copy_from_slice(&bytes);
    flow.sides[0].hello_len = bytes.len() as u16;
    flow
}

fn whole(kind: u16, body: &[u8]) -> Flow {
    kept(&[(kind, body.len() as u16, body)])
}

fn server_name(body: &[u8]) -> Option<Vec<u8>> {
    Hello::of(&whole(SERVER_NAME, body), Client)
        .server_name()
        .map(<[u8]>::to_vec)
}

fn alpn(body: &[u8]) -> Vec<Vec<u8>> {
    Hello::of(&whole(ALPN, body), Client)
        .alpn()
        .map(<[u8]>::to_vec)
        .collect()
}

#[test]
fn a_side_that_sent_no_hello_has_none() {
    let flow = Flow::new_zeroed();
    for role in Role::BOTH {
        let hello = Hello::of(&flow, role);
        assert_eq!(hello.suites().count(), 0);
        assert_eq!(hello.supported_versions().count(), 0);
        assert_eq!(hello.alpn().count(), 0);
        assert_eq!(hello.server_name(), None);
        assert_eq!(certificate(&flow, role), b"");
    }
}

#[test]
fn a_server_name_is_read_by_its_own_length() {
    assert_eq!(
        server_name(b"\x00\x06\x00\x00\x03abc"),
        Some(b"abc".to_vec())
    );
    assert_eq!(
        server_name(b"\x00\x09\x00\x00\x03abcdef"),
        Some(b"abc".to_vec())
    );
    // Empty, longer than what is there, no host name, cut in its header, nothing.
    assert_eq!(server_name(b"\x00\x03\x00\x00\x00"), None);
    assert_eq!(server_name(b"\x00\x06\x00\x00\x04abc"), None);
    assert_eq!(server_name(b"\x00\x06\x00\xff\xffabc"), None);
    assert_eq!(server_name(b"\x00\x06\x01\x00\x03abc"), None);
    assert_eq!(server_name(b"\x00\x06\x00\x00"), None);
    assert_eq!(server_name(b""), None);
}

#[test]
fn protocol_names_are_read_until_one_does_not_fit() {
    assert_eq!(
        alpn(b"\x00\x07\x02h2\x03foo"),
        [b"h2".to_vec(), b"foo".to_vec()]
    );
    assert_eq!(alpn(b"\x00\x07\x02h2\x04foo"), [b"h2".to_vec()]);
    assert_eq!(alpn(b"\x00\x07\xffh2"), Vec::<Vec<u8>>::new());
    assert_eq!(alpn(b"\x00\x01\x00"), [Vec::new()]);
    assert_eq!(alpn(b"\x00\x07"), Vec::<Vec<u8>>::new());
    assert_eq!(alpn(b"\x00"), Vec::<Vec<u8>>::new());
    assert_eq!(alpn(b""), Vec::<Vec<u8>>::new());
}

#[test]
fn half_a_suite_or_version_is_left_out() {
    let flow = whole(CAPTURED_SUITES, &[0x13, 1, 0x13, 2, 0x13]);
    assert_eq!(
        Hello::of(&flow, Client).suites().collect::<Vec<_>>(),
        [0x1301, 0x1302]
    );
    let flow = whole(VERSIONS, &[5, 3, 4, 3, 3, 3]);
    let versions = Hello::of(&flow, Client)
        .supported_versions()
        .collect::<Vec<_>>();
    assert_eq!(versions, [0x0304, 0x0303]);
    assert_eq!(
        Hello::of(&whole(VERSIONS, &[]), Client)
            .supported_versions()
            .count(),
        0
    );
}

#[test]
fn a_part_that_claims_more_than_is_kept_is_what_is_there_and_the_last() {
    let flow = kept(&[
        (CAPTURED_SUITES, 2, &[0x13, 1]),
        (ALPN, 500, b"\x00\x03\x02h2"),
    ]);
    let hello = Hello::of(&flow, Client);
    assert_eq!(hello.suites().collect::<Vec<_>>(), [0x1301]);
    assert_eq!(hello.alpn().collect::<Vec<_>>(), [b"h2"]);
    assert_eq!(hello.server_name(), None);
}

#[test]
fn parts_are_found_in_any_order_and_the_first_of_a_kind_counts() {
    let name = |name: &[u8]| [&[0, 6, 0, 0, name.len() as u8], name].concat();
    let (first, second) = (name(b"abc"), name(b"xyz"));
    let flow = kept(&[
        (VERSIONS, 3, &[2, 3, 4]),
        (SERVER_NAME, 8, &first),
        (ALPN, 0, &[]),
        (SERVER_NAME, 8, &second),
        (CAPTURED_SUITES, 2, &[0x13, 1]),
    ]);
    let hello = Hello::of(&flow, Client);
    assert_eq!(hello.server_name(), Some(&b"abc"[..]));
    assert_eq!(hello.suites().count(), 1);
    assert_eq!(hello.alpn().count(), 0);
}

#[test]
fn a_header_cut_short_is_no_part() {
    for length in 0..4 {
        let mut flow = whole(CAPTURED_SUITES, &[0x13, 1]);
        flow.sides[0].hello_len = length;
        assert_eq!(Hello::of(&flow, Client).suites().count(), 0);
    }
}

#[test]
fn lengths_beyond_their_space_are_cut_to_it() {
    let mut flow = Flow::new_zeroed();
    flow.bytes.fill(0xff);
    for (role, space) in [(Client, CLIENT_HELLO_BYTES), (Server, SERVER_HELLO_BYTES)] {
        let side = &mut flow.sides[role as usize];
        (side.hello_len, side.certificate_len) = (u16::MAX, u16::MAX);
        let at = usize::from(HELLO_AT[role as usize]);
        let suites = CAPTURED_SUITES.to_be_bytes();
        flow.bytes[at..at + 2].copy_from_slice(&suites);
        let count = Hello::of(&flow, role).suites().count();
        assert_eq!(count, (space - 4) / 2, "{role:?}");
        assert_eq!(certificate(&flow, role).len(), CERTIFICATE_BYTES);
    }
}

#[test]
fn each_side_has_its_own_place() {
    let mut flow = Flow::new_zeroed();
    for role in Role::BOTH {
        let at = usize::from(CERTIFICATE_AT[role as usize]);
        flow.bytes[at] = 1 + role as u8;
        flow.sides[role as usize].certificate_len = 1;
    }
    assert_eq!(certificate(&flow, Client), [1]);
    assert_eq!(certificate(&flow, Server), [2]);
}

/// A ClientHello with one extension that claims to be of this length.
fn claims(kind: u16, length: u16, body: &[u8]) -> Vec<u8> {
    let mut hello = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0]].concat();
    hello.extend((body.len() as u16 + 4).to_be_bytes());
    hello.extend(kind.to_be_bytes());
    hello.extend(length.to_be_bytes());
    hello.extend(body);
    handshake(1, &hello)
}

#[test]
fn an_extension_that_claims_more_than_its_message_is_malformed_and_not_kept() {
    for kind in [SERVER_NAME, ALPN, VERSIONS] {
        for (length, malformed) in [(8, false), (9, true), (500, true), (u16::MAX, true)] {
            let talk = Conversation::default().client([
                claims(kind, length, b"\x00\x06\x00\x00\x03abc"),
                ClientHello::default().bytes(),
            ]);
            let first = Conversation {
                turns: talk.turns.clone(),
                known: false,
            };
            let side = *first.play().flow.client();
            assert_eq!(side.is(Side::MALFORMED), malformed, "{kind} {length}");
            // What follows is read as if nothing had been.
            let player = talk.play();
            let hello = Hello::of(&player.flow, Client);
            assert_eq!(
                hello.server_name(),
                Some(&b"api.internal"[..]),
                "{kind} {length}"
            );
        }
    }
}

#[test]
fn what_stands_behind_the_list_of_extensions_is_none_of_them() {
    let name = b"\x00\x00\x00\x08\x00\x06\x00\x00\x03abc";
    for (list, malformed) in [(0, true), (11, true), (12, false)] {
        let mut hello = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0]].concat();
        hello.extend([0, list]);
        hello.extend(name);
        let talk = Conversation::default().client([handshake(1, &hello)]);
        let flow = talk.play().flow;
        assert_eq!(flow.client().is(Side::MALFORMED), malformed, "{list}");
        let read = Hello::of(&flow, Client).server_name();
        assert_eq!(read.is_none(), malformed, "{list}");
    }
}

#[test]
fn a_certificate_that_claims_more_than_its_message_is_malformed() {
    let body = [&[0, 3, 0][..], &[0, 2, 0], &[0x30; 100]].concat();
    let talk = Conversation::default()
        .client([ClientHello::default().bytes()])
        .server([server_hello_12(), handshake(11, &body)]);
    let player = talk.play();
    assert!(player.flow.server().is(Side::MALFORMED));
    assert_eq!(certificate(&player.flow, Server), b"");
}

#[test]
fn a_hello_that_ends_within_a_field_is_malformed() {
    let whole = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0, 0, 0]].concat();
    // In the random, before the session's length, in the suites' length, in the extensions'.
    for (length, malformed) in [(20, true), (34, false), (36, true), (42, true), (43, false)] {
        let talk = Conversation::default().client([handshake(1, &whole[..length]), client_hello()]);
        let flow = talk.play().flow;
        assert_eq!(flow.client().is(Side::MALFORMED), malformed, "{length}");
        // What follows is read in its own right.
        let name = Hello::of(&flow, Client).server_name();
        assert_eq!(name, Some(&b"api.internal"[..]), "{length}");
    }
}

#[test]
fn whatever_was_begun_and_not_ended_is_unfinished() {
    let begun: [fn(&mut Side); 4] = [
        |side| side.record_left = 1,
        |side| side.message_left = 1,
        |side| side.have = 1,
        |side| side.header_have = 1,
    ];
    for begin in begun {
        let mut side = Flow::new_zeroed().sides[0];
        assert!(!side.unfinished());
        begin(&mut side);
        assert!(side.unfinished());
    }
}

#[test]
fn history_ends_where_its_space_does() {
    let mut side = Flow::new_zeroed().sides[0];
    for letter in b'a'..=b'z' {
        side.remember(letter, 0);
        side.remember(letter, 1);
    }
    assert_eq!(usize::from(side.history_len), side.history.len());
    let first: Vec<u8> = (b'a'..=b'z').flat_map(|letter| [letter; 2]).collect();
    assert_eq!(side.history[..], first[..side.history.len()]);
}

#[test]
fn extensions_without_end_stay_within_their_space() {
    // 40 protocol lists of 100 bytes.
    let extensions: Vec<u8> = (0..40)
        .flat_map(|_| [&[0, 16, 0, 100][..], &[0, 98, 97], &[b'a'; 97]].concat())
        .collect();
    let mut body = [&[3, 3][..], &[7; 32], &[0, 0x13, 1, 0]].concat();
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let talk = Conversation::default()
        .client([ClientHello::default().bytes()])
        .server([record(22, &message(2, &body))]);
    let player = talk.play();
    let server = player.flow.server();
    assert!(usize::from(server.hello_len) <= SERVER_HELLO_BYTES);
    assert!(server.is(Side::TRUNCATED) && !server.is(Side::MALFORMED));
    let names: Vec<&[u8]> = Hello::of(&player.flow, Server).alpn().collect();
    assert_eq!(names, [[b'a'; 97]]);
    // The client's certificate begins where the server's hello ends.
    let after = usize::from(CERTIFICATE_AT[0])..usize::from(RANDOM_AT);
    assert!(player.flow.bytes[after].iter().all(|byte| *byte == 0));
    assert_eq!(player.flow.bytes[usize::from(RANDOM_AT)..][..32], [7; 32]);
}

#[test]
fn a_server_hello_that_fills_its_space_is_kept_to_its_last_byte() {
    let name = [b'a'; SERVER_HELLO_BYTES - 7];
    let list = [&[name.len() as u8][..], &name].concat();
    let protocols = [&(list.len() as u16).to_be_bytes()[..], &list].concat();
    let extension = [
        &[0, 16][..],
        &(protocols.len() as u16).to_be_bytes(),
        &protocols,
    ]
    .concat();
    let mut body = [&[3, 3][..], &[7; 32], &[0, 0x13, 1, 0]].concat();
    body.extend((extension.len() as u16).to_be_bytes());
    body.extend(extension);
    let talk = Conversation::default()
        .client([ClientHello::default().bytes()])
        .server([handshake(2, &body)]);
    let player = talk.play();
    let server = player.flow.server();
    assert_eq!(usize::from(server.hello_len), SERVER_HELLO_BYTES);
    assert!(!server.is(Side::TRUNCATED));
    let names: Vec<&[u8]> = Hello::of(&player.flow, Server).alpn().collect();
    assert_eq!(names, [name]);
}

proptest! {
    #[test]
    fn any_bytes_as_an_event_are_read_within_it(
        bytes in prop::collection::vec(any::<u8>(), size_of::<Event>()..=size_of::<Event>()),
    ) {
        let event = Event::read_from_bytes(&bytes).expect("the size of an event");
        let _ = (event.stage(), event.verdict.failure());
        prop_assert!(event.history().count() <= 32);
        for role in Role::BOTH {
            let hello = Hello::of(&event.flow, role);
            prop_assert!(hello.suites().count() <= 256);
            prop_assert!(hello.supported_versions().count() <= 256);
            prop_assert!(hello.alpn().map(<[u8]>::len).sum::<usize>() <= CLIENT_HELLO_BYTES);
            prop_assert!(hello.server_name().is_none_or(|name| name.len() <= CLIENT_HELLO_BYTES));
            prop_assert!(certificate(&event.flow, role).len() <= CERTIFICATE_BYTES);
            let _ = event.endpoint(role);
        }
    }
}
