//! What is run in the guests: the programs of `cargo build`, as copies, and those of `ci/guest`,
//! linked statically.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::folder::{GUEST, UNDER_TEST, root};
use crate::{child, paths, run};

/// An initramfs has no libraries to link to, and glibc's static ones come with its headers.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds everything and puts it in its place. `None` when something does not build, which cargo
/// has then told.
///
/// # Errors
/// When cargo cannot be started, or nothing can be copied.
pub(crate) fn build() -> Result<Option<PathBuf>> {
    let mut under_test = child::cargo();
    under_test.arg("build").current_dir(paths::repo_root());
    for name in UNDER_TEST {
        under_test.args(["--bin", name]);
    }
    // Another target would put the programs into another folder.
    under_test.env_remove("CARGO_BUILD_TARGET");
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
    if !child::live(&mut under_test)? || !child::live(&mut guest)? {
        return Ok(None);
    }
    let bin = root().join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
    let built = run::target_dir()?.join("debug");
    for name in UNDER_TEST {
        place(&built.join(name), &bin.join(name))?;
    }
    for name in GUEST {
        place(
            &static_folder.join(TARGET).join("debug").join(name),
            &bin.join(name),
        )?;
    }
    Ok(Some(bin))
}

/// Copies beside the place and renames: a program that is running cannot be written.
fn place(from: &Path, to: &Path) -> Result<()> {
    let draft = to.with_extension("draft");
    fs::copy(from, &draft).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::rename(&draft, to).with_context(|| format!("cannot replace {}", to.display()))
}
