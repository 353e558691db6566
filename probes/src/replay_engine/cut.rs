//! From a captured frame to frames that every engine takes.
//!
//! BPF_PROG_TEST_RUN takes about a page a packet before Linux 6.18 or so; captures have segments of 64 KiB.
//! So a longer segment is cut into several, as the network could have done, for every engine alike.
//!
//! A packet of which not all was kept (snapshot length) must not look like a shorter one: what it lacks is
//! lost, so its FIN or RST comes after a hole, not after its last byte that was kept.

use gauntlet_wire::packet::{self, Frame, Parsed};
use zerocopy::FromZeros as _;

/// The longest frame that is handed over. A page, less what kernels keep of it for themselves: 64 to 128
/// bytes before the packet and 320 to 768 (`skb_shared_info`) after it.
pub const LONGEST: usize = 3_072;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;

/// A frame as long as it was on the wire, of which only the beginning is known.
struct OnTheWire<'a> {
    kept: &'a [u8],
    length: u32,
}

impl Frame for OnTheWire<'_> {
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        self.kept.get(at as usize..)?.first_chunk().copied()
    }

    fn length(&self) -> u32 {
        self.length
    }

    fn ether_type(&self) -> Option<u16> {
        None
    }
}

/// What a segment is, and where it stands in its frame.
struct Segment {
    /// Where its TCP header begins.
    tcp: usize,
    /// Where its payload begins.
    payload: usize,
    /// Where its payload ended on the wire.
    end: usize,
    sequence: u32,
    flags: u8,
}

