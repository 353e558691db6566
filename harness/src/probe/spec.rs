//! `--probe`: which probe to judge, and the program that is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use gauntlet_wire::class::Class;

use super::stall_after;

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
        /// More arguments, where it has to read the key log at `{key_log}`.
        with_key_log: Vec<String>,
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
                with_key_log: Vec::new(),
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
                    // What the wire alone can show is what the scenarios promise; what libraries say on
                    // top is held to by the probe's own tests.
                    "--library",
                    "off",
                ];
                let mut command = vec![shipped()?.display().to_string()];
                command.extend(arguments.map(String::from));
                Program::Command {
                    command,
                    with_key_log: ["--keylog", "{key_log}"].map(String::from).into(),
                }
            }
        })
    }
}

/// Beside this program, or one folder up, where cargo puts programs when it runs tests.
fn shipped() -> Result<PathBuf, SpecError> {
    let here = std::env::current_exe().unwrap_or_default();
    let folders: Vec<PathBuf> = here
        .ancestors()
        .skip(1)
        .take(2)
        .map(Path::to_path_buf)
        .collect();
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
