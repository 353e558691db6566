//! Segments of one direction that came before the ones they follow, kept until those have come: then they
//! are walked over as if they came just now.
//!
//! Bounded in bytes and in pieces; what does not fit is not kept, and the flow stays marked as one with a
//! gap ([`crate::side::Side::GAP`]) until it is sent again. Refuses to know what the bytes mean.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Role;
use crate::packet::FlowKey;
use crate::segment::{Keep, Segment};

/// Bytes after the first hole that are kept: as long as the longest plaintext record (RFC 8446 section
/// 5.1), which is also more than a handshake's flight has as a rule.
pub const WINDOW: usize = 1 << 14;
/// Most bytes copied at once.
pub const KEEP_STEP: usize = 1 << 12;
/// [`WINDOW`], and room for one copy, so that the verifier can see that none goes beyond.
pub const WINDOW_SPACE: usize = WINDOW + KEEP_STEP;
/// Runs of bytes that are kept at once: one more than there may be holes.
pub const PIECES: usize = 8;

/// One direction of one connection.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct WindowKey {
    /// The connection.
    pub flow: FlowKey,
    /// Who sends: [`Role`] as a number.
    pub role: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// A run of bytes that was sent with one acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Piece {
    /// Offset of its first byte in the window.
    pub from: u32,
    /// Offset past its last byte.
    pub to: u32,
    /// Acknowledgement number of its segments.
    pub acknowledged: u32,
    /// [`Segment::FIN`] or [`Segment::RST`] at its end.
    pub flags: u8,
    /// 1 where this is a piece, 0 where the place is free.
    pub held: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

/// What was kept of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Window {
    /// When the flow was opened: a window of an earlier connection of the same ports is told by it.
    pub opened: u64,
    /// Sequence number of the first byte.
    pub base: u32,
    /// Zero.
    pub reserved: [u8; 4],
    /// The piece that is being taken in.
    pub incoming: Piece,
    /// In no order.
    pub pieces: [Piece; PIECES],
    /// The bytes; what no piece holds means nothing.
    pub bytes: [u8; WINDOW_SPACE],
}

/// What became of a segment that came early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is kept.
    Whole,
    /// It was kept before.
    Before,
    /// Not all of it fits.
    NoRoom,
    /// The packet does not have the bytes that its headers promise.
    Unreadable,
}

impl WindowKey {
    /// The window of one side.
    #[must_use]
    #[inline(always)]
    pub const fn new(flow: FlowKey, role: Role) -> Self {
        Self {
            flow,
            role: role as u8,
            reserved: [0; 3],
        }
    }
}

impl Piece {
    #[inline(always)]
    const fn holds(&self, other: &Self) -> bool {
        self.held != 0
            && self.from <= other.from
            && other.to <= self.to
            && other.flags & !self.flags == 0
    }

    /// Whether both are one run. A RST ends what is before it and never becomes part of it.
    #[inline(always)]
    const fn joins(&self, other: &Self) -> bool {
        self.held != 0
            && self.from <= other.to
            && other.from <= self.to
            && self.acknowledged == other.acknowledged
            && (self.flags | other.flags) & Segment::RST == 0
    }
}

impl Window {
    /// Whether nothing is kept.
    #[must_use]
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.pieces.iter().all(|piece| piece.held == 0)
    }

    /// Keeps a segment that came early. `next`: the sequence number that is expected; `opened`: when its
    /// flow was opened.
    #[inline(always)]
    pub fn keep(&mut self, packet: &impl Keep, segment: &Segment, next: u32, opened: u64) -> Kept {
        if self.opened != opened {
            self.opened = opened;
            for piece in &mut self.pieces {
                piece.held = 0;
            }
        }
        if self.is_empty() {
            self.base = next;
        }
        let from = segment.sequence.wrapping_sub(self.base);
        let length = segment.end.wrapping_sub(segment.at);
        if from >= WINDOW as u32 {
            return Kept::NoRoom;
        }
        let whole = length <= WINDOW as u32 - from;
        self.incoming = Piece {
            from,
            to: if whole { from + length } else { WINDOW as u32 },
            acknowledged: segment.acknowledged,
            flags: if whole {
                segment.flags & (Segment::FIN | Segment::RST)
            } else {
                0
            },
            held: 1,
            reserved: [0; 2],
        };
        if self.pieces.iter().any(|piece| piece.holds(&self.incoming)) {
            return Kept::Before;
        }
        if !self.copy(packet, segment.at) {
            return Kept::Unreadable;
        }
        // Pieces that are held never join each other, so one look at each is enough.
        for piece in &mut self.pieces {
            if piece.joins(&self.incoming) {
                piece.held = 0;
                self.incoming.from = self.incoming.from.min(piece.from);
                self.incoming.to = self.incoming.to.max(piece.to);
                self.incoming.flags |= piece.flags;
            }
        }
        for piece in &mut self.pieces {
            if self.incoming.held != 0 && piece.held == 0 {
                *piece = self.incoming;
                self.incoming.held = 0;
            }
        }
        if whole && self.incoming.held == 0 {
            Kept::Whole
        } else {
            Kept::NoRoom
        }
    }

    /// Copies the incoming piece's bytes, which begin at `at` in the packet.
    #[inline(always)]
    fn copy(&mut self, packet: &impl Keep, mut at: u32) -> bool {
        let mut to = self.incoming.from;
        for _ in 0..=WINDOW / KEEP_STEP {
            let count = (self.incoming.to - to).min(KEEP_STEP as u32);
            if count == 0 {
                return true;
            }
            if !packet.keep(at, &mut self.bytes, to, count) {
                return false;
            }
            at += count;
            to += count;
        }
        to == self.incoming.to
    }

    /// Takes a piece that begins no later than `next`, as a segment that comes at `time`; pieces that were
    /// read in the meantime are let go. Its offsets are in [`Self::bytes`].
    #[inline(always)]
    pub fn take(&mut self, next: u32, segment: &mut Segment) -> bool {
        let next = next.wrapping_sub(self.base);
        self.incoming.held = 0;
        for piece in &mut self.pieces {
            let read = piece.to < next || (piece.to == next && piece.flags == 0);
            if piece.held != 0 && read {
                piece.held = 0;
            } else if piece.held != 0 && piece.from <= next && self.incoming.held == 0 {
                self.incoming = *piece;
                piece.held = 0;
            }
        }
        segment.at = self.incoming.from;
        segment.end = self.incoming.to;
        segment.sequence = self.base.wrapping_add(self.incoming.from);
        segment.acknowledged = self.incoming.acknowledged;
        segment.flags = self.incoming.flags | Segment::ACK;
        self.incoming.held != 0
    }
}
