//! The basic blocks of a function, and where in each a mark can be set: at the first instruction before which some
//! register has a value that nobody reads. Who comes into a block comes through all of it.

use std::collections::BTreeSet;
use std::ops::Range;

use super::Unusable;
use super::instruction::{Effect, Instruction, Next, Registers};

/// A block of instructions that run one after another, in slots of its section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) slots: Range<usize>,
    /// Where a mark goes, and by which register; `None`: all are in use throughout.
    pub(super) mark: Option<(usize, u8)>,
}

/// Instructions of a range of a section, each with its slot.
pub(super) fn instructions(
    code: &[Instruction],
    slots: Range<usize>,
) -> impl Iterator<Item = (usize, Instruction)> {
    let mut slot = slots.start;
    std::iter::from_fn(move || {
        let at = slot;
        let instruction = *code.get(at).filter(|_| at < slots.end)?;
        slot += instruction.slots();
        Some((at, instruction))
    })
}

/// The blocks of a function, which is these slots of its section.
///
/// # Errors
/// When there is an instruction that is not known, or one goes on outside of the function.
pub(super) fn blocks(code: &[Instruction], slots: Range<usize>) -> Result<Vec<Block>, Unusable> {
    let effects = effects(code, slots.clone())?;
    let mut starts = BTreeSet::from([slots.start]);
    for (slot, effect) in all(&effects, &slots) {
        if effect.next != Next::Following {
            starts.extend(after(slot, code, effect));
            starts.insert(slot + code[slot].slots());
        }
    }
    starts.remove(&slots.end);
    let misplaced = starts
        .iter()
        .find(|at| effect(&effects, &slots, **at).is_none());
    if let Some(at) = misplaced {
        return Err(Unusable(format!("a jump to slot {at}, where none may go")));
    }
    let live = live(code, &slots, &effects);
    let ends = starts.iter().skip(1).copied().chain([slots.end]);
    let block = |(start, end)| {
        let mut inside = all(&effects, &slots).filter(|(slot, _)| (start..end).contains(slot));
        Block {
            slots: start..end,
            mark: inside.find_map(|(slot, _)| Some((slot, live[slot - slots.start].free()?))),
        }
    };
    Ok(starts.iter().copied().zip(ends).map(block).collect())
}

/// What each instruction does, by its slot in the function; nothing where no instruction begins.
fn effects(code: &[Instruction], slots: Range<usize>) -> Result<Vec<Option<Effect>>, Unusable> {
    let mut effects = vec![None; slots.len()];
    for (slot, instruction) in instructions(code, slots.clone()) {
        let effect = instruction
            .effect()
            .ok_or_else(|| Unusable(format!("an unknown instruction, {instruction:?}")))?;
        let last = slot + instruction.slots() >= slots.end;
        let leaves = after(slot, code, effect).any(|at| !slots.contains(&at));
        if leaves || last && !matches!(effect.next, Next::Nowhere | Next::There(_)) {
            return Err(Unusable(format!("slot {slot} leaves its function")));
        }
        effects[slot - slots.start] = Some(effect);
    }
    Ok(effects)
}

fn all(effects: &[Option<Effect>], slots: &Range<usize>) -> impl Iterator<Item = (usize, Effect)> {
    let known = slots.clone().zip(effects);
    known.filter_map(|(slot, effect)| Some((slot, (*effect)?)))
}

fn effect(effects: &[Option<Effect>], slots: &Range<usize>, at: usize) -> Option<Effect> {
    *effects.get(at.checked_sub(slots.start)?)?
}

/// Slots at which an instruction may go on.
fn after(slot: usize, code: &[Instruction], effect: Effect) -> impl Iterator<Item = usize> {
    let next = slot + code[slot].slots();
    // One that goes before the section's begin is outside of any function.
    let there = |slots: i32| {
        next.checked_add_signed(slots as isize)
            .unwrap_or(usize::MAX)
    };
    let (one, other) = match effect.next {
        Next::Following | Next::FollowingPerhaps => (Some(next), None),
        Next::Either(slots) => (Some(next), Some(there(slots))),
        Next::There(slots) => (None, Some(there(slots))),
        Next::Nowhere => (None, None),
    };
    one.into_iter().chain(other)
}

/// Registers whose value somebody may still read, before each slot of a function.
fn live(code: &[Instruction], slots: &Range<usize>, effects: &[Option<Effect>]) -> Vec<Registers> {
    let mut live = vec![Registers::NONE; slots.len()];
    loop {
        let mut changed = false;
        for at in (0..slots.len()).rev() {
            let Some(effect) = effects[at] else { continue };
            let behind = after(slots.start + at, code, effect)
                .map(|slot| live[slot - slots.start])
                .fold(Registers::NONE, |one, other| one | other);
            let before = behind.without(effect.writes) | effect.reads;
            changed |= before != live[at];
            live[at] = before;
        }
        if !changed {
            return live;
        }
    }
}
