//! `gauntlet-bench`, what `cargo xtask bench` runs: measures, judges, writes. Here are the command line and
//! the order, nothing else.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use gauntlet_bench::budget::Verdict;
use gauntlet_bench::delivery::Speech;
use gauntlet_bench::machine::Machine;
use gauntlet_bench::measurement::Measurement;
use gauntlet_bench::page::page;
use gauntlet_bench::report::Report;
use gauntlet_bench::{budget, delivery, overhead, parser, program};
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
    #[arg(long, value_name = "FILE")]
    parser: PathBuf,
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
    let budgets = arguments.root.join("benches/budget.toml");
    let budgets = fs::read_to_string(&budgets).with_context(|| budgets.display().to_string())?;
    let budgets = budget::parse(&budgets)?;
    let machine = Machine::here(&arguments.root)?;
    let rounds = if arguments.quick { 31 } else { 151 };

    let object = match &arguments.object {
        Some(file) => fs::read(file).with_context(|| file.display().to_string())?,
        None => object::OBJECT.to_vec(),
    };
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
        program::Session::new(&object, &Settings::default()).context("cost of the program")?;
    let measured = settled(&mut || programs.measure(rounds));
    let mut measurements = measured.context("cost of the program")?;
    let measured = settled(&mut || parser::measure(&arguments.parser, rounds));
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
    let mut overhead = overhead::Session::new(&object, plan)?;
    let measured = settled(&mut || overhead.measure());
    measurements.extend(measured.context("overhead on handshakes")?);

    let delivered = Some(delivery.delivered());
    let report = Report::new(machine, quick, measurements, budgets, delivered);
    let mut out = std::io::stdout().lock();
    write!(out, "{}", report.table())?;
    fs::create_dir_all(&arguments.out)?;
    let file = arguments.out.join("results.json");
    fs::write(&file, serde_json::to_string_pretty(&report)?)?;
    let html = arguments.out.join("index.html");
    fs::write(&html, page(&report)?)?;
    writeln!(out, "\n{}\n{}", html.display(), file.display())?;
    Ok(report.exit_code())
}
