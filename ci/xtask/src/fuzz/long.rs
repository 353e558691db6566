//! `cargo xtask fuzz TARGET --packets N`: conversations from a seed instead of libFuzzer, as fast as kernel and host
//! take them. What is compared is `laws`'s; this builds and starts its program.

use std::path::Path;

use anyhow::{Context, Result};

use super::{KERNEL, Options};
use crate::{child, exit, machine, run::target_dir};

/// Targets whose law is of whole conversations, and the option that asks for it.
pub(super) const TARGETS: [(&str, Option<&str>); 2] =
    [(KERNEL, None), ("conversation", Some("--host"))];

/// The program that plays.
pub(crate) const PROGRAM: &str = "differential";

/// Plays so many packets; the exit code is the program's.
///
/// # Errors
/// When it cannot be started.
pub(super) fn run(root: &Path, target: &str, packets: u64, options: &Options) -> Result<u8> {
    let Some((_, option)) = TARGETS.into_iter().find(|(name, _)| *name == target) else {
        let names = TARGETS.map(|(name, _)| name).join(" and ");
        eprintln!("xtask: --packets is for {names}, not for `{target}`");
        return Ok(exit::USAGE);
    };
    if target == KERNEL
        && let Some(reason) = machine::cannot_load_bpf()
    {
        eprintln!("xtask: {target} cannot run: {reason}");
        return Ok(exit::NO_VERDICT);
    }
    if !build(root, PROGRAM)? {
        eprintln!("xtask: {PROGRAM} does not build, nothing was run");
        return Ok(exit::NO_VERDICT);
    }
    let mut program = child::command(target_dir()?.join("release").join(PROGRAM));
    program
        .arg(root)
        .args(["--packets", &packets.to_string()])
        .args(option)
        .arg("--keep")
        .arg(root.join("fuzz/artifacts").join(target));
    // 0 is any, and which it was is told.
    if options.seed != 0 {
        program.args(["--seed", &options.seed.to_string()]);
    }
    if options.interpreter {
        program.arg("--interpreter");
    }
    let status = program
        .status()
        .with_context(|| format!("cannot start `{}`", child::line(&program)))?;
    let code = status.code().and_then(|code| code.try_into().ok());
    Ok(code.unwrap_or(exit::NO_VERDICT))
}

/// Builds a program of `laws` as fast as it gets: millions of packets go through it.
///
/// # Errors
/// When cargo cannot be started.
pub(crate) fn build(root: &Path, program: &str) -> Result<bool> {
    let mut cargo = child::cargo();
    cargo
        .args([
            "build",
            "--release",
            "--package",
            "gauntlet-laws",
            "--bin",
            program,
        ])
        .current_dir(root)
        .env_remove("CARGO_BUILD_TARGET");
    child::live(&mut cargo)
}
