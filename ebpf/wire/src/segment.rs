//! One TCP segment of a connection, and how its bytes are read wherever they are.
//!
//! Refuses to know what the bytes mean.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Role;
use crate::flow::{CAPTURE_LABEL, CAPTURE_SPACE};
use crate::side::GATHER;
use crate::window::WINDOW_SPACE;
#[cfg(doc)]
use crate::{
    flow::{CAPTURE, CAPTURE_STEP},
    window::{KEEP_STEP, WINDOW},
};

/// A packet's bytes, however they are kept.
pub trait Payload {
    /// Copies `count` (1 to [`GATHER`]) bytes at `from` to `into[at..]`; `at` is below [`GATHER`].
    /// `false`: the packet does not have them.
    fn gather(&self, from: u32, into: &mut [u8; 2 * GATHER], at: u32, count: u32) -> bool;

    /// Copies `count` (1 to [`CAPTURE_STEP`]) bytes at `from` to `into[at..]`; `at` is at most [`CAPTURE`].
    fn capture(&self, from: u32, into: &mut [u8; CAPTURE_SPACE], at: u32, count: u32) -> bool;

    /// Writes what is about to be captured to `into[at..]`; `at` is at most [`CAPTURE`]. No byte of a
    /// packet is involved, but memory that the kernel's verifier watches is.
    fn label(&self, into: &mut [u8; CAPTURE_SPACE], at: u32, label: [u8; CAPTURE_LABEL as usize]);

    /// Returns `number`, by way of `place`: the kernel's verifier then no longer knows by which path it
    /// came, and walks what follows once instead of once for each.
    fn settle(&self, place: &mut u32, number: u32) -> u32;
}

/// A packet whose bytes can be kept for later.
pub trait Keep {
    /// Copies `count` (1 to [`KEEP_STEP`]) bytes at `from` to `into[at..]`; `at` is at most [`WINDOW`].
    /// `false`: the packet does not have them.
    fn keep(&self, from: u32, into: &mut [u8; WINDOW_SPACE], at: u32, count: u32) -> bool;
}

/// One TCP segment of a flow, and how far the walk has come in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Segment {
    /// When it was seen. Nanoseconds, CLOCK_MONOTONIC.
    pub time: u64,
    /// Offset of the next payload byte in the packet.
    pub at: u32,
    /// Offset past the last payload byte.
    pub end: u32,
    /// Sequence number of its first byte.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledged: u32,
    /// TCP flags, as in the header: the `Segment::*` constants.
    pub flags: u8,
    /// Who sent it: [`Role`] as a number.
    pub role: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// What the walk has read last, until it is judged.
    pub said: u32,
}

impl Segment {
    /// TCP FIN.
    pub const FIN: u8 = 1;
    /// TCP SYN.
    pub const SYN: u8 = 2;
    /// TCP RST.
    pub const RST: u8 = 4;
    /// TCP ACK.
    pub const ACK: u8 = 16;

    /// Who sent it.
    #[must_use]
    #[inline(always)]
    pub const fn from(&self) -> Role {
        Role::from_bit(self.role)
    }
}

/// Whether sequence number `a` is at or past `b` (RFC 9293 section 3.4).
#[inline(always)]
pub(crate) const fn reached(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) >= 0
}
