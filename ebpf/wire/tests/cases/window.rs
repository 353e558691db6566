//! What the window keeps of segments that come early, and what it gives back.

use gauntlet_wire::Role;
use gauntlet_wire::bytes::Bytes;
use gauntlet_wire::packet::FlowKey;
use gauntlet_wire::segment::Segment;
use gauntlet_wire::window::{Kept, PIECES, WINDOW, Window, WindowKey};
use zerocopy::FromZeros;

const NEXT: u32 = u32::MAX - 5;

fn segment(offset: u32, length: usize, flags: u8, acknowledged: u32) -> Segment {
    let mut segment = Segment::new_zeroed();
    segment.sequence = NEXT.wrapping_add(offset);
    segment.end = length as u32;
    segment.flags = flags;
    segment.acknowledged = acknowledged;
    segment
}

/// Says its own offset, and in which step of a copy it is.
fn byte(at: u32) -> u8 {
    (at ^ at >> 8) as u8
}

/// Keeps bytes that say their own offset.
fn keep(window: &mut Window, offset: u32, length: usize, flags: u8, acknowledged: u32) -> Kept {
    let bytes: Vec<u8> = (0..length as u32).map(|at| byte(offset + at)).collect();
    let segment = segment(offset, length, flags, acknowledged);
    window.keep(&Bytes::new(&bytes), &segment, NEXT, 7)
}

/// What comes back once everything before `offset` was read: offset, bytes, flags, acknowledgement.
fn take(window: &mut Window, offset: u32) -> Option<(u32, Vec<u8>, u8, u32)> {
    let mut segment = Segment::new_zeroed();
    if !window.take(NEXT.wrapping_add(offset), &mut segment) {
        return None;
    }
    let bytes = window.bytes[segment.at as usize..segment.end as usize].to_vec();
    Some((
        segment.sequence.wrapping_sub(NEXT),
        bytes,
        segment.flags & !Segment::ACK,
        segment.acknowledged,
    ))
}

fn expected(from: u32, to: u32) -> Vec<u8> {
    (from..to).map(byte).collect()
}

#[test]
fn what_was_kept_comes_back_once_nothing_is_missing_before_it() {
    let mut window = Window::new_zeroed();
    assert_eq!(keep(&mut window, 10, 5, 0, 1), Kept::Whole);
    assert_eq!(keep(&mut window, 10, 5, 0, 1), Kept::Before);
    assert_eq!(keep(&mut window, 12, 2, 0, 1), Kept::Before);
    assert_eq!(take(&mut window, 9), None, "a byte is missing");
    assert_eq!(take(&mut window, 10), Some((10, expected(10, 15), 0, 1)));
    assert!(window.is_empty());
    assert_eq!(take(&mut window, 10), None, "once");
}

#[test]
fn runs_join_where_they_were_sent_with_one_acknowledgement() {
    let mut window = Window::new_zeroed();
    keep(&mut window, 10, 5, 0, 1);
    keep(&mut window, 20, 5, 0, 1);
    keep(&mut window, 14, 7, 0, 1);
    assert_eq!(take(&mut window, 10), Some((10, expected(10, 25), 0, 1)));
    assert!(window.is_empty());
    keep(&mut window, 10, 5, 0, 1);
    keep(&mut window, 15, 5, 0, 2);
    assert_eq!(take(&mut window, 10), Some((10, expected(10, 15), 0, 1)));
    assert_eq!(take(&mut window, 15), Some((15, expected(15, 20), 0, 2)));
}

#[test]
fn an_end_stays_at_its_place() {
    let mut window = Window::new_zeroed();
    assert_eq!(keep(&mut window, 20, 0, Segment::FIN, 1), Kept::Whole);
    assert_eq!(keep(&mut window, 10, 10, 0, 1), Kept::Whole);
    assert_eq!(
        take(&mut window, 10),
        Some((10, expected(10, 20), Segment::FIN, 1))
    );
    // A RST ends what is before it, and is no part of it.
    keep(&mut window, 20, 0, Segment::RST, 1);
    keep(&mut window, 10, 10, 0, 1);
    assert_eq!(take(&mut window, 10), Some((10, expected(10, 20), 0, 1)));
    assert_eq!(take(&mut window, 20), Some((20, vec![], Segment::RST, 1)));
    // Nor of another.
    keep(&mut window, 20, 0, Segment::RST, 1);
    keep(&mut window, 15, 5, Segment::RST, 1);
    let first = Some((15, expected(15, 20), Segment::RST, 1));
    assert_eq!(take(&mut window, 15), first);
    assert_eq!(take(&mut window, 20), Some((20, vec![], Segment::RST, 1)));
    // Bytes that are kept may come again with an end.
    assert_eq!(keep(&mut window, 10, 5, 0, 1), Kept::Whole);
    assert_eq!(keep(&mut window, 10, 5, Segment::FIN, 1), Kept::Whole);
    assert_eq!(keep(&mut window, 10, 5, Segment::FIN, 1), Kept::Before);
    let ended = Some((10, expected(10, 15), Segment::FIN, 1));
    assert_eq!(take(&mut window, 10), ended);
}

#[test]
fn what_does_not_fit_is_said() {
    let mut window = Window::new_zeroed();
    let far = WINDOW as u32;
    assert_eq!(keep(&mut window, far, 1, 0, 1), Kept::NoRoom);
    // What fits of a long one is kept; its end is not where it says.
    let long = keep(&mut window, 10, WINDOW, Segment::FIN, 1);
    assert_eq!(long, Kept::NoRoom);
    assert_eq!(take(&mut window, 10), Some((10, expected(10, far), 0, 1)));
    for at in 0..PIECES as u32 {
        assert_eq!(keep(&mut window, 10 + 10 * at, 1, 0, 1), Kept::Whole);
    }
    assert_eq!(keep(&mut window, 200, 1, 0, 1), Kept::NoRoom);
    // One that was read in the meantime gives its place away.
    assert_eq!(take(&mut window, 15), None);
    assert_eq!(keep(&mut window, 200, 1, 0, 1), Kept::Whole);
    let short = segment(300, 50, 0, 1);
    let packet = [0; 20];
    let kept = window.keep(&Bytes::new(&packet), &short, NEXT, 7);
    assert_eq!(kept, Kept::Unreadable);
}

#[test]
fn nothing_of_an_earlier_connection_comes_back() {
    let mut window = Window::new_zeroed();
    keep(&mut window, 10, 5, 0, 1);
    let later = segment(30, 5, 0, 1);
    assert_eq!(
        window.keep(&Bytes::new(&[1; 5]), &later, NEXT, 8),
        Kept::Whole
    );
    assert_eq!(take(&mut window, 10), None);
    assert_eq!(take(&mut window, 30), Some((30, vec![1; 5], 0, 1)));
}

#[test]
fn both_directions_have_windows_of_their_own() {
    let flow = FlowKey::new_zeroed();
    let [client, server] = Role::BOTH.map(|role| WindowKey::new(flow, role));
    assert_ne!(client, server);
}
