//! `cargo xtask faults`: the shipped probe with one small fault in it at a time (`faults/*.toml`), judged by the
//! conformance suite, which must notice. Says which case did. Red where a fault survives, no longer applies, or
//! does not build: then it shows nothing. With `--gates`, the gates instead ([`gates`]).
//!
//! Works on a copy of the tree below `target/`; the tree itself is never touched. The judge is the unchanged
//! `gauntlet`: only the probe is built anew.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Deserialize;

use crate::{child, exit, machine, paths, run::target_dir, setup};

mod gates;
mod tree;

use tree::Tree;

#[derive(Args)]
pub(crate) struct Options {
    /// Names in `faults/`, or in `faults/gates/`; none: all
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Faults that the gates of `cargo xtask test` must notice, each by the gate it is for
    #[arg(long)]
    gates: bool,
}

/// A fault, as its file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    /// What is wrong then, for people.
    what: String,
    /// The file it is in.
    file: PathBuf,
    /// Text that stands there exactly once.
    find: String,
    /// What stands there instead.
    put: String,
    /// Parts of the ids of cases that should notice first; of a fault in the probe.
    #[serde(default)]
    cases: Vec<String>,
    /// The gates that are run, of which the last should notice; of a fault for gates.
    #[serde(default)]
    gates: Vec<String>,
    /// What is said when it is noticed for the right reason; of a fault for gates.
    #[serde(default)]
    says: String,
}

/// What became of a fault.
enum Fate {
    /// A case noticed: its id, and its verdict.
    Caught(String, String),
    /// Every case of the suite was as expected.
    Survived,
    /// It shows nothing, for this reason.
    Void(String),
}

pub(crate) fn run(options: &Options) -> Result<u8> {
    let root = paths::repo_root();
    let folder = if options.gates {
        "faults/gates"
    } else {
        "faults"
    };
    let names = &options.names;
    let mut faults = read(&root.join(folder))?;
    if let Some(unknown) = names
        .iter()
        .find(|name| !faults.iter().any(|(known, _)| known == *name))
    {
        let known: Vec<&str> = faults.iter().map(|(name, _)| name.as_str()).collect();
        eprintln!(
            "xtask: no fault `{unknown}`; {folder}/ has: {}",
            known.join(", ")
        );
        return Ok(exit::USAGE);
    }
    faults.retain(|(name, _)| names.is_empty() || names.contains(name));
    if options.gates {
        return gates::run(&root, &faults);
    }
    probes(&root, &faults)
}

/// Faults in the probe, which the suite must notice.
fn probes(root: &Path, faults: &[(String, Fault)]) -> Result<u8> {
    if let Some(reason) = machine::cannot_load_bpf() {
        eprintln!("xtask: BPF cannot be loaded here: {reason}; no fault was tried");
        return Ok(exit::NO_VERDICT);
    }
    if let Some(code) = setup::blocked(setup::Scope::Build)? {
        return Ok(code);
    }
    let scratch = Scratch::make(root)?;
    // Without a fault the same cases must be green: else every fault would seem caught.
    let sound = scratch.build()?;
    let all: Vec<String> = faults
        .iter()
        .flat_map(|(_, fault)| fault.cases.clone())
        .collect();
    match (sound, scratch.judge(&all)?) {
        (
            None,
            Judged {
                unexpected: None,
                passed: 1..,
                ..
            },
        ) => {}
        (Some(error), _) => {
            eprintln!("xtask: the probe does not build without a fault: {error}");
            return Ok(exit::NO_VERDICT);
        }
        (None, judged) => {
            let why = judged
                .unexpected
                .map_or("no case was run".into(), |(id, verdict)| {
                    format!("{id}: {verdict}")
                });
            eprintln!("xtask: without a fault the suite is not green: {why}");
            return Ok(exit::NO_VERDICT);
        }
    }
    let (mut survived, mut void) = (0, 0);
    let total = faults.len();
    for (name, fault) in faults {
        let start = Instant::now();
        let fate = scratch.fate(fault)?;
        let took = start.elapsed().as_secs_f64();
        match fate {
            Fate::Caught(case, verdict) => {
                println!("{name}: caught by {case} ({verdict}), {took:.0} s")
            }
            Fate::Survived => {
                survived += 1;
                println!(
                    "{name}: SURVIVED: {}, and no case noticed, {took:.0} s",
                    fault.what
                );
            }
            Fate::Void(why) => {
                void += 1;
                println!("{name}: shows nothing: {why}");
            }
        }
    }
    println!(
        "{total} faults: {} caught, {survived} survived, {void} show nothing",
        total - survived - void
    );
    Ok(match (survived, void) {
        (0, 0) if total > 0 => exit::OK,
        _ => exit::UNEXPECTED,
    })
}

