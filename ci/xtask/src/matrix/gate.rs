//! The matrix's share of `cargo xtask test`: three kernels, and guests that go wrong on purpose.

use anyhow::Result;

use super::options::{DEFAULT_SEED, Options};
use super::{Ended, exit_code, publish, results, runs, series, verdict};

/// In how many ways the gate cuts each case. The more, the longer: thousands are for `matrix --recut`.
const WAYS: u64 = 8;

/// How a gate's kernels ended.
#[derive(Debug)]
pub(crate) struct Ending {
    /// The exit code.
    pub(crate) code: u8,
    /// Cases, of the suite.
    pub(crate) passed: u64,
    /// Cases, of the suite.
    pub(crate) red: u64,
    /// Why it is not green, a line each: the end of a long log is read first, and often alone.
    pub(crate) reasons: Vec<String>,
}

impl Ending {
    /// What is to be told of it: this, and its reasons.
    pub(crate) fn why(&self, what: &str) -> String {
        let reasons = self.reasons.iter().map(String::as_str);
        let lines: Vec<&str> = std::iter::once(what).chain(reasons).collect();
        lines.join("\n  ")
    }
}

/// Whether guests that go wrong are told as what they are: another gate of `cargo xtask test`.
///
/// # Errors
/// As [`super::run`].
pub(crate) fn faults_gate() -> Result<Ending> {
    ending(&Options {
        kernel: vec![series::GATE[0].into()],
        faults: true,
        ..Options::default()
    })
}

/// Whether the oldest kernel and the newest say the same of every recorded case however its packets are cut:
/// another gate.
///
/// # Errors
/// As [`super::run`].
pub(crate) fn recut_gate() -> Result<Ending> {
    let [oldest, .., newest] = series::GATE;
    ending(&Options {
        kernel: vec![oldest.into(), newest.into()],
        recut: Some(WAYS),
        seed: DEFAULT_SEED,
        ..Options::default()
    })
}

/// The suite, on three kernels.
///
/// # Errors
/// As [`super::run`].
pub(crate) fn gate() -> Result<Ending> {
    ending(&Options {
        kernel: series::GATE.map(String::from).into(),
        seed: DEFAULT_SEED,
        ..Options::default()
    })
}

fn ending(options: &Options) -> Result<Ending> {
    let selected = series::select(&options.kernel, None).map_err(anyhow::Error::msg)?;
    let runs = match runs(options, &selected)? {
        Ended::Early(code, reasons) => {
            return Ok(Ending {
                code,
                passed: 0,
                red: 0,
                reasons,
            });
        }
        Ended::Ran(runs) => runs,
    };
    let disagreements = verdict::disagreements(&runs);
    publish(options, &runs, &disagreements)?;
    let sum = |of: fn(&results::Results) -> u64| {
        runs.iter()
            .filter_map(|run| run.results.as_ref())
            .map(of)
            .sum()
    };
    let told = runs.iter().flat_map(|run| {
        let reasons = run.judgement.reasons.iter();
        reasons.map(|reason| format!("{}: {}: {reason}", run.kernel, run.judgement.verdict.name()))
    });
    Ok(Ending {
        code: exit_code(&runs, &disagreements),
        passed: sum(|results| results.summary.pass + results.summary.xfail),
        red: sum(results::Results::red),
        reasons: told.chain(disagreements.iter().cloned()).collect(),
    })
}
