//! The arguments of `gauntlet`, as types.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use gauntlet_harness::probe::Spec;

const EXIT_CODES: &str = "Exit codes: 0 all as expected; 1 the probe gave an unexpected result; \
    2 no verdict could be reached (environment or harness); 3 the selection matched nothing; \
    64 bad usage or bad input file.";

/// Makes TLS handshakes fail on purpose, between two network namespaces, and judges a probe by what
/// both endpoints and the wire show.
#[derive(Debug, Parser)]
#[command(name = "gauntlet", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Lists cases.
    List {
        #[command(flatten)]
        selection: Selection,
        /// How to print them.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Runs cases and judges the probe.
    Run(Run),
    /// Runs one case and shows everything that was seen.
    Repro(Repro),
    /// Runs cases and packs their captures, key logs and events for `mtls-probe replay`, if all are green.
    Record {
        /// Where to: two files for each class.
        folder: PathBuf,
        #[command(flatten)]
        selection: Selection,
        /// Seeds certificates, and the port each lane begins with; default: another one each time.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Sends recorded cases again, in other packets: cut, joined, out of order, twice, behind other headers.
    /// What is said must stay the same.
    Recut {
        /// What `gauntlet record` wrote.
        folder: PathBuf,
        /// Parts of case ids; several are OR-ed. Default: every case.
        filters: Vec<String>,
        /// Ways for each case.
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        ways: u64,
        /// Only cases that fail.
        #[arg(long)]
        failing: bool,
        /// The number of the first way; default: another one each time.
        #[arg(long)]
        seed: Option<u64>,
        /// Who reads the packets.
        #[arg(long, value_enum, default_value_t)]
        engine: Packets,
    },
    /// Says what a class, an alert or a case means, what to check and how to fix it.
    Explain {
        /// `unknown_ca`, `SSL_R_TLSV1_ALERT_UNKNOWN_CA`, `48`, `certificate_required`, or a case id.
        topic: String,
        /// The scenario folder; default: `scenarios`, here or in a folder above.
        #[arg(long, value_name = "DIR")]
        scenarios: Option<PathBuf>,
    },
    /// Reads the NDJSON of a run back and prints its human report.
    Report {
        /// The file; `-` is standard input.
        file: PathBuf,
        /// When to use colours.
        #[arg(long, value_enum, default_value_t)]
        color: Color,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// How to print results on standard output.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Also writes JUnit XML; the file appears when the run is over, or not at all.
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// The probe to judge: shipped, null, always:CLASS or exec:COMMAND.
    #[arg(long, default_value = "shipped")]
    pub(crate) probe: Spec,
    /// Seeds certificates, and the port each lane begins with; default: another one each time.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// How many lanes run at once; default: one for each core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: Option<u16>,
    /// When to use colours.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) color: Color,
    /// Where to keep what was recorded of cases that failed; default: target/gauntlet.
    #[arg(long, value_name = "DIR")]
    pub(crate) artifacts: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Repro {
    /// The whole id of the case.
    pub(crate) case: String,
    /// The seed of the run to repeat: its certificates, not the port the case had there; default:
    /// another one each time.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Leaves the namespaces and the probe alive for a look, until Ctrl-C; in a guest, with a shell.
    #[arg(long)]
    pub(crate) keep: bool,
    /// As --keep, with a shell at this terminal; all ends with it.
    #[arg(long)]
    pub(crate) shell: bool,
    /// The probe to judge: shipped, null, always:CLASS or exec:COMMAND.
    #[arg(long, default_value = "shipped")]
    pub(crate) probe: Spec,
    #[command(flatten)]
    pub(crate) places: Places,
    #[command(flatten)]
    pub(crate) guest: Guest,
}

/// Another kernel than the one that runs, in a virtual machine.
#[derive(Debug, Args)]
pub(crate) struct Guest {
    /// In a guest with this kernel series, for example 5.10; only in the repository.
    #[arg(long, value_name = "SERIES", conflicts_with_all = ["probe", "scenarios", "artifacts", "shell"])]
    pub(crate) kernel: Option<String>,
    /// In a guest with a kernel of your own: its bzImage.
    #[arg(long, value_name = "FILE", requires = "modules", conflicts_with_all = ["kernel", "probe", "scenarios", "artifacts", "shell"])]
    pub(crate) kernel_image: Option<PathBuf>,
    /// The folder that holds the modules of --kernel-image.
    #[arg(long, value_name = "DIR", requires = "kernel_image")]
    pub(crate) modules: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Parts of case ids; several are OR-ed; default: all cases.
    #[arg(value_name = "FILTER")]
    pub(crate) filters: Vec<String>,
    /// Filters are whole ids.
    #[arg(long)]
    pub(crate) exact: bool,
    /// The scenario folder; default: `scenarios`, here or in a folder above.
    #[arg(long, value_name = "DIR")]
    pub(crate) scenarios: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Places {
    /// The scenario folder; default: `scenarios`, here or in a folder above.
    #[arg(long, value_name = "DIR")]
    pub(crate) scenarios: Option<PathBuf>,
    /// Where to keep what was recorded; default: target/gauntlet.
    #[arg(long, value_name = "DIR")]
    pub(crate) artifacts: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Ndjson,
}

/// Who reads recorded packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Packets {
    /// Both, where BPF can be loaded; else the host build.
    #[default]
    Auto,
    /// The programs in the kernel, by BPF_PROG_TEST_RUN.
    Kernel,
    /// The same code, compiled for the host.
    Host,
    /// Both, compared event by event.
    Both,
    /// The probe, attached with tcx or else clsact: the packets travel, from one end of a cable to the other.
    Live,
    /// The same with clsact.
    LiveClsact,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}
