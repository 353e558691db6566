//! `gauntlet record`: a run whose captures are kept for replays, if it is green.

use std::path::{Path, PathBuf};

use gauntlet_harness::probe::Spec;
use gauntlet_harness::recording;
use gauntlet_harness::report::{CaseReport, Record};
use gauntlet_harness::run::Shelf;
use gauntlet_harness::scenario::Beside;
use gauntlet_harness::verdict::Verdict;

use super::Failure;
use super::run::run_keeping;
use crate::cli::{Color, Format, Run, Selection};

pub(super) fn record(
    folder: &Path,
    selection: Selection,
    seed: Option<u64>,
) -> Result<u8, Failure> {
    let kept = tempfile::tempdir().map_err(Failure::infra)?;
    let arguments = Run {
        selection,
        format: Format::Human,
        junit: None,
        probe: Spec::Shipped,
        seed,
        jobs: None,
        color: Color::Auto,
        artifacts: None::<PathBuf>,
    };
    run_keeping(arguments, Shelf::new(kept.path()), true, |records| {
        pack(records, folder)
    })
}

fn pack(records: &[Record], folder: &Path) -> Result<(), Failure> {
    let mut reports: Vec<&CaseReport> = records
        .iter()
        .filter_map(|record| match record {
            Record::Case(report) => Some(&**report),
            _ => None,
        })
        .collect();
    let red =
        |report: &&&CaseReport| !(report.verdict.is_green() || report.verdict == Verdict::Skip);
    if let Some(red) = reports.iter().find(red) {
        eprintln!(
            "gauntlet: nothing is recorded: {} is {}",
            red.id,
            red.verdict.name()
        );
        return Ok(());
    }
    // What a key log or a library adds is on no wire; the same packets are recorded without it.
    let more = Beside::MORE.map(|beside| beside.key().unwrap_or_default());
    let told = |id: &str| {
        id.rsplit("::")
            .next()
            .is_some_and(|end| more.contains(&end))
    };
    reports.retain(|report| report.verdict == Verdict::Pass && !told(&report.id));
    recording::pack(&reports, folder).map_err(Failure::infra)?;
    eprintln!(
        "gauntlet: {} cases recorded in {}",
        reports.len(),
        folder.display()
    );
    Ok(())
}
