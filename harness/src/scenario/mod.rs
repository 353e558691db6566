//! Scenarios: a folder of files a person can read, made into cases a machine can run.
//!
//! [`model`] is what a file says, [`parse`](self) reads one for each TLS version and pair of stacks,
//! [`matrix`] expands it over address families. Everything that can be wrong in a file is said here, with file, line and
//! field, before anything runs: a suite that loads has no broken case in it.

mod check;
mod deviations;
pub mod matrix;
pub mod model;
mod parse;
mod place;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

pub(crate) use check::NO_FAILURE;
pub use check::id_segment;
pub use deviations::{Deviations, UnusedDeviation};
pub use matrix::{Beside, Case};

/// The file in a scenario folder that lists known deviations, and is no scenario.
const DEVIATIONS: &str = "known-deviations.toml";

/// Every case of a scenario folder, sorted by id, and what is known to deviate.
#[derive(Debug)]
pub struct Suite {
    /// The cases, sorted by id; ids are unique.
    pub cases: Vec<Case>,
    /// Cases the probe is known to get wrong, with the reason.
    pub deviations: Deviations,
}

impl Suite {
    /// The cases whose id contains one of `filters`, or, `exact`, is one of them; all, without filters.
    #[must_use]
    pub fn select(&self, filters: &[String], exact: bool) -> Vec<Case> {
        let fits = |case: &&Case| {
            let one = |filter: &String| {
                if exact {
                    case.id == *filter
                } else {
                    case.id.contains(filter)
                }
            };
            filters.is_empty() || filters.iter().any(one)
        };
        self.cases.iter().filter(fits).cloned().collect()
    }
}

/// Why a scenario folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The folder, or a file in it, cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Unreadable {
        /// What could not be read.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The folder holds no scenario.
    #[error("{}: no scenario file (*.toml) in it", .0.display())]
    Empty(PathBuf),
    /// Files that say something wrong: every fault of every file, one a line.
    #[error("{}", lines(.0))]
    Broken(Vec<Fault>),
}

/// One thing that is wrong in a scenario file: prints as `file:line: field: what, what is allowed`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The file, as it was reached.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The field, dotted, as a case sees it: `client.certificate.issuer`. Empty: the file as a whole.
    pub field: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        // A parser's message may have several lines; a fault has one.
        f.write_str(&self.message.replace('\n', "; "))
    }
}

fn lines(faults: &[Fault]) -> String {
    faults
        .iter()
        .map(Fault::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Reads every `*.toml` below `folder` and expands it.
///
/// # Errors
/// When anything in the folder cannot be read or is wrong; all faults of all files are in the error.
pub fn load(folder: &Path) -> Result<Suite, LoadError> {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    files.sort();
    let mut faults = Vec::new();
    let mut cases = Vec::new();
    let mut deviations = Deviations::default();
    let mut found = false;
    for path in files {
        let text = std::fs::read_to_string(&path).map_err(|source| LoadError::Unreadable {
            path: path.clone(),
            source,
        })?;
        let name = path
            .strip_prefix(folder)
            .unwrap_or(&path)
            .display()
            .to_string();
        let file = folder.join(&name).display().to_string();
        if name == DEVIATIONS {
            match Deviations::read(&file, &text) {
                Ok(read) => deviations = read,
                Err(mut wrong) => faults.append(&mut wrong),
            }
            continue;
        }
        found = true;
        match parse::read(&file, &text) {
            Ok(variants) => cases.extend(matrix::expand(&name, variants)),
            Err(mut wrong) => faults.append(&mut wrong),
        }
    }
    faults.extend(duplicates(folder, &cases));
    faults.extend(siblings(folder, &cases));
    if !faults.is_empty() {
        faults.sort();
        return Err(LoadError::Broken(faults));
    }
    if !found {
        return Err(LoadError::Empty(folder.into()));
    }
    cases.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(Suite { cases, deviations })
}

/// Reads one scenario file's text and expands it, as [`load`] does; `file` is what faults name.
///
/// # Errors
/// Every fault of it.
pub fn read(file: &str, text: &str) -> Result<Vec<Case>, Vec<Fault>> {
    parse::read(file, text).map(|variants| matrix::expand(file, variants))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), LoadError> {
    let unreadable = |source| LoadError::Unreadable {
        path: folder.into(),
        source,
    };
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|ext| ext == "toml") {
            files.push(path);
        }
    }
    Ok(())
}

/// Two files that make the same case id: neither could be named alone.
fn duplicates(folder: &Path, cases: &[Case]) -> Vec<Fault> {
    let mut first: BTreeMap<&str, &str> = BTreeMap::new();
    let mut faults = Vec::new();
    for case in cases {
        if let Some(other) = first.insert(&case.id, &case.file) {
            let both = if other == case.file {
                "twice in this file"
            } else {
                other
            };
            faults.push(Fault {
                file: folder.join(&case.file).display().to_string(),
                line: 1,
                field: "variant".into(),
                message: format!(
                    "case id {} is made by {both} too; give one of them another variant",
                    case.id
                ),
            });
        }
    }
    faults
}

/// `near_miss = "FILE"` must name a scenario that is silence.
fn siblings(folder: &Path, cases: &[Case]) -> Vec<Fault> {
    let mut faults = BTreeMap::new();
    for case in cases {
        let Some((line, sibling)) = &case.sibling else {
            continue;
        };
        if !cases
            .iter()
            .any(|other| other.file == *sibling && other.scenario.expect.is_none())
        {
            faults.entry(&case.file).or_insert_with(|| Fault {
                file: folder.join(&case.file).display().to_string(),
                line: *line,
                field: "near_miss".into(),
                message: format!(
                    "{sibling:?} is no scenario that must be silence; allowed: the path of one, relative to the scenario folder, or a table that overlays this one"
                ),
            });
        }
    }
    faults.into_values().collect()
}

/// For tests: the cases of one scenario's text.
#[cfg(test)]
pub(crate) fn cases(text: &str) -> Vec<Case> {
    matrix::expand(
        "test.toml",
        parse::read("test.toml", text).expect("the text is a scenario"),
    )
}
