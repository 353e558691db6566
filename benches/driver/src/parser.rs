//! What our parser costs on the host: the figures of `parser_cost` (`benches/src/bin`), which is built as it
//! would be shipped, as ratios.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::measurement::{Measurement, noise};

#[derive(Deserialize)]
struct Line {
    name: String,
    bytes: usize,
    ours: Vec<f64>,
    again: Vec<f64>,
    tls_parser: Vec<f64>,
    touch: Vec<f64>,
}

/// Runs it, so many rounds.
///
/// # Errors
/// When it does not run, or says something else.
pub fn measure(program: &Path, rounds: usize) -> Result<Vec<Measurement>> {
    let output = Command::new(program)
        .arg(rounds.to_string())
        .output()
        .with_context(|| program.display().to_string())?;
    ensure!(
        output.status.success(),
        "{}: {}",
        program.display(),
        output.status
    );
    let mut all = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let line: Line = serde_json::from_str(line)?;
        let twice = line.again.iter().zip(&line.ours);
        let noise = noise(&twice.map(|(again, ours)| again / ours).collect::<Vec<_>>());
        for (against, word, theirs) in [
            ("tls_parser", "tls-parser", &line.tls_parser),
            ("touch", "reading every byte once", &line.touch),
        ] {
            let pairs = line.ours.iter().zip(theirs);
            all.push(Measurement::new(
                format!("parser.{}.{against}", line.name),
                format!(
                    "{} of {} bytes, parsed",
                    line.name.replace('_', " "),
                    line.bytes
                ),
                word,
                (line.ours.clone(), "ns"),
                pairs.map(|(ours, theirs)| ours / theirs).collect(),
                Some(noise),
            ));
        }
    }
    Ok(all)
}
