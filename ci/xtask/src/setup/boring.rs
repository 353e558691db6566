//! The program by which BoringSSL takes part in the suite, built beside the others. Cargo itself knows whether there is
//! anything to do.

use std::{fs, path::Path, time::SystemTime};

use anyhow::Result;

use super::{Step, say};
use crate::{child, paths, run};

pub(super) fn ensure() -> Result<Step> {
    let target = run::target_dir()?;
    let program = target.join("debug/gauntlet-boring-peer");
    let before = built(&program);
    if before.is_none() {
        say("building gauntlet-boring-peer, with BoringSSL (some minutes)");
    }
    let mut build = child::cargo();
    build
        .args(["build", "--locked", "--manifest-path"])
        .arg(paths::repo_root().join("harness/boring/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        // Another target would put it into another folder.
        .env_remove("CARGO_BUILD_TARGET");
    child::quiet(&mut build)?;
    Ok(if built(&program) == before {
        Step::Present
    } else {
        Step::Installed
    })
}

fn built(program: &Path) -> Option<SystemTime> {
    fs::metadata(program).and_then(|file| file.modified()).ok()
}
