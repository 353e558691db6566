//! Recorded cases in other packets, on the host build: what is said stays the same. Needs no root; the
//! same packets go through the programs in the kernel by `gauntlet recut`.

use std::path::Path;

use gauntlet_harness::recut::{Case, RecutError, Recutter, read};
use gauntlet_probes::load::Settings;
use gauntlet_probes::replay_engine::HostEngine;

/// Ways for each case: enough that every kind of cut meets every kind of failure. `gauntlet recut` does more.
const WAYS: u64 = 8;
const SEED: u64 = 1;

fn recorded() -> Vec<Case> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../probes/tests/recordings");
    read(Path::new(folder)).expect("the recordings are there, and whole")
}

#[test]
fn no_cut_changes_what_is_said() {
    let mut recutter = Recutter::new(HostEngine::new(&Settings::default()));
    let cases = recorded();
    for case in &cases {
        if let Err(error) = recutter.check(case, SEED, WAYS) {
            panic!("{error}");
        }
    }
    let failures = cases.iter().filter(|case| !case.classes.is_empty()).count();
    assert!(failures > 200, "{failures} cases with an event");
    println!(
        "{} cases in {WAYS} ways from seed {SEED}, {} packets",
        cases.len(),
        recutter.packets
    );
}

#[test]
fn a_case_that_says_something_else_is_told() {
    let mut recutter = Recutter::new(HostEngine::new(&Settings::default()));
    let mut cases = recorded();
    let case = cases
        .iter_mut()
        .find(|case| case.classes.len() == 1)
        .expect("a failure");
    case.classes = vec!["SSL_ERROR_SYSCALL, not what it was".into()];
    let error = recutter.check(case, SEED, 1).expect_err("it differs");
    assert!(
        matches!(error, RecutError::Differs { seed: 0, .. }),
        "{error}"
    );
}
