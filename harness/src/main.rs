//! `gauntlet`: makes TLS handshakes fail on purpose and judges a probe. This file parses arguments
//! and turns a command's end into an exit code; [`command`] does the work.

mod cli;
mod command;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::cli::Cli;
use crate::command::Failure;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody to tell when the terminal is gone.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(Failure::USAGE),
            };
        }
    };
    match command::execute(cli) {
        Ok(code) => ExitCode::from(code),
        Err(Failure { code, message }) => {
            for line in message.lines() {
                eprintln!("gauntlet: {line}");
            }
            ExitCode::from(code)
        }
    }
}
