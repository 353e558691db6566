//! Which reachable instructions of the BPF programs are run by the corpus and by conversations from a seed:
//! `coverage REPOSITORY`. Each line of which some are not run is listed. Exit code 1 below a floor, or where
//! the instrumented programs tell something else than they should.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use gauntlet_cli::exit;
use gauntlet_laws::coverage::{Corpus, Report, Run, instrument};
use gauntlet_laws::player::Stopped;
use gauntlet_probes::object::OBJECT;

/// Which reachable instructions of the BPF programs the corpus and conversations from a seed run, and which none does.
#[derive(Debug, Parser)]
#[command(name = "coverage", version)]
struct Cli {
    /// Where the recordings, scenarios and findings are
    repository: PathBuf,
    /// Packets of conversations, after the corpus
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    packets: u64,
    /// Says all packets; default: another one each time
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let arguments: Cli = match gauntlet_cli::parse() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    ExitCode::from(run(&arguments).unwrap_or_else(|why| {
        eprintln!("coverage: {why}");
        exit::NO_VERDICT
    }))
}

fn run(arguments: &Cli) -> Result<u8, String> {
    let began = Instant::now();
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let repository = &arguments.repository;
    let corpus =
        Corpus::read(repository).map_err(|error| format!("{}: {error}", repository.display()))?;
    let instrumented = instrument(OBJECT).map_err(|error| error.to_string())?;
    eprintln!(
        "{} blocks; {} scripts of the corpus; seed {seed}",
        instrumented.blocks.len(),
        corpus.scripts()
    );
    let told = |what: &str| eprintln!("{what} ...");
    let run = match Run::play(&instrumented.object, &corpus, seed, arguments.packets, told) {
        Ok(run) => run,
        Err(Stopped::Broken(why)) => {
            println!("FOUND, with seed {seed}: {why}");
            return Ok(exit::UNEXPECTED);
        }
        Err(refused) => return Err(refused.to_string()),
    };
    // What the compiler was told of.
    let root = repository.canonicalize();
    let report = Report::new(
        &instrumented.blocks,
        &run,
        root.as_deref().unwrap_or(Path::new("")),
    );
    print!("{report}");
    println!(
        "seed {seed}: {} packets through instrumented programs, {:.0} s",
        run.packets,
        began.elapsed().as_secs_f64()
    );
    println!("not measured: programs inside TLS libraries, which BPF_PROG_TEST_RUN does not run");
    let below = report.below();
    for what in &below {
        println!("RED: {what}");
    }
    Ok(if below.is_empty() {
        exit::OK
    } else {
        exit::UNEXPECTED
    })
}
