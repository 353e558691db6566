//! What is run in the guests: the test binary of `cargo test`, the programs of `cargo build`, as copies,
//! and those of `ci/guest`, linked statically. Or all of them as they were built before, elsewhere.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use gauntlet_guest::protocol;
use serde_json::Value;

use super::folder::{GUEST, OPTIONAL, UNDER_TEST, root};
use crate::{child, fuzz, paths, run};

/// An initramfs has no libraries to link to, and glibc's static ones come with its headers.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The test of the harness that is the suite.
const SUITE: &str = "conformance";
const PROBE: &str = "mtls-probe";

/// Builds everything and puts it in its place. `None` when something does not build, which cargo
/// has then told.
///
/// # Errors
/// When cargo cannot be started, or nothing can be copied.
pub(crate) fn build() -> Result<Option<PathBuf>> {
    let mut commands = child::cargo();
    commands.args(["build", "--bin", "gauntlet", "--bin", PROBE]);
    if !child::live(in_target_dir(&mut commands))? || !guest()? {
        return Ok(None);
    }
    let Some(suite) = suite()? else {
        return Ok(None);
    };
    let bin = bin()?;
    let built = run::target_dir()?.join("debug");
    place(&suite, &bin.join(SUITE))?;
    for name in UNDER_TEST.into_iter().filter(|name| *name != SUITE) {
        place(&built.join(name), &bin.join(name))?;
    }
    place_optional(&built, &bin)?;
    Ok(Some(bin))
}

/// The same, of what measures: as [`crate::bench`] builds it, and as guests run it.
///
/// # Errors
/// As [`build`].
pub(crate) fn bench() -> Result<Option<PathBuf>> {
    const DRIVER: &str = "gauntlet-bench";
    const PARSER: &str = "parser_cost";
    let mut driver = child::cargo();
    driver.args(["build", "--package", DRIVER]);
    // As it would be shipped.
    let mut parser = child::cargo();
    parser.args(["build", "--release", "--package", "gauntlet-benches"]);
    parser.args(["--bin", PARSER]);
    for program in [&mut driver, &mut parser] {
        if !child::live(in_target_dir(program))? {
            return Ok(None);
        }
    }
    if !guest()? {
        return Ok(None);
    }
    let bin = bin()?;
    let built = run::target_dir()?;
    place(&built.join("debug").join(DRIVER), &bin.join(DRIVER))?;
    place(&built.join("release").join(PARSER), &bin.join(PARSER))?;
    Ok(Some(bin))
}

/// The programs of `ci/guest`; `false` when they do not build.
fn guest() -> Result<bool> {
    let static_folder = root().join("build");
    let mut guest = child::cargo();
    guest
        .args([
            "build",
            "--package",
            "gauntlet-guest",
            "--target",
            TARGET,
            "--target-dir",
        ])
        .arg(&static_folder)
        .current_dir(paths::repo_root())
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    if !child::live(&mut guest)? {
        return Ok(false);
    }
    let bin = bin()?;
    for name in GUEST {
        place(
            &static_folder.join(TARGET).join("debug").join(name),
            &bin.join(name),
        )?;
    }
    Ok(true)
}

/// Puts programs that were built before in their place.
///
/// # Errors
/// In one line, when one of them is not there or cannot be copied.
pub(crate) fn prebuilt(from: &Path) -> Result<PathBuf> {
    let names = UNDER_TEST.into_iter().chain(GUEST);
    if let Some(missing) = names.clone().find(|name| !from.join(name).is_file()) {
        anyhow::bail!(
            "{} has no {missing}: `cargo xtask matrix --build` leaves all that is needed in {}",
            from.display(),
            root().join("bin").display()
        );
    }
    let bin = bin()?;
    if from.canonicalize()? != bin.canonicalize()? {
        for name in names {
            place(&from.join(name), &bin.join(name))?;
        }
        place_optional(from, &bin)?;
    }
    Ok(bin)
}

