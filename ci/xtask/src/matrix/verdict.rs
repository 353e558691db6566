//! What a run on one kernel means. Takes what was seen, does nothing.

use std::{collections::BTreeMap, time::Duration};

use super::{console, report::Run, results::Results, support};

/// Everything seen of one run.
#[derive(Debug)]
pub(crate) struct Seen {
    /// The wall-clock limit, if it was reached.
    pub(crate) timed_out: Option<Duration>,
    /// Whether the guest came as far as the suite.
    pub(crate) begun: bool,
    /// What the guest's kernel said.
    pub(crate) console: String,
    /// What came back, or why nothing did.
    pub(crate) results: Result<Results, String>,
    /// What vmtest said at its end, for a boot that failed.
    pub(crate) vmtest: String,
    /// What the suite said, for one that came to no verdict.
    pub(crate) suite: String,
}

/// How one kernel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    /// The thing under test, or the kernel with it, did what it should not.
    Fail,
    /// It did not end in time.
    Hang,
    /// Nothing can be said: the boot or the harness failed.
    Infra,
}

impl Verdict {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Hang => "hang",
            Self::Infra => "infra",
        }
    }
}

/// A verdict and, unless it is a pass, all reasons for it, a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) reasons: Vec<String>,
}

/// Judges one run. `differences` are those to support.toml and to the cost baseline.
///
/// The kernel's log comes first: a crash explains a missing result, and no result excuses a crash.
pub(crate) fn judge(seen: &Seen, differences: &[String]) -> Judgement {
    let one = |verdict, reason: String| Judgement {
        verdict,
        reasons: vec![reason],
    };
    if let Some(finding) = console::judge(&seen.console) {
        return one(
            Verdict::Fail,
            format!(
                "the guest's kernel reported {}: {}",
                finding.what, finding.line
            ),
        );
    }
    if let Some(limit) = seen.timed_out {
        let place = if seen.begun { "the suite" } else { "the boot" };
        return one(
            Verdict::Hang,
            format!("{place} did not end within {} s", limit.as_secs()),
        );
    }
    if !seen.begun {
        return one(
            Verdict::Infra,
            format!(
                "the guest did not boot as far as the suite: {}",
                last_line(seen)
            ),
        );
    }
    let results = match &seen.results {
        Ok(results) => results,
        Err(why) => {
            // The command's own words, where it had any, and the suite's.
            let command = seen.vmtest.lines().find(|line| {
                line.contains("gauntlet-suite: ") && !line.contains("gauntlet-suite: kernel ")
            });
            let said = command.map(str::trim).into_iter().map(String::from);
            let reasons: Vec<String> = [why.clone()]
                .into_iter()
                .chain(said)
                .chain(last_words(seen))
                .collect();
            return one(Verdict::Infra, reasons.join("; "));
        }
    };
    let summary = &results.summary;
    let mut reasons = Vec::new();
    if results.red() > 0 {
        let first = results.first_red().map(|case| {
            format!(
                "; first: {}: {}: {}",
                case.id,
                case.verdict,
                case.reason.as_deref().unwrap_or("no reason")
            )
        });
        reasons.push(format!(
            "{} of {} cases are red{}",
            results.red(),
            results.cases.len(),
            first.unwrap_or_default()
        ));
    }
    if summary.lost_events > 0 {
        reasons.push(format!("the probe lost {} events", summary.lost_events));
    }
    if summary.late_events > 0 {
        reasons.push(format!(
            "the probe reported {} events late",
            summary.late_events
        ));
    }
    reasons.extend_from_slice(differences);
    let no_verdict = summary.hang + summary.infra > 0 || (results.code == 2);
    if no_verdict {
        if reasons.is_empty() {
            reasons.push("the suite reached no verdict".into());
            reasons.extend(last_words(seen));
        }
        return Judgement {
            verdict: Verdict::Infra,
            reasons,
        };
    }
    if results.code != 0 && reasons.is_empty() {
        reasons.push(format!("the suite ended with code {}", results.code));
    }
    let verdict = if reasons.is_empty() {
        Verdict::Pass
    } else {
        Verdict::Fail
    };
    Judgement { verdict, reasons }
}

