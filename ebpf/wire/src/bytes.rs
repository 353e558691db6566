//! A packet kept in a slice: the host's way to read one, with the same contract as the kernel's.

use crate::flow::{CAPTURE_LABEL, CAPTURE_SPACE};
use crate::packet::Frame;
use crate::segment::{Keep, Payload};
use crate::side::GATHER;
use crate::window::WINDOW_SPACE;

/// A frame in memory, and the EtherType if a capture tells it beside the bytes.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<'a> {
    /// The whole frame.
    pub frame: &'a [u8],
    /// What [`Frame::ether_type`] says.
    pub ether_type: Option<u16>,
}

impl<'a> Bytes<'a> {
    /// A frame of which nothing is known but its bytes.
    #[must_use]
    pub const fn new(frame: &'a [u8]) -> Self {
        Self {
            frame,
            ether_type: None,
        }
    }

    fn read(&self, from: u32, into: &mut [u8], at: u32, count: u32) -> bool {
        let (from, at, count) = (from as usize, at as usize, count as usize);
        let source = from
            .checked_add(count)
            .and_then(|end| self.frame.get(from..end));
        match (source, into.get_mut(at..at + count)) {
            (Some(source), Some(target)) => {
                target.copy_from_slice(source);
                true
            }
            _ => false,
        }
    }
}

impl Frame for Bytes<'_> {
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        self.frame.get(at as usize..)?.first_chunk().copied()
    }

    fn length(&self) -> u32 {
        u32::try_from(self.frame.len()).unwrap_or(u32::MAX)
    }

    fn ether_type(&self) -> Option<u16> {
        self.ether_type
    }
}

impl Payload for Bytes<'_> {
    fn gather(&self, from: u32, into: &mut [u8; 2 * GATHER], at: u32, count: u32) -> bool {
        self.read(from, into, at, count)
    }

    fn capture(&self, from: u32, into: &mut [u8; CAPTURE_SPACE], at: u32, count: u32) -> bool {
        self.read(from, into, at, count)
    }

    fn label(&self, into: &mut [u8; CAPTURE_SPACE], at: u32, label: [u8; CAPTURE_LABEL as usize]) {
        if let Some(slot) = into
            .get_mut(at as usize..)
            .and_then(<[u8]>::first_chunk_mut)
        {
            *slot = label;
        }
    }

    fn settle(&self, place: &mut u32, number: u32) -> u32 {
        *place = number;
        number
    }
}

impl Keep for Bytes<'_> {
    fn keep(&self, from: u32, into: &mut [u8; WINDOW_SPACE], at: u32, count: u32) -> bool {
        self.read(from, into, at, count)
    }
}
