//! `cargo xtask coverage`: the wire crate under its own tests, instrumented. Says how many lines and regions were
//! run through, and each region that was not. Red below what is wanted; of other crates it measures only the BPF
//! programs ([`programs`]), and another way.

use std::fs;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::{child, exit, paths, run::target_dir, setup, toolchain::Toolchain};

mod programs;

#[derive(Args)]
pub(crate) struct Options {
    /// Of what
    #[arg(value_enum, default_value_t = Of::Wire)]
    of: Of,
    /// Packets of conversations after the corpus, for `programs`
    #[arg(long, value_name = "N")]
    packets: Option<u64>,
    /// Says all of those packets; default: another one each time, which is told
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Of {
    /// The wire crate, by its own tests
    Wire,
    /// The BPF programs' reachable instructions, by the corpus and by conversations from a seed
    Programs,
}

/// Percent that must be run through.
const LINES: f64 = 99.0;
/// Percent that must be run through.
const REGIONS: f64 = 97.0;

/// What llvm-cov exports: of one build, one entry.
#[derive(Deserialize)]
struct Export {
    data: Vec<Data>,
}

#[derive(Deserialize)]
struct Data {
    totals: Totals,
    files: Vec<File>,
}

#[derive(Deserialize)]
struct Totals {
    lines: Counted,
    regions: Counted,
}

#[derive(Deserialize)]
struct Counted {
    count: u64,
    covered: u64,
}

#[derive(Deserialize)]
struct File {
    filename: String,
    segments: Vec<Segment>,
}

/// Line, column, count, whether it is counted, whether a region begins here, whether that is a gap.
#[derive(Deserialize)]
struct Segment(u64, u64, u64, bool, bool, bool);

pub(crate) fn run(options: &Options) -> Result<u8> {
    let Options { of, packets, seed } = *options;
    match of {
        Of::Programs => programs::run(packets, seed),
        Of::Wire if packets.is_some() || seed.is_some() => {
            eprintln!("xtask: --packets and --seed are for `coverage programs`");
            Ok(exit::USAGE)
        }
        Of::Wire => wire(),
    }
}

fn wire() -> Result<u8> {
    if let Some(code) = setup::blocked(setup::Scope::Coverage)? {
        return Ok(code);
    }
    let root = paths::repo_root();
    let folder = target_dir()?.join("coverage");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let export = folder.join("wire.json");
    let tools = setup::llvm_tools(&Toolchain::detect()?)?;
    let mut cov = child::command(setup::CargoTool::LLVM_COV.program(&paths::cache_dir()?));
    cov.args(["llvm-cov", "--package", "gauntlet-wire", "--json"])
        .arg("--output-path")
        .arg(&export)
        .current_dir(&root)
        .env("LLVM_COV", tools.join("llvm-cov"))
        .env("LLVM_PROFDATA", tools.join("llvm-profdata"))
        .env("CARGO_LLVM_COV_TARGET_DIR", folder.join("build"))
        // A changed snapshot is a failure, not a file to leave behind.
        .env("INSTA_UPDATE", "no");
    if !child::live(&mut cov)? {
        eprintln!("xtask: the tests are red, or do not build: nothing was measured");
        return Ok(exit::NO_VERDICT);
    }
    let text =
        fs::read_to_string(&export).with_context(|| format!("cannot read {}", export.display()))?;
    let export: Export = serde_json::from_str(&text).context("llvm-cov's JSON")?;
    let [data] = &export.data[..] else {
        bail!("llvm-cov measured {} builds", export.data.len());
    };
    let prefix = format!("{}/", root.display());
    for missed in data.missed() {
        println!("missed: {}", missed.trim_start_matches(&*prefix));
    }
    let (lines, regions) = (data.totals.lines.percent(), data.totals.regions.percent());
    println!("lines {lines:.2} % (at least {LINES}), regions {regions:.2} % (at least {REGIONS})");
    Ok(if lines >= LINES && regions >= REGIONS {
        exit::OK
    } else {
        exit::UNEXPECTED
    })
}

impl Data {
    /// Where regions begin that nothing ran through.
    fn missed(&self) -> Vec<String> {
        let of = |file: &File| {
            let missed = file.segments.iter().filter(|segment| {
                let Segment(_, _, count, counted, begins, gap) = **segment;
                counted && begins && !gap && count == 0
            });
            let place = |segment: &Segment| {
                let Segment(line, column, ..) = segment;
                format!("{}:{line}:{column}", file.filename)
            };
            missed.map(place).collect::<Vec<_>>()
        };
        self.files.iter().flat_map(of).collect()
    }
}

impl Counted {
    /// Of nothing, nothing was run through.
    fn percent(&self) -> f64 {
        100.0 * self.covered as f64 / self.count.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_llvm_cov_exports_is_read() {
        let text = r#"{"data":[{"files":[{"filename":"/r/a.rs","segments":[
            [3,1,7,true,true,false],[4,5,0,true,true,false],[4,9,7,true,false,false],
            [6,1,0,true,true,true],[7,1,0,false,false,false]]}],
            "totals":{"lines":{"count":200,"covered":198,"percent":99.0},
                      "regions":{"count":4,"covered":3,"notcovered":1,"percent":75.0}}}],
            "type":"llvm.coverage.json.export","version":"3.1.0"}"#;
        let export: Export = serde_json::from_str(text).unwrap();
        let data = &export.data[0];
        assert_eq!(data.missed(), ["/r/a.rs:4:5"]);
        assert_eq!(data.totals.lines.percent(), 99.0);
        assert_eq!(data.totals.regions.percent(), 75.0);
    }

    #[test]
    fn nothing_measured_is_not_all_covered() {
        let none = Counted {
            count: 0,
            covered: 0,
        };
        assert_eq!(none.percent(), 0.0);
    }
}
