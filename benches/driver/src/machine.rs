//! What the figures were made on: without it they mean nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde::Serialize;

/// A machine, and what was measured on it.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// The processor, in its own words.
    pub processor: String,
    /// How many of them.
    pub processors: usize,
    /// The kernel's release.
    pub kernel: String,
    /// What runs the machine: `none` for bare metal, or the hypervisor's name where it tells it. Under
    /// `tcg` (emulation) only ratios mean anything, and hardly those.
    pub accelerator: String,
    /// Processes that wanted to run, when it began (`/proc/loadavg`).
    pub load: String,
    /// The commit, with `+` where the tree differs from it.
    pub commit: String,
    /// When, UTC.
    pub date: String,
}

impl Machine {
    /// This one.
    ///
    /// # Errors
    /// When it does not say how many processors it has.
    pub fn here(root: &Path) -> Result<Self> {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = processors.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let virtual_machine =
            field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
        let read = |path: &str| Some(fs::read_to_string(path).ok()?.trim().to_owned());
        let vendor = read("/sys/class/dmi/id/sys_vendor").filter(|vendor| !vendor.is_empty());
        Ok(Self {
            processor: field("model name").unwrap_or_else(|| "unknown".into()),
            processors: std::thread::available_parallelism()?.get(),
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into()),
            accelerator: match (virtual_machine, vendor) {
                (false, _) => "none".into(),
                (true, Some(vendor)) => vendor,
                (true, None) => "a hypervisor that does not tell its name".into(),
            },
            load: read("/proc/loadavg").unwrap_or_default(),
            commit: commit(root).unwrap_or_else(|| "unknown".into()),
            date: jiff::Timestamp::now()
                .strftime("%Y-%m-%d %H:%M:%S UTC")
                .to_string(),
        })
    }

    /// Whether its processor is another program: then no time is that of any machine, and only ratios are told.
    #[must_use]
    pub fn is_emulated(&self) -> bool {
        self.accelerator == "tcg"
    }

    /// All of it that a reader of figures must know, in a line.
    #[must_use]
    pub fn line(&self) -> String {
        let Self {
            processor,
            processors,
            kernel,
            accelerator,
            commit,
            date,
            ..
        } = self;
        format!(
            "{processors} x {processor}, {accelerator}; Linux {kernel}; commit {commit}; {date}"
        )
    }

    /// None in particular.
    #[cfg(test)]
    pub(crate) fn nowhere() -> Self {
        Self {
            processor: "a".into(),
            processors: 1,
            kernel: "b".into(),
            accelerator: "none".into(),
            load: String::new(),
            commit: "c".into(),
            date: "d".into(),
        }
    }
}

fn commit(root: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(root)
            .args(arguments)
            .output()
            .ok()?;
        let said = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| said.trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let differs = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(if differs { commit + "+" } else { commit })
}
