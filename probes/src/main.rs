//! `mtls-probe`: the command line. Exit codes are the contract's: 0 as expected, 2 the environment
//! would not have it, 64 bad usage or a bad input file; `replay --engine both` also has 1.

mod hidden_wait;
mod programs;
mod replay;
mod watch;
mod watched;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gauntlet_cli::exit;
use gauntlet_probes::keylog_follow::FollowError;

/// Names why TLS handshakes fail, from the packets, in the kernel.
#[derive(Debug, Parser)]
#[command(name = "mtls-probe", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch live interfaces, and print a line for each handshake that fails.
    Watch(watch::Arguments),
    /// Read a capture file, and print a line for each handshake in it that failed.
    Replay(replay::Arguments),
    /// Load the programs, attach none, and say what that costs this kernel.
    Programs(programs::Arguments),
}

fn main() -> ExitCode {
    let cli = match gauntlet_cli::parse::<Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let ended = match cli.command {
        Command::Watch(arguments) => watch::watch(&arguments).map(|()| exit::OK),
        Command::Replay(arguments) => replay::replay(&arguments),
        Command::Programs(arguments) => {
            programs::programs(&arguments).map(|all| if all { exit::OK } else { exit::NO_VERDICT })
        }
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("mtls-probe: {}", told(&error));
            let bad_usage = error.is::<FollowError>() || error.is::<watch::Contradiction>();
            ExitCode::from(if bad_usage {
                exit::USAGE
            } else {
                exit::NO_VERDICT
            })
        }
    }
}

/// An error and its causes, each told once: some errors repeat their cause, others leave it to
/// whoever prints them.
fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}
