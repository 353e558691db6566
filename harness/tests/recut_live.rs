//! Recorded cases that fail, in other packets, which truly travel: over a cable to the attached probe, by either
//! hook. More ways, and the same through other engines, by `gauntlet recut`.

mod gate;

use std::path::Path;
use std::process::ExitCode;

use gate::Gate;
use gauntlet_harness::recut::{Case, Live, RecutError, Recutter, read};
use gauntlet_probes::attach::Hook;
use gauntlet_probes::load::Settings;
use libtest_mimic::{Arguments, Failed};

/// Ways for each case.
const WAYS: u64 = 3;
const SEED: u64 = 1;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let obstacle = gate::no_lane();
    let mut gate = Gate::default();
    let trials = [("auto", Hook::Auto), ("clsact", Hook::Clsact)].map(|(name, hook)| {
        let name = format!("no_cut_changes_what_is_said_on_a_cable::{name}");
        gate.trial(name, obstacle.as_deref(), move || same(hook))
    });
    let mut trials = Vec::from(trials);
    trials.push(gate.trial(
        "what_is_said_on_a_cable_is_compared",
        obstacle.as_deref(),
        compared,
    ));
    if !arguments.list {
        gate.tell();
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn failing() -> Result<Vec<Case>, Failed> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../probes/tests/recordings");
    let mut cases = read(Path::new(folder))?;
    cases.retain(|case| !case.classes.is_empty());
    Ok(cases)
}

fn same(hook: Hook) -> Result<(), Failed> {
    let cases = failing()?;
    let mut recutter = Recutter::new(Live::new(&Settings::default(), hook)?);
    for case in &cases {
        recutter.check(case, SEED, WAYS)?;
    }
    println!(
        "{} cases in {WAYS} ways from seed {SEED}, {} packets",
        cases.len(),
        recutter.packets
    );
    Ok(())
}

fn compared() -> Result<(), Failed> {
    let mut cases = failing()?;
    let mut recutter = Recutter::new(Live::new(&Settings::default(), Hook::Auto)?);
    let case = cases.first_mut().ok_or("no recorded case fails")?;
    case.classes = vec!["what it was not".into()];
    match recutter.check(case, SEED, 1) {
        Err(RecutError::Differs { seed: 0, .. }) => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}
