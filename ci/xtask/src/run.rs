//! `cargo xtask run`: from a fresh checkout to `gauntlet run` in one command.
//! Interprets neither filters nor arguments, and ends by becoming gauntlet, so
//! that its output and exit code are the ones the caller sees.

use std::{os::unix::process::CommandExt, path::PathBuf};

use anyhow::{Context, Result};

use crate::{child, exit, machine, matrix, paths, setup};

pub(crate) fn run(filters: &[String], args: &[String]) -> Result<u8> {
    // Before the setup: whoever cannot load BPF should not wait for a build.
    if let Some(reason) = machine::cannot_load_bpf() {
        eprintln!("xtask: BPF cannot be loaded here: {reason}; running in a VM instead");
        return matrix::instead(filters, args);
    }
    if let Some(code) = setup::blocked(setup::Scope::Build)? {
        return Ok(code);
    }
    let mut build = child::cargo();
    build
        .args(["build", "--bin", "gauntlet", "--bin", "mtls-probe"])
        .current_dir(paths::repo_root());
    // Another target would put the programs into another folder.
    build.env_remove("CARGO_BUILD_TARGET");
    if !child::live(&mut build)? {
        eprintln!("xtask: gauntlet does not build, so nothing was run");
        return Ok(exit::NO_VERDICT);
    }
    let gauntlet = target_dir()?.join("debug/gauntlet");
    let error = child::command(&gauntlet)
        .arg("run")
        .args(filters)
        .args(args)
        .exec();
    Err(error).with_context(|| format!("cannot run {}", gauntlet.display()))
}

/// Asked of cargo, since `CARGO_TARGET_DIR` is only one way to set it.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let mut metadata = child::cargo();
    metadata
        .args(["metadata", "--format-version=1", "--no-deps"])
        .current_dir(paths::repo_root());
    target_directory(&child::quiet(&mut metadata)?)
        .context("cargo metadata names no target directory")
}

/// The one string wanted of cargo's metadata; not worth a JSON parser's build time.
fn target_directory(metadata: &str) -> Option<PathBuf> {
    let (_, rest) = metadata.split_once(r#""target_directory":""#)?;
    let mut path = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return Some(path.into()),
            // Cargo escapes only these two in a path that is UTF-8.
            '\\' => path.push(chars.next()?),
            other => path.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_directory_is_found_among_the_rest() {
        let metadata = r#"{"packages":[],"target_directory":"/a b/\"c\"\\d","version":1}"#;
        assert_eq!(
            target_directory(metadata),
            Some(PathBuf::from(r#"/a b/"c"\d"#))
        );
        assert_eq!(target_directory("{}"), None);
        assert_eq!(target_directory(r#""target_directory":"/cut"#), None);
    }
}
