//! Reads what test programs print, while it is being shown. Knows only the form
//! that libtest, libtest-mimic and criterion share with the reader's eye; it
//! never asks for another format, so that what is counted is what was shown.

use std::{
    io::{BufRead, BufReader, Write, stdout},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use crate::child;

/// Tests by how they ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
}

impl Counts {
    pub(super) fn executed(self) -> u64 {
        self.passed + self.failed
    }

    /// Adds what the line says, if it is the result of a test program.
    pub(super) fn add_line(&mut self, line: &str) {
        if let Some(result) = Self::parse(line) {
            self.passed += result.passed;
            self.failed += result.failed;
            self.skipped += result.skipped;
        }
    }

    /// Reads `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; ...`.
    fn parse(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let number = |what: &str| {
            counts.split(';').find_map(|item| {
                let (number, name) = item.trim().split_once(' ')?;
                (name == what).then(|| number.parse().ok())?
            })
        };
        Some(Self {
            passed: number("passed")?,
            failed: number("failed")?,
            skipped: number("ignored")?,
        })
    }
}

/// Counts the benchmarks that criterion ran once, under `--test`.
pub(super) fn count_benchmark(ran: &mut u64, line: &str) {
    *ran += u64::from(line.trim_end() == "Success");
}

/// Runs a command with its output shown as it comes, and hands each line of its
/// standard output to `read`. Returns what was read and whether it succeeded.
pub(super) fn stream<T: Default>(
    command: &mut Command,
    read: impl Fn(&mut T, &str),
) -> Result<(T, bool)> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", child::line(command)))?;
    let mut sum = T::default();
    let mut lines = BufReader::new(child.stdout.take().context("no pipe to the child")?);
    let mut line = Vec::new();
    // By bytes: a test may print anything, and is not to fail for it here.
    while lines
        .read_until(b'\n', &mut line)
        .context("cannot read from the child")?
        > 0
    {
        let mut out = stdout().lock();
        out.write_all(&line)?;
        if !line.ends_with(b"\n") {
            // Cut off in mid-line: what comes next should still be readable.
            out.write_all(b"\n")?;
        }
        out.flush()?;
        read(
            &mut sum,
            String::from_utf8_lossy(&line).trim_end_matches('\n'),
        );
        line.clear();
    }
    Ok((
        sum,
        child.wait().context("cannot wait for the child")?.success(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_programs_add_up() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.00s",
            "test result: FAILED. 90 passed; 6 failed; 0 ignored; 0 measured; 0 filtered out; finished in 4.10s",
            "test nested ... ok",
        ] {
            counts.add_line(line);
        }
        assert_eq!(
            counts,
            Counts {
                passed: 92,
                failed: 6,
                skipped: 1
            }
        );
        assert_eq!(counts.executed(), 98);
    }

    #[test]
    fn lines_that_only_resemble_a_result_do_not_count() {
        for line in [
            "",
            "test result: ok",
            "test result: ok. five passed; 0 failed; 0 ignored",
            "the test result: ok. 5 passed; 0 failed; 0 ignored;",
            "test result: ok. 5 passed",
        ] {
            assert_eq!(Counts::parse(line), None, "{line}");
        }
    }

    #[test]
    fn output_is_read_line_by_line_and_failure_is_kept() {
        let mut command = child::command("sh");
        command.args([
            "-c",
            "printf 'Testing a\\nSuccess\\n\\n\\377\\nTesting b\\nSuccess\\n'; exit 1",
        ]);
        let (ran, success) = stream(&mut command, count_benchmark).unwrap();
        assert_eq!((ran, success), (2, false));
    }
}