/// Beside the others, the same with a probe that has a fault planted: kernels before 6.1 refuse it.
/// `None` when it does not build.
///
/// # Errors
/// As [`build`].
pub(crate) fn refused() -> Result<Option<PathBuf>> {
    // A folder of its own: the probe that people run must never be this one.
    let target = root().join("planted");
    let mut probe = child::cargo();
    probe
        .args(["build", "--package", "gauntlet-probes", "--bin", PROBE])
        .args(["--features", "planted-refusal", "--target-dir"])
        .arg(&target);
    if !child::live(in_target_dir(&mut probe))? {
        return Ok(None);
    }
    let bin = bin()?.join(protocol::REFUSED);
    fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
    place(&target.join("debug").join(PROBE), &bin.join(PROBE))?;
    place(&bin.join("..").join(SUITE), &bin.join(SUITE))?;
    Ok(Some(bin))
}

/// What kernel and host are compared with, beside the others. `false`: it does not build.
///
/// # Errors
/// As [`build`].
pub(crate) fn differential() -> Result<bool> {
    const NAME: &str = "differential";
    if !fuzz::build_long(&paths::repo_root(), fuzz::LONG)? {
        return Ok(false);
    }
    place(
        &run::target_dir()?.join("release").join(NAME),
        &bin()?.join(NAME),
    )?;
    Ok(true)
}

/// The very file that `cargo test` runs.
fn suite() -> Result<Option<PathBuf>> {
    let mut test = child::cargo();
    // Of the whole workspace, so that it has the features that it has there.
    test.args(["test", "--workspace", "--no-run", "--test", SUITE])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(std::process::Stdio::inherit());
    let output = in_target_dir(&mut test)
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        return Ok(None);
    }
    let found = executable(&String::from_utf8_lossy(&output.stdout), SUITE);
    found.map(Some).context("cargo names no test `conformance`")
}

/// What cargo says that a test became.
fn executable(messages: &str, test: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_it = message["reason"] == "compiler-artifact"
            && message["target"]["name"] == test
            && message["target"]["kind"][0] == "test";
        is_it.then(|| message["executable"].as_str().map(PathBuf::from))?
    })
}

/// In the repository, and for this machine: another target would put the programs into another folder.
fn in_target_dir(cargo: &mut std::process::Command) -> &mut std::process::Command {
    cargo
        .current_dir(paths::repo_root())
        .env_remove("CARGO_BUILD_TARGET")
}

fn bin() -> Result<PathBuf> {
    let bin = root().join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
    Ok(bin)
}

/// What nobody has built must not be there from before: the guest would run what the host no longer has.
fn place_optional(from: &Path, bin: &Path) -> Result<()> {
    let to = bin.join(OPTIONAL);
    if from.join(OPTIONAL).is_file() {
        return place(&from.join(OPTIONAL), &to);
    }
    match fs::remove_file(&to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", to.display()))
        }
        _ => Ok(()),
    }
}

/// Copies beside the place and renames: a program that is running cannot be written.
fn place(from: &Path, to: &Path) -> Result<()> {
    let draft = to.with_extension("draft");
    fs::copy(from, &draft).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::rename(&draft, to).with_context(|| format!("cannot replace {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_binary_is_found_among_cargo_s_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"conformance"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"lab"},"executable":"/t/lab-1"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"conformance"},"executable":"/t/conformance-1"}"#,
            "\nno JSON\n",
        );
        assert_eq!(executable(messages, SUITE), Some("/t/conformance-1".into()));
        assert_eq!(executable("", SUITE), None);
    }

    #[test]
    fn a_folder_without_the_programs_is_refused_in_one_line() {
        let error = format!("{:#}", prebuilt(Path::new("/nowhere")).unwrap_err());
        assert!(
            error.starts_with("/nowhere has no conformance: ") && !error.contains('\n'),
            "{error}"
        );
    }
}
