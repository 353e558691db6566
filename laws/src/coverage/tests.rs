//! Marks change nothing but marks: what a program computes, with marks and without, is computed here by a few lines
//! that know nothing of how they were put in. The kernel's word on the shipped programs is in `tests/regressions.rs`.

use std::collections::BTreeSet;
use std::path::Path;

use fastrand::Rng;
use gauntlet_probes::object::OBJECT;

use super::blocks::blocks;
use super::instruction::{Instruction, Next, Registers};
use super::report::Report;
use super::rewrite::{Layout, read, rewritten};
use super::{Blocks, Line, Measured, Run, instrument};

const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const ADD_REGISTER: u8 = 0x0f;
const LOAD: u8 = 0x18;
const GOTO: u8 = 0x05;
const IF_EQUAL: u8 = 0x1d;
const IF_ABOVE: u8 = 0x25;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const STORE: u8 = 0x72;

fn slot(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        destination,
        source,
        offset,
        immediate,
    }
}

/// What a program came to.
struct Ran {
    r0: u64,
    marks: BTreeSet<i32>,
    slots: BTreeSet<usize>,
}

/// Runs from a slot to its exit.
fn run(code: &[Instruction], start: usize) -> Ran {
    let mut ran = Ran {
        r0: 0,
        marks: BTreeSet::new(),
        slots: BTreeSet::new(),
    };
    // Registers that nobody has set are some number, another each.
    let fresh: [u64; 10] = std::array::from_fn(|at| at as u64 * 0x1_0001);
    let mut registers = fresh;
    let mut callers = Vec::new();
    let mut at = start;
    loop {
        ran.slots.insert(at);
        let now = code[at];
        let (to, from) = (usize::from(now.destination), usize::from(now.source));
        let mut next = at + 1;
        let jump = |slots: i64| (next as i64 + slots) as usize;
        match now.code {
            MOVE => registers[to] = now.immediate as u64,
            MOVE_REGISTER => registers[to] = registers[from],
            ADD_REGISTER => registers[to] = registers[to].wrapping_add(registers[from]),
            LOAD => {
                registers[to] = now.immediate as u64;
                next += 1;
            }
            // A mark, by its address.
            STORE => drop(ran.marks.insert(registers[to] as i32)),
            GOTO => next = jump(now.offset.into()),
            IF_EQUAL if registers[to] == registers[from] => next = jump(now.offset.into()),
            IF_ABOVE if registers[to] > now.immediate as u64 => next = jump(now.offset.into()),
            IF_EQUAL | IF_ABOVE => {}
            CALL => {
                callers.push((next, registers));
                next = jump(now.immediate.into());
                registers[0] = fresh[0];
                registers[6..].copy_from_slice(&fresh[6..]);
            }
            EXIT => {
                let Some((back, kept)) = callers.pop() else {
                    ran.r0 = registers[0];
                    return ran;
                };
                registers[6..].copy_from_slice(&kept[6..]);
                registers[1..6].fill(0xdead);
                next = back;
            }
            other => panic!("code {other:#x}"),
        }
        at = next;
    }
}

/// A function of which every jump goes forward, and which begins at a slot; `calls`: those of the one at slot 0.
fn any_function(rng: &mut Rng, begins: usize, calls: bool) -> Vec<Instruction> {
    let mut function = Vec::new();
    let length = rng.usize(4..40);
    while function.len() < length {
        let (to, from) = (rng.u8(..10), rng.u8(..10));
        let at = function.len();
        // Perhaps the second half of a load, which is refused.
        let ahead = |rng: &mut Rng| rng.usize(..length - at) as i16;
        let next = match rng.u8(..20) {
            0..2 => slot(MOVE, to, 0, 0, rng.i32(0..100)),
            2..8 => slot(MOVE_REGISTER, to, from, 0, 0),
            8..12 => slot(ADD_REGISTER, to, from, 0, 0),
            12..14 => slot(IF_EQUAL, to, from, ahead(rng), 0),
            14..16 => slot(IF_ABOVE, to, 0, ahead(rng), rng.i32(0..100)),
            16..18 if calls => slot(CALL, 0, 1, 0, -1 - (begins + at) as i32),
            16..18 => slot(GOTO, 0, 0, ahead(rng), 0),
            _ => {
                function.push(slot(LOAD, to, 0, 0, rng.i32(..)));
                slot(0, 0, 0, 0, 0)
            }
        };
        function.push(next);
    }
    // Whatever registers hold is told by r0.
    for register in 1..10 {
        function.push(slot(ADD_REGISTER, 0, register, 0, 0));
    }
    function.push(slot(EXIT, 0, 0, 0, 0));
    function
}

