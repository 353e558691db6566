//! What holds for every conversation, however the network cuts, repeats, numbers or loses it, and
//! for bytes that are none.

#[path = "cases/bytes.rs"]
#[expect(dead_code, reason = "only tests/cases says all of it")]
mod bytes;
#[path = "cases/play.rs"]
#[expect(dead_code, reason = "only tests/cases plays all of it")]
mod play;
#[path = "cases/stories.rs"]
mod stories;

use gauntlet_wire::Role;
use gauntlet_wire::bytes::Bytes;
use gauntlet_wire::class::Class;
use gauntlet_wire::counters::{class_key, from_class_key};
use gauntlet_wire::event::{Event, Verdict};
use gauntlet_wire::flow::{CAPTURE, CERTIFICATE_BYTES, Flow, HELLO_SPACE, Place};
use gauntlet_wire::rules::{Cause, Failure, Outcome};
use gauntlet_wire::segment::Segment;
use gauntlet_wire::side::{GATHER, HISTORY, Side, Stage};
use gauntlet_wire::walk::Walked;
use proptest::prelude::*;
use zerocopy::FromZeros;

use crate::play::{Conversation, Piece, Player, Turn};
use crate::stories::{bad, good};

const FIRST: [u32; 2] = [1_000, 2_000_000];

fn all() -> Vec<(&'static str, Conversation)> {
    good().into_iter().chain(bad()).collect()
}

/// Any one of the conversations.
fn any_talk() -> impl Strategy<Value = (&'static str, Conversation)> {
    prop::sample::select(all())
}

fn play(known: bool, first: [u32; 2], pieces: &[Piece]) -> Player {
    let mut player = Player::new(known, first);
    for piece in pieces {
        player.take(piece);
    }
    player
}

/// The same bytes in segments of these sizes, again and again; flags in the last.
fn cut(piece: &Piece, sizes: &[usize]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut sizes = sizes.iter().cycle();
    let mut rest = &piece.bytes[..];
    loop {
        let size = *sizes.next().expect("a size");
        let (now, later) = rest.split_at(size.min(rest.len()));
        pieces.push(Piece {
            sequence: piece
                .sequence
                .wrapping_add((piece.bytes.len() - rest.len()) as u32),
            flags: if later.is_empty() { piece.flags } else { 0 },
            bytes: now.to_vec(),
            ..*piece
        });
        rest = later;
        if rest.is_empty() {
            return pieces;
        }
    }
}

/// What must not depend on how bytes were numbered.
fn told(player: &Player) -> Player {
    let mut player = player.clone();
    for side in &mut player.flow.sides {
        (side.next, side.mark, side.ahead, side.heard) = (0, 0, 0, 0);
    }
    player
}

fn history(flow: Flow) -> String {
    let mut event = Event::new_zeroed();
    event.flow = flow;
    event.history().collect()
}

#[test]
fn a_cut_at_any_offset_changes_nothing() {
    for (name, talk) in all() {
        let pieces = talk.pieces(FIRST);
        let whole = play(talk.known, FIRST, &pieces);
        for (at, piece) in pieces.iter().enumerate() {
            for offset in 1..piece.bytes.len() {
                let mut halves = pieces.clone();
                halves.splice(at..=at, cut(piece, &[offset, usize::MAX]));
                let again = play(talk.known, FIRST, &halves);
                assert_eq!(again, whole, "{name}: turn {at} cut at {offset}");
            }
        }
    }
}

#[test]
fn single_bytes_change_nothing() {
    for (name, talk) in all() {
        let whole = talk.pieces(FIRST);
        let bytes: Vec<Piece> = whole.iter().flat_map(|piece| cut(piece, &[1])).collect();
        let expected = play(talk.known, FIRST, &whole);
        assert_eq!(play(talk.known, FIRST, &bytes), expected, "{name}");
    }
}

/// Each segment that has bytes twice in a row.
fn doubled(pieces: &[Piece]) -> Vec<Piece> {
    let again = |piece: &Piece| {
        let copy = Piece {
            flags: 0,
            ..piece.clone()
        };
        (!piece.bytes.is_empty()).then_some(copy)
    };
    (pieces.iter())
        .flat_map(|piece| [Some(piece.clone()), again(piece)])
        .flatten()
        .collect()
}

