//! vmtest's command in the guest: runs what lies in the repository's `target/matrix/bin`, as asked,
//! and leaves everything in the results folder, the end marker last.
//!
//! Judges nothing. Its exit code is that of what it ran, for those who run plain `vmtest`.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use gauntlet_guest::protocol::{
    BEGUN, CASES, END, FAULT, FIGURES, Fault, LOG, MEMORY, PROGRAMS, PROGRAMS_LOG, REFUSED,
    REQUEST, RESULTS_FOLDER, RESULTS_TAG, Request, SHOWN, SYSTEM_PROGRAMS, TERMINAL, Task,
    Terminal, VERIFIER, end_marker,
};
use nix::mount::{MsFlags, mount};
use nix::unistd::{pause, sync};

/// The recorded cases, in the repository.
const RECORDINGS: &str = "probes/tests/recordings";

/// Without KVM, and beside whatever else the host does, everything takes a few times as long.
const PATIENCE: &str = "4";

/// How often memory is looked at.
const MEMORY_EVERY: Duration = Duration::from_millis(250);

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(2)),
        Err(error) => {
            eprintln!("gauntlet-suite: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<i32> {
    find_system_programs();
    fs::create_dir_all(RESULTS_FOLDER).context(RESULTS_FOLDER)?;
    let options = "trans=virtio,version=9p2000.L,msize=512000";
    mount(
        Some(RESULTS_TAG),
        RESULTS_FOLDER,
        Some("9p"),
        MsFlags::empty(),
        Some(options),
    )
    .context("mount the results folder")?;
    let results = Path::new(RESULTS_FOLDER);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    fs::write(results.join(BEGUN), &release).context(BEGUN)?;
    println!("gauntlet-suite: kernel {}", release.trim());

    let fault = match fs::read_to_string(results.join(FAULT)) {
        Ok(name) => Some(Fault::from_name(&name).with_context(|| format!("no fault {name:?}"))?),
        Err(_) => None,
    };
    match fault {
        Some(Fault::Panic) => fs::write("/proc/sysrq-trigger", "c")?,
        Some(Fault::Hang) => loop {
            pause();
        },
        Some(Fault::NeverRan) => return Ok(0),
        Some(Fault::CutShort | Fault::Refused) | None => {}
    }
    let request = match fs::read_to_string(results.join(REQUEST)) {
        Ok(text) => Request::from_text(&text).context("the request names no task")?,
        Err(_) => Request::default(),
    };
    let place = Place::find(fault == Some(Fault::Refused))?;
    watch_memory(results.join(MEMORY));
    let code = match request.task {
        Task::Repro => place.repro(results, &request.arguments)?,
        Task::Recut => place.recut(results, &request.arguments)?,
        Task::Differential => place.differential(results, &request.arguments)?,
        Task::Bench => place.bench(results, &request.arguments)?,
        Task::Test | Task::Run => {
            // A refusal is part of the result, and the suite shows it again in each case.
            place.programs(results)?;
            match request.task {
                Task::Test => place.test(results, &request.arguments)?,
                _ => place.gauntlet_run(results, &request.arguments)?,
            }
        }
    };
    if fault == Some(Fault::CutShort) {
        let cases = File::options().write(true).open(results.join(CASES))?;
        cases.set_len(cases.metadata()?.len() / 2)?;
    }
    end(results, code)?;
    Ok(code)
}

/// Where the programs are, and the files they read.
struct Place {
    bin: PathBuf,
    repository: PathBuf,
}

impl Place {
    /// This program lies in target/matrix/bin of the repository, wherever vmtest put that.
    fn find(refused: bool) -> Result<Self> {
        let own = env::current_exe().context("where this program is")?;
        let bin = own.parent().context("this program's folder")?;
        let repository = bin.ancestors().nth(3).context("the repository")?;
        Ok(Self {
            bin: if refused {
                bin.join(REFUSED)
            } else {
                bin.into()
            },
            repository: repository.into(),
        })
    }

    /// What the programs cost to load, and the verifier's words where it refuses one.
    fn programs(&self, results: &Path) -> Result<()> {
        let mut programs = Command::new(self.bin.join("mtls-probe"));
        programs
            .args(["programs", "--format", "ndjson", "--logs"])
            .arg(results.join(VERIFIER))
            .stdout(create(&results.join(PROGRAMS))?)
            .stderr(create(&results.join(PROGRAMS_LOG))?);
        finish(&mut programs).map(drop)
    }

    /// The conformance suite, as `cargo test` would run it.
    fn test(&self, results: &Path, arguments: &[String]) -> Result<i32> {
        let log = create(&results.join(LOG))?;
        let mut test = Command::new(self.bin.join("conformance"));
        test.arg("--ndjson")
            .arg(results.join(CASES))
            .arg("--artifacts")
            .arg(results.join("artifacts"))
            // More than processors: a lane waits half a second for the words of a library.
            .args(["--test-threads", "3"])
            .args(arguments)
            .env("CARGO_MANIFEST_DIR", self.repository.join("harness"))
            // A guest is made for the suite: nothing in it may be skipped.
            .env("GAUNTLET_REQUIRE", "bpf,netem,library")
            .env("GAUNTLET_PATIENCE", PATIENCE)
            .stdout(log.try_clone().context(LOG)?)
            .stderr(log);
        let code = finish(&mut test)?;
        tell(results);
        Ok(code)
    }

    /// `gauntlet run`, for those who asked for just that.
    fn gauntlet_run(&self, results: &Path, arguments: &[String]) -> Result<i32> {
        let mut run = self.gauntlet("run", results);
        run.args(["--format", "ndjson"])
            .args(arguments)
            .stdout(create(&results.join(CASES))?)
            .stderr(create(&results.join(LOG))?);
        let code = finish(&mut run)?;
        tell(results);
        Ok(code)
    }

    /// `gauntlet repro`: into files, or at the terminal of whoever asked.
    fn repro(&self, results: &Path, arguments: &[String]) -> Result<i32> {
        let mut repro = self.gauntlet("repro", results);
        repro.args(arguments);
        let Ok(text) = fs::read_to_string(results.join(TERMINAL)) else {
            repro
                .stdout(create(&results.join(SHOWN))?)
                .stderr(create(&results.join(LOG))?);
            return finish(&mut repro);
        };
        let terminal = Terminal::from_text(&text).context("the terminal is not told in full")?;
        let open = || {
            let device = File::options()
                .read(true)
                .write(true)
                .open(Terminal::DEVICE);
            device.context(Terminal::DEVICE)
        };
        let (rows, columns) = terminal.size;
        let mut set = Command::new("stty");
        set.args([
            "sane",
            "rows",
            &rows.to_string(),
            "cols",
            &columns.to_string(),
        ]);
        set.stdin(open()?).status().context("cannot start stty")?;
        // A session of its own, so that the shell has job control and Ctrl-C.
        let mut session = Command::new("setsid");
        session
            .args(["--ctty", "--wait"])
            .arg(repro.get_program())
            .args(repro.get_args())
            .env("TERM", terminal.kind)
            .env("SHELL", "/bin/bash")
            .env("HOME", "/root")
            .current_dir(&self.repository)
            .stdin(open()?)
            .stdout(open()?)
            .stderr(open()?);
        let status = session.status().context("cannot start setsid")?;
        Ok(status.code().unwrap_or(2))
    }

    /// `gauntlet recut`, of all recorded cases.
    fn recut(&self, results: &Path, arguments: &[String]) -> Result<i32> {
        let mut recut = Command::new(self.bin.join("gauntlet"));
        recut
            .args(["recut", RECORDINGS])
            .args(arguments)
            .current_dir(&self.repository)
            .stdout(create(&results.join(SHOWN))?)
            .stderr(create(&results.join(LOG))?);
        finish(&mut recut)
    }

    /// Kernel and host build on the same packets, many of them.
    fn differential(&self, results: &Path, arguments: &[String]) -> Result<i32> {
        let mut differential = Command::new(self.bin.join("differential"));
        differential
            .arg(&self.repository)
            .args(arguments)
            .stdout(create(&results.join(SHOWN))?)
            .stderr(create(&results.join(LOG))?);
        finish(&mut differential)
    }

    /// `gauntlet-bench`.
    fn bench(&self, results: &Path, arguments: &[String]) -> Result<i32> {
        let mut bench = Command::new(self.bin.join("gauntlet-bench"));
        bench
            .arg("--root")
            .arg(&self.repository)
            .arg("--out")
            .arg(results.join(FIGURES))
            .arg("--parser")
            .arg(self.bin.join("parser_cost"))
            .args(arguments)
            .stdout(create(&results.join(SHOWN))?)
            .stderr(create(&results.join(LOG))?);
        finish(&mut bench)
    }

    fn gauntlet(&self, command: &str, results: &Path) -> Command {
        let mut gauntlet = Command::new(self.bin.join("gauntlet"));
        gauntlet
            .args([command, "--artifacts"])
            .arg(results.join("artifacts"))
            .env("GAUNTLET_PATIENCE", PATIENCE)
            // Where it finds the scenarios unasked, so that a reproducer does not name the guest's.
            .current_dir(&self.repository);
        gauntlet
    }
}

/// Keeps the least memory that was available in a file, until the guest ends: a suite that needs all that a guest has
/// fails in ways that do not say so.
fn watch_memory(file: PathBuf) {
    thread::spawn(move || {
        let mut least = u64::MAX;
        loop {
            if let Some(now) = memory_available().filter(|now| *now < least) {
                least = now;
                // Who reads it can do without.
                let _ = fs::write(&file, format!("{least}\n"));
            }
            thread::sleep(MEMORY_EVERY);
        }
    });
}

/// `MemAvailable` of proc(5), KiB.
fn memory_available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// vmtest's agent sets `PATH` again for what it runs; `tc` is among what it lacks then.
fn find_system_programs() {
    let path = env::var("PATH").unwrap_or_default();
    // SAFETY: nothing else runs in this process yet.
    unsafe { env::set_var("PATH", format!("{SYSTEM_PROGRAMS}:{path}")) };
}

/// For those who run plain `vmtest`: the summary, or why there is none.
fn tell(results: &Path) {
    let last = |name| {
        let text = fs::read_to_string(results.join(name)).ok()?;
        text.lines().last().map(String::from)
    };
    match last(CASES) {
        Some(summary) => println!("{summary}"),
        None => println!("gauntlet-suite: {}", last(LOG).unwrap_or_default()),
    }
}

/// A rename is all or nothing, and what it marks is on the host before it.
fn end(results: &Path, code: i32) -> Result<()> {
    sync();
    let draft = results.join("end.draft");
    fs::write(&draft, end_marker(code)).context(END)?;
    fs::rename(&draft, results.join(END)).context(END)?;
    sync();
    Ok(())
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| path.display().to_string())
}

/// Runs to the end. A program that was killed by a signal has no verdict either.
fn finish(command: &mut Command) -> Result<i32> {
    let status = command.stdin(Stdio::null()).status();
    let status =
        status.with_context(|| format!("cannot start {}", command.get_program().display()))?;
    Ok(status.code().unwrap_or(2))
}