/// What explains a boot that failed: init's own words, else the guest's last, else vmtest's.
fn last_line(seen: &Seen) -> String {
    let said = |text: &str, wanted: fn(&&str) -> bool| {
        let lines = text.lines().rev().map(str::trim);
        lines
            .filter(|line| !line.is_empty())
            .find(wanted)
            .map(str::to_owned)
    };
    said(&seen.console, |line| line.contains("gauntlet-init:"))
        // Lines with the kernel's clock are of the shutdown.
        .or_else(|| said(&seen.console, |line| !line.starts_with('[')))
        .or_else(|| {
            said(&seen.vmtest, |line| {
                line.contains("Error") || line.contains("Failed")
            })
        })
        .unwrap_or_else(|| "nobody said why".into())
}

/// Why the suite broke off, or what it complained of after its last case.
fn last_words(seen: &Seen) -> Option<String> {
    let lines: Vec<&str> = seen.suite.lines().collect();
    let panic = lines.iter().position(|line| line.contains("panicked at"));
    // A panic's message is the line after its place.
    let range = match (
        panic,
        lines
            .iter()
            .rposition(|line| line.starts_with("test result:")),
    ) {
        (Some(at), _) => at..(at + 2).min(lines.len()),
        (None, Some(at)) => at + 1..lines.len(),
        (None, None) => lines.len().saturating_sub(1)..lines.len(),
    };
    let words: Vec<&str> = lines[range]
        .iter()
        .map(|line| line.trim())
        .filter(|line| !line.is_empty())
        .collect();
    (!words.is_empty()).then(|| words.join("; "))
}

/// The differences of one kernel's programs to what is written down.
pub(crate) fn differences(series: &str, results: &Results, table: &support::Table) -> Vec<String> {
    results
        .programs
        .iter()
        .filter_map(|program| table.differs(series, program))
        .collect()
}

/// Cases that ended differently on different kernels, a line each; only kernels with a whole result
/// take part.
pub(crate) fn disagreements(runs: &[Run]) -> Vec<String> {
    differing(runs.iter().flat_map(|run| {
        let cases = run.results.iter().flat_map(|results| &results.cases);
        cases.map(|case| (run.kernel.as_str(), case.verdict.as_str(), case.id.as_str()))
    }))
}

