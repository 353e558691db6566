//! `cargo xtask coverage programs`: which of the BPF programs' reachable instructions are run. How that is measured
//! is `laws`'s; this builds and starts its program.

use anyhow::{Context, Result};

use crate::{child, exit, fuzz, machine, paths, run::target_dir, setup};

const PROGRAM: &str = "coverage";

/// Plays the corpus and so many packets; the exit code is the program's.
///
/// # Errors
/// When it cannot be started.
pub(super) fn run(packets: Option<u64>, seed: Option<u64>) -> Result<u8> {
    if let Some(code) = setup::blocked(setup::Scope::Build)? {
        return Ok(code);
    }
    if let Some(reason) = machine::cannot_load_bpf() {
        eprintln!("xtask: coverage of the programs cannot be measured: {reason}");
        return Ok(exit::NO_VERDICT);
    }
    let root = paths::repo_root();
    if !fuzz::build_long(&root, PROGRAM)? {
        eprintln!("xtask: {PROGRAM} does not build, nothing was run");
        return Ok(exit::NO_VERDICT);
    }
    let mut program = child::command(target_dir()?.join("release").join(PROGRAM));
    program.arg(&root);
    for (option, number) in [("--packets", packets), ("--seed", seed)] {
        if let Some(number) = number {
            program.args([option, &number.to_string()]);
        }
    }
    let status = program
        .status()
        .with_context(|| format!("cannot start `{}`", child::line(&program)))?;
    let code = status.code().and_then(|code| code.try_into().ok());
    Ok(code.unwrap_or(exit::NO_VERDICT))
}
