//! A verifier's refusal, kept so that it can be attached to a bug report: kernel, program, the whole
//! log, and the line of Rust that the verifier last looked at.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use gauntlet_guest::protocol;

use super::{
    folder::{Folder, root},
    results::Results,
};

/// Keeps the logs of all programs that a kernel refused; returns a line for each, with where and why.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn keep(
    kernel: &str,
    folder: &Folder,
    results: Option<&Results>,
) -> Result<Vec<String>> {
    let mut kept = Vec::new();
    let programs = results.into_iter().flat_map(|results| {
        results
            .programs
            .iter()
            .map(move |program| (results, program))
    });
    for (results, program) in programs.filter(|(_, program)| !program.loaded) {
        let left = |end: &str| {
            let file = format!("{}.{end}", program.name);
            fs::read_to_string(folder.results().join(protocol::VERIFIER).join(file))
        };
        let log = left("log").unwrap_or_default();
        let place = place(kernel, &program.name);
        fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
        fs::write(place.join("verifier.log"), &log)?;
        fs::write(
            place.join("about.txt"),
            about(&results.release, &program.name, left("source").ok(), &log),
        )?;
        kept.push(format!(
            "the refusal is kept in {}: {}",
            place.display(),
            reason(&log)
        ));
    }
    Ok(kept)
}

/// Where the refusal of a program by a kernel is kept.
pub(crate) fn place(kernel: &str, program: &str) -> PathBuf {
    root().join("refusals").join(kernel).join(program)
}

fn about(release: &str, program: &str, place: Option<String>, log: &str) -> String {
    let text = last_source_line(log).unwrap_or("the log names no source");
    let place = place.unwrap_or_else(|| "unknown".into());
    let mut end: Vec<&str> = said_last(log).take(3).collect();
    end.reverse();
    format!(
        "kernel: {release}\nprogram: {program}\nsource: {place}: {text}\nverifier: {}\n",
        end.join("\n          ")
    )
}

/// Why, in the verifier's own words.
fn reason(log: &str) -> &str {
    said_last(log).next().unwrap_or("it did not say why")
}

/// The lines of a log from its end.
fn said_last(log: &str) -> impl Iterator<Item = &str> {
    let said = log.lines().rev().filter(|line| !line.trim().is_empty());
    said.filter(|line| !is_statistics(line))
}

/// What follows the reason in a log.
fn is_statistics(line: &str) -> bool {
    ["verification time ", "stack depth ", "processed "]
        .iter()
        .any(|start| line.starts_with(start))
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
        let about = about("5.10.0-32-amd64", "planted", Some("flow.rs:12".into()), LOG);
        assert!(
            about.contains("kernel: 5.10.0-32-amd64\nprogram: planted\n"),
            "{about}"
        );
        let source = about
            .lines()
            .find(|line| line.starts_with("source: "))
            .unwrap();
        assert!(
            source.starts_with("source: flow.rs:12: let a = b;"),
            "{source}"
        );
        assert_eq!(reason(LOG), "R1 invalid mem access");
        let statistics = format!("{LOG}stack depth 8\nprocessed 2 insns (limit 1000000)\n");
        let about = super::about("5.10", "planted", None, &statistics);
        assert!(
            about.ends_with("R1 invalid mem access\n") && about.contains("source: unknown: let"),
            "{about}"
        );
    }

    #[test]
    fn only_what_was_refused_is_kept() {
        let scratch = std::env::temp_dir().join(format!("gauntlet-refusal-{}", std::process::id()));
        let folder = Folder::at(&scratch);
        assert!(keep("test", &folder, Some(&whole())).unwrap().is_empty());
        let mut refused = whole();
        refused.programs[0].loaded = false;
        let kept = keep("test-only", &folder, Some(&refused)).unwrap();
        let place = place("test-only", "gauntlet_watch");
        let line = format!(
            "the refusal is kept in {}: it did not say why",
            place.display()
        );
        assert_eq!(kept, [line]);
        assert!(place.join("about.txt").is_file());
        fs::remove_dir_all(root().join("refusals/test-only")).unwrap();
    }
}