fn read(folder: &Path) -> Result<Vec<(String, Fault)>> {
    let mut faults = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let path = entry?.path();
        let Some(name) = path
            .file_stem()
            .filter(|_| path.extension().is_some_and(|ext| ext == "toml"))
        else {
            continue;
        };
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let fault: Fault = toml::from_str(&text).with_context(|| path.display().to_string())?;
        faults.push((name.to_string_lossy().into_owned(), fault));
    }
    faults.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(faults)
}

impl Fault {
    /// The file's text with the fault in it; or why it no longer applies.
    fn apply(&self, text: &str) -> Result<String, String> {
        match text.matches(&self.find).count() {
            1 if self.find != self.put => Ok(text.replacen(&self.find, &self.put, 1)),
            1 => Err("it changes nothing".into()),
            count => Err(format!(
                "it no longer applies: what it changes stands {count} times in {}",
                self.file.display()
            )),
        }
    }
}

/// A copy of the tree, where it is built, and who judges.
struct Scratch {
    tree: Tree,
    judge: PathBuf,
}

/// What the suite said.
struct Judged {
    passed: usize,
    /// Why a case could not be run here, if one could not.
    skipped: Option<String>,
    /// The first case that is not as expected, and its verdict.
    unexpected: Option<(String, String)>,
}

impl Scratch {
    fn make(root: &Path) -> Result<Self> {
        let tree = Tree::copy(root)?;
        let mut gauntlet = child::cargo();
        gauntlet
            .args(["build", "--quiet", "--bin", "gauntlet"])
            .current_dir(root);
        if !child::live(&mut gauntlet)? {
            bail!("gauntlet does not build");
        }
        fs::create_dir_all(tree.built.join("debug"))?;
        let judge = tree.built.join("debug/gauntlet");
        fs::copy(target_dir()?.join("debug/gauntlet"), &judge)
            .with_context(|| format!("cannot write {}", judge.display()))?;
        Ok(Self { tree, judge })
    }

    fn fate(&self, fault: &Fault) -> Result<Fate> {
        let fate = self.tree.with(fault, || self.fate_of_built(fault))?;
        fate.unwrap_or_else(|why| Ok(Fate::Void(why)))
    }

    fn fate_of_built(&self, fault: &Fault) -> Result<Fate> {
        if let Some(error) = self.build()? {
            return Ok(Fate::Void(format!("it does not build: {error}")));
        }
        // First those that should notice, then all.
        let first = self.judge(&fault.cases)?;
        let all = match first.unexpected {
            Some((case, verdict)) => return Ok(Fate::Caught(case, verdict)),
            None => self.judge(&[])?,
        };
        Ok(match (all.unexpected, first.skipped) {
            (Some((case, verdict)), _) => Fate::Caught(case, verdict),
            (None, Some(why)) if first.passed == 0 => {
                Fate::Void(format!("the cases that should notice are skipped: {why}"))
            }
            (None, _) => Fate::Survived,
        })
    }

    /// Builds the probe; what the compiler said if it does not.
    fn build(&self) -> Result<Option<String>> {
        let mut build = child::cargo();
        build
            .args([
                "build",
                "--quiet",
                "-p",
                "gauntlet-probes",
                "--bin",
                "mtls-probe",
            ])
            .current_dir(&self.tree.path)
            .env("CARGO_TARGET_DIR", &self.tree.built);
        let output = child::output(&mut build)?;
        let said = String::from_utf8_lossy(&output.stderr);
        let error = said
            .lines()
            .find(|line| line.starts_with("error"))
            .unwrap_or("no reason given");
        Ok((!output.status.success()).then(|| error.to_owned()))
    }