#[test]
fn programs_with_marks_compute_the_same_and_mark_where_they_were() {
    let mut rng = Rng::with_seed(1);
    let (mut marked, mut partly, mut played) = (0, 0, 0);
    for _ in 0..20_000 {
        let mut code = any_function(&mut rng, 0, false);
        let start = code.len();
        code.extend(any_function(&mut rng, start, true));
        let both = [0..start, start..code.len()].map(|function| blocks(&code, function));
        let [Ok(mut all), Ok(main)] = both else {
            continue;
        };
        all.extend(main);
        let layout = Layout::new(code.len(), (0..).zip(&all));
        let bytes = rewritten(&code, &layout, |_| false).expect("rewritten");
        let with_marks = read(&bytes).expect("whole instructions");
        let plain = run(&code, start);
        let same = run(&with_marks, layout.entry(start).expect("its begin"));
        assert_eq!(plain.r0, same.r0, "{code:?}");
        for (number, block) in (0..).zip(&all) {
            let was_there = block.mark.is_some() && plain.slots.contains(&block.slots.start);
            assert_eq!(
                same.marks.contains(&number),
                was_there,
                "{block:?} of {code:?}"
            );
        }
        played += 1;
        marked += all.iter().filter(|block| block.mark.is_some()).count();
        partly += usize::from(same.marks.len() < all.len());
    }
    assert!(played > 2_000, "{played}");
    assert!(
        marked > played * 3 && partly > played / 2,
        "{marked}, {partly}"
    );
}

#[test]
fn a_mark_takes_no_register_that_is_read_later() {
    // r1 and r6 hold what is read behind the jump; r0 is free, then it is not.
    let code = [
        slot(MOVE, 6, 0, 0, 1),
        slot(IF_ABOVE, 1, 0, 1, 5),
        slot(MOVE, 0, 0, 0, 3),
        slot(ADD_REGISTER, 0, 6, 0, 0),
        slot(EXIT, 0, 0, 0, 0),
    ];
    let found = blocks(&code, 0..code.len()).expect("blocks");
    let starts: Vec<_> = found.iter().map(|block| block.slots.clone()).collect();
    assert_eq!(starts, [0..2, 2..3, 3..5]);
    // The last block reads r0 and r6 before anything else.
    let registers: Vec<_> = found.iter().map(|block| block.mark).collect();
    assert_eq!(registers, [Some((0, 2)), Some((2, 0)), Some((3, 1))]);
}

#[test]
fn a_block_without_a_free_register_is_marked_further_down_or_not_at_all() {
    let mut code: Vec<_> = (1..10)
        .map(|from| slot(ADD_REGISTER, 0, from, 0, 0))
        .collect();
    code.push(slot(EXIT, 0, 0, 0, 0));
    let found = blocks(&code, 0..code.len()).expect("blocks");
    // r1 is not read again behind the first instruction.
    assert_eq!(found[0].mark, Some((1, 1)));
    let mut full = vec![slot(IF_ABOVE, 1, 0, 0, 5)];
    full.extend(&code);
    let found = blocks(&full, 0..full.len()).expect("blocks");
    assert_eq!(found[0].mark, None);
}

