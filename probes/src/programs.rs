//! `mtls-probe programs`: what this kernel says to the programs, without attaching any.

use std::fs;
use std::io::{self, Write};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use gauntlet_probes::cost::{Cost, CostError, Refused, measure};
use gauntlet_probes::load::{LoadError, Settings, load};
use gauntlet_probes::{object, privileges, source};
use serde_json::json;

use crate::watch::TransportName;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What to print
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,

    /// Folder for the whole logs of programs that the verifier refuses, and the source's line
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,

    /// How events are to come from them; with `perf`, of live programs only
    #[arg(long, value_enum, default_value_t = TransportName::Ring)]
    transport: TransportName,
}

type Measured = std::result::Result<Vec<std::result::Result<Cost, Refused>>, CostError>;

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
    let mut all_taken = true;
    for (configuration, settings, programs) in measured(arguments.transport) {
        let programs = programs?;
        let mut out = io::stdout().lock();
        for program in &programs {
            writeln!(out, "{}", line(program, configuration, arguments.format))?;
        }
        out.flush()?;
        for refusal in programs.iter().filter_map(|one| one.as_ref().err()) {
            all_taken = false;
            let name = format!("{}{}", refusal.program, at(configuration));
            eprintln!("mtls-probe: the kernel refused {name}");
            if let Some(folder) = &arguments.logs {
                keep(refusal, &name, &settings, folder)?;
            }
        }
    }
    Ok(all_taken)
}

/// Every configuration's costs, in order; measured side by side, since the verifier needs one CPU for seconds.
fn measured(transport: TransportName) -> Vec<(&'static str, Settings, Measured)> {
    thread::scope(|scope| {
        let begun: Vec<_> = configurations(transport)
            .into_iter()
            .map(|(name, settings)| {
                let of_thread = settings.clone();
                (name, settings, scope.spawn(move || measure(&of_thread)))
            })
            .collect();
        let ended = begun.into_iter().map(|(name, settings, thread)| {
            let measured = thread.join();
            (
                name,
                settings,
                measured.unwrap_or_else(|panic| resume_unwind(panic)),
            )
        });
        ended.collect()
    })
}

/// What is shipped, by name. Constants that are set at loading make other programs for the verifier, with
/// costs of their own.
fn configurations(transport: TransportName) -> Vec<(&'static str, Settings)> {
    if transport == TransportName::Perf {
        let perf = Settings {
            transport: transport.into(),
            ..Settings::default()
        };
        return vec![("perf", perf)];
    }
    let capture = Settings {
        capture_time: true,
        ..Settings::default()
    };
    vec![("default", Settings::default()), ("capture", capture)]
}

/// What tells a program from the same one in the default configuration.
fn at(configuration: &str) -> String {
    match configuration {
        "default" => String::new(),
        other => format!("@{other}"),
    }
}

fn line(program: &Result<Cost, Refused>, configuration: &str, format: Format) -> String {
    let of = |used: Option<u64>, limit: Option<u64>| match (used, limit) {
        (Some(used), Some(limit)) => format!("{used} of {limit}"),
        (Some(used), None) => used.to_string(),
        (None, _) => "?".into(),
    };
    let at = at(configuration);
    match (program, format) {
        (Ok(cost), Format::Human) => format!(
            "{}{at}: loads in {:.3} s, {} instructions verified, {} bytes of stack, {} bytes of machine code, {} of {} tail calls",
            cost.program,
            cost.took.as_secs_f64(),
            of(
                cost.verified_instructions,
                cost.limits.verified_instructions
            ),
            of(cost.stack_bytes, Some(cost.limits.stack_bytes)),
            of(cost.jited_bytes, None),
            cost.limits.tail_calls - cost.headroom().tail_calls,
            cost.limits.tail_calls
        ),
        (Err(refused), Format::Human) => format!("{}{at}: refused", refused.program),
        (Ok(cost), Format::Ndjson) => json!({
            "type": "program",
            "name": cost.program,
            "configuration": configuration,
            "loaded": true,
            "load_us": u64::try_from(cost.took.as_micros()).unwrap_or(u64::MAX),
            "verified_instructions": cost.verified_instructions,
            "stack_bytes": cost.stack_bytes,
            "jited_bytes": cost.jited_bytes,
            "limits": {
                "verified_instructions": cost.limits.verified_instructions,
                "stack_bytes": cost.limits.stack_bytes,
                "tail_calls": cost.limits.tail_calls,
            },
            "headroom": {
                "verified_instructions": cost.headroom().verified_instructions,
                "stack_bytes": cost.headroom().stack_bytes,
                "tail_calls": cost.headroom().tail_calls,
            },
        })
        .to_string(),
        (Err(refused), Format::Ndjson) => json!({
            "type": "program",
            "name": refused.program,
            "configuration": configuration,
            "loaded": false,
        })
        .to_string(),
    }
}

/// The loader's own log names the lines of the source, so it is the better one where it is of the
/// same program.
fn keep(refusal: &Refused, name: &str, settings: &Settings, folder: &Path) -> Result<()> {
    let family = [object::INTERFACE, object::CGROUP]
        .into_iter()
        .find(|family| family.all().any(|name| name == refusal.program));
    let log = match load(settings, family.unwrap_or(object::INTERFACE)) {
        Err(LoadError::Verifier { program, log, .. }) if program == refusal.program => {
            let whole = fs::read_to_string(&log).unwrap_or_else(|_| refusal.log.clone());
            // It is kept in `folder` instead.
            let _gone = fs::remove_file(log);
            whole
        }
        _ => refusal.log.clone(),
    };
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let write = |end: &str, text: &str| {
        let path = folder.join(format!("{name}.{end}"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write("log", &log)?;
    source::of_refusal(refusal.program, &log).map_or(Ok(()), |line| write("source", &line))
}
