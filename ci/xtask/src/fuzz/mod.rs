//! `cargo xtask fuzz`: builds the targets of `fuzz/`, gives them their seeds, runs each for a while, and keeps
//! what they find: minimised, in `fuzz/regressions/TARGET`, where `cargo test` replays it. Judges nothing: the
//! laws do (`laws/`).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use clap::Args;
use serde::Deserialize;

use crate::{child, exit, machine, paths, setup};

mod finding;
mod long;
mod progress;

pub(crate) use long::{PROGRAM as LONG, build as build_long};
use progress::Ended;

/// The target whose law is wrong on purpose: only `--smoke` runs it, and wants it found out.
const PLANTED: &str = "planted";
/// The target that loads programs into the kernel.
const KERNEL: &str = "kernel";
/// How long `--smoke` runs each target, seconds.
const SMOKE: u32 = 3;

#[derive(Args)]
pub(crate) struct Options {
    /// A target of `fuzz/Cargo.toml`; without it, all in turn
    target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// libFuzzer's seed; 0 is any, and which it was is told
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u32,
    /// Without AddressSanitizer: several times as fast
    #[arg(long)]
    no_asan: bool,
    /// Instead of libFuzzer, of `kernel` and `conversation` only: N packets of conversations from a seed, on every
    /// core
    #[arg(long, value_name = "N", requires = "target", conflicts_with_all = ["seconds", "no_asan", "seeds"], value_parser = clap::value_parser!(u64).range(1..))]
    packets: Option<u64>,
    /// With `kernel --packets`: as many again by the kernel's interpreter, if it has one; the JIT is off meanwhile, for
    /// everybody
    #[arg(long, requires = "packets")]
    interpreter: bool,
    /// Every target for three seconds, and one whose law is wrong on purpose and must be found out
    #[arg(long, conflicts_with_all = ["target", "seeds", "packets"])]
    smoke: bool,
    /// Only make the seeds, from the recordings and scenarios
    #[arg(long)]
    seeds: bool,
}

pub(crate) fn run(options: &Options) -> Result<u8> {
    if options.smoke {
        let (code, why) = smoke()?;
        if code != exit::OK {
            eprintln!("xtask: smoke: {why}");
        }
        return Ok(code);
    }
    let root = paths::repo_root();
    let all = targets(&root)?;
    let known: Vec<&str> = all
        .iter()
        .map(String::as_str)
        .filter(|name| *name != PLANTED)
        .collect();
    let targets = match options.target.as_deref() {
        None => known,
        Some(target) if all.iter().any(|name| name == target) => vec![target],
        Some(target) => {
            eprintln!(
                "xtask: no fuzz target `{target}`; fuzz/Cargo.toml has: {}",
                known.join(", ")
            );
            return Ok(exit::USAGE);
        }
    };
    if targets.is_empty() {
        eprintln!("xtask: fuzz/Cargo.toml has no [[bin]], nothing was fuzzed");
        return Ok(exit::NO_VERDICT);
    }
    if let (Some(packets), [target]) = (options.packets, &targets[..]) {
        return long::run(&root, target, packets, options);
    }
    if let Some(code) = setup::blocked(setup::Scope::Fuzz)? {
        return Ok(code);
    }
    if !seeds(&root)? {
        eprintln!("xtask: the seeds could not be made, nothing was fuzzed");
        return Ok(exit::NO_VERDICT);
    }
    if options.seeds {
        return Ok(exit::OK);
    }
    let way = if options.no_asan {
        Way::Plain
    } else {
        Way::Asan
    };
    let fuzzer = Fuzzer { root, way };
    if !fuzzer.build()? {
        eprintln!("xtask: the fuzz targets do not build, nothing was fuzzed");
        return Ok(exit::NO_VERDICT);
    }
    let mut ended = Vec::new();
    for target in targets {
        ended.push((
            target,
            fuzzer.target(target, options.seconds, options.seed)?,
        ));
    }
    println!("{}", progress::summary(&ended));
    Ok(code(&ended))
}

/// Every target a few seconds, and the planted one found out. The second value is why it is red.
pub(crate) fn smoke() -> Result<(u8, String)> {
    let root = paths::repo_root();
    if let Some(code) = setup::blocked(setup::Scope::Fuzz)? {
        return Ok((code, "cargo-fuzz is missing".into()));
    }
    if !seeds(&root)? {
        return Ok((exit::NO_VERDICT, "no seeds".into()));
    }
    let all = targets(&root)?;
    let fuzzer = Fuzzer {
        root,
        way: Way::Smoke,
    };
    if !fuzzer.build()? {
        return Ok((exit::UNEXPECTED, "the fuzz targets do not build".into()));
    }
    let mut ended = Vec::new();
    for target in all.iter().filter(|name| *name != PLANTED) {
        ended.push((target.as_str(), fuzzer.target(target, SMOKE, 1)?));
    }
    println!("{}", progress::summary(&ended));
    let planted = fuzzer.target(PLANTED, 20, 1)?;
    Ok(smoked(&ended, &planted))
}