#[test]
fn sequence_numbers_that_wrap_at_any_byte_change_nothing() {
    for (name, talk) in all() {
        let expected = told(&play(talk.known, FIRST, &talk.pieces(FIRST)));
        for before in 0..1_600 {
            let (near, far) = (0_u32.wrapping_sub(before), 77);
            for first in [[near, far], [far, near], [near, near]] {
                let again = told(&play(talk.known, first, &doubled(&talk.pieces(first))));
                assert_eq!(again, expected, "{name}: {before} before the wrap");
            }
        }
    }
}

#[test]
fn a_flow_whose_syn_ack_was_not_seen_is_followed_from_its_first_segment() {
    for (name, talk) in all() {
        let pieces = talk.pieces(FIRST);
        let expected = told(&play(talk.known, FIRST, &pieces));
        let mut player = Player::new(talk.known, FIRST);
        player.flow.sides[1].flags &= !Side::SYNCED;
        player.flow.sides[1].next = 0;
        for piece in &pieces {
            player.take(piece);
        }
        if player.flow.server().is(Side::SYNCED) {
            assert_eq!(told(&player), expected, "{name}");
        }
    }
}

#[test]
fn the_end_does_not_depend_on_how_many_steps_are_taken_at_once() {
    fn walk<const STEPS: u32>(talk: &Conversation) -> (Flow, Option<Outcome>) {
        let mut flow = Player::new(talk.known, FIRST).flow;
        for piece in talk.pieces(FIRST) {
            let mut segment = Segment::new_zeroed();
            segment.role = piece.from as u8;
            segment.sequence = piece.sequence;
            segment.acknowledged = piece.acknowledged;
            segment.flags = piece.flags;
            segment.end = piece.bytes.len() as u32;
            if flow.place(&mut segment) != Place::Next {
                continue;
            }
            loop {
                match flow.walk::<STEPS>(&Bytes::new(&piece.bytes), &mut segment) {
                    Walked::More => {}
                    Walked::On => break,
                    Walked::Unreadable => panic!("every byte is there"),
                    Walked::Over(outcome) => return (flow, Some(outcome)),
                }
            }
        }
        (flow, None)
    }
    for (name, talk) in all() {
        assert_eq!(walk::<1>(&talk), walk::<16>(&talk), "{name}");
        assert_eq!(walk::<1>(&talk), walk::<1_000>(&talk), "{name}");
    }
}

#[test]
fn a_packet_that_lacks_bytes_its_headers_promise_is_unreadable() {
    for (name, talk) in all() {
        let piece = &talk.pieces(FIRST)[0];
        for have in 0..piece.bytes.len() {
            let mut flow = Player::new(false, FIRST).flow;
            let mut segment = Segment::new_zeroed();
            segment.role = piece.from as u8;
            segment.sequence = piece.sequence;
            segment.end = piece.bytes.len() as u32;
            assert_eq!(flow.place(&mut segment), Place::Next);
            let walked = flow.walk::<1_000>(&Bytes::new(&piece.bytes[..have]), &mut segment);
            // What is passed over unread may be missing.
            let bodies = walked == Walked::On || matches!(walked, Walked::Over(_));
            assert!(bodies || walked == Walked::Unreadable, "{name}: {walked:?}");
            if have < 5 {
                assert_eq!(walked, Walked::Unreadable, "{name}: {have}");
            }
        }
    }
}

/// Bytes a peer may send: pieces of TLS, and anything.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let records = all()
        .into_iter()
        .flat_map(|(_, talk)| talk.turns)
        .map(|turn| turn.bytes);
    let known = prop::sample::select(records.collect::<Vec<_>>());
    let record = (
        18_u8..26,
        any::<u8>(),
        prop::collection::vec(any::<u8>(), 0..60),
    )
        .prop_map(|(kind, message, body)| {
            let said = bytes::message(message % 25, &body);
            bytes::record(kind, &said)
        });
    let broken = (known.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
        |(mut bytes, at, value)| {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes
        },
    );
    prop_oneof![
        known,
        broken.clone(),
        broken,
        record,
        prop::collection::vec(any::<u8>(), 0..200),
    ]
}

