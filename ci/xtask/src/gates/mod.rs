//! `cargo xtask test`: every gate CI runs, in one order, with one table at the
//! end. CI has no gate of its own.
//!
//! A failing gate does not stop the later ones: who broke the format still wants
//! to know about the tests. A gate that could not run is never green.

use std::{
    io::{Write, stdout},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{bench, exit, fuzz, machine, matrix, paths, setup};

mod bpf_objects;
mod cargo;
mod left_behind;
mod summary;
mod test_output;

use test_output::Counts;

/// How one gate ended.
enum Verdict {
    Passed,
    Failed(String),
    /// The environment did not allow to tell.
    NotRun(String),
}

/// One gate, run.
struct Outcome {
    gate: &'static str,
    verdict: Verdict,
    took: Duration,
    /// Only of gates that run tests.
    tests: Option<Counts>,
}

/// What a gate gives back.
type Finding = (Verdict, Option<Counts>);

/// What gates look at.
struct Ground {
    root: PathBuf,
    /// Why no BPF program can be loaded.
    no_bpf: Option<String>,
    before: Result<left_behind::Snapshot>,
}

/// A gate's name, and what it does.
type Gate = (&'static str, fn(&Ground) -> Result<Finding>);

/// What all others need.
const SETUP: &str = "setup";

/// All other gates, in their order.
const GATES: [Gate; 14] = [
    ("bpf", |at| Ok((bpf_possible(at.no_bpf.as_deref()), None))),
    ("fmt", |at| Ok((cargo::fmt(&at.root)?, None))),
    ("clippy", |at| Ok((cargo::clippy(&at.root)?, None))),
    ("clippy-bpf", |at| Ok((cargo::clippy_bpf(&at.root)?, None))),
    ("clippy-fuzz", |at| {
        Ok((cargo::clippy_fuzz(&at.root)?, None))
    }),
    ("docs", |at| Ok((cargo::docs(&at.root)?, None))),
    ("test", |at| cargo::test(&at.root, at.no_bpf.is_none())),
    ("fuzz-smoke", |_| Ok((fuzz_smoke()?, None))),
    ("matrix", |_| kernels()),
    ("vm-recut", |_| Ok((recut()?, None))),
    ("vm-faults", |_| Ok((faults()?, None))),
    ("bench-smoke", |at| {
        Ok((cargo::bench_smoke(&at.root)?, None))
    }),
    ("bench", |_| Ok((budgets()?, None))),
    ("left-behind", |at| {
        Ok((left_behind::compare(at.before.as_ref()), None))
    }),
];

/// The names of all gates, in their order.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    std::iter::once(SETUP).chain(GATES.map(|(name, _)| name))
}

/// Runs these gates, or all; `setup` always.
pub(crate) fn run(wanted: &[String]) -> Result<u8> {
    if let Some(unknown) = wanted
        .iter()
        .find(|wanted| names().all(|name| name != *wanted))
    {
        let all: Vec<&str> = names().collect();
        eprintln!("xtask: no gate `{unknown}`; there are: {}", all.join(", "));
        return Ok(exit::USAGE);
    }
    let mut outcomes = vec![gate(SETUP, || Ok((prepared()?, None)))];
    if matches!(outcomes[0].verdict, Verdict::Passed) {
        let ground = Ground {
            root: paths::repo_root(),
            no_bpf: machine::cannot_load_bpf(),
            before: left_behind::Snapshot::take(),
        };
        for (name, body) in GATES {
            if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
                outcomes.push(gate(name, || body(&ground)));
            }
        }
    }
    let mut out = stdout().lock();
    write!(out, "{}", summary::table(&outcomes))?;
    out.flush()?;
    Ok(exit_code(&outcomes))
}

fn gate(name: &'static str, body: impl FnOnce() -> Result<Finding>) -> Outcome {
    println!("\n==> {name}");
    let start = Instant::now();
    let (verdict, tests) =
        body().unwrap_or_else(|error| (Verdict::NotRun(format!("{error:#}")), None));
    let took = start.elapsed();
    // Standard output is ours, standard error the children's: keep their order.
    let _ = stdout().flush();
    match &verdict {
        Verdict::Passed => println!("==> {name}: ok, {:.1} s", took.as_secs_f64()),
        Verdict::Failed(why) => println!("==> {name}: FAILED, {:.1} s: {why}", took.as_secs_f64()),
        Verdict::NotRun(why) => println!("==> {name}: could not run: {why}"),
    }
    Outcome {
        gate: name,
        verdict,
        took,
        tests,
    }
}

