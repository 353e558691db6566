//! Both sides of a connection, in any order and cut: the flow machine must neither panic nor leave
//! its bounds, and any other cut of the same bytes must end the same way.
#![no_main]

use gauntlet_wire::bytes::Bytes;
use gauntlet_wire::event::{ABI, Event};
use gauntlet_wire::flow::{Flow, Place};
use gauntlet_wire::rules::Outcome;
use gauntlet_wire::segment::Segment;
use gauntlet_wire::walk::Walked;
use libfuzzer_sys::fuzz_target;
use zerocopy::{FromZeros, IntoBytes};

/// Turns of a conversation: who speaks, and what.
fn turns(mut input: &[u8]) -> Vec<(u8, &[u8])> {
    let mut turns = Vec::new();
    while let [who, length, rest @ ..] = input {
        let (said, after) = rest.split_at(usize::from(*length).min(rest.len()));
        turns.push((who & 1, said));
        input = after;
    }
    turns
}

/// Plays a conversation, at most `cut` bytes a segment; the flow as it was left, and its end.
fn play(turns: &[(u8, &[u8])], cut: usize) -> (Flow, Option<Outcome>) {
    let mut flow = Flow::new_zeroed();
    let mut sent = [0_u32; 2];
    for (who, said) in turns {
        for piece in said.chunks(cut) {
            let mut segment = Segment::new_zeroed();
            segment.role = *who;
            segment.sequence = sent[usize::from(*who)];
            segment.acknowledged = sent[usize::from(who ^ 1)];
            segment.end = piece.len() as u32;
            sent[usize::from(*who)] += segment.end;
            assert_eq!(flow.place(&mut segment), Place::Next);
            loop {
                match flow.walk::<16>(&Bytes::new(piece), &mut segment) {
                    Walked::More => {}
                    Walked::On => break,
                    Walked::Unreadable => panic!("every byte is there"),
                    Walked::Over(outcome) => return (flow, Some(outcome)),
                }
            }
        }
    }
    (flow, None)
}

fuzz_target!(|input: &[u8]| {
    let turns = turns(input);
    let (whole, end) = play(&turns, usize::MAX);
    for cut in [1, 3] {
        let (pieces, again) = play(&turns, cut);
        assert_eq!(end, again, "cut into {cut}");
        assert_eq!(whole.bytes, pieces.bytes, "cut into {cut}");
    }
    let mut event = Event::new_zeroed();
    event.flow = whole;
    event.abi = ABI;
    let _ = event.history().count();
    let _ = event.stage();
    let _ = whole.silent();
    let _ = whole.as_bytes();
});
