//! A commit's BPF object for `cargo xtask bench --baseline`: its files below `target/`, and what is built of them
//! by today's compiler and linker. Gone when it is dropped; what a run leaves that is killed, the next removes.
//!
//! Nothing else of that commit is built: today's driver loads the object.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{child, paths, toolchain::Toolchain};

/// What was built of a commit.
pub(super) struct Baseline {
    folder: PathBuf,
    /// The commit, short.
    pub(super) commit: String,
    _one_at_a_time: File,
}

/// The whole name of a commit; `None` when there is none of that name.
pub(super) fn commit(root: &Path, name: &str) -> Result<Option<String>> {
    // What begins with a dash would be an option.
    let wanted = format!("{name}^{{commit}}");
    let arguments = [
        "rev-parse",
        "--quiet",
        "--verify",
        "--end-of-options",
        &wanted,
    ];
    let output = child::output(git(root).args(arguments))?;
    let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok((output.status.success() && !found.is_empty()).then_some(found))
}

impl Baseline {
    /// Builds the object of a commit; `None` when it does not build, which cargo has then told.
    ///
    /// # Errors
    /// When its files cannot be had, or another run is at work.
    pub(super) fn build(root: &Path, out: &Path, commit: &str) -> Result<Option<Self>> {
        let folder = out.join("baseline");
        fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
        let lock = File::options()
            .create(true)
            .append(true)
            .open(out.join("baseline.lock"))?;
        if lock.try_lock().is_err() {
            bail!("another run builds a baseline in {}", folder.display());
        }
        remove(&folder)?;
        let baseline = Self {
            folder,
            commit: commit.get(..12).unwrap_or(commit).into(),
            _one_at_a_time: lock,
        };
        baseline.unpack(root, commit)?;
        let built = child::live(&mut baseline.cargo()?)?;
        Ok(built.then_some(baseline))
    }

    /// The object.
    pub(super) fn object(&self) -> PathBuf {
        self.folder
            .join("build/bpfel-unknown-none/release/gauntlet")
    }

    fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// As `git archive` has them: no worktree that git would have to be told is gone.
    fn unpack(&self, root: &Path, commit: &str) -> Result<()> {
        let tree = self.tree();
        fs::create_dir_all(&tree).with_context(|| format!("cannot create {}", tree.display()))?;
        let mut archive = git(root)
            .args(["archive", "--format=tar", commit])
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start git")?;
        let mut tar = child::command("tar");
        tar.args(["--extract", "--directory"]).arg(&tree);
        if let Some(bytes) = archive.stdout.take() {
            tar.stdin(bytes);
        }
        let unpacked = tar.status().context("cannot start tar")?.success();
        if !archive.wait()?.success() || !unpacked {
            bail!("cannot unpack commit {commit}");
        }
        Ok(())
    }

    /// As `probes/build.rs` builds today's: same flags, so that nothing but the commit differs.
    fn cargo(&self) -> Result<Command> {
        let toolchain = Toolchain::detect()?;
        let linker = paths::bpf_linker_dir(&paths::cache_dir()?, &toolchain.release);
        let flags = [
            format!("-Clinker={}", linker.join("bin/bpf-linker").display()),
            "-Clink-arg=--btf".into(),
            "-Cdebuginfo=2".into(),
            "-Cpanic=abort".into(),
        ];
        let mut cargo = child::cargo();
        cargo
            .args([
                "build",
                "--quiet",
                "--release",
                "--locked",
                "--bin",
                "gauntlet",
            ])
            .args(["--target", "bpfel-unknown-none", "-Zbuild-std=core"])
            .arg("--target-dir")
            .arg(self.folder.join("build"))
            .current_dir(self.tree().join("ebpf/programs"))
            .env_remove("CARGO_BUILD_TARGET")
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
        Ok(cargo)
    }
}

impl Drop for Baseline {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.folder) {
            eprintln!("xtask: {error:#}");
        }
    }
}

fn git(root: &Path) -> Command {
    let mut git = child::command("git");
    git.arg("-C").arg(root);
    git
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_found_by_any_of_its_names_and_no_other() {
        let root = paths::repo_root();
        let head = commit(&root, "HEAD").expect("git runs").expect("a commit");
        assert_eq!(head.len(), 40, "{head}");
        let short = commit(&root, &head[..12]).expect("git runs");
        assert_eq!(short.as_deref(), Some(&*head));
        for none in ["no-such-branch", "", "--all", "HEAD:README.md"] {
            assert_eq!(commit(&root, none).expect("git runs"), None, "{none}");
        }
    }

    #[test]
    fn what_was_unpacked_is_gone_when_it_is_dropped() {
        let out = std::env::temp_dir().join(format!("gauntlet-baseline-{}", std::process::id()));
        fs::create_dir_all(&out).unwrap();
        let lock = File::options()
            .create(true)
            .append(true)
            .open(out.join("lock"))
            .unwrap();
        let baseline = Baseline {
            folder: out.join("baseline"),
            commit: "x".into(),
            _one_at_a_time: lock,
        };
        baseline.unpack(&paths::repo_root(), "HEAD").unwrap();
        assert!(baseline.tree().join("ebpf/programs/Cargo.toml").is_file());
        let error = baseline
            .unpack(&paths::repo_root(), "no-such-commit")
            .unwrap_err();
        assert_eq!(error.to_string(), "cannot unpack commit no-such-commit");
        let folder = baseline.folder.clone();
        drop(baseline);
        assert!(!folder.exists());
        fs::remove_dir_all(out).unwrap();
    }
}
