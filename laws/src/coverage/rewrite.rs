//! Code with marks in it: a section's instructions moved apart, and what is told of places in it moved along.

use std::ops::Range;

use super::Unusable;
use super::blocks::{Block, instructions};
use super::instruction::{Instruction, Next, SLOT};

/// Slots that a mark takes.
const MARK: usize = 3;

/// Where the slots of a section go.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// For each, and the end: how many slots of marks are before it, without one right before.
    before: Vec<usize>,
    /// Where there is a mark: its register and byte.
    marks: Vec<Option<(u8, i32)>>,
}

impl Layout {
    /// Of a section of so many slots; the blocks are those of all its functions, each with its number.
    pub(super) fn new<'b>(slots: usize, blocks: impl Iterator<Item = (i32, &'b Block)>) -> Self {
        let mut marks = vec![None; slots];
        for (byte, block) in blocks {
            if let Some((slot, register)) = block.mark {
                marks[slot] = Some((register, byte));
            }
        }
        let mut before = vec![0; slots + 1];
        for slot in 0..slots {
            before[slot + 1] = before[slot] + if marks[slot].is_some() { MARK } else { 0 };
        }
        Self { before, marks }
    }

    /// Where who comes to a slot is to come now: at its mark, if there is one.
    pub(super) fn entry(&self, slot: usize) -> Option<usize> {
        Some(slot + self.before.get(slot)?)
    }

    /// Where the instruction of a slot is now.
    pub(super) fn instruction(&self, slot: usize) -> Option<usize> {
        let mark = self.marks.get(slot)?.is_some();
        Some(self.entry(slot)? + if mark { MARK } else { 0 })
    }

    /// Where marks are now.
    pub(super) fn marks(&self) -> impl Iterator<Item = usize> {
        let slots = self.marks.iter().enumerate();
        slots.filter_map(|(slot, mark)| mark.and_then(|_| self.entry(slot)))
    }

    /// An offset in bytes, of whoever comes to a place, or of the instruction there.
    pub(super) fn moved(
        &self,
        bytes: u64,
        place: impl FnOnce(&Self, usize) -> Option<usize>,
    ) -> Result<u64, Unusable> {
        let slot = usize::try_from(bytes).ok().filter(|at| at % SLOT == 0);
        let moved = slot.and_then(|bytes| place(self, bytes / SLOT));
        let moved = moved.ok_or_else(|| Unusable(format!("no instruction is at byte {bytes}")))?;
        Ok((moved * SLOT) as u64)
    }
}

/// A section as instructions.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Instruction>, Unusable> {
    let (slots, rest) = bytes.as_chunks::<SLOT>();
    if !rest.is_empty() {
        return Err(Unusable("code of no whole instructions".into()));
    }
    Ok(slots.iter().copied().map(Instruction::read).collect())
}

/// The section's code with its marks. `is_relocated` says of which slots a relocation says where they go.
pub(super) fn rewritten(
    code: &[Instruction],
    layout: &Layout,
    is_relocated: impl Fn(usize) -> bool,
) -> Result<Vec<u8>, Unusable> {
    let whole: Range<usize> = 0..code.len();
    let mut out = Vec::new();
    for (slot, mut instruction) in instructions(code, whole) {
        if let Some((register, byte)) = layout.marks[slot] {
            out.extend(Instruction::marker(register, byte));
        }
        let next = match instruction.effect().map(|effect| effect.next) {
            Some(Next::Either(slots) | Next::There(slots)) => Some(slots),
            _ if instruction.calls_function() && !is_relocated(slot) => Some(instruction.immediate),
            _ => None,
        };
        if let Some(slots) = next {
            let from = slot + 1;
            let to = from.checked_add_signed(slots as isize);
            let to = to.and_then(|to| layout.entry(to));
            let distance = |to: usize| to as i64 - out.len() as i64 - 1;
            instruction = to
                .and_then(|to| instruction.going(distance(to)))
                .ok_or_else(|| Unusable(format!("slot {slot} goes too far with marks between")))?;
        }
        out.push(instruction);
        out.extend(&code[slot + 1..slot + instruction.slots()]);
    }
    Ok(out.into_iter().flat_map(Instruction::bytes).collect())
}
