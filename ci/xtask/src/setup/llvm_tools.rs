//! llvm-profdata and llvm-cov of rustc's own LLVM version, which read what instrumented tests leave behind.
//!
//! rustup's component comes first; where rustup cannot reach its server, Debian's package of that LLVM does.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Step, debian, say};
use crate::{child, toolchain::Toolchain};

pub(super) fn ensure(toolchain: &Toolchain) -> Result<Step> {
    if folder(toolchain).is_ok() {
        return Ok(Step::Present);
    }
    say("adding llvm-tools to the toolchain");
    let _refused = child::quiet(child::command("rustup").args(["component", "add", "llvm-tools"]));
    if folder(toolchain).is_ok() {
        return Ok(Step::Installed);
    }
    let package = format!("llvm-{}", toolchain.llvm()?.major);
    say(format!("rustup has none; taking Debian's {package}"));
    debian::install(&[&package])
}

/// Where both are.
///
/// # Errors
/// When they are nowhere.
pub(crate) fn folder(toolchain: &Toolchain) -> Result<PathBuf> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let component = toolchain.sysroot.join("lib/rustlib").join(triple);
    let system = format!("/usr/lib/llvm-{}", toolchain.llvm()?.major);
    [component, system.into()]
        .into_iter()
        .map(|root| root.join("bin"))
        .find(|bin| bin.join("llvm-profdata").is_file() && bin.join("llvm-cov").is_file())
        .context("llvm-profdata and llvm-cov are missing")
}