fn any_turn() -> impl Strategy<Value = Turn> {
    let flags = prop_oneof![8 => Just(0), 1 => Just(Segment::FIN), 1 => Just(Segment::RST)];
    (any::<bool>(), any_bytes(), flags, any::<bool>()).prop_map(
        |(server, bytes, flags, crossing)| Turn {
            from: Role::from_bit(u8::from(server)),
            bytes,
            flags,
            crossing,
        },
    )
}

fn any_conversation() -> impl Strategy<Value = Conversation> {
    let turns = prop::collection::vec(any_turn(), 0..12);
    (any::<bool>(), turns).prop_map(|(known, turns)| Conversation { known, turns })
}

/// Whether every number of a flow is within what it counts.
fn within_bounds(flow: &Flow) -> Result<(), TestCaseError> {
    for role in Role::BOTH {
        let (side, at) = (&flow.sides[role as usize], role as usize);
        prop_assert!(side.hello_len <= HELLO_SPACE[at]);
        prop_assert!(usize::from(side.certificate_len) <= CERTIFICATE_BYTES);
        prop_assert!(usize::from(side.history_len) <= HISTORY);
        prop_assert!(usize::from(side.header_have) <= GATHER);
        prop_assert!(usize::from(side.have) < GATHER);
        prop_assert!(Stage::ALL.contains(&side.stage));
    }
    // The room for the verifier's sake is never written.
    prop_assert!(flow.bytes[CAPTURE..].iter().all(|byte| *byte == 0));
    Ok(())
}

/// `PROPTEST_CASES` asks for more, or fewer. Cases that fail are not kept in files: they become tests.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: std::env::var_os("PROPTEST_CASES").map_or(1_000, |_| default.cases),
        failure_persistence: None,
        ..default
    }
}

/// Found by [`any_cut_of_anything_changes_nothing`]: after a preamble, a message that is longer than its record,
/// and a record that is none. What was left of the message counted as if it had been read over.
#[test]
fn what_a_broken_record_left_to_skip_is_not_drained() {
    let turn = |from, bytes: Vec<u8>| Turn {
        from,
        bytes,
        flags: 0,
        crossing: false,
    };
    let long = bytes::record(22, &[&[22, 3, 3, 0][..], &[0; 60]].concat());
    let broken = [&[70, 16, 0, 0, 66][..], &[0; 200]].concat();
    let talk = Conversation {
        known: false,
        turns: vec![
            turn(Role::Client, vec![0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f]),
            turn(Role::Server, b"S".to_vec()),
            turn(Role::Client, [long, broken].concat()),
        ],
    };
    let whole = talk.pieces(FIRST);
    let pieces: Vec<Piece> = whole.iter().flat_map(|piece| cut(piece, &[1])).collect();
    let said = play(talk.known, FIRST, &whole);
    assert_eq!(said.verdict(), "open");
    assert_eq!(play(talk.known, FIRST, &pieces), said);
}

