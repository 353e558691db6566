//! `gauntlet-bench`, what `cargo xtask bench` runs: measures, judges, writes. Here are the command line and
//! the order, nothing else.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use gauntlet_bench::machine::Machine;
use gauntlet_bench::page::page;
use gauntlet_bench::report::Report;
use gauntlet_bench::{budget, delivery, overhead, parser, program};
use gauntlet_cli::exit;
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
    let mut measurements = program::measure(&object, rounds).context("cost of the program")?;
    measurements.extend(parser::measure(&arguments.parser, rounds).context("cost of the parser")?);

    let plan = if arguments.quick {
        delivery::Plan::QUICK
    } else {
        delivery::Plan::FULL
    };
    let (delivered, ratios) = delivery::measure(plan).context("delivery of events")?;
    measurements.extend(ratios);
    let plan = if arguments.quick {
        overhead::Plan::QUICK
    } else {
        overhead::Plan::FULL
    };
    measurements.extend(overhead::measure(&object, plan).context("overhead on handshakes")?);

    let report = Report::new(
        machine,
        arguments.quick,
        measurements,
        budgets,
        Some(delivered),
    );
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
