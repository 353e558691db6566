//! Where in its stream a segment is, at the ends of what was seen.

use gauntlet_wire::Role::{self, Client, Server};
use gauntlet_wire::flow::{Flow, Place};
use gauntlet_wire::segment::Segment;
use gauntlet_wire::side::Side;
use zerocopy::FromZeros;

fn segment(from: Role, sequence: u32, flags: u8, length: u32) -> Segment {
    let mut segment = Segment::new_zeroed();
    segment.role = from as u8;
    segment.sequence = sequence;
    segment.flags = flags;
    segment.end = length;
    segment.time = 5;
    segment
}

/// After a SYN of the client with this number, and a SYN-ACK of the server with the other.
fn open(first: [u32; 2]) -> Flow {
    let mut flow = Flow::new_zeroed();
    flow.open(1, 1, false, true);
    for role in Role::BOTH {
        flow.synchronize(&segment(role, first[role as usize], Segment::SYN, 0));
    }
    flow
}

#[test]
fn a_server_whose_syn_was_not_seen_begins_where_the_client_has_heard_of_it() {
    let syn_only = || {
        let mut flow = Flow::new_zeroed();
        flow.open(1, 1, false, true);
        flow.synchronize(&segment(Client, 99, Segment::SYN, 0));
        flow
    };
    // The client has said nothing yet: it begins with what is here.
    let mut flow = syn_only();
    assert_eq!(flow.place(&mut segment(Server, 7_000, 16, 30)), Place::Next);
    assert!(flow.server().is(Side::SYNCED));
    assert_eq!(flow.server().next, 7_000);
    // It has: bytes before this one are missing.
    let mut flow = syn_only();
    let mut said = segment(Client, 100, Segment::ACK, 10);
    said.acknowledged = 6_990;
    assert_eq!(flow.place(&mut said), Place::Next);
    assert_eq!(
        flow.place(&mut segment(Server, 7_000, 16, 30)),
        Place::Ahead
    );
    assert_eq!(flow.server().next, 6_990);
    assert!(flow.server().is(Side::GAP));
}

#[test]
fn after_a_fin_only_what_has_the_next_number_is_nothing_new() {
    let closed = || {
        let mut flow = open([99, 199]);
        flow.sides[0].flags |= Side::CLOSED;
        flow
    };
    let place = |mut flow: Flow, sequence, flags, length| {
        flow.place(&mut segment(Client, sequence, flags, length))
    };
    assert_eq!(place(closed(), 101, Segment::RST, 0), Place::Again);
    assert_eq!(place(closed(), 100, Segment::RST, 0), Place::Next);
    assert_eq!(place(closed(), 101, Segment::ACK, 8), Place::Ahead);
    assert_eq!(place(closed(), 102, Segment::RST, 0), Place::Ahead);
    assert_eq!(place(open([99, 199]), 101, Segment::RST, 0), Place::Ahead);
}

#[test]
fn a_hole_ends_when_it_is_filled_or_by_a_reset_where_it_begins() {
    let holed = || {
        let mut flow = open([99, 199]);
        assert_eq!(flow.place(&mut segment(Client, 150, 16, 50)), Place::Ahead);
        assert_eq!(flow.client().ahead, 200);
        flow
    };
    let is_holed = |sequence, flags, length| {
        let mut flow = holed();
        flow.place(&mut segment(Client, sequence, flags, length));
        flow.client().is(Side::GAP)
    };
    assert!(is_holed(100, Segment::ACK, 99));
    assert!(!is_holed(100, Segment::ACK, 100));
    assert!(
        is_holed(100, Segment::FIN, 0),
        "a FIN ends no hole behind it"
    );
    assert!(!is_holed(100, Segment::RST, 0));
    assert!(is_holed(99, Segment::RST, 0), "one that nobody takes");
    // Of the first hole its end counts, whatever the number is.
    for first in [99, 0x8000_0000, 0xffff_ff00] {
        let mut flow = open([first, 199]);
        let at = first.wrapping_add(51);
        assert_eq!(flow.place(&mut segment(Client, at, 16, 50)), Place::Ahead);
        assert_eq!(flow.client().ahead, at.wrapping_add(50));
    }
    // The furthest byte that was seen counts.
    let mut flow = holed();
    flow.place(&mut segment(Client, 120, 16, 10));
    assert_eq!(flow.client().ahead, 200);
    flow.place(&mut segment(Client, 190, 16, 30));
    assert_eq!(flow.client().ahead, 220);
}

#[test]
fn what_was_read_is_passed_over_and_a_late_fin_is_not() {
    let mut flow = open([99, 199]);
    flow.sides[0].next = 110;
    let mut overlaps = segment(Client, 100, 16, 30);
    assert_eq!(flow.place(&mut overlaps), Place::Next);
    assert_eq!((overlaps.at, flow.client().progress), (10, 5));
    let mut flow = open([99, 199]);
    flow.sides[0].next = 110;
    assert_eq!(flow.place(&mut segment(Client, 100, 16, 10)), Place::Again);
    let fin = Segment::FIN;
    assert_eq!(flow.place(&mut segment(Client, 100, fin, 10)), Place::Next);
    assert_eq!(flow.place(&mut segment(Client, 100, fin, 9)), Place::Again);
    assert_eq!(flow.client().progress, 0, "nothing new was said");
}

#[test]
fn who_acknowledges_more_than_was_seen_has_heard_more() {
    let first = [99, 199];
    for (acknowledged, flags, closed, more) in [
        (0, Segment::ACK, false, false),
        (1, Segment::ACK, false, true),
        (1, 0, false, false),
        (1, Segment::ACK, true, false),
        (2, Segment::ACK, true, true),
    ] {
        for from in Role::BOTH {
            let (own, peer) = (from as usize, from.peer() as usize);
            let mut flow = open(first);
            flow.sides[peer].flags |= if closed { Side::CLOSED } else { 0 };
            let mut said = segment(from, first[own] + 1, flags, 4);
            said.acknowledged = first[peer] + 1 + acknowledged;
            flow.place(&mut said);
            let heard_more = flow.sides[own].is(Side::HEARD_MORE);
            assert_eq!(heard_more, more, "{from:?} {acknowledged} {flags}");
        }
    }
}
