//! The gates that are runs of cargo. Says which commands with which settings;
//! what a test run printed is read in `test_output`.

use std::{env, path::Path, process::Command};

use anyhow::Result;

use super::{Finding, Verdict, test_output};
use crate::child;

/// Workspaces of their own, which `--workspace` does not reach.
const SEPARATE: [&str; 3] = ["ebpf/programs", "fuzz", "harness/boring"];

pub(super) fn fmt(root: &Path) -> Result<Verdict> {
    let check = |dir: &Path| {
        let mut fmt = child::cargo();
        fmt.args(["fmt", "--all", "--check"]).current_dir(dir);
        fmt
    };
    let separate = SEPARATE.map(|dir| check(&root.join(dir)));
    all([check(root)].into_iter().chain(separate))
}

pub(super) fn clippy(root: &Path) -> Result<Verdict> {
    let mut clippy = child::cargo();
    clippy
        .args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])
        .current_dir(root);
    all([clippy])
}

/// As `probes/build.rs` builds the programs, so that the same code is looked at.
pub(super) fn clippy_bpf(root: &Path) -> Result<Verdict> {
    let mut clippy = child::cargo();
    clippy
        .args([
            "clippy",
            "--release",
            "-Z",
            "build-std=core",
            "--target",
            "bpfel-unknown-none",
        ])
        .args(["--", "-D", "warnings"])
        // There, cargo finds the programs' own configuration.
        .current_dir(root.join("ebpf/programs"))
        // build-std is unstable, the compiler is not.
        .env("RUSTC_BOOTSTRAP", "1")
        // aya-ebpf takes the layout of the kernel's structures from this.
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!(
                "--cfg=bpf_target_arch=\"{}\"\x1f-Cdebuginfo=2",
                env::consts::ARCH
            ),
        );
    all([clippy])
}

/// The fuzz targets compile, and clippy has nothing to say. Without libFuzzer itself, which takes a C++
/// compiler and is only linked.
pub(super) fn clippy_fuzz(root: &Path) -> Result<Verdict> {
    let mut clippy = child::cargo();
    clippy
        .args(["clippy", "--locked", "--", "-D", "warnings"])
        .current_dir(root.join("fuzz"))
        .env("CUSTOM_LIBFUZZER_PATH", "/nowhere/libfuzzer.a");
    all([clippy])
}

pub(super) fn docs(root: &Path) -> Result<Verdict> {
    let mut doc = child::cargo();
    doc.args(["doc", "--no-deps", "--workspace"])
        .current_dir(root)
        .env("RUSTDOCFLAGS", "-D warnings");
    all([doc])
}

/// Unit, property and snapshot tests, the conformance suite, and the harness's
/// checks of itself.
pub(super) fn test(root: &Path, require_bpf: bool) -> Result<Finding> {
    let mut test = child::cargo();
    test.args(["test", "--workspace", "--no-fail-fast"])
        .current_dir(root);
    // A changed snapshot is a failure, not a file to leave behind.
    test.env("INSTA_UPDATE", "no");
    if require_bpf {
        // Turns every silent skip of the suite into a failure.
        test.env("GAUNTLET_REQUIRE", "bpf");
    }
    let (counts, success) = test_output::stream(&mut test, test_output::Counts::add_line)?;
    let verdict = match (success, counts.executed()) {
        (false, _) if counts.failed > 0 => {
            Verdict::Failed(format!("{} tests failed", counts.failed))
        }
        (false, _) => Verdict::Failed("did not build, or a test program died".into()),
        (true, 0) => Verdict::Failed("a green run that never ran: no test was executed".into()),
        (true, _) => Verdict::Passed,
    };
    Ok((verdict, Some(counts)))
}

/// Runs each benchmark once, to see that it still does.
pub(super) fn bench_smoke(root: &Path) -> Result<Verdict> {
    let mut bench = child::cargo();
    bench
        .args([
            "bench",
            "-p",
            "gauntlet-benches",
            "--bench",
            "*",
            "--",
            "--test",
        ])
        .current_dir(root);
    let (ran, success) = test_output::stream(&mut bench, test_output::count_benchmark)?;
    Ok(match (success, ran) {
        (false, _) => Verdict::Failed(format!("`{}`", child::line(&bench))),
        (true, 0) => {
            Verdict::Failed("a green run that never ran: no benchmark was executed".into())
        }
        (true, _) => Verdict::Passed,
    })
}

/// Runs all of them, so that one failure does not hide the next.
fn all(commands: impl IntoIterator<Item = Command>) -> Result<Verdict> {
    let mut failed = Vec::new();
    for mut command in commands {
        if !child::live(&mut command)? {
            let dir = command
                .get_current_dir()
                .and_then(Path::file_name)
                .unwrap_or_default();
            failed.push(format!(
                "`{}` in {}",
                child::line(&command),
                dir.to_string_lossy()
            ));
        }
    }
    Ok(if failed.is_empty() {
        Verdict::Passed
    } else {
        Verdict::Failed(failed.join(", "))
    })
}
