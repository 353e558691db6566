//! A verifier's refusal, kept so that it can be attached to a bug report: kernel, program, the whole
//! log, and the line of Rust that the verifier last looked at.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use gauntlet_guest::protocol;

use super::{
    folder::{Folder, root},
    results::Results,
};

/// Keeps the logs of all programs that a kernel refused; returns where.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn keep(
    kernel: &str,
    folder: &Folder,
    results: Option<&Results>,
) -> Result<Vec<PathBuf>> {
    let mut kept = Vec::new();
    let programs = results.into_iter().flat_map(|results| {
        results
            .programs
            .iter()
            .map(move |program| (results, program))
    });
    for (results, program) in programs.filter(|(_, program)| !program.loaded) {
        let log = folder
            .results()
            .join(protocol::VERIFIER)
            .join(format!("{}.log", program.name));
        let log = fs::read_to_string(&log).unwrap_or_default();
        let place = place(kernel, &program.name);
        fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
        fs::write(place.join("verifier.log"), &log)?;
        fs::write(
            place.join("about.txt"),
            about(&results.release, &program.name, &log),
        )?;
        kept.push(place);
    }
    Ok(kept)
}

/// Where the refusal of a program by a kernel is kept.
pub(crate) fn place(kernel: &str, program: &str) -> PathBuf {
    root().join("refusals").join(kernel).join(program)
}

fn about(release: &str, program: &str, log: &str) -> String {
    let source = last_source_line(log).unwrap_or("unknown: the log names no source");
    let end: Vec<&str> = log
        .lines()
        .rev()
        .filter(|line| !line.trim().is_empty())
        .take(3)
        .collect();
    let end: Vec<&str> = end.into_iter().rev().collect();
    format!(
        "kernel: {release}\nprogram: {program}\nsource: {source}\nverifier: {}\n",
        end.join("\n          ")
    )
}

/// The verifier writes the source before the instructions that came of it: `; let x = y; @ flow.rs:12`.
fn last_source_line(log: &str) -> Option<&str> {
    log.lines()
        .rev()
        .find_map(|line| line.strip_prefix("; "))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::results::tests::whole;

    const LOG: &str = include_str!("fixtures/refused.verifier");

    #[test]
    fn the_source_line_is_the_last_the_verifier_named() {
        let about = about("5.10.0-32-amd64", "planted", LOG);
        assert!(
            about.contains("kernel: 5.10.0-32-amd64\nprogram: planted\n"),
            "{about}"
        );
        let source = about
            .lines()
            .find(|line| line.starts_with("source: "))
            .unwrap();
        assert!(!source.contains("unknown"), "{source}");
    }

    #[test]
    fn only_what_was_refused_is_kept() {
        let scratch = std::env::temp_dir().join(format!("gauntlet-refusal-{}", std::process::id()));
        let folder = Folder::at(&scratch);
        assert!(keep("test", &folder, Some(&whole())).unwrap().is_empty());
        let mut refused = whole();
        refused.programs[0].loaded = false;
        let kept = keep("test-only", &folder, Some(&refused)).unwrap();
        assert!(kept[0].starts_with(root().join("refusals/test-only")));
        fs::remove_dir_all(root().join("refusals/test-only")).unwrap();
    }
}
