//! What the command lines of `gauntlet`, `mtls-probe` and `cargo xtask` have in common: exit codes, and
//! bad usage told in one line, which a log or a CI's page shows whole. Knows no command.

use std::process::ExitCode;

use clap::Parser;
use clap::error::{Error, ErrorKind};

/// The exit codes that all of them share. One is only ever added together with its meaning for all.
pub mod exit {
    /// All as expected.
    pub const OK: u8 = 0;
    /// The thing under test gave an unexpected result.
    pub const UNEXPECTED: u8 = 1;
    /// No verdict could be reached: environment, harness or infrastructure.
    pub const NO_VERDICT: u8 = 2;
    /// The selection matched nothing.
    pub const NOTHING: u8 = 3;
    /// Bad usage, or a bad input file; `EX_USAGE` of sysexits.h.
    pub const USAGE: u8 = 64;
}

/// The arguments of this process.
///
/// # Errors
/// The code to end with, when everything was said already: help, version, or in one line what is wrong.
pub fn parse<C: Parser>() -> Result<C, ExitCode> {
    let error = match C::try_parse() {
        Ok(arguments) => return Ok(arguments),
        Err(error) => error,
    };
    if !error.use_stderr() {
        // Nobody is left to tell when the output is gone.
        let _ = error.print();
        return Err(ExitCode::SUCCESS);
    }
    eprintln!("{}", one_line::<C>(&error));
    Err(ExitCode::from(exit::USAGE))
}

/// What is wrong, where, and what to do, without a line break.
fn one_line<C: Parser>(error: &Error) -> String {
    let command = C::command();
    let program = command.get_bin_name().unwrap_or_else(|| command.get_name());
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // clap would print the whole help.
        let names = command.get_subcommands().filter(|one| !one.is_hide_set());
        let names: Vec<&str> = names.map(clap::Command::get_name).collect();
        return format!(
            "{program}: a command is missing: {}; see `{program} --help`",
            names.join(", ")
        );
    }
    let rendered = error.render().to_string();
    let mut said = String::new();
    let mut command_line = program.to_owned();
    for line in rendered.lines().map(str::trim) {
        if let Some(usage) = line.strip_prefix("Usage: ") {
            let names = usage.split(' ').take_while(|word| is_name(word));
            command_line = names.collect::<Vec<_>>().join(" ");
            break;
        }
        if line.starts_with("For more information") {
            break;
        }
        let line = line.strip_prefix("error: ").unwrap_or(line);
        // What comes under the first line belongs to it, except advice.
        let joint = match (
            said.is_empty() || line.is_empty(),
            line.starts_with("tip: "),
        ) {
            (true, _) => "",
            (false, true) => "; ",
            (false, false) => " ",
        };
        said.push_str(joint);
        said.push_str(line);
    }
    format!("{program}: {said}; see `{command_line} --help`")
}

/// Whether a word of a usage line names a command, not an argument.
fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use clap::Subcommand;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "gauntlet")]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }

    #[derive(Debug, Subcommand)]
    enum Command {
        Run {
            #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
            jobs: Option<u16>,
            #[arg(long, value_parser = ["human", "ndjson"])]
            format: Option<String>,
        },
        Repro {
            case: String,
            #[arg(long, requires = "modules")]
            image: Option<String>,
            #[arg(long)]
            modules: Option<String>,
        },
    }

    fn line(arguments: &[&str]) -> String {
        let words = ["gauntlet"].iter().chain(arguments);
        one_line::<Cli>(&Cli::try_parse_from(words).unwrap_err())
    }

    #[test]
    fn every_kind_of_bad_usage_is_one_line() {
        for (arguments, expected) in [
            (
                &[][..],
                "gauntlet: a command is missing: run, repro; see `gauntlet --help`",
            ),
            (
                &["rum"],
                "gauntlet: unrecognized subcommand 'rum'; tip: a similar subcommand exists: 'run'; see `gauntlet --help`",
            ),
            (
                &["run", "--job"],
                "gauntlet: unexpected argument '--job' found; tip: a similar argument exists: '--jobs'; see `gauntlet run --help`",
            ),
            (
                &["run", "--jobs", "0"],
                "gauntlet: invalid value '0' for '--jobs <JOBS>': 0 is not in 1..=256; see `gauntlet --help`",
            ),
            (
                &["run", "--format", "yaml"],
                "gauntlet: invalid value 'yaml' for '--format <FORMAT>' [possible values: human, ndjson]; see `gauntlet --help`",
            ),
            (
                &["run", "--format"],
                "gauntlet: a value is required for '--format <FORMAT>' but none was supplied [possible values: human, ndjson]; see `gauntlet --help`",
            ),
            (
                &["repro"],
                "gauntlet: the following required arguments were not provided: <CASE>; see `gauntlet repro --help`",
            ),
            (
                &["repro", "a", "--image", "x"],
                "gauntlet: the following required arguments were not provided: --modules <MODULES>; see `gauntlet repro --help`",
            ),
            (
                &["repro", "a", "b\nc"],
                "gauntlet: unexpected argument 'b c' found; see `gauntlet repro --help`",
            ),
        ] {
            assert_eq!(line(arguments), expected);
        }
    }
}
