//! `cargo xtask bench`: runs the benchmarks, and leaves the report to criterion.

use anyhow::Result;

use crate::{child, exit, paths, setup};

pub(crate) fn run(quick: bool) -> Result<u8> {
    if let Some(code) = setup::blocked(setup::Scope::Build)? {
        return Ok(code);
    }
    let mut bench = child::cargo();
    // Not `--benches`, which takes in the library: its harness knows no `--quick`.
    bench
        .args(["bench", "-p", "gauntlet-benches", "--bench", "*"])
        .current_dir(paths::repo_root());
    if quick {
        bench.args(["--", "--quick"]);
    }
    Ok(if child::live(&mut bench)? {
        exit::OK
    } else {
        exit::NO_VERDICT
    })
}
