//! A program that the verifier refuses: the shipped one with one instruction changed.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use gauntlet_probes::load::{LoadError, load_object};
use gauntlet_probes::object::{INTERFACE, OBJECT};
use libtest_mimic::{Failed, Trial};
use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
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
        Trial::test("refusal::an_interrupted_verification_is_none", interrupted),
    ]
}

/// Signals arrive while the verifier works: it gives up (EAGAIN), and the program is loaded nevertheless, without
/// a log of each step of all that is loaded, which took fifty times as long.
fn interrupted() -> Result<(), Failed> {
    static HANDLED: AtomicU32 = AtomicU32::new(0);
    extern "C" fn handle(_: i32) {
        HANDLED.fetch_add(1, Ordering::Relaxed);
    }
    let action = SigAction::new(
        SigHandler::Handler(handle),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    // SAFETY: the handler counts, and nothing else here uses this signal.
    unsafe { sigaction(Signal::SIGUSR1, &action) }?;
    let began = Instant::now();
    load_object(OBJECT, &SMALL, INTERFACE)?;
    let ordinary = began.elapsed();
    let loader = pthread_self();
    let (loaded, stop) = channel::<()>();
    let interrupter = thread::spawn(move || {
        // Each within one verification, which takes some hundred milliseconds.
        for _ in 0..3 {
            if stop.recv_timeout(Duration::from_millis(40)) != Err(RecvTimeoutError::Timeout) {
                break;
            }
            pthread_kill(loader, Signal::SIGUSR1)?;
        }
        nix::Result::Ok(())
    });
    let began = Instant::now();
    let result = load_object(OBJECT, &SMALL, INTERFACE);
    let took = began.elapsed();
    drop(loaded);
    interrupter
        .join()
        .map_err(|_| "the interrupter panicked")??;
    result?;
    same(HANDLED.load(Ordering::Relaxed) > 0, true)?;
    same(took < ordinary * 10 + Duration::from_secs(1), true)
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