    /// Runs cases, with the unchanged judge and the unchanged scenarios.
    fn judge(&self, cases: &[String]) -> Result<Judged> {
        let mut gauntlet = child::command(&self.judge);
        gauntlet
            .args(["run", "--format", "ndjson", "--seed", "1", "--scenarios"])
            .arg(self.tree.root.join("scenarios"))
            .arg("--artifacts")
            .arg(self.tree.built.join("artifacts"))
            .args(cases)
            .current_dir(&self.tree.root);
        let output = child::output(&mut gauntlet)?;
        let judged = judged(&String::from_utf8_lossy(&output.stdout))?;
        // What ends before its first case has judged nothing; a probe that does not start at all shows so.
        if judged.passed == 0 && judged.unexpected.is_none() && judged.skipped.is_none() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!(
                "the suite ran no case ({}): {}",
                output.status,
                said.trim_end()
            );
        }
        Ok(judged)
    }
}

fn judged(lines: &str) -> Result<Judged> {
    let mut judged = Judged {
        passed: 0,
        skipped: None,
        unexpected: None,
    };
    for line in lines.lines() {
        let record: serde_json::Value = serde_json::from_str(line).context("gauntlet's NDJSON")?;
        let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
        // What the probe says once all is over: lost, late, or counted other than reported.
        let wrong = |name: &str| record[name].as_u64().unwrap_or(0) > 0;
        if record["type"] == "summary"
            && judged.unexpected.is_none()
            && (wrong("lost_events") || wrong("late_events"))
        {
            judged.unexpected = Some(("the end of the run".into(), "fail".into()));
        }
        if record["type"] != "case" {
            continue;
        }
        match &*text("verdict") {
            "pass" | "xfail" => judged.passed += 1,
            "skip" => judged.skipped = Some(text("reason")),
            verdict => {
                let found = (text("id"), verdict.to_owned());
                // A probe that is wrong says more than a run that had no verdict.
                if judged
                    .unexpected
                    .as_ref()
                    .is_none_or(|(_, known)| known != "fail" && verdict == "fail")
                {
                    judged.unexpected = Some(found);
                }
            }
        }
    }
    Ok(judged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_still_applies() {
        let root = paths::repo_root();
        let faults = read(&root.join("faults")).unwrap();
        assert!(faults.len() >= 20, "{} faults", faults.len());
        for (name, fault) in &faults {
            let text = fs::read_to_string(root.join(&fault.file)).unwrap();
            fault
                .apply(&text)
                .unwrap_or_else(|why| panic!("{name}: {why}"));
            assert!(!fault.cases.is_empty() && !fault.what.is_empty(), "{name}");
            assert!(fault.gates.is_empty() && fault.says.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_fault_that_stands_nowhere_or_twice_does_not_apply() {
        let fault = Fault {
            what: String::new(),
            file: "x.rs".into(),
            find: "a".into(),
            put: "b".into(),
            cases: vec![],
            gates: vec![],
            says: String::new(),
        };
        assert_eq!(fault.apply("xax"), Ok("xbx".into()));
        assert!(fault.apply("x").is_err() && fault.apply("aa").is_err());
    }

    #[test]
    fn a_failed_case_is_what_caught_it() {
        let lines = r#"{"type":"start"}
{"type":"case","id":"a","verdict":"pass"}
{"type":"case","id":"b","verdict":"infra"}
{"type":"case","id":"c","verdict":"fail"}"#;
        let judged = judged(lines).unwrap();
        assert_eq!(
            (judged.passed, judged.unexpected),
            (1, Some(("c".into(), "fail".into())))
        );
    }

    #[test]
    fn what_shows_only_at_the_end_is_noticed_too() {
        let unexpected = |late: u64| {
            let lines = format!(
                r#"{{"type":"case","id":"a","verdict":"pass"}}
{{"type":"summary","lost_events":0,"late_events":{late}}}"#
            );
            judged(&lines).unwrap().unexpected
        };
        assert_eq!(unexpected(0), None);
        assert!(unexpected(1).is_some());
    }
}
