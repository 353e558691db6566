//! `cargo xtask fuzz`: runs the targets of `fuzz/` for a while each, on the
//! stable toolchain. Keeps no corpus but cargo-fuzz's own.

use std::{fs, process::Command};

use anyhow::{Context, Result};

use crate::{child, exit, paths, setup};

pub(crate) fn run(target: Option<&str>, seconds: u32) -> Result<u8> {
    let manifest = paths::repo_root().join("fuzz/Cargo.toml");
    let text = fs::read_to_string(&manifest).context("cannot read fuzz/Cargo.toml")?;
    let known = fuzz_targets(&text);
    let targets = match target {
        None => known,
        Some(target) if known.contains(&target) => vec![target],
        Some(target) => {
            eprintln!(
                "xtask: no fuzz target `{target}`; fuzz/Cargo.toml has: {}",
                known.join(", ")
            );
            return Ok(exit::USAGE);
        }
    };
    if targets.is_empty() {
        eprintln!("xtask: fuzz/Cargo.toml has no [[bin]], nothing was fuzzed");
        return Ok(exit::NO_VERDICT);
    }
    if let Some(code) = setup::blocked(setup::Scope::Fuzz)? {
        return Ok(code);
    }
    let program = setup::CargoTool::FUZZ.program(&paths::cache_dir()?);
    let cargo_fuzz = |action: &str, target: &str| {
        let mut command = child::command(&program);
        command
            .args(["fuzz", action, target])
            .current_dir(paths::repo_root());
        // Sanitizers and coverage are unstable flags of a stable compiler.
        command.env("RUSTC_BOOTSTRAP", "1");
        command
    };
    // All are built first: a target that does not build is no finding, and
    // should not be learned of after minutes.
    for target in &targets {
        if !child::live(&mut cargo_fuzz("build", target))? {
            eprintln!("xtask: fuzz target {target} does not build, nothing was fuzzed");
            return Ok(exit::NO_VERDICT);
        }
    }
    let mut findings = Vec::new();
    for target in targets {
        eprintln!("xtask: fuzzing {target} for {seconds} s");
        if !child::live(with_limit(&mut cargo_fuzz("run", target), seconds))? {
            findings.push(target);
        }
    }
    if findings.is_empty() {
        return Ok(exit::OK);
    }
    eprintln!(
        "xtask: findings in {}; the inputs are in fuzz/artifacts",
        findings.join(", ")
    );
    Ok(exit::UNEXPECTED)
}

fn with_limit(command: &mut Command, seconds: u32) -> &mut Command {
    command
        .arg("--")
        .arg(format!("-max_total_time={seconds}"))
        .arg("-print_final_stats=1")
}

/// The names of the `[[bin]]` tables, which cargo-fuzz takes for its targets.
fn fuzz_targets(manifest: &str) -> Vec<&str> {
    let mut in_bin = false;
    let mut names = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            in_bin = line.starts_with("[[bin]]");
        } else if let Some(value) = line.strip_prefix("name").filter(|_| in_bin)
            && let Some(value) = value.trim_start().strip_prefix('=')
            && let Some(name) = value.split('"').nth(1)
        {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_bins_of_the_manifest() {
        let manifest = r#"
[package]
name = "gauntlet-fuzz"
[[bin]]
name = "records"
path = "records.rs"
[[bin]]
path = "flow.rs"
name="flow" # the machine
[dependencies]
name = "not this"
"#;
        assert_eq!(fuzz_targets(manifest), ["records", "flow"]);
        assert!(fuzz_targets("[package]\nname = \"x\"\n").is_empty());
    }
}
