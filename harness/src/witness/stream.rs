//! The bytes of one direction of a TCP connection, in order and each once, out of segments that may come
//! twice, overlap, or come early.

use std::collections::BTreeMap;

use super::segment::Segment;

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The sequence number of the first byte.
    origin: Option<u32>,
    /// How many bytes have been handed on.
    handed: u32,
    /// Bytes that came before those in front of them, by position.
    early: BTreeMap<u32, Vec<u8>>,
    /// The position of the end, once a FIN has named it.
    end: Option<u32>,
    ended: bool,
    reset: bool,
}

/// What a segment adds.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    /// The next bytes.
    pub(super) bytes: Vec<u8>,
    /// Whether the direction was closed by this.
    pub(super) fin: bool,
    /// Whether the connection was reset by this.
    pub(super) rst: bool,
}

impl Stream {
    /// Takes the next segment as it came.
    pub(super) fn accept(&mut self, segment: &Segment<'_>) -> Fresh {
        let mut fresh = Fresh::default();
        if segment.rst {
            fresh.rst = !std::mem::replace(&mut self.reset, true);
        }
        // A SYN takes one sequence number. A RST need not have one that means anything.
        let first = segment.sequence.wrapping_add(segment.syn.into());
        if self.origin.is_none() && segment.rst {
            return fresh;
        }
        let position = first.wrapping_sub(*self.origin.get_or_insert(first));
        // Positions are below 2^31: nothing here transfers gigabytes. What lies above is from before
        // the origin (a keep-alive probe).
        if position >= 1 << 31 {
            return fresh;
        }
        if !segment.payload.is_empty() {
            // Of two segments at one position the longer knows more.
            let held = self.early.entry(position).or_default();
            if held.len() < segment.payload.len() {
                *held = segment.payload.to_vec();
            }
        }
        if segment.fin {
            self.end = Some(position + segment.payload.len() as u32);
        }
        while let Some(entry) = self.early.first_entry() {
            let known = match self.handed.checked_sub(*entry.key()) {
                Some(known) => known as usize,
                None => break, // a gap before it
            };
            let bytes = entry.remove();
            if let Some(new) = bytes.get(known..) {
                self.handed += new.len() as u32;
                fresh.bytes.extend_from_slice(new);
            }
        }
        if self.end.is_some_and(|end| end <= self.handed) {
            fresh.fin = !std::mem::replace(&mut self.ended, true);
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(sequence: u32, payload: &[u8]) -> Segment<'_> {
        let nowhere = std::net::SocketAddr::from(([192, 0, 2, 1], 1));
        Segment {
            from: nowhere,
            to: nowhere,
            sequence,
            syn: false,
            ack: true,
            fin: false,
            rst: false,
            payload,
        }
    }

    /// Feeds segments with a FIN after the last, and returns the bytes each of them added.
    fn feed(segments: &[(u32, &[u8])]) -> (Vec<Vec<u8>>, bool) {
        let mut stream = Stream::default();
        stream.accept(&Segment {
            syn: true,
            ..segment(u32::MAX, b"")
        });
        let mut fin = false;
        let mut each = Vec::new();
        for (at, (sequence, payload)) in segments.iter().enumerate() {
            let last = at + 1 == segments.len();
            let fresh = stream.accept(&Segment {
                fin: last,
                ..segment(*sequence, payload)
            });
            fin |= fresh.fin;
            each.push(fresh.bytes);
        }
        (each, fin)
    }

    #[test]
    fn bytes_come_once_in_order_whatever_the_segments_do() {
        let (each, fin) = feed(&[(0, b"ab"), (0, b"ab"), (4, b"ef"), (1, b"bcd"), (6, b"g")]);
        assert_eq!(each, [&b"ab"[..], b"", b"", b"cdef", b"g"]);
        assert!(fin, "the stream is whole, so its end is reached");
    }

    #[test]
    fn a_gap_holds_back_bytes_and_fin() {
        let (each, fin) = feed(&[(0, b"ab"), (4, b"ef")]);
        assert_eq!(each, [&b"ab"[..], b""]);
        assert!(!fin, "bytes are missing before the end");
    }
}
