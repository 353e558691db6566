//! `mtls-probe programs`: what this kernel says to the programs, without attaching any.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use gauntlet_probes::cost::{Cost, Refused, measure};
use gauntlet_probes::load::{LoadError, Settings, load};
use gauntlet_probes::privileges;
use serde_json::json;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What to print
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,

    /// Folder for the whole logs of programs that the verifier refuses
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    /// A line for people
    #[default]
    Human,
    /// A JSON object a line
    Ndjson,
}

/// True when the kernel took all of them.
pub(crate) fn programs(arguments: &Arguments) -> Result<bool> {
    privileges::check(false)?;
    let settings = Settings::default();
    let programs = measure(&settings)?;
    let mut out = io::stdout().lock();
    for program in &programs {
        writeln!(out, "{}", line(program, arguments.format))?;
    }
    out.flush()?;
    let refused: Vec<&Refused> = programs
        .iter()
        .filter_map(|one| one.as_ref().err())
        .collect();
    for refusal in &refused {
        eprintln!("mtls-probe: the kernel refused {}", refusal.program);
        if let Some(folder) = &arguments.logs {
            keep(refusal, &settings, folder)?;
        }
    }
    Ok(refused.is_empty())
}

fn line(program: &Result<Cost, Refused>, format: Format) -> String {
    let number = |value: Option<u64>| value.map_or_else(|| "?".into(), |value| value.to_string());
    match (program, format) {
        (Ok(cost), Format::Human) => format!(
            "{}: loads in {:.3} s, {} instructions verified, {} bytes of stack, {} bytes of machine code",
            cost.program,
            cost.took.as_secs_f64(),
            number(cost.verified_instructions),
            number(cost.stack_bytes),
            number(cost.jited_bytes)
        ),
        (Err(refused), Format::Human) => format!("{}: refused", refused.program),
        (Ok(cost), Format::Ndjson) => json!({
            "type": "program",
            "name": cost.program,
            "loaded": true,
            "load_us": u64::try_from(cost.took.as_micros()).unwrap_or(u64::MAX),
            "verified_instructions": cost.verified_instructions,
            "stack_bytes": cost.stack_bytes,
            "jited_bytes": cost.jited_bytes,
        })
        .to_string(),
        (Err(refused), Format::Ndjson) => {
            json!({"type": "program", "name": refused.program, "loaded": false}).to_string()
        }
    }
}

/// The loader's own log names the lines of the source, so it is the better one where it is of the
/// same program.
fn keep(refusal: &Refused, settings: &Settings, folder: &Path) -> Result<()> {
    let log = match load(settings) {
        Err(LoadError::Verifier { program, log, .. }) if program == refusal.program => {
            let whole = fs::read_to_string(&log).unwrap_or_else(|_| refusal.log.clone());
            // It is kept in `folder` instead.
            let _gone = fs::remove_file(log);
            whole
        }
        _ => refusal.log.clone(),
    };
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join(format!("{}.log", refusal.program));
    fs::write(&path, log).with_context(|| format!("cannot write {}", path.display()))
}
