//! `cargo xtask`: the one way to set up, build, run and test this repository.
//!
//! Here stand the command line and its exit codes, nothing else. Each command
//! has a module; each module refuses to do another's work. Everything xtask
//! itself has to say goes to standard error, so that the standard output of
//! `cargo xtask run` stays what `gauntlet run` wrote.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gauntlet_cli::exit;

mod apt;
mod bench;
mod child;
mod coverage;
mod faults;
mod fuzz;
mod gates;
mod machine;
mod matrix;
mod mutants;
mod paths;
mod run;
mod setup;
mod toolchain;

/// Sets up, builds, runs and tests gauntlet.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install whatever the machine lacks; seconds when nothing is missing
    Setup {
        /// Also install what only some commands need (cargo-fuzz, cargo-mutants, cargo-llvm-cov, vmtest)
        #[arg(long)]
        all: bool,
        /// Also build the program by which BoringSSL takes part in the suite, which takes minutes, and install what
        /// only that needs
        #[arg(long, conflicts_with = "all")]
        boring: bool,
    },
    /// Set up, build, then `gauntlet run`: the main job
    Run {
        /// Substrings of case ids; several are OR-ed
        #[arg(value_name = "FILTER")]
        filters: Vec<String>,
        /// Arguments for `gauntlet run` itself
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<String>,
    },
    /// Set up, then every gate CI runs: the test command
    Test {
        /// Only these gates; a name that is none tells all
        #[arg(value_name = "GATE")]
        gates: Vec<String>,
    },
    /// Fuzz one target or all of them
    Fuzz(fuzz::Options),
    /// Small faults in the probe, each of which the conformance suite must notice, or a gate
    Faults(faults::Options),
    /// Measure the probe against its budgets
    Bench(bench::Options),
    /// Small changes in the code (cargo-mutants), each of which a test must notice or `mutants.toml` justify
    Mutants(mutants::Options),
    /// What of the wire crate its tests run through, or of the BPF programs the corpus, and what they miss
    Coverage(coverage::Options),
    /// The conformance suite on real kernels in virtual machines
    Matrix(Box<matrix::Options>),
}

fn main() -> ExitCode {
    let task = match gauntlet_cli::parse::<Cli>() {
        Ok(cli) => cli.command,
        Err(code) => return code,
    };
    let result = match task {
        Task::Setup { all, boring } => {
            let scope = match (all, boring) {
                (true, _) => setup::Scope::All,
                (false, true) => setup::Scope::Boring,
                (false, false) => setup::Scope::Build,
            };
            setup::ensure(scope).map(setup::report)
        }
        Task::Run { filters, args } => run::run(&filters, &args),
        Task::Test { gates } => gates::run(&gates),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Faults(options) => faults::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Mutants(options) => mutants::run(&options),
        Task::Coverage(options) => coverage::run(&options),
        Task::Matrix(options) => matrix::run(&options),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(exit::NO_VERDICT)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn filters_and_arguments_are_kept_apart() {
        let cli = Cli::try_parse_from(["xtask", "run", "a", "b", "--", "--format", "ndjson"]);
        let Ok(Cli {
            command: Task::Run { filters, args },
        }) = cli
        else {
            panic!("`run` with filters and arguments must parse");
        };
        assert_eq!(filters, ["a", "b"]);
        assert_eq!(args, ["--format", "ndjson"]);
    }
}