/// What a smoke run comes to, and why it is red.
fn smoked(ended: &[(&str, Ended)], planted: &Ended) -> (u8, String) {
    let silent = ended
        .iter()
        .find_map(|(target, ended)| Some((target, ended.no_verdict.as_ref()?)));
    if ended.is_empty() {
        (exit::NO_VERDICT, "fuzz/Cargo.toml has no target".into())
    } else if let Some((target, why)) = silent {
        (exit::NO_VERDICT, format!("{target}: {why}"))
    } else if let Some(why) = &planted.no_verdict {
        (exit::NO_VERDICT, format!("{PLANTED}: {why}"))
    } else if planted.finding.is_none() {
        let why = "a law that is wrong on purpose was not found out";
        (exit::UNEXPECTED, why.into())
    } else {
        (code(ended), findings(ended))
    }
}

/// What was found, target by target: the last lines of a gate's run are often all that is left of it.
fn findings(ended: &[(&str, Ended)]) -> String {
    let found: Vec<String> = ended
        .iter()
        .filter_map(|(target, ended)| Some(format!("{target}: {}", ended.finding.as_ref()?)))
        .collect();
    found.join("; ")
}

fn code(ended: &[(&str, Ended)]) -> u8 {
    if ended.iter().any(|(_, ended)| ended.no_verdict.is_some()) {
        exit::NO_VERDICT
    } else if ended.iter().any(|(_, ended)| ended.finding.is_some()) {
        exit::UNEXPECTED
    } else {
        exit::OK
    }
}

/// How targets are built.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Optimised, with AddressSanitizer.
    Asan,
    /// Optimised.
    Plain,
    /// Built fast: the laws are the subject.
    Smoke,
}

/// The targets, built or to be built.
struct Fuzzer {
    root: PathBuf,
    way: Way,
}

impl Fuzzer {
    /// Kept apart, so that one way of building does not undo the other.
    fn target_dir(&self) -> PathBuf {
        let way = match self.way {
            Way::Asan => "asan",
            Way::Plain => "plain",
            Way::Smoke => "smoke",
        };
        self.root.join("fuzz/target").join(way)
    }

    fn build(&self) -> Result<bool> {
        let program = setup::CargoTool::FUZZ.program(&paths::cache_dir()?);
        let mut command = child::command(&program);
        command
            .args(["fuzz", "build"])
            .args(match self.way {
                Way::Asan => &["--sanitizer", "address"][..],
                Way::Plain => &["--sanitizer", "none"],
                Way::Smoke => &["--sanitizer", "none", "--dev"],
            })
            .arg("--target-dir")
            .arg(self.target_dir())
            .current_dir(&self.root);
        // Sanitizers and coverage are unstable flags of a stable compiler.
        command.env("RUSTC_BOOTSTRAP", "1");
        child::live(&mut command)
    }

    fn program(&self, target: &str) -> Command {
        let profile = if self.way == Way::Smoke {
            "debug"
        } else {
            "release"
        };
        let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let folder = self.target_dir().join(triple).join(profile);
        let mut command = Command::new(folder.join(target));
        command.current_dir(&self.root);
        command
    }

