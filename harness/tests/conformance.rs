//! Every case of `scenarios/` as a test of its own, judged on the shipped probe: the same cases, the
//! same engine and the same verdicts as `gauntlet run`.
//!
//! `cargo test` runs them on a fleet of lanes that all tests share, which has all cases from the beginning and
//! deals them as it sees fit; `cargo nextest run` starts a process for each, which then has one lane. The guests of `cargo xtask matrix` run this very program,
//! with `--ndjson`.

mod gate;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::{env, io, thread};

use clap::Parser;
use gate::Gate;
use gauntlet_cli::exit;
use gauntlet_harness::probe::{Spec, SpecError};
use gauntlet_harness::report::{CaseReport, Record, SCHEMA, Start, Summary, ndjson};
use gauntlet_harness::run::{
    Cancel, DEADLINE, Fleet, Lacking, LaneEnd, Settings, Shelf, kernel, lacks, skipped,
};
use gauntlet_harness::scenario::{self, Case, Deviations};
use libtest_mimic::{Arguments, Failed};

/// libtest's arguments, and those that a run without cargo needs.
#[derive(Parser)]
#[command(name = "conformance")]
struct Cli {
    #[command(flatten)]
    libtest: Arguments,
    /// More filters; a case is run when any of them matches.
    #[arg(value_name = "FILTER")]
    more: Vec<String>,
    /// Also writes the NDJSON of `gauntlet run` to this file, and ends with its exit codes.
    #[arg(long, value_name = "FILE")]
    ndjson: Option<PathBuf>,
    /// Seeds certificates, and the port each lane begins with; any will do.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to keep what was recorded of cases that failed.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/gauntlet"))]
    artifacts: PathBuf,
}

fn main() -> ExitCode {
    let cli = match gauntlet_cli::parse::<Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let mut arguments = cli.libtest;
    let refuse = |code, why: &dyn std::fmt::Display| {
        eprintln!("{why}");
        ExitCode::from(code)
    };
    let suite = match scenario::load(&scenarios()) {
        Ok(suite) => suite,
        Err(error) => return refuse(exit::USAGE, &error),
    };
    if let Err(unused) = suite.deviations.check(&suite.cases) {
        return refuse(exit::USAGE, &unused);
    }
    // What is selected has to be known before anything runs, and by the rules of `gauntlet run`.
    let filters: Vec<String> = arguments
        .filter
        .take()
        .into_iter()
        .chain(cli.more)
        .collect();
    let mut cases = suite.select(&filters, arguments.exact);
    cases.retain(|case| !arguments.skip.iter().any(|part| case.id.contains(part)));
    let lanes = arguments
        .test_threads
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let obstacle = gate::no_lane().or_else(|| Some(Spec::Shipped.program().err()?.to_string()));
    let report = match (&cli.ndjson, &obstacle) {
        (None, _) => None,
        (Some(_), Some(obstacle)) => return refuse(exit::NO_VERDICT, obstacle),
        (Some(path), None) => match Report::create(path, cli.seed, cases.len()) {
            Ok(report) => Some(report),
            Err(error) => {
                return refuse(exit::NO_VERDICT, &format!("{}: {error}", path.display()));
            }
        },
    };
    let cases: Vec<_> = cases.into_iter().map(|case| (lacks(&case), case)).collect();
    let runs = cases.iter().filter(|(lacking, _)| lacking.is_none());
    let pool = Arc::new(Pool {
        lanes,
        seed: cli.seed,
        shelf: Shelf::new(cli.artifacts),
        deviations: suite.deviations,
        cases: runs.map(|(_, case)| case.clone()).collect(),
        fleet: OnceLock::new(),
        reports: Mutex::default(),
        report: Mutex::new(report),
    });
    let mut gate = Gate::default();
    let mut left_out = Vec::new();
    let trials = cases
        .into_iter()
        .map(|(lacking, case)| {
            let run = {
                let (pool, id) = (Arc::clone(&pool), case.id.clone());
                move || verdict(&pool.run(&id)?)
            };
            match lacking {
                Some(lacking) if obstacle.is_none() => {
                    let id = case.id.clone();
                    let trial = gate.needing(lacking.need, id, Some(&lacking.why), run);
                    if trial.has_ignored_flag() {
                        left_out.push((case, lacking));
                    }
                    trial
                }
                _ => gate.trial(case.id, obstacle.as_deref(), run),
            }
        })
        .collect();
    if let Err(error) = pool.skip(left_out) {
        return refuse(exit::NO_VERDICT, &error);
    }
    if !arguments.list {
        gate.tell();
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    let end = pool.finish();
    let mut wrong: Vec<String> = end
        .lost
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(cause, count)| format!("the probe lost {count} events: {cause}"))
        .collect();
    wrong.extend(end.late.iter().chain(&end.errors).cloned());
    for line in &wrong {
        eprintln!("{line}");
    }
    match pool.end_of_report(&end) {
        Some(Ok(code)) => ExitCode::from(code),
        Some(Err(error)) => refuse(exit::NO_VERDICT, &format!("the report: {error}")),
        None if wrong.is_empty() => conclusion.exit_code(),
        None => ExitCode::FAILURE,
    }
}

