//! apt with state of its own: package lists and packages from the mirrors that this machine is
//! configured with, from suites it need not be configured with. Needs no root and installs nothing.
//!
//! apt does the fetching, because it knows the mirror and the proxy, checks the signature of a
//! suite by the keyring, and resumes what was interrupted.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::child;

/// A folder in which apt keeps its lists and downloads.
pub(crate) struct Apt {
    work: PathBuf,
}

impl Apt {
    /// # Errors
    /// When the folder cannot be made.
    pub(crate) fn in_folder(work: &Path) -> Result<Self> {
        for dir in ["lists/partial", "cache/archives/partial"] {
            let dir = work.join(dir);
            fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        Ok(Self { work: work.into() })
    }

    /// Replaces the suites that are asked, as lines of a sources.list.
    ///
    /// # Errors
    /// When they cannot be written down.
    pub(crate) fn set_sources(&self, lines: &[String]) -> Result<()> {
        let path = self.work.join("sources.list");
        fs::write(&path, lines.join("\n") + "\n")
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// `apt-get` or `apt-cache`, with all of its state in the folder, and the machine's keys and
    /// proxy.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut apt = child::command(program);
        for (key, file) in [
            ("Dir::Etc::sourcelist", "sources.list"),
            ("Dir::Etc::sourceparts", "no-such-folder"),
            ("Dir::State::lists", "lists"),
            ("Dir::Cache", "cache"),
        ] {
            apt.arg("-o")
                .arg(format!("{key}={}", self.work.join(file).display()));
        }
        // apt's own user could not write into a folder below somebody's home.
        apt.args(["-o", "APT::Sandbox::User=root"]);
        apt
    }
}
