//! What a running target says, as one live line, and how all ended, as a table. Reads libFuzzer's own words.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, IsTerminal, Write as _, stderr},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::child;

/// Between two live lines, where they do not overwrite each other.
const RARELY: Duration = Duration::from_secs(10);

/// How a target ended.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Ended {
    pub(super) executions: u64,
    pub(super) coverage: u64,
    pub(super) seed: Option<String>,
    pub(super) took: Duration,
    /// What it found, in its own words.
    pub(super) finding: Option<String>,
    /// The input that showed it.
    pub(super) artifact: Option<PathBuf>,
    /// An input that took so long that libFuzzer kept it; nothing was wrong with what came of it.
    pub(super) slow: Option<PathBuf>,
    /// Why nothing was learned.
    pub(super) no_verdict: Option<String>,
    pub(super) said: Vec<String>,
}

impl Ended {
    /// One that did not run.
    pub(super) fn without(reason: String) -> Self {
        Self {
            no_verdict: Some(reason),
            ..Self::default()
        }
    }

    fn rate(&self) -> u64 {
        (self.executions as f64 / self.took.as_secs_f64().max(0.001)) as u64
    }

    /// Takes a line; whether it says how far the target is.
    fn line(&mut self, line: &str) -> bool {
        if let Some(rest) = line.strip_prefix('#') {
            let mut words = rest.split_whitespace();
            self.executions = number(words.next()).unwrap_or(self.executions);
            while let Some(word) = words.next() {
                if word == "cov:" {
                    self.coverage = number(words.next()).unwrap_or(self.coverage);
                }
            }
            return true;
        }
        if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
            self.executions = number(Some(count.trim())).unwrap_or(self.executions);
        } else if let Some(seed) = line.strip_prefix("INFO: Seed: ") {
            self.seed = Some(seed.trim().into());
        } else if let Some((_, path)) = line.split_once("Test unit written to ") {
            let path = PathBuf::from(path.trim());
            let is_slow = path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"slow-unit-"));
            *(if is_slow {
                &mut self.slow
            } else {
                &mut self.artifact
            }) = Some(path);
        } else if let Some(reason) = line.strip_prefix("the kernel refuses: ") {
            self.no_verdict = Some(reason.into());
        } else if !line.starts_with("INFO:") && !line.starts_with("stat::") && self.said.len() < 40
        {
            self.said.push(line.into());
        }
        false
    }

    /// What the law said: the line after that which names the place of the panic.
    fn why(&self) -> String {
        let panicked = self
            .said
            .iter()
            .position(|line| line.contains("panicked at "));
        let why = match panicked {
            Some(at) => self.said[at + 1..]
                .iter()
                .take(3)
                .map(|line| line.trim())
                .collect::<Vec<_>>()
                .join("; "),
            None => self
                .said
                .iter()
                .find_map(|line| line.split_once("ERROR: ").map(|(_, rest)| rest.to_owned()))
                .unwrap_or_else(|| "it ended without a word".into()),
        };
        why.trim_end_matches("; ").to_owned()
    }
}

fn number(word: Option<&str>) -> Option<u64> {
    word?.parse().ok()
}

/// Runs a target to its end.
pub(super) fn watch(target: &str, command: &mut Command) -> Result<Ended> {
    let start = Instant::now();
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", child::line(command)))?;
    let mut lines = BufReader::new(process.stderr.take().context("no pipe to the target")?);
    let is_terminal = stderr().is_terminal();
    let (mut ended, mut bytes, mut shown) = (Ended::default(), Vec::new(), None::<Instant>);
    // By bytes: a finding may print anything.
    while lines
        .read_until(b'\n', &mut bytes)
        .context("cannot read from the target")?
        > 0
    {
        let is_progress = ended.line(String::from_utf8_lossy(&bytes).trim_end());
        bytes.clear();
        ended.took = start.elapsed();
        if is_progress && (is_terminal || shown.is_none_or(|at| at.elapsed() >= RARELY)) {
            shown = Some(Instant::now());
            let (begin, end) = if is_terminal {
                ("\r\x1b[K", "")
            } else {
                ("", "\n")
            };
            eprint!(
                "{begin}{target}: {} executions, {}/s, coverage {}, {} findings{end}",
                ended.executions,
                ended.rate(),
                ended.coverage,
                u8::from(ended.artifact.is_some())
            );
            stderr().flush()?;
        }
    }
    let status = process.wait().context("cannot wait for the target")?;
    ended.took = start.elapsed();
    if is_terminal {
        eprintln!();
    }
    if !status.success() && ended.no_verdict.is_none() {
        ended.finding = Some(ended.why());
    } else if ended.executions == 0 && ended.no_verdict.is_none() {
        ended.no_verdict = Some("a run that never ran: not one execution".into());
    }
    Ok(ended)
}

/// One line for each target.
pub(super) fn summary(all: &[(&str, Ended)]) -> String {
    let mut table = format!(
        "\n{:<14} {:>12} {:>9} {:>9} {:>12}  result\n",
        "target", "executions", "per s", "coverage", "seed"
    );
    for (target, ended) in all {
        let result = match (&ended.no_verdict, &ended.finding) {
            (Some(reason), _) => format!("no verdict: {reason}"),
            (None, Some(finding)) => format!("FOUND: {finding}"),
            (None, None) if ended.slow.is_some() => "ok, an input takes long".into(),
            (None, None) => "ok".into(),
        };
        let seed = ended.seed.as_deref().unwrap_or("");
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "{target:<14} {:>12} {:>9} {:>9} {seed:>12}  {result}",
            ended.executions,
            ended.rate(),
            ended.coverage
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_read() {
        let mut ended = Ended::default();
        for line in [
            "INFO: Seed: 77",
            "#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 30Mb",
            "#4096\tpulse  cov: 99 ft: 300 corp: 9/90b lim: 4 exec/s: 2048 rss: 40Mb",
            "thread '<unnamed>' panicked at laws/src/hello.rs:9:1:",
            "assertion failed: the machine's reading",
            "SUMMARY: libFuzzer: deadly signal",
            "artifact_prefix='x/'; Test unit written to x/crash-1",
            "stat::number_of_executed_units: 5000",
        ] {
            ended.line(line);
        }
        assert_eq!((ended.executions, ended.coverage), (5_000, 99));
        assert_eq!(ended.seed.as_deref(), Some("77"));
        assert_eq!(ended.artifact, Some("x/crash-1".into()));
        assert_eq!(ended.slow, None);
        assert!(
            ended
                .why()
                .starts_with("assertion failed: the machine's reading")
        );
    }

    #[test]
    fn an_input_that_takes_long_is_no_finding() {
        let mut ended = Ended::default();
        ended.line("artifact_prefix='x/'; Test unit written to x/slow-unit-b2be");
        assert_eq!(ended.artifact, None);
        assert_eq!(ended.slow, Some("x/slow-unit-b2be".into()));
        let table = summary(&[("recut", ended)]);
        assert!(table.contains("ok, an input takes long"), "{table}");
    }

    #[test]
    fn a_kernel_that_refuses_is_no_finding() {
        let mut ended = Ended::default();
        ended.line("the kernel refuses: EPERM");
        assert_eq!(ended.no_verdict.as_deref(), Some("EPERM"));
        let table = summary(&[("kernel", ended)]);
        assert!(table.contains("no verdict: EPERM"), "{table}");
    }
}
