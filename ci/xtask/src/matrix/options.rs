//! What `cargo xtask matrix` takes on its command line.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

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
    /// Instead of the suite: guests that go wrong on purpose, each of which has to be told as that
    #[arg(long)]
    pub(super) faults: bool,
    /// Print the selected kernels, and run nothing
    #[arg(long)]
    pub(super) list: bool,
    /// Print the README's table of support.toml, and run nothing
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
    /// More arguments for `gauntlet run`.
    #[arg(skip)]
    pub(super) arguments: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    #[default]
    Human,
    Ndjson,
    Json,
}

impl Options {
    /// The cases, as arguments of `gauntlet list` and `gauntlet run`.
    pub(super) fn selection(&self) -> Vec<String> {
        let exact = self.exact.then(|| "--exact".to_owned());
        self.filters.iter().cloned().chain(exact).collect()
    }
}
