//! The programs in the kernel against the host build, packets by the hundred million: `differential REPOSITORY
//! --packets N`. Tells how far it is on standard error, and at the end, in one line, what was run.

use std::fs;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use gauntlet_cli::exit;
use gauntlet_laws::differential::{Finding, Readers, Run};
use gauntlet_laws::jit::{self, Interpreted};
use gauntlet_laws::seeds;
use gauntlet_laws::stories::Stories;

/// Conversations from a seed through the programs in the kernel (BPF_PROG_TEST_RUN) and the host build: what both
/// say, count and keep must be the same.
#[derive(Debug, Parser)]
#[command(name = "differential", version)]
struct Cli {
    /// Where the recordings are, which conversations are made of
    repository: PathBuf,
    /// Packets through both
    #[arg(long, value_name = "N", default_value_t = NonZeroU64::new(1_000_000).unwrap())]
    packets: NonZeroU64,
    /// Says all packets; default: another one each time
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The first round, to play one again
    #[arg(long, value_name = "N", default_value_t = 0)]
    round: u64,
    /// Threads, each with programs of its own; default: one for each core
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// The host build by itself: every connection ends once, and counts add up
    #[arg(long)]
    host: bool,
    /// As many again by the kernel's interpreter, if it has one: the JIT is off meanwhile, for everybody
    #[arg(long, conflicts_with = "host")]
    interpreter: bool,
    /// A folder for scripts that show a finding
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// How verifiers refuse tail calls beside BPF-to-BPF calls without JIT: the words of 5.10, and those of 7.3 (both in
/// `kernel/bpf/verifier.c`).
const ONLY_COMPILED: [&str; 2] = [
    "not allowed in non-JITed programs",
    "mixing of tail_calls and bpf-to-bpf calls is not supported",
];

/// Between two lines that overwrite each other, and between two that do not.
const OFTEN: Duration = Duration::from_millis(500);
const RARELY: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let arguments: Cli = match gauntlet_cli::parse() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let code = both_ways(&arguments, seed).unwrap_or_else(|why| {
        eprintln!("differential: {why}");
        exit::NO_VERDICT
    });
    ExitCode::from(code)
}

/// As the kernel runs programs, and by its interpreter where that is wanted and there is one.
fn both_ways(arguments: &Cli, seed: u64) -> Result<u8, String> {
    let compiled = run(arguments, seed)?;
    if !arguments.interpreter || compiled != exit::OK {
        return Ok(compiled);
    }
    match Interpreted::begin() {
        Ok(_interpreted) => run(arguments, seed).or_else(|why| {
            // No finding: what has tail calls and functions of its own is only ever compiled.
            let says = |line: &&str| ONLY_COMPILED.iter().any(|words| line.contains(words));
            let line = why.lines().find(says);
            let line = line.ok_or_else(|| why.clone())?;
            println!("not by an interpreter: the kernel refuses: {}", line.trim());
            Ok(compiled)
        }),
        Err(why) => {
            println!("not by an interpreter: {why}");
            Ok(compiled)
        }
    }
}

fn run(arguments: &Cli, seed: u64) -> Result<u8, String> {
    let recorded = seeds::of("kernel", &arguments.repository)
        .map_err(|error| format!("{}: {error}", arguments.repository.display()))?;
    let readers = if arguments.host {
        Readers::Host
    } else {
        Readers::Both
    };
    let stories = Stories::new(recorded);
    let run = Run::new(stories, readers, seed, arguments.packets.get()).from(arguments.round);
    let threads = match arguments.jobs {
        Some(threads) => threads,
        None => thread::available_parallelism().map_err(|error| error.to_string())?,
    };
    let began = Instant::now();
    let is_terminal = stderr().is_terminal();
    let pause = if is_terminal { OFTEN } else { RARELY };
    let mut shown = Instant::now();
    run.play(threads, |run| {
        thread::sleep(Duration::from_millis(100));
        if shown.elapsed() >= pause {
            shown = Instant::now();
            let (begin, end) = if is_terminal {
                ("\r\x1b[K", "")
            } else {
                ("", "\n")
            };
            let packets = count(&run.packets);
            eprint!(
                "{begin}{packets} packets, {} a second, {} disagreements{end}",
                per_second(packets, began),
                run.findings().len()
            );
            let _ = stderr().flush();
        }
    })?;
    if is_terminal {
        eprintln!();
    }
    let findings = run.findings();
    for (number, finding) in findings.iter().enumerate() {
        println!("FOUND: {}", told(arguments, seed, number, finding)?);
    }
    let packets = count(&run.packets);
    println!(
        "{}: seed {seed}: {packets} packets of {} conversations in {} rounds, {} events; {:.0} s, {} packets a second on {threads} threads: {} disagreements",
        if arguments.host {
            "the host build".into()
        } else {
            format!("the kernel ({}) and the host build", kernel())
        },
        count(&run.conversations),
        count(&run.rounds),
        count(&run.events),
        began.elapsed().as_secs_f64(),
        per_second(packets, began),
        findings.len(),
    );
    Ok(if !findings.is_empty() {
        exit::UNEXPECTED
    } else if packets < arguments.packets.get() {
        exit::NO_VERDICT
    } else {
        exit::OK
    })
}

/// A finding in one line, its script kept where that is wanted.
fn told(arguments: &Cli, seed: u64, number: usize, finding: &Finding) -> Result<String, String> {
    let again = format!(
        "again: --seed {seed} --round {} --packets 1 --jobs 1",
        finding.round
    );
    let shown = match (&finding.script, &arguments.keep) {
        (None, _) => "by no conversation alone".into(),
        (Some(script), None) => format!("{script:02x?}"),
        (Some(script), Some(folder)) => {
            let file = folder.join(format!("seed-{seed}-round-{}-{number}", finding.round));
            let kept = fs::create_dir_all(folder).and_then(|()| fs::write(&file, script));
            kept.map_err(|error| format!("{}: {error}", file.display()))?;
            format!("kept as {}", file.display())
        }
    };
    Ok(format!("{} ({shown}; {again})", finding.why))
}

fn count(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

fn per_second(packets: u64, began: Instant) -> u64 {
    (packets as f64 / began.elapsed().as_secs_f64().max(0.001)) as u64
}

/// Its release, and what runs programs.
fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{}, {}", release.trim(), jit::now())
}
