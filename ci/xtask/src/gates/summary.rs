//! The table after all gates, and the line that a machine reads. Adds up and
//! lays out; every judgement was made before.

use std::fmt::Write;

use super::{Counts, Outcome, Verdict};

/// Ends in exactly one line `N passed, N failed, N skipped`.
pub(super) fn table(outcomes: &[Outcome]) -> String {
    let mut table = format!(
        "\n{:<12} {:<8} {:>8} {:>7} {:>7} {:>8}\n",
        "gate", "result", "seconds", "passed", "failed", "skipped"
    );
    let mut row = |outcome: &Outcome| {
        let result = match outcome.verdict {
            Verdict::Passed => "ok",
            Verdict::Failed(_) => "FAILED",
            Verdict::NotRun(_) => "not run",
        };
        let tests = outcome.tests.map_or_else(String::new, |tests| {
            format!(
                " {:>7} {:>7} {:>8}",
                tests.passed, tests.failed, tests.skipped
            )
        });
        let seconds = outcome.took.as_secs_f64();
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "{:<12} {result:<8} {seconds:>8.1}{tests}",
            outcome.gate
        );
    };
    outcomes.iter().for_each(&mut row);
    for outcome in outcomes {
        if let Verdict::Failed(why) | Verdict::NotRun(why) = &outcome.verdict {
            let _ = writeln!(table, "{}: {}", outcome.gate, why.trim_end());
        }
    }
    let Counts {
        passed,
        failed,
        skipped,
    } = sum(outcomes);
    let _ = writeln!(table, "{passed} passed, {failed} failed, {skipped} skipped");
    table
}

/// A gate that is red without a failed test counts as one failed test, so that
/// the sum is never green when a gate is not.
fn sum(outcomes: &[Outcome]) -> Counts {
    outcomes.iter().fold(Counts::default(), |sum, outcome| {
        let tests = outcome.tests.unwrap_or_default();
        let red = !matches!(outcome.verdict, Verdict::Passed);
        Counts {
            passed: sum.passed + tests.passed,
            failed: sum.failed + tests.failed.max(u64::from(red)),
            skipped: sum.skipped + tests.skipped,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn outcome(verdict: Verdict, tests: Option<Counts>) -> Outcome {
        Outcome {
            gate: "gate",
            verdict,
            took: Duration::from_millis(1250),
            tests,
        }
    }

    #[test]
    fn red_gates_without_failed_tests_count_as_one_each() {
        let tests = Counts {
            passed: 96,
            failed: 2,
            skipped: 1,
        };
        let died = Counts {
            passed: 4,
            failed: 0,
            skipped: 0,
        };
        let table = table(&[
            outcome(Verdict::Passed, None),
            outcome(Verdict::Failed("`cargo fmt`".into()), None),
            outcome(Verdict::Failed("2 tests failed".into()), Some(tests)),
            outcome(Verdict::Failed("a test program died".into()), Some(died)),
            outcome(Verdict::NotRun("no root".into()), None),
        ]);
        assert_eq!(
            table.lines().last(),
            Some("100 passed, 5 failed, 1 skipped")
        );
        assert!(table.contains("gate: no root\n"), "{table}");
        assert!(table.ends_with("skipped\n"));
    }
}