/// Found by the same: a client that begins anew in the middle of such a message, as its acknowledgement says, and
/// then says what is no TLS.
#[test]
fn what_a_message_left_to_skip_is_not_drained_when_its_sender_begins_anew() {
    let turn = |from, bytes: Vec<u8>, crossing| Turn {
        from,
        bytes,
        flags: 0,
        crossing,
    };
    let long = bytes::record(22, &[&[238, 238, 238, 238][..], &[0; 60]].concat());
    let talk = Conversation {
        known: false,
        turns: vec![
            turn(Role::Server, b"220 mail.example\r\n".to_vec(), false),
            turn(Role::Client, b"EHLO me\r\n".to_vec(), true),
            turn(Role::Client, long, false),
            turn(Role::Client, vec![0; 36], true),
        ],
    };
    let whole = talk.pieces(FIRST);
    let pieces: Vec<Piece> = whole.iter().flat_map(|piece| cut(piece, &[1])).collect();
    let said = play(talk.known, FIRST, &whole);
    assert_eq!(said.verdict(), "open");
    assert_eq!(play(talk.known, FIRST, &pieces), said);
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_cut_changes_nothing(
        (name, talk) in any_talk(),
        sizes in prop::collection::vec(1..80_usize, 1..6),
    ) {
        let whole = talk.pieces(FIRST);
        let pieces: Vec<Piece> = whole.iter().flat_map(|piece| cut(piece, &sizes)).collect();
        let expected = play(talk.known, FIRST, &whole);
        prop_assert_eq!(play(talk.known, FIRST, &pieces), expected, "{}", name);
    }

    #[test]
    fn any_cut_of_anything_changes_nothing(
        talk in any_conversation(),
        sizes in prop::collection::vec(1..40_usize, 1..4),
    ) {
        let whole = talk.pieces(FIRST);
        let pieces: Vec<Piece> = whole.iter().flat_map(|piece| cut(piece, &sizes)).collect();
        prop_assert_eq!(
            play(talk.known, FIRST, &pieces),
            play(talk.known, FIRST, &whole)
        );
    }

    #[test]
    fn segments_seen_again_change_nothing(
        (name, talk) in any_talk(),
        sizes in prop::collection::vec(1..400_usize, 1..4),
        again in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..8),
    ) {
        let whole = talk.pieces(FIRST);
        let pieces: Vec<Piece> = whole.iter().flat_map(|piece| cut(piece, &sizes)).collect();
        let mut repeated = pieces.clone();
        for (which, after) in again {
            let which = which.index(pieces.len());
            // Once it was sent, at any later time; its FIN or RST only where nothing has followed.
            let mut copy = pieces[which].clone();
            let sent = repeated.iter().position(|piece| *piece == copy).expect("sent");
            let at = sent + 1 + after.index(repeated.len() - sent);
            if copy.bytes.is_empty() {
                continue;
            }
            copy.flags = 0;
            repeated.insert(at, copy);
        }
        prop_assert_eq!(
            play(talk.known, FIRST, &repeated),
            play(talk.known, FIRST, &pieces),
            "{}", name
        );
    }

    #[test]
    fn segments_that_overlap_change_nothing(
        (name, talk) in any_talk(),
        sizes in prop::collection::vec(1..300_usize, 1..4),
        overlap in 1..500_usize,
    ) {
        let whole = talk.pieces(FIRST);
        let mut pieces: Vec<Piece> = whole.iter().flat_map(|piece| cut(piece, &sizes)).collect();
        let expected = play(talk.known, FIRST, &pieces);
        let mut said: [Vec<u8>; 2] = Default::default();
        // A RST carries no bytes.
        for piece in pieces.iter_mut().filter(|piece| piece.flags & Segment::RST == 0) {
            let before = &mut said[piece.from as usize];
            let more = before.len() - overlap.min(before.len());
            let old = before[more..].to_vec();
            before.extend(&piece.bytes);
            piece.sequence = piece.sequence.wrapping_sub(old.len() as u32);
            piece.bytes.splice(0..0, old);
        }
        prop_assert_eq!(play(talk.known, FIRST, &pieces), expected, "{}", name);
    }

    #[test]
    fn anything_stays_within_bounds(talk in any_conversation()) {
        // Playing asserts that every step takes a byte.
        let player = play(talk.known, FIRST, &talk.pieces(FIRST));
        within_bounds(&player.flow)?;
        prop_assert!(history(player.flow).len() <= 2 * HISTORY);
        let _ = (player.flow.owing(), player.flow.silent());
        if let Some(Outcome::Failed(failure)) = player.end {
            let _ = player.event(failure).stage();
        }
    }

    #[test]
    fn a_segment_ahead_is_a_gap_and_then_closing_proves_nothing(
        (name, talk) in any_talk(),
        sizes in prop::collection::vec(1..400_usize, 1..4),
        lost in any::<prop::sample::Index>(),
    ) {
        let whole = talk.pieces(FIRST);
        let mut pieces: Vec<Piece> = whole.iter().flat_map(|piece| cut(piece, &sizes)).collect();
        let gone = pieces.remove(lost.index(pieces.len()));
        let mut player = Player::new(talk.known, FIRST);
        let mut ahead = false;
        for piece in &pieces {
            let place = player.take(piece);
            let side = player.flow.sides[gone.from as usize];
            if place == Some(Place::Ahead) {
                ahead = true;
                prop_assert_eq!(piece.from, gone.from);
            }
            prop_assert_eq!(ahead, side.is(Side::GAP));
            prop_assert!(!ahead || proves_nothing(player.end), "{}: {:?}", name, player.end);
            prop_assert!(!ahead || player.end.is_some() || proves_nothing(Some(player.flow.silent())));
        }
    }

    #[test]
    fn a_handshake_that_succeeds_is_never_reported_whatever_is_lost_or_out_of_order(
        (name, talk) in prop::sample::select(good()),
        sizes in prop::collection::vec(1..700_usize, 1..4),
        lost in prop::option::of(any::<prop::sample::Index>()),
        swapped in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let whole = talk.pieces(FIRST);
        let mut pieces: Vec<Piece> = whole.iter().flat_map(|piece| cut(piece, &sizes)).collect();
        for at in swapped {
            // What is in flight at the same time in one direction can be reordered.
            let at = at.index(pieces.len());
            if pieces.get(at + 1).is_some_and(|next| next.from == pieces[at].from) {
                pieces.swap(at, at + 1);
            }
        }
        // One: that a side's last bytes are missing cannot be seen before it says more.
        if let Some(at) = lost {
            pieces.remove(at.index(pieces.len()));
        }
        let mut player = Player::new(talk.known, FIRST);
        for piece in &pieces {
            player.take(piece);
            let seen_all = !matches!(player.end, Some(Outcome::Failed(_)));
            prop_assert!(seen_all, "{}: {:?}", name, player.end);
        }
        if player.end.is_none() {
            let silent = player.flow.silent();
            prop_assert!(!matches!(silent, Outcome::Failed(_)), "{}: {:?}", name, silent);
        }
    }

    #[test]
    fn hidden_in_an_event_a_failure_survives(number in any::<u8>(), by in any::<u8>(), level: u8, description: u8, hello: bool) {
        let (answers_hello, class) = (u8::from(hello), 0);
        let verdict = Verdict { class, cause: number, by, level, description, answers_hello };
        let failure = verdict.failure();
        prop_assert_eq!(failure.is_some(), (1..=10).contains(&number));
        if let Some(failure) = failure {
            let again = Verdict::from(failure);
            prop_assert_eq!(again.failure(), Some(failure));
            prop_assert_eq!(Class::from_number(again.class), Some(failure.class()));
        }
    }

    #[test]
    fn keys_of_classes_read_back(
        class in prop::sample::select(Class::ALL.to_vec()),
        version in prop_oneof![any::<u16>(), 0x02ff..=0x0305_u16],
    ) {
        // What a server says must not fill the map: one key for all versions that are none.
        let known = if (0x0300..=0x0304).contains(&version) { version } else { 0 };
        prop_assert_eq!(from_class_key(class_key(class, version)), Some((class, known)));
    }

    #[test]
    fn a_key_of_no_class_reads_back_as_none(key in any::<u32>()) {
        let known = (1..=11).contains(&(key >> 16));
        prop_assert_eq!(from_class_key(key).is_some(), known);
    }
}

