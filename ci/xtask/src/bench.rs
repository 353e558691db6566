//! `cargo xtask bench`: builds what measures and what is measured, and leaves measuring, judging and writing to
//! the driver (`benches/driver`), whose exit code is this one's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::{child, exit, paths, run::target_dir, setup};

#[derive(Args)]
pub(crate) struct Options {
    /// In less than three minutes: fewer rounds, and only stable budgets gate
    #[arg(long)]
    quick: bool,

    /// Folder for the page and the figures; default: bench, below cargo's target folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Options {
    /// `--quick`, for the gate.
    pub(crate) const fn quick() -> Self {
        Self {
            quick: true,
            out: None,
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<u8> {
    if let Some(code) = setup::blocked(setup::Scope::Build)? {
        return Ok(code);
    }
    let root = paths::repo_root();
    let Some(mut driver) = driver(&root, options)? else {
        return Ok(exit::NO_VERDICT);
    };
    let status = driver
        .status()
        .with_context(|| format!("cannot start `{}`", child::line(&driver)))?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(exit::NO_VERDICT))
}

/// The driver, built and ready; `None` where something does not build.
fn driver(root: &Path, options: &Options) -> Result<Option<Command>> {
    let target = target_dir()?;
    // The parser as it would be shipped. The rest spends its time in the kernel, and shares what every other
    // command builds.
    for arguments in [
        &[
            "build",
            "--release",
            "-p",
            "gauntlet-benches",
            "--bin",
            "parser_cost",
        ][..],
        &["build", "-p", "gauntlet-bench"],
    ] {
        if !child::live(child::cargo().args(arguments).current_dir(root))? {
            return Ok(None);
        }
    }
    let mut driver = child::command(target.join("debug/gauntlet-bench"));
    driver
        .arg("--root")
        .arg(root)
        .arg("--parser")
        .arg(target.join("release/parser_cost"))
        .arg("--out")
        .arg(options.out.clone().unwrap_or_else(|| target.join("bench")));
    if options.quick {
        driver.arg("--quick");
    }
    Ok(Some(driver))
}
