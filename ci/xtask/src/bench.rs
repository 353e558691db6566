//! `cargo xtask bench`: builds what measures and what is measured, and leaves measuring, judging and writing to
//! the driver (`benches/driver`), whose exit code is this one's.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use std::{io, thread};

use anyhow::{Context, Result};
use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

use crate::{child, exit, matrix, paths, run::target_dir, setup};

mod baseline;

use baseline::Baseline;

#[derive(Args)]
pub(crate) struct Options {
    /// In less than three minutes: fewer rounds, and only stable budgets gate
    #[arg(long)]
    quick: bool,

    /// Folder for the page and the figures; default: bench, below cargo's target folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Against another build of the probe, in one run: better, worse, the same or inconclusive
    #[arg(long, value_name = "COMMIT")]
    baseline: Option<String>,

    /// In virtual machines instead, one for each of these kernels: a quick run
    /// in each, their ratios side by side
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        conflicts_with = "baseline"
    )]
    kernel: Vec<String>,
}

impl Options {
    /// `--quick`, for the gate.
    pub(crate) const fn quick() -> Self {
        Self {
            quick: true,
            out: None,
            baseline: None,
            kernel: Vec::new(),
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<u8> {
    let root = paths::repo_root();
    if !options.kernel.is_empty() {
        return matrix::bench(&options.kernel, &out(options)?);
    }
    let commit = match &options.baseline {
        None => None,
        Some(name) => match baseline::commit(&root, name)? {
            None => {
                eprintln!("xtask: --baseline: there is no commit {name}");
                return Ok(exit::USAGE);
            }
            found => found,
        },
    };
    if let Some(code) = setup::blocked(setup::Scope::Build)? {
        return Ok(code);
    }
    let out = out(options)?;
    let Some(mut driver) = driver(&root, &out, options)? else {
        return Ok(exit::NO_VERDICT);
    };
    // Until the driver has ended.
    let baseline = match commit {
        None => None,
        Some(commit) => {
            let Some(built) = Baseline::build(&root, &out, &commit)? else {
                eprintln!("xtask: the BPF programs of {} do not build", &commit[..12]);
                return Ok(exit::NO_VERDICT);
            };
            driver.arg("--baseline").arg(built.object());
            driver.args(["--baseline-commit", &built.commit]);
            Some(built)
        }
    };
    let (status, signal) =
        waited(&mut driver).with_context(|| format!("cannot start `{}`", child::line(&driver)))?;
    drop(baseline);
    if let Some(signal) = signal {
        low_level::emulate_default_handler(signal)?;
    }
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(exit::NO_VERDICT))
}

/// Runs the driver to its end, and says which signal came meanwhile: the driver is told, and takes back what it
/// made. From then on signals do again what they always do.
fn waited(driver: &mut Command) -> io::Result<(ExitStatus, Option<i32>)> {
    let over = Arc::new(AtomicBool::new(false));
    let came = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_default(signal, Arc::clone(&over))?;
        flag::register_usize(signal, Arc::clone(&came), signal.unsigned_abs() as usize)?;
    }
    let mut driver = driver.spawn()?;
    let mut told = false;
    let status = loop {
        if let Some(status) = driver.try_wait()? {
            break status;
        }
        if came.load(Ordering::SeqCst) != 0 && !told {
            told = true;
            // SAFETY: takes numbers only; the process is ours, and was not waited for.
            unsafe { libc::kill(driver.id().cast_signed(), SIGTERM) };
        }
        thread::sleep(Duration::from_millis(50));
    };
    over.store(true, Ordering::SeqCst);
    let came = i32::try_from(came.load(Ordering::SeqCst)).ok();
    Ok((status, came.filter(|signal| *signal != 0)))
}

fn out(options: &Options) -> Result<PathBuf> {
    match &options.out {
        Some(out) => Ok(out.clone()),
        None => Ok(target_dir()?.join("bench")),
    }
}

/// The driver, built and ready; `None` where something does not build.
fn driver(root: &Path, out: &Path, options: &Options) -> Result<Option<Command>> {
    let target = target_dir()?;
    // The parser as it would be shipped. The rest spends its time in the kernel, and shares what every other
    // command builds.
    let parser = [
        "build",
        "--release",
        "-p",
        "gauntlet-benches",
        "--bin",
        "parser_cost",
    ];
    // As it would be shipped, too; a quick run does not wait for that.
    let watch = [
        "build",
        "--release",
        "-p",
        "gauntlet-probes",
        "--bin",
        "mtls-probe",
    ];
    let driver = ["build", "-p", "gauntlet-bench"];
    let wanted: &[&[&str]] = match (&options.baseline, options.quick) {
        (Some(_), _) => &[&driver],
        (None, true) => &[&parser, &driver],
        (None, false) => &[&parser, &watch, &driver],
    };
    for arguments in wanted {
        if !child::live(child::cargo().args(*arguments).current_dir(root))? {
            return Ok(None);
        }
    }
    let mut driver = child::command(target.join("debug/gauntlet-bench"));
    driver.arg("--root").arg(root).arg("--out").arg(out);
    if options.baseline.is_none() {
        driver
            .arg("--parser")
            .arg(target.join("release/parser_cost"));
    }
    if options.quick {
        driver.arg("--quick");
    } else if options.baseline.is_none() {
        driver.arg("--watch").arg(target.join("release/mtls-probe"));
    }
    Ok(Some(driver))
}
