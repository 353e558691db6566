//! `gauntlet`: makes TLS handshakes fail on purpose and judges a probe. This file parses arguments
//! and turns a command's end into an exit code; [`command`] does the work.

mod cli;
mod command;

use std::process::ExitCode;

use crate::cli::Cli;
use crate::command::Failure;

fn main() -> ExitCode {
    let cli = match gauntlet_cli::parse::<Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
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