fn prepared() -> Result<Verdict> {
    Ok(match setup::ensure(setup::Scope::Build)? {
        setup::Setup::Ready { .. } => Verdict::Passed,
        setup::Setup::Incomplete(missing) => Verdict::NotRun(missing.join("; ")),
    })
}

/// A gate of its own, so that a run without BPF shows as what it is: the suite
/// then skips, and the whole run is no verdict.
fn bpf_possible(cannot: Option<&str>) -> Verdict {
    match cannot {
        None => Verdict::Passed,
        Some(reason) => Verdict::NotRun(format!("BPF cannot be loaded here: {reason}")),
    }
}

/// A matrix that takes a broken guest for a good one is worth nothing.
fn faults() -> Result<Verdict> {
    Ok(of_guests(
        &matrix::faults_gate()?,
        "a broken guest was not told as what it is",
    ))
}

/// What guests say, with the reasons they gave.
fn of_guests(ending: &matrix::Ending, unexpected: &str) -> Verdict {
    match ending.code {
        exit::OK => Verdict::Passed,
        exit::UNEXPECTED => Verdict::Failed(ending.why(unexpected)),
        _ => Verdict::NotRun(ending.why("no verdict on some kernel")),
    }
}

/// What the probe costs, against the budgets that hold on any machine. Noise larger than a budget's margin is no
/// pass.
fn budgets() -> Result<Verdict> {
    Ok(match bench::run(&bench::Options::quick())? {
        exit::OK => Verdict::Passed,
        exit::UNEXPECTED => Verdict::Failed("a budget of benches/budget.toml is missed".into()),
        _ => Verdict::NotRun("a budget could not be judged; see above".into()),
    })
}

/// Every fuzz target for a moment; what fuzzing once found is replayed by `test` (`laws/tests`).
fn fuzz_smoke() -> Result<Verdict> {
    let (code, why) = fuzz::smoke()?;
    Ok(match code {
        exit::OK => Verdict::Passed,
        exit::UNEXPECTED => Verdict::Failed(why),
        _ => Verdict::NotRun(why),
    })
}

/// The same recorded cases in other packets, on the oldest kernel and the newest.
fn recut() -> Result<Verdict> {
    Ok(of_guests(
        &matrix::recut_gate()?,
        "what is said of a case depends on how its packets are cut",
    ))
}

/// Three kernels in virtual machines. Without QEMU this is a gate that could not run, never a skip.
fn kernels() -> Result<Finding> {
    let ending = matrix::gate()?;
    let tests = Counts {
        passed: ending.passed,
        failed: ending.red,
        skipped: 0,
    };
    let verdict = of_guests(&ending, "a kernel differs from what is expected");
    Ok((verdict, Some(tests)))
}

fn exit_code(outcomes: &[Outcome]) -> u8 {
    let any =
        |wanted: fn(&Verdict) -> bool| outcomes.iter().any(|outcome| wanted(&outcome.verdict));
    if any(|verdict| matches!(verdict, Verdict::NotRun(_))) {
        exit::NO_VERDICT
    } else if any(|verdict| matches!(verdict, Verdict::Failed(_))) {
        exit::UNEXPECTED
    } else {
        exit::OK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(verdict: Verdict) -> Outcome {
        Outcome {
            gate: "x",
            verdict,
            took: Duration::ZERO,
            tests: None,
        }
    }

    #[test]
    fn a_gate_that_could_not_run_wins_over_a_failed_one() {
        let failed = || outcome(Verdict::Failed("a".into()));
        let not_run = || outcome(Verdict::NotRun("b".into()));
        assert_eq!(exit_code(&[outcome(Verdict::Passed)]), exit::OK);
        assert_eq!(
            exit_code(&[outcome(Verdict::Passed), failed()]),
            exit::UNEXPECTED
        );
        assert_eq!(exit_code(&[not_run(), failed()]), exit::NO_VERDICT);
    }

    #[test]
    fn an_error_inside_a_gate_is_no_verdict() {
        let outcome = gate("x", || anyhow::bail!("no such program"));
        assert!(matches!(outcome.verdict, Verdict::NotRun(why) if why == "no such program"));
    }
}
