//! The matrix's share of `cargo xtask test`: three kernels, and guests that go wrong on purpose.

use anyhow::Result;

use super::options::{DEFAULT_SEED, Options};
use super::{Ended, exit_code, publish, results, run, runs, series, verdict};

/// In how many ways the gate cuts each case. The more, the longer: thousands are for `matrix --recut`.
const WAYS: u64 = 8;

/// Whether guests that go wrong are told as what they are: another gate of `cargo xtask test`.
///
/// # Errors
/// As [`super::run`].
pub(crate) fn faults_gate() -> Result<u8> {
    run(&Options {
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
pub(crate) fn recut_gate() -> Result<u8> {
    let [oldest, .., newest] = series::GATE;
    run(&Options {
        kernel: vec![oldest.into(), newest.into()],
        recut: Some(WAYS),
        seed: DEFAULT_SEED,
        ..Options::default()
    })
}

/// The gate of `cargo xtask test`: the exit code, and how many cases passed and did not.
///
/// # Errors
/// As [`super::run`].
pub(crate) fn gate() -> Result<(u8, u64, u64)> {
    let options = Options {
        kernel: series::GATE.map(String::from).into(),
        seed: DEFAULT_SEED,
        ..Options::default()
    };
    let selected = series::select(&options.kernel, None).map_err(anyhow::Error::msg)?;
    let runs = match runs(&options, &selected)? {
        Ended::Early(code) => return Ok((code, 0, 0)),
        Ended::Ran(runs) => runs,
    };
    let disagreements = verdict::disagreements(&runs);
    publish(&options, &runs, &disagreements)?;
    let sum = |of: fn(&results::Results) -> u64| {
        runs.iter()
            .filter_map(|run| run.results.as_ref())
            .map(of)
            .sum()
    };
    let passed = sum(|results| results.summary.pass + results.summary.xfail);
    Ok((
        exit_code(&runs, &disagreements),
        passed,
        sum(results::Results::red),
    ))
}