#[test]
fn effects_are_those_of_the_instruction_set() {
    let effect = |code, immediate| slot(code, 2, 3, 0, immediate).effect();
    let reads = |code, immediate| effect(code, immediate).expect("known").reads;
    let writes = |code, immediate| effect(code, immediate).expect("known").writes;
    // Big endian: the bit that elsewhere says "with a register".
    assert!(reads(0xdc, 16).has(2) && !reads(0xdc, 16).has(3));
    assert!(!reads(MOVE_REGISTER, 0).has(2) && reads(MOVE_REGISTER, 0).has(3));
    assert!(reads(ADD_REGISTER, 0).has(2));
    // A store writes no register, an atomic addition that fetches does.
    assert_eq!(writes(0x7b, 0), Registers::NONE);
    assert_eq!(writes(0xdb, 0), Registers::NONE);
    assert!(writes(0xdb, 1).has(3));
    assert!(reads(0xdb, 0xf1).has(0) && writes(0xdb, 0xf1).has(0));
    let call = slot(CALL, 0, 0, 0, 1).effect().expect("a call");
    assert!((0..6).all(|register| call.writes.has(register)) && !call.writes.has(6));
    let tail = slot(CALL, 0, 0, 0, 12).effect().expect("a call");
    assert_eq!(tail.next, Next::FollowingPerhaps);
    // May-goto, a call by register, an old load from a packet.
    for unknown in [0xe5, 0x8d, 0x20, 0x30] {
        assert_eq!(slot(unknown, 0, 0, 0, 0).effect(), None, "{unknown:#x}");
    }
}

#[test]
fn what_leads_out_of_a_function_is_refused() {
    let far = [slot(GOTO, 0, 0, 7, 0), slot(EXIT, 0, 0, 0, 0)];
    assert!(blocks(&far, 0..2).is_err());
    let back = [slot(GOTO, 0, 0, -9, 0), slot(EXIT, 0, 0, 0, 0)];
    assert!(blocks(&back, 0..2).is_err());
    assert!(blocks(&[slot(MOVE, 0, 0, 0, 0)], 0..1).is_err());
    assert!(instrument(b"no object").is_err());
    let cut = &OBJECT[..OBJECT.len() / 2];
    assert!(instrument(cut).is_err());
}

#[test]
fn nearly_every_block_of_the_shipped_programs_has_a_mark() {
    let instrumented = instrument(OBJECT).expect("the shipped object");
    let without = instrumented.blocks.iter().filter(|block| !block.has_mark);
    let without: u32 = without.map(Measured::instructions).sum();
    let all: u32 = instrumented.blocks.iter().map(Measured::instructions).sum();
    assert!(all > 20_000 && without * 100 < all, "{without} of {all}");
    let mut lines = instrumented
        .blocks
        .iter()
        .flat_map(|block| block.lines.keys());
    assert!(lines.any(|line| line.file.ends_with("wire/src/walk.rs")));
}

fn measured(function: &str, number: u32, many: u32) -> Measured {
    let line = Line {
        file: "/r/a.rs".into(),
        number,
    };
    Measured {
        function: function.into(),
        lines: [(line, many)].into(),
        has_mark: true,
    }
}

#[test]
fn what_is_missed_is_listed_and_what_is_below_is_red() {
    let blocks = [
        measured("one", 1, 60),
        measured("one", 2, 40),
        measured("two", 2, 8),
        measured("two", 3, 5),
    ];
    let mut run = Run::default();
    // The verifier took out the last.
    (0..3).for_each(|block| run.reachable.add(block));
    run.by_all.add(0);
    run.by_all.add(2);
    let report = Report::new(&blocks, &run, Path::new("/r"));
    let text = report.to_string();
    assert!(
        text.contains("missed in some: a.rs:2: 40 of 48 instructions: one 40\n"),
        "{text}"
    );
    assert!(
        !text.contains("a.rs:1:") && !text.contains("a.rs:3:"),
        "{text}"
    );
    let below = report.below();
    assert!(
        below.len() == 1 && below[0].starts_with("all programs"),
        "{below:?}"
    );
    let mut other = Run {
        reachable: run.reachable.clone(),
        ..Run::default()
    };
    other.by_all.add(1);
    other.by_all.add(2);
    let report = Report::new(&blocks, &other, Path::new("/r"));
    let text = report.to_string();
    assert!(
        text.contains("missed in all: a.rs:1: 60 of 60 instructions: one 60\n"),
        "{text}"
    );
    let below = report.below();
    assert_eq!(below.len(), 3, "{below:?}");
    assert!(
        below[1].starts_with("one is below") && below[2].starts_with("lines run"),
        "{below:?}"
    );
    run.by_all.add(1);
    let report = Report::new(&blocks, &run, Path::new("/r"));
    assert_eq!(report.below(), [""; 0]);
    // Nothing reached is not all covered.
    let report = Report::new(&blocks, &Run::default(), Path::new("/r"));
    assert!(!report.below().is_empty());
    assert!(!Blocks::default().has(0));
}