    /// Runs a target, and keeps what it finds.
    fn target(&self, target: &str, seconds: u32, seed: u32) -> Result<Ended> {
        if target == KERNEL
            && let Some(reason) = machine::cannot_load_bpf()
        {
            eprintln!("xtask: {target} cannot run: {reason}");
            return Ok(Ended::without(reason));
        }
        let corpus = self.root.join("fuzz/corpus").join(target);
        let artifacts = self.root.join("fuzz/artifacts").join(target);
        for folder in [&corpus, &artifacts] {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let mut command = self.program(target);
        command
            .arg(&corpus)
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-seed={seed}"))
            .args(["-print_final_stats=1", "-timeout=60", "-rss_limit_mb=4096"])
            .arg(format!(
                "-dict={}",
                self.root.join("fuzz/tls.dict").display()
            ));
        let mut ended = progress::watch(target, &mut command)?;
        if ended.finding.is_some() && target != PLANTED {
            for line in &ended.said {
                eprintln!("{target}: {line}");
            }
        }
        if let Some(slow) = &ended.slow {
            eprintln!("xtask: {target}: an input takes long: {}", slow.display());
        }
        if let Some(artifact) = &ended.artifact
            && target != PLANTED
            && ended.no_verdict.is_none()
        {
            let why = ended.finding.as_deref().unwrap_or("a crash");
            let kept = finding::keep(&self.root, target, artifact, why, || self.program(target))?;
            eprintln!("xtask: {target}: {why}\nxtask: kept as {}", kept.display());
            ended.finding = Some(format!("{why} ({})", kept.display()));
        }
        Ok(ended)
    }
}

/// Makes the seeds of every target.
fn seeds(root: &Path) -> Result<bool> {
    let mut seeds = child::cargo();
    seeds
        .args([
            "run",
            "--quiet",
            "-p",
            "gauntlet-laws",
            "--bin",
            "seeds",
            "--",
        ])
        .arg(root)
        .arg(root.join("fuzz/corpus"))
        .current_dir(root);
    child::live(&mut seeds)
}

fn targets(root: &Path) -> Result<Vec<String>> {
    let text =
        fs::read_to_string(root.join("fuzz/Cargo.toml")).context("cannot read fuzz/Cargo.toml")?;
    fuzz_targets(&text).context("fuzz/Cargo.toml")
}

/// The names of the `[[bin]]` tables, which cargo-fuzz takes for its targets.
fn fuzz_targets(manifest: &str) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Manifest {
        #[serde(default)]
        bin: Vec<Bin>,
    }
    #[derive(Deserialize)]
    struct Bin {
        name: String,
    }
    let manifest: Manifest = toml::from_str(manifest)?;
    Ok(manifest.bin.into_iter().map(|bin| bin.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_bins_of_the_manifest() {
        let manifest = r#"
[package]
name = "gauntlet-fuzz"
[[bin]]
name = "records"
path = "records.rs"
[[bin]]
path = "flow.rs"
name="flow" # the machine
[dependencies]
name = "not this"
"#;
        assert_eq!(fuzz_targets(manifest).unwrap(), ["records", "flow"]);
        let none = fuzz_targets("[package]\nname = \"x\"\n").unwrap();
        assert!(none.is_empty(), "{none:?}");
        assert!(fuzz_targets("[[bin]]\n").is_err());
    }

    #[test]
    fn every_file_of_a_target_is_a_target() {
        let root = paths::repo_root();
        let mut named = targets(&root).unwrap();
        let mut files: Vec<String> = fs::read_dir(root.join("fuzz/fuzz_targets"))
            .unwrap()
            .map(|file| file.unwrap().path())
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        named.sort();
        files.sort();
        assert_eq!(named, files);
    }

    /// A program in the place of a target, that says this.
    fn says(lines: &str) -> Ended {
        let mut program = Command::new("sh");
        program.args(["-c", &format!("printf '{lines}' >&2")]);
        progress::watch("x", &mut program).unwrap()
    }

    #[test]
    fn a_smoke_run_that_ran_nothing_is_red() {
        let ran = || {
            let ended = says("#2\\tINITED cov: 1\\nstat::number_of_executed_units: 9\\n");
            assert_eq!(ended.executions, 9);
            ended
        };
        let found = || Ended {
            finding: Some("planted".into()),
            ..ran()
        };
        assert_eq!(smoked(&[("a", ran())], &found()).0, exit::OK);
        for silent in [
            says(""),
            says("INFO: Seed: 1\\nstat::number_of_executed_units: 0\\n"),
        ] {
            let (code, why) = smoked(&[("a", ran()), ("b", silent)], &found());
            assert_eq!(code, exit::NO_VERDICT);
            assert_eq!(why, "b: a run that never ran: not one execution");
        }
        assert_eq!(smoked(&[], &found()).0, exit::NO_VERDICT);
        assert_eq!(smoked(&[("a", ran())], &says("")).0, exit::NO_VERDICT);
        assert_eq!(smoked(&[("a", ran())], &ran()).0, exit::UNEXPECTED);
        let (code, why) = smoked(&[("a", ran()), ("b", found())], &found());
        assert_eq!((code, why.as_str()), (exit::UNEXPECTED, "b: planted"));
    }

    #[test]
    fn a_finding_is_red_and_no_verdict_is_redder() {
        let ended = || ("a", Ended::default());
        let found = || {
            let finding = Some("x".into());
            (
                "b",
                Ended {
                    finding,
                    ..Ended::default()
                },
            )
        };
        assert_eq!(code(&[ended()]), exit::OK);
        assert_eq!(code(&[ended(), found()]), exit::UNEXPECTED);
        assert_eq!(
            code(&[found(), ("c", Ended::without("no root".into()))]),
            exit::NO_VERDICT
        );
    }
}
