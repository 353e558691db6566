//! `gauntlet-bench`, what `cargo xtask bench` runs: measures, judges, writes. Here are the command line and
//! the order, nothing else.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use gauntlet_bench::budget::Verdict;
use gauntlet_bench::compare::Build;
use gauntlet_bench::delivery::{Manner, Pressed};
use gauntlet_bench::machine::Machine;
use gauntlet_bench::measurement::Measurement;
use gauntlet_bench::memory::Memory;
use gauntlet_bench::page::page;
use gauntlet_bench::progress::Parts;
use gauntlet_bench::report::{Beside, NotMeasured, Report};
use gauntlet_bench::{budget, compare, delivery, growth, overhead, parser, program, progress};
use gauntlet_cli::exit;
use gauntlet_probes::load::Settings;
use gauntlet_probes::{object, privileges};

/// Measures the probe against its budgets
#[derive(Parser)]
#[command(name = "gauntlet-bench")]
struct Arguments {
    /// Fewer rounds; only stable budgets gate
    #[arg(long)]
    quick: bool,

    /// Folder for the results
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// The repository, whose budgets count
    #[arg(long, value_name = "DIR")]
    root: PathBuf,

    /// Measures the BPF object in FILE, one with the same programs and maps, in place of this build's
    #[arg(long, value_name = "FILE")]
    object: Option<PathBuf>,

    /// The program that measures the parser
    #[arg(long, value_name = "FILE", required_unless_present = "baseline")]
    parser: Option<PathBuf>,

    /// What runs this machine, where that is known better than it shows; `tcg` is emulation, under which only
    /// ratios are told
    #[arg(long, value_name = "NAME")]
    accelerator: Option<String>,

    /// The shipped command, whose process is measured too
    #[arg(long, value_name = "FILE")]
    watch: Option<PathBuf>,

    /// Instead: compares with the BPF object in FILE
    #[arg(long, value_name = "FILE", requires = "baseline_commit")]
    baseline: Option<PathBuf>,

    /// What that was built from
    #[arg(long, value_name = "COMMIT", requires = "baseline")]
    baseline_commit: Option<String>,
}

/// How many times a part is measured at most.
const MOST: usize = 3;
/// How often the programs are loaded to be measured.
const LOADS: usize = 4;
/// When nothing is measured on any more.
const PATIENCE: Duration = Duration::from_secs(8 * 60);
/// When a run is given up.
const LONGEST: Duration = Duration::from_secs(25 * 60);

fn main() -> ExitCode {
    let arguments = match gauntlet_cli::parse::<Arguments>() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("gauntlet-bench: {error:#}");
            ExitCode::from(exit::NO_VERDICT)
        }
    }
}

fn run(arguments: &Arguments) -> Result<u8> {
    privileges::check(true)?;
    progress::listen(LONGEST)?;
    let read = |file: &PathBuf| fs::read(file).with_context(|| file.display().to_string());
    let object = match &arguments.object {
        Some(file) => read(file)?,
        None => object::OBJECT.to_vec(),
    };
    match (&arguments.baseline, &arguments.baseline_commit) {
        (Some(baseline), Some(commit)) => compare(arguments, &object, (&read(baseline)?, commit)),
        _ => measure(arguments, &object),
    }
}

/// Against another build.
fn compare(arguments: &Arguments, today: &[u8], (then, commit): (&[u8], &str)) -> Result<u8> {
    let machine = Machine::here(&arguments.root)?;
    let plan = if arguments.quick {
        compare::Plan::QUICK
    } else {
        compare::Plan::FULL
    };
    let settings = Settings::default();
    let build = |object| Build {
        object,
        settings: &settings,
    };
    let comparison = compare::compare(machine, build(today), (build(then), commit), plan)?;
    let mut out = std::io::stdout().lock();
    write!(out, "{}", comparison.table())?;
    fs::create_dir_all(&arguments.out)?;
    let file = arguments.out.join("baseline.json");
    fs::write(&file, serde_json::to_string_pretty(&comparison)?)?;
    writeln!(out, "\n{}", file.display())?;
    Ok(comparison.exit_code())
}

