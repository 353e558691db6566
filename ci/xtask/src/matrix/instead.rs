//! The road of a machine that cannot load BPF: `cargo xtask run`, in a guest.

use std::fs;
use std::io::{Write, stdout};

use anyhow::Result;

use super::folder::{self, Folder};
use super::options::{DEFAULT_SEED, Options};
use super::{Ended, exit_code, runs, series};
use crate::{child, exit};

/// `gauntlet run` in a guest, for a machine that cannot load BPF itself: prints what it printed, and
/// returns its exit code where it has one.
///
/// # Errors
/// As [`super::run`].
pub(crate) fn instead(filters: &[String], arguments: &[String]) -> Result<u8> {
    let carried = match Carried::of(arguments) {
        Ok(carried) => carried,
        Err(line) => {
            eprintln!("xtask: {line}");
            return Ok(exit::USAGE);
        }
    };
    let newest = series::GATE[series::GATE.len() - 1];
    let options = Options {
        kernel: vec![newest.into()],
        filters: filters.into(),
        gauntlet_run: Some(carried.arguments),
        seed: DEFAULT_SEED,
        ..Options::default()
    };
    let selected = series::select(&options.kernel, None).map_err(anyhow::Error::msg)?;
    let runs = match runs(&options, &selected)? {
        Ended::Early(code, _) => return Ok(code),
        Ended::Ran(runs) => runs,
    };
    let cases = Folder::of(newest)
        .results()
        .join(gauntlet_guest::protocol::CASES);
    if carried.ndjson {
        stdout().write_all(&fs::read(&cases).unwrap_or_default())?;
    } else {
        // It tells of a broken file by itself, and the verdict does so below.
        child::live(
            child::command(folder::root().join("bin/gauntlet"))
                .arg("report")
                .arg(&cases),
        )?;
    }
    let code = runs
        .first()
        .and_then(|run| u8::try_from(run.results.as_ref()?.code).ok());
    Ok(exit_code(&runs, &[]).max(code.unwrap_or_default()))
}

/// Arguments of `gauntlet run` that make sense in a guest.
#[derive(Debug, PartialEq, Eq)]
struct Carried {
    arguments: Vec<String>,
    /// Whether NDJSON was asked for; in the guest, it always is.
    ndjson: bool,
}

impl Carried {
    fn of(arguments: &[String]) -> Result<Self, String> {
        let mut carried = Self {
            arguments: Vec::new(),
            ndjson: false,
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
            match name {
                "--format" if value.is_empty() => {
                    carried.ndjson = rest.next().is_some_and(|value| value == "ndjson");
                }
                "--format" => carried.ndjson = value == "ndjson",
                "--junit" | "--artifacts" | "--scenarios" | "--color" => {
                    return Err(format!(
                        "{name} names something of this machine, and this runs in a VM"
                    ));
                }
                _ => carried.arguments.push(argument.clone()),
            }
        }
        Ok(carried)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_reach_the_guest_but_for_the_format() {
        let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        let carried = Carried::of(&words("--seed 5 --format ndjson --exact")).unwrap();
        assert_eq!(carried.arguments, ["--seed", "5", "--exact"]);
        assert!(carried.ndjson);
        assert!(Carried::of(&words("--format=ndjson")).unwrap().ndjson);
        assert!(Carried::of(&words("--junit x.xml")).is_err());
    }
}
