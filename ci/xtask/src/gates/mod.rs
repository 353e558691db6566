//! `cargo xtask test`: every gate CI runs, in one order, with one table at the
//! end. CI has no gate of its own.
//!
//! A failing gate does not stop the later ones: who broke the format still wants
//! to know about the tests. A gate that could not run is never green.

use std::{
    io::{Write, stdout},
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

pub(crate) fn run() -> Result<u8> {
    let mut outcomes = vec![gate("setup", || Ok((prepared()?, None)))];
    if matches!(outcomes[0].verdict, Verdict::Passed) {
        run_gates(&mut outcomes);
    }
    let mut out = stdout().lock();
    write!(out, "{}", summary::table(&outcomes))?;
    out.flush()?;
    Ok(exit_code(&outcomes))
}

fn run_gates(outcomes: &mut Vec<Outcome>) {
    let root = paths::repo_root();
    let no_bpf = machine::cannot_load_bpf();
    let before = left_behind::Snapshot::take();
    let mut run = |name, body: &dyn Fn() -> Result<Finding>| outcomes.push(gate(name, body));

    run("bpf", &|| Ok((bpf_possible(no_bpf.as_deref()), None)));
    run("fmt", &|| Ok((cargo::fmt(&root)?, None)));
    run("clippy", &|| Ok((cargo::clippy(&root)?, None)));
    run("clippy-bpf", &|| Ok((cargo::clippy_bpf(&root)?, None)));
    run("clippy-fuzz", &|| Ok((cargo::clippy_fuzz(&root)?, None)));
    run("docs", &|| Ok((cargo::docs(&root)?, None)));
    run("test", &|| cargo::test(&root, no_bpf.is_none()));
    run("fuzz-smoke", &|| Ok((fuzz_smoke()?, None)));
    run("matrix", &kernels);
    run("vm-recut", &|| Ok((recut()?, None)));
    run("vm-faults", &|| Ok((faults()?, None)));
    run("bench-smoke", &|| Ok((cargo::bench_smoke(&root)?, None)));
    run("bench", &|| Ok((budgets()?, None)));
    run("left-behind", &|| {
        Ok((left_behind::compare(before.as_ref()), None))
    });
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
    Ok(match matrix::faults_gate()? {
        exit::OK => Verdict::Passed,
        exit::UNEXPECTED => Verdict::Failed("a broken guest was not told as what it is".into()),
        _ => Verdict::NotRun("no kernel to boot; see above".into()),
    })
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
    Ok(match matrix::recut_gate()? {
        exit::OK => Verdict::Passed,
        exit::UNEXPECTED => {
            Verdict::Failed("what is said of a case depends on how its packets are cut".into())
        }
        _ => Verdict::NotRun("no verdict on some kernel; see above".into()),
    })
}

/// Three kernels in virtual machines. Without QEMU this is a gate that could not run, never a skip.
fn kernels() -> Result<Finding> {
    let ending = matrix::gate()?;
    let tests = Counts {
        passed: ending.passed,
        failed: ending.red,
        skipped: 0,
    };
    let why = |what: &str| {
        let reasons = ending.reasons.iter().map(String::as_str);
        std::iter::once(what)
            .chain(reasons)
            .collect::<Vec<_>>()
            .join("\n  ")
    };
    let verdict = match ending.code {
        exit::OK => Verdict::Passed,
        exit::UNEXPECTED => Verdict::Failed(why("a kernel differs from what is expected")),
        _ => Verdict::NotRun(why("no verdict on some kernel")),
    };
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
