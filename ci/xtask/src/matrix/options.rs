//! What `cargo xtask matrix` takes on its command line.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use gauntlet_guest::protocol::{Request, Task};

use super::series::Shard;

/// Any will do, as long as all kernels have the same.
pub(super) const DEFAULT_SEED: u64 = 1;

/// What `cargo xtask matrix` takes.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Kernel series, for example 5.10,6.1; default: all
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub(super) kernel: Vec<String>,
    /// A kernel of your own instead: its bzImage
    #[arg(long, value_name = "FILE", requires = "modules", conflicts_with_all = ["kernel", "shard"])]
    pub(super) kernel_image: Option<PathBuf>,
    /// The folder that holds the modules of --kernel-image
    #[arg(long, value_name = "DIR", requires = "kernel_image")]
    pub(super) modules: Option<PathBuf>,
    /// Only part I of N of the kernels
    #[arg(long, value_name = "I/N")]
    pub(super) shard: Option<Shard>,
    /// Fetch and build everything that plain `vmtest` needs, and run nothing
    #[arg(long)]
    pub(super) prepare: bool,
    /// Build what the guests run into target/matrix/bin, and run nothing
    #[arg(long, conflicts_with_all = ["prebuilt", "prepare"])]
    pub(super) build: bool,
    /// Build nothing: take what --build left, here or on another machine
    #[arg(long, value_name = "DIR")]
    pub(super) prebuilt: Option<PathBuf>,
    /// One case, by its whole id, with everything that was seen of it, as `gauntlet repro` shows it
    #[arg(long, value_name = "CASE", conflicts_with_all = ["filters", "exact", "prepare", "faults", "build", "junit", "summary"])]
    pub(super) repro: Option<String>,
    /// With --repro: leave everything as it is, and open a shell in the guest
    #[arg(long, requires = "repro")]
    pub(super) keep: bool,
    /// Instead of the suite: every recorded case again, its packets cut and ordered in N other ways, through
    /// the programs in the kernel and the same code on the host (`gauntlet recut`)
    #[arg(long, value_name = "N", conflicts_with_all = ["repro", "prepare", "faults", "build", "junit", "summary", "exact"])]
    pub(super) recut: Option<u64>,
    /// Instead of the suite: N packets of conversations from the seed through the programs in the kernel and the
    /// same code on the host (`cargo xtask fuzz kernel --packets N`)
    #[arg(long, value_name = "N", conflicts_with_all = ["repro", "recut", "prepare", "prebuilt", "faults", "build", "junit", "summary", "exact", "filters"])]
    pub(super) differential: Option<u64>,
    /// With --recut: only cases that fail
    #[arg(long, requires = "recut")]
    pub(super) failing: bool,
    /// Run nothing: read what runs with --format ndjson printed, from the files in this folder, and be
    /// red unless every kernel is among them and green
    #[arg(long, value_name = "DIR", conflicts_with_all = ["repro", "recut", "differential", "prepare", "faults", "build", "prebuilt", "kernel_image"])]
    pub(super) collect: Option<PathBuf>,
    /// Instead of the suite: guests that go wrong on purpose, each of which has to be told as that
    #[arg(long, conflicts_with = "prebuilt")]
    pub(super) faults: bool,
    /// Print the selected kernels, and run nothing
    #[arg(long)]
    pub(super) list: bool,
    /// Print the tables that README.md and ci/README.md have of support.toml, and run nothing
    #[arg(long)]
    pub(super) table: bool,
    /// Print the text of vmtest.toml, and do nothing else
    #[arg(long, hide = true)]
    pub(super) targets: bool,
    /// How to print: human; ndjson, of a run; json, of --list
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
    /// Also write JUnit XML
    #[arg(long, value_name = "FILE")]
    pub(super) junit: Option<PathBuf>,
    /// Also append a Markdown table, for a CI job's page
    #[arg(long, value_name = "FILE")]
    pub(super) summary: Option<PathBuf>,
    /// Seeds the certificates and where ports begin, the same on every kernel
    #[arg(long, default_value_t = DEFAULT_SEED)]
    pub(super) seed: u64,
    /// Seconds that one kernel may take; default: 240 with KVM, four times that without
    #[arg(long, value_name = "SECONDS")]
    pub(super) time_limit: Option<u64>,
    /// Filters are whole case ids
    #[arg(long)]
    pub(super) exact: bool,
    /// Substrings of case ids; several are OR-ed
    #[arg(value_name = "FILTER")]
    pub(super) filters: Vec<String>,
    /// Instead of the test binary: `gauntlet run` with these arguments.
    #[arg(skip)]
    pub(super) gauntlet_run: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    #[default]
    Human,
    Ndjson,
    Json,
}

impl Options {
    /// The cases, as arguments of `gauntlet list` and of whatever runs them.
    pub(super) fn selection(&self) -> Vec<String> {
        if let Some(case) = &self.repro {
            return vec![case.clone(), "--exact".into()];
        }
        let exact = self.exact.then(|| "--exact".to_owned());
        self.filters.iter().cloned().chain(exact).collect()
    }

    /// What a guest is to run.
    pub(super) fn request(&self) -> Request {
        let (task, mut arguments) = if let Some(case) = &self.repro {
            (Task::Repro, vec![case.clone()])
        } else if let Some(ways) = &self.recut {
            let ways = ["--engine", "both", "--ways", &ways.to_string()].map(String::from);
            let failing = self.failing.then(|| "--failing".to_owned());
            let failing = failing.as_slice();
            (
                Task::Recut,
                [&self.filters[..], &ways[..], failing].concat(),
            )
        } else if let Some(packets) = &self.differential {
            let packets = ["--interpreter", "--packets", &packets.to_string()].map(String::from);
            (Task::Differential, packets.into())
        } else if let Some(more) = &self.gauntlet_run {
            (Task::Run, [self.selection(), more.clone()].concat())
        } else {
            (Task::Test, self.selection())
        };
        let named = |argument: &String| argument.split('=').next() == Some("--seed");
        if !arguments.iter().any(named) {
            arguments.extend(["--seed".into(), self.seed.to_string()]);
        }
        if self.keep {
            arguments.push("--shell".into());
        }
        Request { task, arguments }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_and_seed_reach_whatever_is_run() {
        let options = Options {
            filters: vec!["a".into(), "b".into()],
            exact: true,
            seed: 7,
            ..Options::default()
        };
        let words = |options: &Options| options.request().arguments.join(" ");
        assert_eq!(options.request().task, Task::Test);
        assert_eq!(words(&options), "a b --exact --seed 7");
        let run = Options {
            gauntlet_run: Some(vec!["--seed=5".into(), "--jobs=1".into()]),
            ..options
        };
        assert_eq!(run.request().task, Task::Run);
        assert_eq!(words(&run), "a b --exact --seed=5 --jobs=1");
        let recut = Options {
            recut: Some(10),
            filters: vec!["a".into()],
            seed: 7,
            ..Options::default()
        };
        assert_eq!(recut.request().task, Task::Recut);
        assert_eq!(words(&recut), "a --engine both --ways 10 --seed 7");
        let differential = Options {
            differential: Some(10),
            seed: 7,
            ..Options::default()
        };
        assert_eq!(differential.request().task, Task::Differential);
        assert_eq!(words(&differential), "--interpreter --packets 10 --seed 7");
        let repro = Options {
            repro: Some("a::b".into()),
            keep: true,
            seed: 7,
            ..Options::default()
        };
        assert_eq!(repro.request().task, Task::Repro);
        assert_eq!(words(&repro), "a::b --seed 7 --shell");
    }
}
