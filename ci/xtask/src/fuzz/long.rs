//! `cargo xtask fuzz TARGET --packets N`: conversations from a seed instead of libFuzzer, as fast as kernel and host
//! take them. What is compared is `laws`'s; this builds and starts its program.

use std::path::Path;

use anyhow::{Context, Result};

use super::KERNEL;
use crate::{child, exit, machine, run::target_dir};

/// Targets whose law is of whole conversations, and the option that asks for it.
pub(super) const TARGETS: [(&str, Option<&str>); 2] =
    [(KERNEL, None), ("conversation", Some("--host"))];

const PROGRAM: &str = "differential";

/// Plays so many packets; the exit code is the program's. A seed of 0 is any, and which it was is told.
///
/// # Errors
/// When it cannot be started.
pub(super) fn run(root: &Path, target: &str, packets: u64, seed: u32) -> Result<u8> {
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
    if !build(root)? {
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
    if seed != 0 {
        program.args(["--seed", &seed.to_string()]);
    }
    let status = program
        .status()
        .with_context(|| format!("cannot start `{}`", child::line(&program)))?;
    let code = status.code().and_then(|code| code.try_into().ok());
    Ok(code.unwrap_or(exit::NO_VERDICT))
}

/// Builds the program as fast as it gets: millions of packets go through it.
///
/// # Errors
/// When cargo cannot be started.
pub(crate) fn build(root: &Path) -> Result<bool> {
    let mut cargo = child::cargo();
    cargo
        .args([
            "build",
            "--release",
            "--package",
            "gauntlet-laws",
            "--bin",
            PROGRAM,
        ])
        .current_dir(root)
        .env_remove("CARGO_BUILD_TARGET");
    child::live(&mut cargo)
}