/// Beside this crate, where cargo says that it is now: a guest, or a runner that was handed this
/// program, may have the repository elsewhere than who compiled it.
fn scenarios() -> PathBuf {
    env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).into(),
            PathBuf::from,
        )
        .join("../scenarios")
}

/// The run as NDJSON, as it goes.
struct Report {
    file: File,
    summary: Summary,
    /// The first line that could not be written: what follows would look like a whole report.
    broken: Option<io::Error>,
}

impl Report {
    fn create(path: &Path, seed: u64, cases: usize) -> io::Result<Self> {
        let mut file = File::create(path)?;
        let start = Record::Start(Start {
            schema: SCHEMA,
            kernel: kernel(),
            probe: Spec::Shipped.to_string(),
            seed,
            cases,
        });
        ndjson::write(&mut file, &start)?;
        Ok(Self {
            file,
            summary: Summary::default(),
            broken: None,
        })
    }

    fn add(&mut self, case: &CaseReport) {
        self.summary.add(case);
        if self.broken.is_none() {
            let record = Record::Case(Box::new(case.clone()));
            self.broken = ndjson::write(&mut self.file, &record).err();
        }
    }

    fn finish(mut self, end: &LaneEnd) -> io::Result<u8> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        self.summary.lost_events = end.lost_events();
        self.summary.late_events = end.late.len() as u64;
        let code = self.summary.exit_code();
        ndjson::write(&mut self.file, &Record::Summary(self.summary))?;
        Ok(if end.errors.is_empty() {
            code
        } else {
            exit::NO_VERDICT
        })
    }
}

/// The fleet that all tests of this process share; it starts with the first of them.
struct Pool {
    lanes: usize,
    seed: u64,
    shelf: Shelf,
    deviations: Deviations,
    /// All that will be run.
    cases: Vec<Case>,
    fleet: OnceLock<Mutex<Option<Fleet>>>,
    /// Where the report of each of them arrives, by id.
    reports: Mutex<BTreeMap<String, Receiver<CaseReport>>>,
    report: Mutex<Option<Report>>,
}

impl Pool {
    fn run(&self, id: &str) -> Result<CaseReport, Failed> {
        self.fleet.get_or_init(|| Mutex::new(self.start().ok()));
        let arriving = self
            .reports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id)
            .ok_or("no lane was dealt this case")?;
        let case = arriving.recv()?;
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(report) = report.as_mut() {
            report.add(&case);
        }
        Ok(case)
    }

    /// Tells the report, where there is one, of cases that no test will run.
    fn skip(&self, cases: Vec<(Case, Lacking)>) -> Result<(), SpecError> {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(report) = report.as_mut() else {
            return Ok(());
        };
        let settings = self.settings()?;
        for (case, lacking) in cases {
            report.add(&skipped(&case, &settings, lacking));
        }
        Ok(())
    }

    fn start(&self) -> Result<Fleet, Failed> {
        let settings = Arc::new(self.settings()?);
        let fleet = Fleet::start(settings, self.lanes, &Cancel::default());
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        fleet.submit(self.cases.iter().map(|case| {
            let (reply, report) = channel();
            reports.insert(case.id.clone(), report);
            (case.clone(), reply)
        }));
        Ok(fleet)
    }

    fn settings(&self) -> Result<Settings, SpecError> {
        Ok(Settings {
            probe: Spec::Shipped,
            program: Spec::Shipped.program()?,
            scenarios: None,
            seed: self.seed,
            deviations: self.deviations.clone(),
            shelf: self.shelf.clone(),
            deadline: DEADLINE,
            keep_all: false,
        })
    }

    /// Ends every probe; what they lost, or why they did not end in order, is a failure of the whole.
    fn finish(&self) -> LaneEnd {
        let Some(fleet) = self.fleet.get() else {
            return LaneEnd::default();
        };
        let fleet = fleet.lock().unwrap_or_else(PoisonError::into_inner).take();
        fleet.map_or_else(LaneEnd::default, Fleet::finish)
    }

    /// The exit code that the report stands for, where one was asked for.
    fn end_of_report(&self, end: &LaneEnd) -> Option<io::Result<u8>> {
        let report = self
            .report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        report.map(|report| report.finish(end))
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