/// The same, of whatever says kernel, verdict and case.
pub(crate) fn differing<'a>(
    endings: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>,
) -> Vec<String> {
    let mut by_case: BTreeMap<&str, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for (kernel, verdict, case) in endings {
        let by_verdict = by_case.entry(case).or_default();
        by_verdict.entry(verdict).or_default().push(kernel);
    }
    let differing = by_case
        .into_iter()
        .filter(|(_, by_verdict)| by_verdict.len() > 1);
    let lines = differing.map(|(id, by_verdict)| {
        let by_verdict: Vec<String> = by_verdict
            .into_iter()
            .map(|(verdict, kernels)| format!("{verdict} on {}", kernels.join(", ")))
            .collect();
        format!("{id}: {}", by_verdict.join("; "))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::results;

    const PANIC: &str = include_str!("fixtures/panic.console");

    fn seen() -> Seen {
        Seen {
            timed_out: None,
            begun: true,
            console: String::new(),
            results: Ok(results::tests::whole()),
            vmtest: String::new(),
            suite: String::new(),
        }
    }

    #[test]
    fn a_whole_green_result_passes() {
        assert_eq!(judge(&seen(), &[]).verdict, Verdict::Pass);
    }

    #[test]
    fn a_panic_is_red_even_with_a_green_result() {
        let judged = judge(
            &Seen {
                console: PANIC.into(),
                ..seen()
            },
            &[],
        );
        assert_eq!(judged.verdict, Verdict::Fail);
        assert!(
            judged.reasons[0].contains("a panic: Kernel panic"),
            "{judged:?}"
        );
    }

    #[test]
    fn a_hang_is_named_with_its_limit() {
        let limit = Some(Duration::from_secs(90));
        let judged = judge(
            &Seen {
                timed_out: limit,
                ..seen()
            },
            &[],
        );
        assert_eq!(judged.verdict, Verdict::Hang);
        assert_eq!(judged.reasons, ["the suite did not end within 90 s"]);
    }

    #[test]
    fn a_boot_that_fails_is_infra_and_says_what_init_said() {
        let judged = judge(
            &Seen {
                begun: false,
                console: "[    1.0] x\r\ngauntlet-init: module /modules/04-9p.ko: ENOENT\r\n"
                    .into(),
                results: Err("no end marker came back".into()),
                ..seen()
            },
            &[],
        );
        assert_eq!(judged.verdict, Verdict::Infra);
        assert!(judged.reasons[0].contains("04-9p.ko"), "{judged:?}");
    }

    #[test]
    fn without_an_end_marker_there_is_no_verdict() {
        let judged = judge(
            &Seen {
                results: Err("no end marker came back".into()),
                vmtest: "gauntlet-suite: kernel 6.1\ngauntlet-suite: cannot start x\nFAILED".into(),
                ..seen()
            },
            &[],
        );
        assert_eq!(judged.verdict, Verdict::Infra);
        assert_eq!(
            judged.reasons,
            ["no end marker came back; gauntlet-suite: cannot start x"]
        );
    }

    #[test]
    fn a_suite_that_broke_off_says_why() {
        let judged = judge(
            &Seen {
                results: Err("no end marker came back".into()),
                suite: "test a ... ok\nthread 'x' panicked at harness/src/run/mod.rs:1:2:\nno lane\nnote: y\n".into(),
                ..seen()
            },
            &[],
        );
        assert_eq!(
            judged.reasons,
            [
                "no end marker came back; thread 'x' panicked at harness/src/run/mod.rs:1:2:; no lane"
            ]
        );
    }

    #[test]
    fn what_the_suite_complained_of_after_its_cases_is_told() {
        let judged = judge(
            &Seen {
                results: Ok(Results {
                    code: 2,
                    ..results::tests::whole()
                }),
                suite: "test a ... ok\n\ntest result: ok. 2 passed\n\nthe probe did not end\n"
                    .into(),
                ..seen()
            },
            &[],
        );
        assert_eq!(judged.verdict, Verdict::Infra);
        assert_eq!(
            judged.reasons,
            ["the suite reached no verdict", "the probe did not end"]
        );
    }

    #[test]
    fn a_red_case_is_named_and_no_verdict_wins() {
        let mut results = results::tests::whole();
        results.cases[0].verdict = "fail".into();
        results.summary.pass = 1;
        results.summary.fail = 1;
        results.code = 1;
        let judged = judge(
            &Seen {
                results: Ok(results.clone()),
                ..seen()
            },
            &[],
        );
        assert_eq!(judged.verdict, Verdict::Fail);
        assert!(judged.reasons[0].contains("a::x: fail"), "{judged:?}");
        results.summary.infra = 1;
        results.summary.pass = 0;
        let judged = judge(
            &Seen {
                results: Ok(results),
                ..seen()
            },
            &[],
        );
        assert_eq!(judged.verdict, Verdict::Infra);
    }

    #[test]
    fn a_skipped_case_is_red_unless_it_lacks_what_is_optional() {
        let mut results = results::tests::whole();
        results.cases[0].verdict = "skip".into();
        results.summary.pass = 1;
        results.summary.skip = 1;
        let judged = |lacks: Option<&str>| {
            let mut results = results.clone();
            results.cases[0].lacks = lacks.map(String::from);
            let seen = Seen {
                results: Ok(results),
                ..seen()
            };
            judge(&seen, &[]).verdict
        };
        assert_eq!(judged(Some("gnutls")), Verdict::Pass);
        assert_eq!(judged(Some("netem")), Verdict::Fail);
        assert_eq!(judged(None), Verdict::Fail);
    }

    #[test]
    fn a_difference_to_what_is_written_down_is_red() {
        let judged = judge(&seen(), &["gauntlet_watch: broken".into()]);
        assert_eq!(judged.verdict, Verdict::Fail);
    }
}
