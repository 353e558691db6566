//! Every case of `scenarios/` as a test of its own, judged on the shipped probe: the same cases, the
//! same engine and the same verdicts as `gauntlet run`.
//!
//! `cargo test` runs them on a fleet of lanes that all tests share; `cargo nextest run` starts a
//! process for each, which then has one lane.

mod gate;

use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use gate::Gate;
use gauntlet_harness::lab::lacks_netem;
use gauntlet_harness::probe::Spec;
use gauntlet_harness::report::CaseReport;
use gauntlet_harness::run::{Cancel, Fleet, Settings, Shelf};
use gauntlet_harness::scenario::{self, Case, Deviations};
use libtest_mimic::{Arguments, Failed};

/// Certificates derive from it, and the port each lane begins with; any other will do as well.
const SEED: u64 = 1;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let suite = match scenario::load(&folder) {
        Ok(suite) => suite,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(64);
        }
    };
    if let Err(unused) = suite.deviations.check(&suite.cases) {
        eprintln!("{unused}");
        return ExitCode::from(64);
    }
    let lanes = arguments
        .test_threads
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let pool = Arc::new(Pool {
        lanes,
        deviations: suite.deviations,
        fleet: OnceLock::new(),
    });
    let obstacle = gate::no_lane().or_else(|| Some(Spec::Shipped.program().err()?.to_string()));
    let mut gate = Gate::default();
    let trials = suite
        .cases
        .into_iter()
        .map(|case| {
            let pool = Arc::clone(&pool);
            let run = {
                let case = case.clone();
                move || verdict(&pool.run(case)?)
            };
            match case.network.and_then(|_| lacks_netem()) {
                Some(lacking) if obstacle.is_none() => {
                    gate.needing("netem", case.id, Some(lacking), run)
                }
                _ => gate.trial(case.id, obstacle.as_deref(), run),
            }
        })
        .collect();
    if !arguments.list {
        gate.tell();
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    let lost = pool.finish();
    for line in &lost {
        eprintln!("{line}");
    }
    if lost.is_empty() {
        conclusion.exit_code()
    } else {
        ExitCode::FAILURE
    }
}

/// The fleet that all tests of this process share; it starts with the first of them.
struct Pool {
    lanes: usize,
    deviations: Deviations,
    fleet: OnceLock<Mutex<Option<Fleet>>>,
}

impl Pool {
    fn run(&self, case: Case) -> Result<CaseReport, Failed> {
        let fleet = self.fleet.get_or_init(|| Mutex::new(self.start().ok()));
        let (reply, report) = channel();
        {
            let fleet = fleet.lock().unwrap_or_else(PoisonError::into_inner);
            fleet
                .as_ref()
                .ok_or("the fleet has ended")?
                .submit(case, reply);
        }
        Ok(report.recv()?)
    }

    fn start(&self) -> Result<Fleet, Failed> {
        let settings = Settings {
            probe: Spec::Shipped,
            program: Spec::Shipped.program()?,
            scenarios: None,
            seed: SEED,
            deviations: self.deviations.clone(),
            shelf: Shelf::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/gauntlet")),
            keep_all: false,
        };
        Ok(Fleet::start(
            Arc::new(settings),
            self.lanes,
            &Cancel::default(),
        ))
    }

    /// Ends every probe; what they lost, or why they did not end in order, is a failure of the whole.
    fn finish(&self) -> Vec<String> {
        let Some(fleet) = self.fleet.get() else {
            return Vec::new();
        };
        let Some(fleet) = fleet.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Vec::new();
        };
        let end = fleet.finish();
        let lost = end.lost.iter().filter(|(_, count)| **count > 0);
        lost.map(|(cause, count)| format!("the probe lost {count} events: {cause}"))
            .chain(end.late)
            .chain(end.errors)
            .collect()
    }
}

fn verdict(report: &CaseReport) -> Result<(), Failed> {
    if report.verdict.is_green() {
        return Ok(());
    }
    let witnesses = &report.witnesses;
    let artifacts = report
        .artifacts
        .as_ref()
        .map(|folder| folder.display().to_string());
    Err(format!(
        "{}: {}\nclient: {}\nserver: {}\nwire: {}\nartifacts: {}\nagain: {}",
        report.verdict.name(),
        report.reason.as_deref().unwrap_or("no reason given"),
        witnesses.client,
        witnesses.server,
        witnesses.wire,
        artifacts.as_deref().unwrap_or("none"),
        report.repro
    )
    .into())
}
