//! Programs made by `cargo install`, each in a folder of its own in our cache and pinned
//! to a version, so that nobody's own installation is used or replaced.
//!
//! Installed means: the program is there, runs, and gives the right version. No
//! marker file can say otherwise, so an interrupted installation never counts.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{Step, say};
use crate::child;

/// A program and the crate of the same name.
pub(crate) struct CargoTool {
    name: &'static str,
    version: &'static str,
    /// Arguments that make it print its version.
    version_args: &'static [&'static str],
}

impl CargoTool {
    /// Runs the fuzz targets.
    pub(crate) const FUZZ: Self = Self {
        name: "cargo-fuzz",
        version: "0.13.2",
        version_args: &["fuzz", "--version"],
    };
    /// Runs a command in a virtual machine under a given kernel.
    pub(crate) const VMTEST: Self = Self {
        name: "vmtest",
        version: "0.18.0",
        version_args: &["--version"],
    };
    /// Changes the code in small ways, each of which a test should notice.
    pub(crate) const MUTANTS: Self = Self {
        name: "cargo-mutants",
        version: "27.1.0",
        version_args: &["mutants", "--version"],
    };
    /// Says which lines tests run through.
    pub(crate) const LLVM_COV: Self = Self {
        name: "cargo-llvm-cov",
        version: "0.9.1",
        version_args: &["llvm-cov", "--version"],
    };
    /// Makes BPF objects of LLVM bitcode.
    pub(super) const BPF_LINKER: Self = Self {
        name: "bpf-linker",
        version: crate::paths::BPF_LINKER_VERSION,
        version_args: &["--version"],
    };

    /// The folder of a tool that needs nothing but its version.
    fn root(&self, cache: &Path) -> PathBuf {
        cache.join(format!("{}-{}", self.name, self.version))
    }

    /// The program, once installed.
    pub(crate) fn program(&self, cache: &Path) -> PathBuf {
        self.program_in(&self.root(cache))
    }

    fn program_in(&self, root: &Path) -> PathBuf {
        root.join("bin").join(self.name)
    }

    pub(super) fn ensure(&self, cache: &Path) -> Result<Step> {
        let root = self.root(cache);
        if self.works_in(&root) {
            return Ok(Step::Present);
        }
        say(format!(
            "building {} {} (about a minute)",
            self.name, self.version
        ));
        self.install(&root, |_| {})?;
        Ok(Step::Installed)
    }

    /// Whether the program in `root` starts and is the version wanted.
    pub(super) fn works_in(&self, root: &Path) -> bool {
        let program = self.program_in(root);
        let output = child::output(child::command(&program).args(self.version_args));
        output.is_ok_and(|output| {
            let text = String::from_utf8_lossy(&output.stdout);
            output.status.success() && text.split_whitespace().any(|word| word == self.version)
        })
    }

    /// Builds into `root`; `adjust` adds what this tool alone needs.
    pub(super) fn install(&self, root: &Path, adjust: impl FnOnce(&mut Command)) -> Result<()> {
        fs::create_dir_all(root).with_context(|| format!("cannot create {}", root.display()))?;
        // Kept when interrupted, so that the next try goes on from there.
        let target = root.join("build");
        let mut install = child::cargo();
        install
            .args(["install", self.name, "--locked", "--force", "--version"])
            .arg(format!("={}", self.version))
            .arg("--root")
            .arg(root)
            // Away from this repository, whose cargo configuration is not meant
            // for tools.
            .current_dir(root)
            .env("CARGO_TARGET_DIR", &target);
        for ours in [
            "CARGO_BUILD_TARGET",
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTFLAGS",
            "RUSTC_BOOTSTRAP",
        ] {
            install.env_remove(ours);
        }
        adjust(&mut install);
        child::quiet(&mut install)?;
        if !self.works_in(root) {
            bail!(
                "{} was built and does not run",
                self.program_in(root).display()
            );
        }
        // It works without its build folder; that only costs space.
        let _ = fs::remove_dir_all(&target);
        Ok(())
    }
}
