//! `gauntlet-bench`, what `cargo xtask bench` runs: measures, judges, writes. Here are the command line and
//! the order, nothing else.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use gauntlet_bench::budget::Verdict;
use gauntlet_bench::compare::Build;
use gauntlet_bench::delivery::Speech;
use gauntlet_bench::machine::Machine;
use gauntlet_bench::measurement::Measurement;
use gauntlet_bench::memory::Memory;
use gauntlet_bench::page::page;
use gauntlet_bench::report::{Beside, NotMeasured, Report};
use gauntlet_bench::{budget, compare, delivery, growth, overhead, parser, program};
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
    #[arg(long, value_name = "FILE", required_unless_present_any = ["baseline", "programs"])]
    parser: Option<PathBuf>,

    /// Only what a packet costs in the kernel, against the budgets for that
    #[arg(long, conflicts_with = "baseline")]
    programs: bool,

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
    let rounds = if arguments.quick { 31 } else { 151 };

    let quick = arguments.quick;
    let undecided = |measured: &[Measurement]| {
        let gating = budgets.iter().filter(|budget| budget.stable || !quick);
        gating.into_iter().any(|budget| {
            let found = measured.iter().find(|one| one.name == budget.of);
            found.is_some_and(|one| budget.judge(Some(one)) == Verdict::Inconclusive)
        })
    };
    // What cannot be told is measured on, for a while: then that is the verdict.
    let settled = |measure: &mut dyn FnMut() -> Result<Vec<Measurement>>| {
        let mut measured = measure()?;
        for _ in 1..MOST {
            if !undecided(&measured) {
                break;
            }
            measured = measure()?;
        }
        Ok::<_, anyhow::Error>(measured)
    };

    let mut programs =
        program::Session::new(object, &Settings::default()).context("cost of the program")?;
    let measured = settled(&mut || programs.measure(rounds));
    let mut measurements = measured.context("cost of the program")?;
    if arguments.programs {
        let why = "only programs were asked for (--programs)";
        let beside = Beside {
            not_measured: vec![NotMeasured::new("everything else", why)],
            ..Beside::default()
        };
        budgets.retain(|budget| measurements.iter().any(|one| one.name == budget.of));
        return publish(
            arguments,
            &Report::new(machine, quick, measurements, budgets, beside),
        );
    }
    let parser = arguments.parser.as_ref().context("--parser")?;
    let measured = settled(&mut || parser::measure(parser, rounds));
    measurements.extend(measured.context("cost of the parser")?);
    let plan = if quick {
        delivery::Plan::QUICK
    } else {
        delivery::Plan::FULL
    };
    let mut delivery = delivery::Session::new(plan, Speech::Speaks)?;
    let measured = settled(&mut || delivery.measure());
    measurements.extend(measured.context("delivery of events")?);
    let plan = if quick {
        overhead::Plan::QUICK
    } else {
        overhead::Plan::FULL
    };
    let watch = arguments.watch.clone();
    let mut overhead = overhead::Session::new(object, plan, watch.clone())?;
    let measured = settled(&mut || overhead.measure());
    measurements.extend(measured.context("overhead on handshakes")?);
    let mut not_measured = overhead.missing().to_vec();
    let growth = if quick {
        not_measured.push(NotMeasured::new("growth", "only in a full run"));
        Vec::new()
    } else {
        growth::measure(object, growth::Plan::FULL).context("growth")?
    };
    if watch.is_none() {
        not_measured.push(NotMeasured::new(
            "memory of the process",
            "only in a full run",
        ));
    }
    let memory = Memory::measure(object, &Settings::default(), watch.as_deref());

    let beside = Beside {
        delivery: Some(delivery.delivered()),
        growth,
        memory: Some(memory.context("memory")?),
        not_measured,
    };
    let report = Report::new(machine, quick, measurements, budgets, beside);
    publish(arguments, &report)
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
