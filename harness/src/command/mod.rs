//! The commands: each reads arguments, calls the library, and ends with an exit code.

mod guest;
mod record;
mod recut;
mod repro;
mod run;
mod signals;

use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use gauntlet_cli::exit;
use gauntlet_harness::explain::{explain, topics};
use gauntlet_harness::report::human::Human;
use gauntlet_harness::report::ndjson;
use gauntlet_harness::scenario::{self, Case, Suite};
use serde_json::json;

use crate::cli::{Cli, Color, Command, Format, Selection};

/// The folder of scenarios, where none is named.
const SCENARIOS: &str = "scenarios";

/// Why a command ended early: an exit code of the contract, and what to say, a line each.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    /// Bad usage, or a bad input file.
    fn usage(message: impl ToString) -> Self {
        Self {
            code: exit::USAGE,
            message: message.to_string(),
        }
    }

    /// The selection matched nothing.
    fn nothing(message: impl ToString) -> Self {
        Self {
            code: exit::NOTHING,
            message: message.to_string(),
        }
    }

    /// The environment or the harness is in the way.
    fn infra(message: impl ToString) -> Self {
        Self {
            code: exit::NO_VERDICT,
            message: message.to_string(),
        }
    }
}

pub(crate) fn execute(cli: Cli) -> Result<u8, Failure> {
    match cli.command {
        Command::List { selection, format } => list(&selection, format),
        Command::Run(arguments) => run::run(arguments),
        Command::Repro(arguments) if arguments.guest.is_asked_for() => guest::repro(&arguments),
        Command::Repro(arguments) => repro::repro(arguments),
        Command::Record {
            folder,
            selection,
            seed,
        } => record::record(&folder, selection, seed),
        Command::Recut {
            folder,
            filters,
            ways,
            failing,
            seed,
            engine,
        } => recut::recut(
            &folder,
            &filters,
            (ways, failing),
            seed.unwrap_or_else(any_seed),
            engine,
        ),
        Command::Explain { topic, scenarios } => tell(&topic, scenarios.as_deref()),
        Command::Report { file, color } => report(&file, color),
    }
}

fn list(selection: &Selection, format: Format) -> Result<u8, Failure> {
    let suite = load(selection.scenarios.as_deref())?;
    let mut out = io::stdout().lock();
    for case in select(&suite, selection)? {
        let line = match format {
            Format::Human => case.id.clone(),
            Format::Ndjson => json!({
                "type": "listed",
                "id": case.id,
                "file": case.file,
                "claim": case.scenario.claim,
                "expected": case.scenario.expect.as_ref().map(|expect| json!({
                    "class": expect.class,
                    "confidence": expect.confidence,
                })),
                "near_miss": case.near_miss,
            })
            .to_string(),
        };
        if !print(&mut out, &line)? {
            break;
        }
    }
    Ok(0)
}

fn tell(topic: &str, scenarios: Option<&Path>) -> Result<u8, Failure> {
    // Classes and alerts are explained anywhere; only case ids need the files.
    let cases = if topic.contains("::") {
        load(scenarios)?.cases
    } else {
        Vec::new()
    };
    let Some(text) = explain(topic, &cases) else {
        return Err(Failure::usage(format!(
            "{topic:?} is no class, alert or case id; allowed: {}, an alert's number or name, an id from `gauntlet list`",
            topics()
        )));
    };
    print(&mut io::stdout().lock(), text.trim_end())?;
    Ok(0)
}

fn report(file: &Path, color: Color) -> Result<u8, Failure> {
    let wrong =
        |message: &dyn std::fmt::Display| Failure::usage(format!("{}: {message}", file.display()));
    let records = if file == Path::new("-") {
        ndjson::read(io::stdin().lock())
    } else {
        ndjson::read(BufReader::new(
            File::open(file).map_err(|error| wrong(&error))?,
        ))
    }
    .map_err(|error| wrong(&error))?;
    let mut human = Human::new(io::stdout().lock(), coloured(color), false);
    let mut code = None;
    for record in &records {
        if let gauntlet_harness::report::Record::Summary(summary) = record {
            code = Some(summary.exit_code());
        }
        human.record(record).map_err(cannot_print)?;
    }
    code.ok_or_else(|| Failure::infra(format!("{}: the run was cut short", file.display())))
}

fn load(scenarios: Option<&Path>) -> Result<Suite, Failure> {
    let folder = match scenarios {
        Some(folder) => folder.into(),
        None => find_scenarios()?,
    };
    scenario::load(&folder).map_err(Failure::usage)
}

/// `scenarios` in the working directory or above it, else above this program: a build tree.
fn find_scenarios() -> Result<PathBuf, Failure> {
    if Path::new(SCENARIOS).is_dir() {
        return Ok(SCENARIOS.into());
    }
    let program = std::env::current_exe().unwrap_or_default();
    let here = std::env::current_dir().unwrap_or_default();
    here.ancestors()
        .chain(program.ancestors())
        .map(|folder| folder.join(SCENARIOS))
        .find(|folder| folder.is_dir())
        .ok_or_else(|| {
            Failure::usage("no folder `scenarios` here or above; name one with --scenarios DIR")
        })
}

fn select(suite: &Suite, selection: &Selection) -> Result<Vec<Case>, Failure> {
    let cases = suite.select(&selection.filters, selection.exact);
    if cases.is_empty() {
        return Err(Failure::nothing(format!(
            "no case matches {}; `gauntlet list` shows all {}",
            selection.filters.join(" or "),
            suite.cases.len()
        )));
    }
    Ok(cases)
}

/// Prints a line; `false` when nobody reads any more, which is their right.
fn print(out: &mut dyn Write, line: &str) -> Result<bool, Failure> {
    match writeln!(out, "{line}") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(cannot_print(error)),
    }
}

fn cannot_print(error: io::Error) -> Failure {
    Failure::infra(format!("standard output: {error}"))
}

fn coloured(color: Color) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    }
}

/// A seed that nobody chose, short enough to type.
fn any_seed() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    (u64::from(now.subsec_nanos()) ^ now.as_secs() ^ u64::from(std::process::id())) % 1_000_000
}
