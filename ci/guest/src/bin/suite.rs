//! vmtest's command in the guest: runs the suite that lies in the repository's `target/matrix/bin`,
//! and leaves everything in the results folder, the end marker last.
//!
//! Judges nothing. Its exit code is that of `gauntlet run`, for those who run plain `vmtest`.

use std::env;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use gauntlet_guest::protocol::{
    BEGUN, CASES, END, FAULT, Fault, LOG, PROGRAMS, PROGRAMS_LOG, REQUEST, RESULTS_TAG, VERIFIER,
    end_marker,
};
use nix::mount::{MsFlags, mount};
use nix::unistd::{pause, sync};

const RESULTS: &str = "/mnt/results";
/// `gauntlet run` without a request: what plain `vmtest` runs.
const DEFAULT_REQUEST: &str = "--seed\n1\n";

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
    fs::create_dir_all(RESULTS).context(RESULTS)?;
    let options = "trans=virtio,version=9p2000.L,msize=512000";
    mount(
        Some(RESULTS_TAG),
        RESULTS,
        Some("9p"),
        MsFlags::empty(),
        Some(options),
    )
    .context("mount the results folder")?;
    let results = Path::new(RESULTS);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    fs::write(results.join(BEGUN), &release).context(BEGUN)?;
    println!("gauntlet-suite: kernel {}", release.trim());

    if let Ok(name) = fs::read_to_string(results.join(FAULT)) {
        let fault = Fault::from_name(&name).with_context(|| format!("no fault {name:?}"))?;
        return make(fault, results, release.trim());
    }

    // This program lies in target/matrix/bin of the repository, wherever vmtest put that.
    let own = env::current_exe().context("where this program is")?;
    let bin = own.parent().context("this program's folder")?;
    let repository = bin.ancestors().nth(3).context("the repository")?;
    // A refusal is part of the result, and the suite shows it again in each case.
    let mut programs = Command::new(bin.join("mtls-probe"));
    programs
        .args(["programs", "--format", "ndjson", "--logs"])
        .arg(results.join(VERIFIER));
    finish(
        &mut programs,
        &results.join(PROGRAMS),
        &results.join(PROGRAMS_LOG),
    )?;

    let request =
        fs::read_to_string(results.join(REQUEST)).unwrap_or_else(|_| DEFAULT_REQUEST.into());
    let mut suite = Command::new(bin.join("gauntlet"));
    suite.args(["run", "--format", "ndjson", "--scenarios"]);
    suite.arg(repository.join("scenarios"));
    suite.arg("--artifacts").arg(results.join("artifacts"));
    suite.args(request.lines());
    let code = finish(&mut suite, &results.join(CASES), &results.join(LOG))?;
    let cases = fs::read_to_string(results.join(CASES)).unwrap_or_default();
    println!("{}", cases.lines().last().unwrap_or("no result"));

    end(results, code)?;
    Ok(code)
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

/// Goes wrong, as asked.
fn make(fault: Fault, results: &Path, release: &str) -> Result<i32> {
    let start = format!(r#"{{"type":"start","kernel":"{release}","cases":1}}"#);
    match fault {
        Fault::Panic => fs::write("/proc/sysrq-trigger", "c")?,
        Fault::Hang => loop {
            pause();
        },
        Fault::NeverRan => {}
        Fault::CutShort => {
            fs::write(results.join(CASES), start)?;
            fs::write(results.join(PROGRAMS), "")?;
            end(results, 0)?;
        }
    }
    Ok(0)
}

/// Runs to the end. A program that was killed by a signal has no verdict either.
fn finish(command: &mut Command, output: &Path, log: &Path) -> Result<i32> {
    let create = |path: &Path| File::create(path).with_context(|| path.display().to_string());
    command
        .stdin(Stdio::null())
        .stdout(create(output)?)
        .stderr(create(log)?);
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    Ok(status.code().unwrap_or(2))
}