/// Closing and silence are no failure, whatever else is.
fn proves_nothing(end: Option<Outcome>) -> bool {
    let Some(Outcome::Failed(Failure { cause, .. })) = end else {
        return true;
    };
    !matches!(cause, Cause::Reset | Cause::Fin | Cause::Stall)
}

#[test]
fn a_hole_that_is_filled_is_no_gap_any_more() {
    let talk = stories::tls12().fin(Role::Client);
    let pieces = talk.pieces(FIRST);
    let [hello, flight, fin] = &pieces[..] else {
        panic!("three turns")
    };
    let halves = cut(flight, &[400, usize::MAX]);
    let mut player = Player::new(false, FIRST);
    player.take(hello);
    assert_eq!(player.take(&halves[1]), Some(Place::Ahead));
    assert!(player.flow.server().is(Side::GAP));
    assert_eq!(player.take(&halves[0]), Some(Place::Next));
    assert_eq!(player.take(&halves[1]), Some(Place::Next));
    assert!(!player.flow.server().is(Side::GAP));
    player.take(fin);
    assert_eq!(player.end, talk.play().end);
}

#[test]
fn a_hole_filled_in_part_is_still_a_gap() {
    let pieces = stories::tls12().pieces(FIRST);
    let thirds = cut(&pieces[1], &[300]);
    let mut player = Player::new(false, FIRST);
    player.take(&pieces[0]);
    assert_eq!(player.take(&thirds[1]), Some(Place::Ahead));
    assert_eq!(player.take(&thirds[0]), Some(Place::Next));
    assert!(
        player.flow.server().is(Side::GAP),
        "the second third was not read"
    );
}

