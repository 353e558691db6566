//! `gauntlet run`: the selected cases on all lanes, reported as they end.

use std::io::{self, IsTerminal, StdoutLock};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use gauntlet_harness::probe::Spec;
use gauntlet_harness::report::human::Human;
use gauntlet_harness::report::junit::JunitFile;
use gauntlet_harness::report::{Record, SCHEMA, Start, Summary, ndjson};
use gauntlet_harness::run::{
    Cancel, DEADLINE, Fleet, Settings, Shelf, check_privileges, default_artifacts, kernel,
};
use gauntlet_harness::scenario::{Case, Suite};

use super::signals::Signals;
use super::{Failure, any_seed, cannot_print, coloured, load, select};
use crate::cli::{Format, Run};

/// How often a waiting run looks whether a signal has come.
const LOOK: Duration = Duration::from_millis(50);
/// How long a run that was told to end waits for its lanes.
const FAREWELL: Duration = Duration::from_secs(2);

pub(super) fn run(arguments: Run) -> Result<u8, Failure> {
    let shelf = shelf(arguments.artifacts.as_deref())?;
    run_keeping(arguments, shelf, false, |_| Ok(()))
}

/// Runs cases, and hands every record to `after` once they are over.
pub(super) fn run_keeping(
    arguments: Run,
    shelf: Shelf,
    keep_all: bool,
    after: impl FnOnce(&[Record]) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let suite = load(arguments.selection.scenarios.as_deref())?;
    let cases = select(&suite, &arguments.selection)?;
    let seed = arguments.seed.unwrap_or_else(any_seed);
    let settings = Arc::new(prepare(
        suite,
        &arguments.probe,
        arguments.selection.scenarios.as_deref(),
        seed,
        shelf,
        keep_all,
    )?);
    let junit = arguments
        .junit
        .as_deref()
        .map(JunitFile::create)
        .transpose();
    let junit = junit.map_err(Failure::infra)?;
    let signals = Signals::listen().map_err(Failure::infra)?;

    let mut output = Output::new(&arguments);
    output.record(Record::Start(Start {
        schema: SCHEMA,
        kernel: kernel(),
        probe: arguments.probe.to_string(),
        seed,
        cases: cases.len(),
    }))?;
    let jobs = arguments.jobs.map_or_else(
        || thread::available_parallelism().map_or(1, usize::from),
        usize::from,
    );
    let (summary, trouble) = run_all(cases, settings, jobs, &signals, &mut output)?;
    let code = summary.exit_code();
    output.record(Record::Summary(summary))?;
    if let Some(junit) = junit {
        junit.finish(&output.records).map_err(Failure::infra)?;
    }
    if let Some(message) = trouble {
        return Err(Failure::infra(message));
    }
    after(&output.records)?;
    Ok(code)
}

/// Runs the cases. Beside the summary: what went wrong outside of them, if anything.
fn run_all(
    cases: Vec<Case>,
    settings: Arc<Settings>,
    jobs: usize,
    signals: &Signals,
    output: &mut Output,
) -> Result<(Summary, Option<String>), Failure> {
    let total = cases.len();
    let cancel = Cancel::default();
    let fleet = Fleet::start(settings, jobs.min(total), &cancel);
    let (reply, reports) = channel();
    fleet.submit(cases.into_iter().map(|case| (case, reply.clone())));
    drop(reply);
    let mut summary = Summary::default();
    let mut ended = 0;
    loop {
        if let Some(signal) = signals.caught() {
            cancel.cancel();
            let (done, all_ended) = channel();
            thread::spawn(move || {
                let _ = fleet.finish();
                // Nobody waits any longer than FAREWELL.
                let _ = done.send(());
            });
            // What has not ended by then ends with this process.
            let _ = all_ended.recv_timeout(FAREWELL);
            output.clear();
            return Err(Failure::infra(format!(
                "{signal}: ended before the run was over, {ended} of {total} cases had a verdict"
            )));
        }
        match reports.recv_timeout(LOOK) {
            Ok(report) => {
                ended += 1;
                summary.add(&report);
                output.record(Record::Case(Box::new(report)))?;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let end = fleet.finish();
    summary.lost_events = end.lost_events();
    for (cause, count) in end.lost.iter().filter(|(_, count)| **count > 0) {
        eprintln!("gauntlet: the probe lost {count} events: {cause}");
    }
    for line in &end.late {
        eprintln!("gauntlet: {line}");
    }
    summary.late_events = end.late.len() as u64;
    let missing = (ended < total).then(|| format!("{} cases got no verdict", total - ended));
    Ok((summary, missing.or_else(|| end.errors.into_iter().next())))
}

/// Everything that can be refused before a case runs.
pub(super) fn prepare(
    suite: Suite,
    probe: &Spec,
    scenarios: Option<&Path>,
    seed: u64,
    shelf: Shelf,
    keep_all: bool,
) -> Result<Settings, Failure> {
    suite
        .deviations
        .check(&suite.cases)
        .map_err(Failure::usage)?;
    let program = probe.program().map_err(Failure::infra)?;
    check_privileges().map_err(Failure::infra)?;
    Ok(Settings {
        probe: probe.clone(),
        program,
        scenarios: scenarios.map(Path::to_path_buf),
        seed,
        deviations: suite.deviations,
        shelf,
        deadline: DEADLINE,
        keep_all,
    })
}

/// The shelf for artifacts. One that was asked for must work; the default is made when needed.
pub(super) fn shelf(asked: Option<&Path>) -> Result<Shelf, Failure> {
    match asked {
        None => Ok(Shelf::new(default_artifacts())),
        Some(folder) => {
            let shelf = Shelf::new(folder);
            shelf.prepare().map_err(Failure::infra)?;
            Ok(shelf)
        }
    }
}

/// Standard output in the form asked for, and the records for JUnit.
struct Output {
    form: Form,
    records: Vec<Record>,
}

enum Form {
    Human(Human<StdoutLock<'static>>),
    Ndjson(StdoutLock<'static>),
}

impl Output {
    fn new(arguments: &Run) -> Self {
        let out = io::stdout().lock();
        let form = match arguments.format {
            Format::Ndjson => Form::Ndjson(out),
            Format::Human => Form::Human(Human::new(
                out,
                coloured(arguments.color),
                io::stderr().is_terminal(),
            )),
        };
        Self {
            form,
            records: Vec::new(),
        }
    }

    fn record(&mut self, record: Record) -> Result<(), Failure> {
        match &mut self.form {
            Form::Human(human) => human.record(&record),
            Form::Ndjson(out) => ndjson::write(out, &record),
        }
        .map_err(cannot_print)?;
        self.records.push(record);
        Ok(())
    }

    /// Takes the progress bar away.
    fn clear(&mut self) {
        if let Form::Human(human) = &mut self.form {
            human.clear();
        }
    }
}