/// Gives a frame of which `kept` was captured and which was `length` long to `each`, whole or in several
/// that are at most `longest`. `true`: bytes of a TCP payload are missing.
///
/// # Errors
/// What `each` says.
pub fn cut<E>(
    kept: &[u8],
    length: usize,
    longest: usize,
    scratch: &mut Vec<u8>,
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<bool, E> {
    if kept.len() <= longest && length <= kept.len() {
        each(kept)?;
        return Ok(false);
    }
    let Some(segment) = segment(kept, length, longest) else {
        each(&kept[..kept.len().min(longest)])?;
        return Ok(false);
    };
    let kept_end = segment.end.min(kept.len());
    let missing = segment.end > kept.len();
    if kept.len() <= longest && !missing {
        // Only padding is.
        each(kept)?;
        return Ok(false);
    }
    let room = longest - segment.payload;
    let mut at = segment.payload;
    loop {
        let to = kept_end.min(at + room);
        let last = to == kept_end && !missing;
        let flags = if last { !0 } else { !(FIN | RST) };
        segment.write(kept, at, at..to, flags, scratch);
        each(scratch)?;
        at = to;
        if at == kept_end {
            break;
        }
    }
    if missing && segment.flags & (FIN | RST) != 0 {
        segment.write(kept, segment.end, 0..0, !0, scratch);
        each(scratch)?;
    }
    Ok(missing)
}

/// The segment in a frame, where its headers were kept and leave room for payload.
fn segment(kept: &[u8], length: usize, longest: usize) -> Option<Segment> {
    let frame = OnTheWire {
        kept,
        length: u32::try_from(length.max(kept.len())).ok()?,
    };
    let mut parsed = Parsed::new_zeroed();
    packet::parse(&frame, &mut parsed).ok()?;
    let payload = parsed.segment.at as usize;
    if payload > kept.len() || payload >= longest {
        return None;
    }
    // The TCP header is where its fields are, and as long as it says.
    let tcp = (20..=60)
        .step_by(4)
        .filter_map(|header| payload.checked_sub(header))
        .find(|tcp| {
            let header = &kept[*tcp..payload];
            usize::from(header[12] >> 4) * 4 == header.len()
                && header[4..8] == parsed.segment.sequence.to_be_bytes()
                && header[8..12] == parsed.segment.acknowledged.to_be_bytes()
                && header[13] == parsed.segment.flags
        })?;
    Some(Segment {
        tcp,
        payload,
        end: parsed.segment.end as usize,
        sequence: parsed.segment.sequence,
        flags: parsed.segment.flags,
    })
}

impl Segment {
    /// Writes the segment that has only `bytes` of the payload, which stood at `at` in the frame. The IP
    /// header's length stays: it is no shorter, and readers go by the frame's. Checksums are nobody's
    /// business after a capture.
    fn write(
        &self,
        kept: &[u8],
        at: usize,
        bytes: std::ops::Range<usize>,
        flags: u8,
        into: &mut Vec<u8>,
    ) {
        into.clear();
        into.extend(&kept[..self.payload]);
        into.extend(&kept[bytes]);
        let before = at - self.payload;
        // A SYN stands before the first byte, and takes a number.
        let syn = self.flags & SYN != 0 && before > 0;
        let sequence = self
            .sequence
            .wrapping_add(before as u32)
            .wrapping_add(u32::from(syn));
        into[self.tcp + 4..self.tcp + 8].copy_from_slice(&sequence.to_be_bytes());
        into[self.tcp + 13] = self.flags & flags & if syn { !SYN } else { !0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An Ethernet frame of a segment, with TCP options.
    fn frame(flags: u8, payload: &[u8]) -> Vec<u8> {
        let total = (20 + 32 + payload.len()) as u16;
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x12, 0x34, 0x01, 0xbb]); // 4660 -> 443
        frame.extend((u32::MAX - 5).to_be_bytes());
        frame.extend(77_u32.to_be_bytes());
        frame.extend([8 << 4, flags, 1, 0, 0, 0, 0, 0]);
        frame.extend([1; 12]);
        frame.extend(payload);
        frame
    }

    /// Sequence number, flags and payload of each piece.
    fn pieces(kept: &[u8], length: usize) -> (Vec<(u32, u8, Vec<u8>)>, bool) {
        let mut pieces = Vec::new();
        let missing = cut::<()>(kept, length, LONGEST, &mut Vec::new(), |piece| {
            assert!(piece.len() <= LONGEST);
            let mut parsed = Parsed::new_zeroed();
            packet::parse(&gauntlet_wire::bytes::Bytes::new(piece), &mut parsed).expect("TCP");
            assert_eq!(parsed.segment.acknowledged, 77);
            assert_eq!(parsed.key.ports, [443, 4_660]);
            let bytes = piece[parsed.segment.at as usize..parsed.segment.end as usize].to_vec();
            pieces.push((parsed.segment.sequence, parsed.segment.flags, bytes));
            Ok(())
        })
        .expect("nothing can fail");
        (pieces, missing)
    }

    const START: u32 = u32::MAX - 5;

    #[test]
    fn a_long_segment_comes_in_pieces_and_its_fin_with_the_last() {
        let payload: Vec<u8> = (0..60_000_u32).map(|number| (number % 251) as u8).collect();
        let whole = frame(FIN | 16, &payload);
        let (pieces, missing) = pieces(&whole, whole.len());
        assert!(!missing);
        assert!(pieces.len() > 15);
        let mut next = START;
        let mut bytes: Vec<u8> = Vec::new();
        for (at, (sequence, flags, piece)) in pieces.iter().enumerate() {
            assert_eq!(*sequence, next, "sequence numbers wrap");
            let last = at + 1 == pieces.len();
            assert_eq!(*flags, if last { FIN | 16 } else { 16 });
            next = next.wrapping_add(piece.len() as u32);
            bytes.extend(piece);
        }
        assert_eq!(bytes, payload);
    }

    #[test]
    fn a_syn_with_data_stands_before_its_first_byte() {
        let whole = frame(SYN, &[7; 5_000]);
        let (pieces, _) = pieces(&whole, whole.len());
        assert_eq!(pieces.len(), 2);
        assert_eq!((pieces[0].0, pieces[0].1), (START, SYN));
        let second = START.wrapping_add(1 + pieces[0].2.len() as u32);
        assert_eq!((pieces[1].0, pieces[1].1), (second, 0));
    }

    #[test]
    fn what_was_not_kept_is_a_hole_before_fin_and_rst() {
        let whole = frame(FIN | 16, &[7; 1_000]);
        let (pieces, missing) = pieces(&whole[..166], whole.len());
        assert!(missing);
        assert_eq!(
            pieces,
            [
                (START, 16, vec![7; 100]),
                (START.wrapping_add(1_000), FIN | 16, vec![]),
            ]
        );
    }

    #[test]
    fn headers_alone_say_that_something_is_missing() {
        let whole = frame(RST, &[7; 1_000]);
        let (pieces, missing) = pieces(&whole[..66], whole.len());
        assert!(missing);
        assert_eq!(
            pieces,
            [(START, 0, vec![]), (START.wrapping_add(1_000), RST, vec![])]
        );
    }

    #[test]
    fn padding_that_was_not_kept_is_not_missed() {
        let whole = frame(16, &[]);
        let (pieces, missing) = pieces(&whole, whole.len() + 6);
        assert!(!missing);
        assert_eq!(pieces, [(START, 16, vec![])]);
    }

    #[test]
    fn what_is_no_segment_is_handed_over_as_far_as_there_is_room() {
        let mut lengths = Vec::new();
        for kept in [
            vec![],
            vec![9; 13],
            vec![9; 9_000],
            frame(16, &[1; 9])[..40].to_vec(),
        ] {
            let missing = cut::<()>(&kept, 9_000, LONGEST, &mut Vec::new(), |piece| {
                lengths.push(piece.len());
                Ok(())
            });
            assert_eq!(missing, Ok(false));
        }
        assert_eq!(lengths, [0, 13, LONGEST, 40]);
    }
}
