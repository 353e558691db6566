//! The same segments in other frames: tagged, with options, extension headers and padding, or damaged. Scripts say
//! nothing of what is below TCP ([`crate::script`]), and all their frames are alike. Refuses any but Ethernet.

use fastrand::Rng;

use crate::script::Next;

/// Bytes of the headers that are changed here.
const ETHERNET: usize = 14;
const IPV6: usize = 40;

/// A conversation's steps with other frames: now and then one that is no packet of it any more, else all the same
/// segments. One conversation in four has the same port at both ends.
#[must_use]
pub fn carried(steps: Vec<Next>, rng: &mut Rng) -> Vec<Next> {
    let same_ports = rng.u8(..4) == 0;
    let plain = rng.u8(..4);
    let change = |step| match step {
        Next::Frame(after, mut frame) => {
            if same_ports {
                ports_alike(&mut frame);
            }
            if rng.u8(..4) >= plain {
                frame = in_another(frame, rng);
            }
            if rng.u8(..32) == 0 {
                damage(&mut frame, rng);
            }
            Next::Frame(after, frame)
        }
        look @ Next::Look(_) => look,
    };
    steps.into_iter().map(change).collect()
}

fn is_ipv6(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x86, 0xdd])
}

/// Where TCP begins in a frame of ours.
fn tcp(frame: &[u8]) -> usize {
    ETHERNET + if is_ipv6(frame) { IPV6 } else { 20 }
}

fn ports_alike(frame: &mut [u8]) {
    let at = tcp(frame);
    if let Some(ports) = frame.get_mut(at..at + 4) {
        ports.copy_from_slice(&[1, 187, 1, 187]);
    }
}

/// The same segment, in a frame of another kind.
fn in_another(mut frame: Vec<u8>, rng: &mut Rng) -> Vec<u8> {
    let at = tcp(&frame);
    if frame.len() < at + 20 {
        return frame;
    }
    match rng.u8(..6) {
        0 => {
            // As many as are read, and one more.
            for _ in 0..=rng.u8(..3) {
                let tag = [[0x81, 0], [0x88, 0xa8]][usize::from(rng.bool())];
                frame.splice(12..12, [tag[0], tag[1], 0, rng.u8(..)]);
            }
        }
        1 => {
            // Options of TCP: no-operations.
            let words = rng.u8(1..=10);
            frame[at + 12] = (5 + words) << 4;
            frame.splice(at + 20..at + 20, vec![1; usize::from(words) * 4]);
            lengthen(&mut frame, usize::from(words) * 4);
        }
        2 if is_ipv6(&frame) => extend(&mut frame, rng),
        2 => {
            let words = rng.u8(1..=10);
            frame[ETHERNET] = 0x45 + words;
            frame.splice(at..at, vec![1; usize::from(words) * 4]);
            lengthen(&mut frame, usize::from(words) * 4);
        }
        3 => frame.resize(frame.len() + rng.usize(1..40), 0xaa),
        // Too long for its 16 bits, as it says.
        4 => {
            let length = length_at(is_ipv6(&frame));
            frame[length..length + 2].fill(0);
        }
        _ => {}
    }
    frame
}

/// Extension headers: hop by hop, routing, destination options, authentication.
fn extend(frame: &mut Vec<u8>, rng: &mut Rng) {
    let mut next = frame[ETHERNET + 6];
    let mut all = Vec::new();
    for _ in 0..=rng.u8(..5) {
        let kind = [0, 43, 60, 51][rng.usize(..4)];
        let (units, bytes) = if kind == 51 {
            let units = rng.u8(1..6);
            (units, (usize::from(units) + 2) * 4)
        } else {
            let units = rng.u8(..3);
            (units, (usize::from(units) + 1) * 8)
        };
        let mut header = vec![0; bytes];
        header[0] = next;
        header[1] = units;
        // Each goes before those that there are.
        header.extend(all);
        all = header;
        next = kind;
    }
    frame[ETHERNET + 6] = next;
    let longer = all.len();
    frame.splice(ETHERNET + IPV6..ETHERNET + IPV6, all);
    lengthen(frame, longer);
}

fn length_at(is_ipv6: bool) -> usize {
    ETHERNET + if is_ipv6 { 4 } else { 2 }
}

/// What IP says of its length.
fn lengthen(frame: &mut [u8], bytes: usize) {
    let at = length_at(is_ipv6(frame));
    let length = u16::from_be_bytes([frame[at], frame[at + 1]]);
    let length = length.wrapping_add(bytes as u16);
    frame[at..at + 2].copy_from_slice(&length.to_be_bytes());
}

/// What is no packet of the conversation any more, or another one.
fn damage(frame: &mut Vec<u8>, rng: &mut Rng) {
    let is_ipv6 = is_ipv6(frame);
    match rng.u8(..4) {
        // BPF_PROG_TEST_RUN refuses one without its whole IP header.
        0 => {
            let least = tcp(frame);
            frame.truncate(rng.usize(least..frame.len().max(least + 1)));
        }
        // A fragment, or another protocol.
        1 if is_ipv6 => frame[ETHERNET + 6] = [44, 17][usize::from(rng.bool())],
        1 => frame[ETHERNET + 6..][..2].copy_from_slice(&[0x20, rng.u8(..)]),
        2 if !is_ipv6 => frame[ETHERNET + 9] = 17,
        _ => {
            let most = frame.len().min(ETHERNET + IPV6 + 20);
            frame[rng.usize(12..most)] = rng.u8(..);
        }
    }
}

#[cfg(test)]
mod tests {
    use gauntlet_wire::bytes::Bytes;
    use gauntlet_wire::packet::{Parsed, parse};
    use zerocopy::FromZeros as _;

    use super::*;
    use crate::frames::Frames;

    /// What is changed on purpose is read as what it was; some of it is what the wire crate gives up on.
    #[test]
    fn another_frame_has_the_same_segment() {
        let mut rng = Rng::with_seed(1);
        let (mut same, mut other) = (0, 0);
        for number in 0..4_000 {
            let frame = Frames::new(7, number % 2 == 0, number).segment(0, b"said", 0, 0);
            let changed = in_another(frame.clone(), &mut rng);
            let said = |frame: &[u8]| {
                let mut parsed = Parsed::new_zeroed();
                parse(&Bytes::new(frame), &mut parsed).ok()?;
                let bytes = frame.get(parsed.segment.at as usize..parsed.segment.end as usize)?;
                Some((parsed.key, parsed.segment.sequence, bytes.to_vec()))
            };
            match said(&changed) {
                None => other += 1,
                Some(read) => {
                    assert_eq!(Some(read), said(&frame), "{changed:02x?}");
                    same += 1;
                }
            }
        }
        assert!(same > 3_000 && other > 20, "{same} and {other}");
    }
}