/// Against budgets.
fn measure(arguments: &Arguments, object: &[u8]) -> Result<u8> {
    let budgets = arguments.root.join("benches/budget.toml");
    let budgets = fs::read_to_string(&budgets).with_context(|| budgets.display().to_string())?;
    let mut budgets = budget::parse(&budgets)?;
    let mut machine = Machine::here(&arguments.root)?;
    if let Some(accelerator) = &arguments.accelerator {
        machine.accelerator.clone_from(accelerator);
    }
    if machine.is_emulated() {
        // None of them can be met, so nothing is measured on for one.
        budgets.clear();
    }
    let quick = arguments.quick;
    let rounds = if quick { 31 } else { 151 };
    // Emulated, to load them takes a minute.
    let loads = if machine.is_emulated() { 1 } else { LOADS };
    let undecided = |measured: &[Measurement]| {
        let gating = budgets.iter().filter(|budget| budget.stable || !quick);
        gating.into_iter().any(|budget| {
            let found = measured.iter().find(|one| one.name == budget.of);
            found.is_some_and(|one| budget.judge(Some(one)) == Verdict::Inconclusive)
        })
    };
    let begin = Instant::now();
    // What cannot be told is measured on, for a while: then that is the verdict.
    let settled = |measure: &mut dyn FnMut() -> Result<Vec<Measurement>>| {
        let mut measured = measure()?;
        for _ in 1..MOST {
            if !undecided(&measured) || begin.elapsed() > PATIENCE {
                break;
            }
            eprintln!("bench:   again: something cannot be told yet");
            measured = measure()?;
        }
        Ok::<_, anyhow::Error>(measured)
    };

    let mut parts = Parts::new(if quick { 5 } else { 7 });
    let mut measurements = parts.next("cost of the program", || {
        let settings = Settings::default();
        let mut programs = program::Session::new(object, &settings, loads);
        settled(&mut || programs.measure(rounds))
    })?;
    let mut not_measured = Vec::new();
    let parser = arguments.parser.as_ref().context("--parser")?;
    measurements.extend(parts.next("cost of the parser", || {
        settled(&mut || parser::measure(parser, rounds))
    })?);
    let plan = match (machine.is_emulated(), quick) {
        (true, _) => delivery::Plan::LEAST,
        (false, true) => delivery::Plan::QUICK,
        (false, false) => delivery::Plan::FULL,
    };
    let mut delivery = delivery::Session::new(plan, Manner::Sound)?;
    measurements.extend(parts.next("delivery of events", || settled(&mut || delivery.measure()))?);
    let plan = match (machine.is_emulated(), quick) {
        (true, _) => overhead::Plan::LEAST,
        (false, true) => overhead::Plan::QUICK,
        (false, false) => overhead::Plan::FULL,
    };
    measurements.extend(parts.next("overhead on handshakes", || {
        let mut overhead = overhead::Session::new(object, plan, arguments.watch.clone())?;
        not_measured.extend_from_slice(overhead.missing());
        settled(&mut || overhead.measure())
    })?);
    let (mut pressed, mut grown) = (None, Vec::new());
    if quick {
        for what in ["delivery to a reader that is held back", "growth"] {
            not_measured.push(NotMeasured::new(what, "only in a full run"));
        }
    } else {
        let what = "delivery to a reader that is held back";
        let measure = || Pressed::measure(delivery::pressed::HELD_BACK);
        pressed = optional(&mut parts, &mut not_measured, what, measure)?;
        not_measured.extend(pressed.iter_mut().flat_map(|one| one.missing.drain(..)));
        let measure = || growth::measure(object, growth::Plan::FULL);
        grown = optional(&mut parts, &mut not_measured, "growth", measure)?.unwrap_or_default();
    }
    let watch = arguments.watch.as_deref();
    if watch.is_none() {
        let why = "only in a full run";
        not_measured.push(NotMeasured::new("memory of the process", why));
    }
    let measure = || Memory::measure(object, &Settings::default(), watch);
    let memory = optional(&mut parts, &mut not_measured, "memory", measure)?;

    let beside = Beside {
        delivery: Some(delivery.delivered()),
        pressed,
        growth: grown,
        memory,
        not_measured,
        took: parts.took(),
    };
    let report = Report::new(machine, quick, measurements, budgets, beside);
    publish(arguments, &report)
}

/// A part that has no budget: where it fails, the others are told none the less.
fn optional<T>(
    parts: &mut Parts,
    not_measured: &mut Vec<NotMeasured>,
    what: &'static str,
    measure: impl FnOnce() -> Result<T>,
) -> Result<Option<T>> {
    match parts.next(what, measure) {
        Ok(measured) => Ok(Some(measured)),
        Err(error) if progress::is_over() => Err(error),
        Err(error) => {
            not_measured.push(NotMeasured::broken(what, &error));
            Ok(None)
        }
    }
}

/// As a table, a page and figures.
fn publish(arguments: &Arguments, report: &Report) -> Result<u8> {
    let mut out = std::io::stdout().lock();
    write!(out, "{}", report.table())?;
    fs::create_dir_all(&arguments.out)?;
    let file = arguments.out.join("results.json");
    fs::write(&file, serde_json::to_string_pretty(report)?)?;
    let html = arguments.out.join("index.html");
    fs::write(&html, page(report)?)?;
    writeln!(out, "\n{}\n{}", html.display(), file.display())?;
    Ok(report.exit_code())
}
