//! A program that the verifier refuses: the shipped one with one instruction changed.

use std::path::Path;

use gauntlet_probes::load::{LoadError, load_object};
use gauntlet_probes::object::{INTERFACE, OBJECT};
use libtest_mimic::{Failed, Trial};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

use crate::clsact::{SMALL, same};

/// `r0 = r9`, which was never written.
const UNWRITTEN: [u8; 8] = [0xbf, 0x90, 0, 0, 0, 0, 0, 0];
/// `call 9999`, which no helper is.
const UNKNOWN_CALL: [u8; 8] = [0x85, 0, 0, 0, 0x0f, 0x27, 0, 0];
/// `call bpf_tail_call`, which comes when all steps of the walk have been taken.
const TAIL_CALL: [u8; 8] = [0x85, 0, 0, 0, 12, 0, 0, 0];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("refusal::at_once_keeps_the_whole_log", || {
            let kept = refused(
                |program| program[..8].copy_from_slice(&UNWRITTEN),
                "R9 !read_ok",
            )?;
            same(kept.contains("R1=ctx"), true)
        }),
        // After many thousand instructions, each of which is in the log.
        Trial::test("refusal::late_keeps_the_end_of_a_huge_log", || {
            let spoil = |program: &mut [u8]| {
                let mut instructions = program.chunks_exact_mut(8);
                let call = instructions.rfind(|instruction| **instruction == TAIL_CALL);
                call.expect("it goes on by tail call")
                    .copy_from_slice(&UNKNOWN_CALL);
            };
            let kept = refused(spoil, "#9999")?;
            same(kept.lines().count() > 10_000, true)
        }),
    ]
}

/// Has a spoilt program refused, for `reason`; the log that was kept.
fn refused(spoil: impl FnOnce(&mut [u8]), reason: &str) -> Result<String, Failed> {
    let mut object = OBJECT.to_vec();
    let (at, length) = place()?;
    spoil(&mut object[at..at + length]);
    let error = load_object(&object, &SMALL, INTERFACE)
        .err()
        .ok_or("it was loaded")?;
    let LoadError::Verifier {
        program,
        last_lines,
        log,
    } = &error
    else {
        return Err(format!("{error:?}").into());
    };
    let kept = std::fs::read_to_string(log)?;
    std::fs::remove_file(Path::new(log))?;
    same(*program, INTERFACE.watch)?;
    // The reason is among the lines shown, which are the end of those kept.
    same(last_lines.contains(reason), true)?;
    same(
        last_lines.contains("Permission denied") || last_lines.contains("Invalid argument"),
        true,
    )?;
    let shown: Vec<&str> = last_lines.lines().skip(1).collect();
    let whole: Vec<&str> = kept
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    same(shown.len() < whole.len(), true)?;
    for (shown, whole) in shown.iter().rev().zip(whole.iter().rev()) {
        // Indented by two; what is too long ends in dots.
        let beginning = shown[2..].strip_suffix("...").unwrap_or(&shown[2..]);
        same(whole.starts_with(beginning), true)?;
    }
    let message = error.to_string();
    let widest = message.lines().map(str::len).max();
    same(message.lines().count() <= 16 && widest <= Some(170), true)?;
    Ok(kept)
}

/// Where the watching program is in the object, and how long.
fn place() -> Result<(usize, usize), Failed> {
    let file = object::File::parse(OBJECT)?;
    let symbol = file
        .symbols()
        .find(|symbol| symbol.name() == Ok(INTERFACE.watch))
        .ok_or("no symbol")?;
    let section = file.section_by_index(symbol.section_index().ok_or("no section")?)?;
    let (start, _) = section.file_range().ok_or("no bytes")?;
    let at = start + symbol.address() - section.address();
    Ok((at.try_into()?, symbol.size().try_into()?))
}
