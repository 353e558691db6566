//! Recorded captures through the loaded program (BPF_PROG_TEST_RUN) and the host build at once: they must
//! agree on every event, byte by byte, and on every counter.

use std::process::Command;

use libtest_mimic::{Failed, Trial};

use crate::recorded::{STALL_AFTER_MS, cases, files, many};
use crate::watch::PROBE;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = files()
        .into_iter()
        .map(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            Trial::test(format!("replay::both_engines_agree::{name}"), move || {
                let events = cases(&file).iter().map(|case| case.events.len()).sum();
                // Its key log would take the good ones away.
                let silent = file.to_string_lossy().contains("none.");
                both(&file, if silent { 0 } else { events })
            })
        })
        .collect();
    trials.push(Trial::test(
        "replay::both_engines_agree::on_ten_thousand_at_once",
        || {
            let file = tempfile::NamedTempFile::new()?;
            let (bytes, connections, classes) = many(15);
            assert!(connections >= 10_000, "{connections}");
            std::fs::write(file.path(), bytes)?;
            both(file.path(), classes.len())
        },
    ));
    trials
}

fn both(file: &std::path::Path, events: usize) -> Result<(), Failed> {
    let output = Command::new(PROBE)
        .args(["replay", "--engine", "both", "--format", "ndjson"])
        .args(["--stall-after", &format!("{STALL_AFTER_MS}ms")])
        .arg(file)
        .output()?;
    let said = String::from_utf8(output.stdout)?;
    let error = String::from_utf8(output.stderr)?;
    if !output.status.success() || !error.is_empty() {
        return Err(format!("{}: {error}", output.status).into());
    }
    let lines = said.lines().count();
    if lines != events + 1 {
        return Err(format!("{lines} lines, where {events} events are due").into());
    }
    Ok(())
}
