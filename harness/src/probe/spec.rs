//! `--probe`: which probe to judge, and the program that is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use gauntlet_wire::class::Class;

use super::stall_after;
use crate::built;
use crate::scenario::Beside;

/// The shipped program's file name.
const SHIPPED: &str = "mtls-probe";

/// Which probe to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spec {
    /// `mtls-probe watch`, as built beside this program.
    Shipped,
    /// One that reports nothing: every failing case must fail.
    Null,
    /// One that reports this class for every connection: every other case must fail.
    Always(Class),
    /// Any command that prints contract events.
    Exec(String),
}

/// What to start for a [`Spec`].
#[derive(Debug, Clone)]
pub enum Program {
    /// Nothing.
    Null,
    /// Nothing; events are made up.
    Always(Class),
    /// A process.
    Command {
        /// Program and arguments; `{netns}` and `{interface}` are filled in.
        command: Vec<String>,
        /// More arguments for what it has beside the wire; `{key_log}` is filled in.
        more: fn(Beside) -> &'static [&'static str],
    },
}

/// Why a [`Spec`] cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// No such kind of probe.
    #[error("{0:?} is no probe; allowed: shipped, null, always:CLASS, exec:COMMAND")]
    Unknown(String),
    /// `always:` with something that is no class.
    #[error("{0:?} is no class; allowed: {all}", all = Class::ALL.map(Class::name).join(", "))]
    Class(String),
    /// The shipped probe is not there.
    #[error(
        "{SHIPPED} is not built: it is not in {}; build it with `cargo build`, or judge another with --probe exec:COMMAND",
        .0.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(" or ")
    )]
    NotBuilt(Vec<PathBuf>),
}

impl FromStr for Spec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        match text.split_once(':') {
            None if text == "shipped" => Ok(Self::Shipped),
            None if text == "null" => Ok(Self::Null),
            Some(("always", class)) => Class::from_name(class)
                .map(Self::Always)
                .ok_or_else(|| SpecError::Class(class.into())),
            Some(("exec", command)) if !command.trim().is_empty() => Ok(Self::Exec(command.into())),
            _ => Err(SpecError::Unknown(text.into())),
        }
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shipped => f.write_str("shipped"),
            Self::Null => f.write_str("null"),
            Self::Always(class) => write!(f, "always:{}", class.name()),
            Self::Exec(command) => write!(f, "exec:{command}"),
        }
    }
}

impl Spec {
    /// The program that is meant, found.
    ///
    /// # Errors
    /// When the shipped probe is not built.
    pub fn program(&self) -> Result<Program, SpecError> {
        Ok(match self {
            Self::Null => Program::Null,
            Self::Always(class) => Program::Always(*class),
            Self::Exec(command) => Program::Command {
                command: vec!["sh".into(), "-c".into(), command.clone()],
                // It is told by the environment.
                more: |_| &[],
            },
            Self::Shipped => {
                let stall = format!("{}ms", stall_after().as_millis());
                let arguments = [
                    "watch",
                    "--netns",
                    "{netns}",
                    "--interface",
                    "{interface}",
                    "--format",
                    "ndjson",
                    "--stall-after",
                    &stall,
                ];
                let mut command = vec![shipped()?.display().to_string()];
                command.extend(arguments.map(String::from));
                Program::Command {
                    command,
                    // `auto` is what it does by itself; asked for, it refuses to go on without.
                    more: |beside| match beside {
                        Beside::Nothing => &["--library", "off"],
                        Beside::KeyLog => &["--library", "off", "--keylog", "{key_log}"],
                        Beside::Library => &["--library", "auto"],
                        Beside::LibraryDeep => &["--library", "deep"],
                    },
                }
            }
        })
    }
}

fn shipped() -> Result<PathBuf, SpecError> {
    let folders = built::folders();
    folders
        .iter()
        .map(|folder| folder.join(SHIPPED))
        .find(|program| program.is_file())
        .ok_or(SpecError::NotBuilt(folders))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_prints_as_it_is_read() {
        for text in [
            "shipped",
            "null",
            "always:SSL_ERROR_SYSCALL",
            "exec:cat events.ndjson",
        ] {
            assert_eq!(text.parse::<Spec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_probe_is_refused_with_what_is_allowed() {
        for text in ["", "nul", "always", "exec:", "exec: ", "always:UNKNOWN_CA"] {
            let error = text.parse::<Spec>().unwrap_err().to_string();
            assert!(error.contains("allowed: "), "{text:?}: {error}");
        }
    }
}