#[test]
fn a_fin_on_top_of_bytes_that_were_read_before_counts() {
    let talk = stories::tls12();
    let mut player = talk.play();
    let mut again = talk.pieces([1_000, 2_000_000]).pop().expect("a turn");
    assert_eq!(player.take(&again), Some(Place::Again));
    again.flags = Segment::FIN;
    assert_eq!(player.take(&again), Some(Place::Next));
    assert_eq!(player.end, talk.fin(Role::Server).play().end);
}

#[test]
fn a_side_that_is_lost_proves_nothing_by_closing() {
    for lost in Role::BOTH {
        for closing in Role::BOTH {
            let mut player = stories::tls12().play();
            player.flow.lose(lost);
            let fin = stories::tls12()
                .fin(closing)
                .pieces(FIRST)
                .pop()
                .expect("a fin");
            let fin = Piece {
                sequence: player.flow.sides[closing as usize].next,
                ..fin
            };
            let mut silent = player.clone();
            silent.flow.lose(lost);
            assert_eq!(silent.flow.silent(), Outcome::Ignore);
            if lost != closing {
                // What is missing may still come, and say why.
                player.take(&fin);
                assert_eq!(player.end, None);
                assert_eq!(player.flow.silent(), Outcome::Ignore);
            }
        }
    }
}

#[test]
fn a_side_that_was_lost_is_found_again_where_what_it_lacks_comes_again() {
    for first in [[10, 20], [u32::MAX, 3_000_000_000]] {
        let pieces = stories::tls12().pieces(first);
        let mut player = Player::new(false, first);
        player.take(&pieces[0]);
        player.flow.lose(Role::Server);
        player.take(&pieces[1]);
        assert!(!player.flow.server().is(Side::GAP), "{first:?}");
    }
}

#[test]
fn a_history_longer_than_its_space_keeps_its_beginning() {
    let mut talk = stories::hello();
    for _ in 0..40 {
        talk = talk
            .server([bytes::handshake(13, &[1])])
            .client([bytes::handshake(16, &[1])]);
    }
    let told = history(talk.play().flow);
    assert_eq!(told, "C".to_owned() + &"rG".repeat(15) + "r");
}

#[test]
fn a_run_of_the_same_letter_is_one() {
    let three = [bytes::sealed(30), bytes::sealed(40), bytes::sealed(50)].concat();
    let talk = stories::tls13()
        .server([three.clone()])
        .client([bytes::sealed(90), three]);
    assert_eq!(history(talk.play().flow), "CsidD");
}

#[test]
fn progress_is_the_time_of_the_last_new_byte() {
    let pieces = stories::hello().pieces(FIRST);
    let mut flow = Player::new(false, FIRST).flow;
    flow.opened = 5;
    assert_eq!(flow.progress(), 5);
    let mut take = |time, end| {
        let mut segment = Segment::new_zeroed();
        segment.time = time;
        segment.sequence = pieces[0].sequence;
        segment.end = end;
        if flow.place(&mut segment) == Place::Next {
            flow.walk::<1_000>(&Bytes::new(&pieces[0].bytes), &mut segment);
        }
        flow.progress()
    };
    assert_eq!(take(7, 20), 7);
    assert_eq!(take(9, 20), 7, "a retransmission is no progress");
    assert_eq!(take(11, 0), 7, "an acknowledgement is no progress");
    assert_eq!(take(13, 21), 13);
}
