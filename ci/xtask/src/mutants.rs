//! `cargo xtask mutants`: cargo-mutants on what judges: the wire crate, and the harness's verdict. Each change that
//! no test notices must stand in `mutants.toml` with a reason, and whatever stands there must still survive: else
//! red. Only the tests of the package itself are asked.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::Args;
use serde::Deserialize;

use crate::{child, exit, paths, run::target_dir, setup};

/// Percent of the mutants that tests must notice, justified ones included among the rest.
const LEAST: f64 = 95.0;
/// How long the tests of one mutant may take, seconds. One that they do not survive by going on forever is noticed.
const SECONDS: u32 = 60;

/// What is changed, and the tests that are asked.
struct Subject {
    name: &'static str,
    package: &'static str,
    /// As cargo-mutants takes them.
    files: &'static [&'static str],
    /// For `cargo test`.
    tests: &'static [&'static str],
}

const SUBJECTS: [Subject; 2] = [
    Subject {
        name: "wire",
        package: "gauntlet-wire",
        files: &["ebpf/wire/src/*.rs"],
        tests: &["--tests"],
    },
    Subject {
        name: "verdict",
        package: "gauntlet-harness",
        files: &["harness/src/verdict.rs", "harness/src/verdict/*.rs"],
        tests: &["--lib", "verdict"],
    },
];

#[derive(Args)]
pub(crate) struct Options {
    /// `wire` or `verdict`; without it, both
    #[arg(value_parser = ["wire", "verdict"])]
    subject: Option<String>,
    /// Only mutants of these files (globs from the root of the repository)
    #[arg(long, value_name = "GLOB")]
    file: Vec<String>,
    /// How many are built and tested at a time
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    jobs: u32,
}

/// `mutants.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Justified {
    #[serde(default)]
    survivor: Vec<Survivor>,
}

/// A mutation that survives, and why it may. Named without its line, which every edit moves.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Survivor {
    file: String,
    mutation: String,
    /// How many of that name survive.
    #[serde(default = "once")]
    times: usize,
    reason: String,
}

const fn once() -> usize {
    1
}

/// cargo-mutants' `outcomes.json`, as far as it matters.
#[derive(Deserialize)]
struct Outcomes {
    outcomes: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    scenario: Scenario,
    summary: Summary,
}

#[derive(Deserialize)]
enum Scenario {
    Baseline,
    Mutant(Mutant),
}

#[derive(Deserialize)]
struct Mutant {
    file: String,
    name: String,
}

#[derive(Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
enum Summary {
    Success,
    CaughtMutant,
    MissedMutant,
    Unviable,
    Failure,
    Timeout,
}

/// What was tried.
#[derive(Default)]
struct Tally {
    caught: usize,
    /// Caught, by going on forever.
    timeout: usize,
    unviable: usize,
    /// Those that survived, by file and mutation; and where.
    survived: BTreeMap<(String, String), Vec<String>>,
    /// Files of which every mutant was tried.
    files: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<u8> {
    if let Some(code) = setup::blocked(setup::Scope::Mutants)? {
        return Ok(code);
    }
    let root = paths::repo_root();
    let list = root.join("mutants.toml");
    let text =
        fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let justified: Justified = toml::from_str(&text).context("mutants.toml")?;
    let mut tally = Tally::default();
    let chosen = |subject: &&Subject| {
        let wanted = options.subject.as_deref();
        wanted.is_none_or(|wanted| wanted == subject.name)
    };
    for subject in SUBJECTS.iter().filter(chosen) {
        let Some(outcomes) = subject.try_all(&root, options)? else {
            return Ok(exit::NO_VERDICT);
        };
        tally.add(outcomes);
    }
    let wrong = tally.against(&justified.survivor);
    for line in &wrong {
        println!("{line}");
    }
    let score = tally.score();
    println!("{}", tally.summary());
    Ok(if tally.noticed() + tally.missed() == 0 {
        eprintln!("xtask: a green run that never ran: no mutant was tried");
        exit::NO_VERDICT
    } else if wrong.is_empty() && score >= LEAST {
        exit::OK
    } else {
        exit::UNEXPECTED
    })
}

impl Subject {
    /// Runs cargo-mutants; `None`: it had no verdict.
    fn try_all(&self, root: &Path, options: &Options) -> Result<Option<Outcomes>> {
        let output = target_dir()?.join("mutants").join(self.name);
        fs::create_dir_all(&output)
            .with_context(|| format!("cannot create {}", output.display()))?;
        let mut mutants = child::command(setup::CargoTool::MUTANTS.program(&paths::cache_dir()?));
        mutants
            .args(["mutants", "--no-shuffle", "--colors", "never"])
            .args(["--profile", "mutants", "--package", self.package])
            .args(["--jobs", &options.jobs.to_string()])
            .args(["--timeout", &SECONDS.to_string()])
            .arg("--output")
            .arg(&output)
            .current_dir(root)
            // A changed snapshot is a failure, not a file to leave behind.
            .env("INSTA_UPDATE", "no");
        let files: Vec<&str> = if options.file.is_empty() {
            self.files.to_vec()
        } else {
            options.file.iter().map(String::as_str).collect()
        };
        for file in files {
            mutants.args(["--file", file]);
        }
        if !self.tests.is_empty() {
            mutants.arg("--").args(self.tests);
        }
        let status = mutants
            .status()
            .with_context(|| format!("cannot start `{}`", child::line(&mutants)))?;
        // Survivors are 2, timeouts 3: both are judged here.
        if !matches!(status.code(), Some(0 | 2 | 3)) {
            eprintln!("xtask: cargo-mutants ended with {status}");
            return Ok(None);
        }
        outcomes(&output.join("mutants.out/outcomes.json")).map(Some)
    }
}

fn outcomes(path: &PathBuf) -> Result<Outcomes> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).context("cargo-mutants' JSON")
}

impl Mutant {
    /// What is changed, without file, line and column.
    fn mutation(&self) -> &str {
        self.name
            .split_once(": ")
            .map_or(&*self.name, |(_, mutation)| mutation)
    }
}

impl Tally {
    fn add(&mut self, outcomes: Outcomes) {
        for outcome in outcomes.outcomes {
            let Scenario::Mutant(mutant) = outcome.scenario else {
                continue;
            };
            if !self.files.contains(&mutant.file) {
                self.files.push(mutant.file.clone());
            }
            match outcome.summary {
                Summary::CaughtMutant => self.caught += 1,
                Summary::Timeout => self.timeout += 1,
                Summary::MissedMutant | Summary::Success => {
                    let key = (mutant.file.clone(), mutant.mutation().to_owned());
                    self.survived.entry(key).or_default().push(mutant.name);
                }
                Summary::Unviable | Summary::Failure => self.unviable += 1,
            }
        }
    }

    fn noticed(&self) -> usize {
        self.caught + self.timeout
    }

    fn missed(&self) -> usize {
        self.survived.values().map(Vec::len).sum()
    }

    fn score(&self) -> f64 {
        100.0 * self.noticed() as f64 / (self.noticed() + self.missed()).max(1) as f64
    }

    fn summary(&self) -> String {
        format!(
            "{} mutants: {} caught, {} of them by a test that did not end; {} survived; {} do not build: {:.1} % (at least {LEAST})",
            self.noticed() + self.missed() + self.unviable,
            self.noticed(),
            self.timeout,
            self.missed(),
            self.unviable,
            self.score()
        )
    }

    /// What is wrong with the list: survivors that nothing justifies, and justifications of nothing.
    fn against(&self, justified: &[Survivor]) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut allowed: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for survivor in justified {
            let key = (&*survivor.file, &*survivor.mutation);
            *allowed.entry(key).or_default() += survivor.times;
            if survivor.reason.trim().is_empty() {
                wrong.push(format!(
                    "no reason: {}: {}",
                    survivor.file, survivor.mutation
                ));
            }
        }
        for ((file, mutation), places) in &self.survived {
            let allowed = allowed.get(&(&**file, &**mutation)).copied().unwrap_or(0);
            if places.len() > allowed {
                let places = places.iter().map(|place| format!("SURVIVED: {place}"));
                wrong.extend(places);
                if allowed > 0 {
                    wrong.push(format!("(of which {allowed} are justified)"));
                }
            }
        }
        // Of files that were not looked at, nothing is known.
        let looked_at = |key: &(&str, &str)| self.files.iter().any(|file| file == key.0);
        for (key, times) in allowed.iter().filter(|(key, _)| looked_at(key)) {
            let survived = self
                .survived
                .get(&(key.0.to_owned(), key.1.to_owned()))
                .map_or(0, Vec::len);
            if survived < *times {
                wrong.push(format!(
                    "justified and caught: {}: {} ({times} times, {survived} survive)",
                    key.0, key.1
                ));
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        let text = r#"{"outcomes":[
            {"scenario":"Baseline","summary":"Success"},
            {"scenario":{"Mutant":{"file":"a.rs","name":"a.rs:3:9: replace < with <= in f"}},"summary":"MissedMutant"},
            {"scenario":{"Mutant":{"file":"a.rs","name":"a.rs:7:2: replace < with <= in f"}},"summary":"MissedMutant"},
            {"scenario":{"Mutant":{"file":"a.rs","name":"a.rs:8:2: replace g -> u8 with 0"}},"summary":"CaughtMutant"},
            {"scenario":{"Mutant":{"file":"b.rs","name":"b.rs:1:2: replace + with - in h"}},"summary":"Timeout"},
            {"scenario":{"Mutant":{"file":"b.rs","name":"b.rs:1:2: replace + with * in h"}},"summary":"Unviable"}]}"#;
        let mut tally = Tally::default();
        tally.add(serde_json::from_str(text).unwrap());
        tally
    }

    fn survivor(file: &str, mutation: &str, times: usize) -> Survivor {
        Survivor {
            file: file.into(),
            mutation: mutation.into(),
            times,
            reason: "equivalent".into(),
        }
    }

    #[test]
    fn mutants_are_counted_by_what_became_of_them() {
        let tally = tally();
        let counted = (tally.caught, tally.timeout, tally.unviable, tally.missed());
        assert_eq!(counted, (1, 1, 1, 2));
        assert_eq!(tally.score(), 50.0);
        assert_eq!(Tally::default().score(), 0.0);
    }

    #[test]
    fn every_survivor_is_justified_and_every_justification_used() {
        let name = "replace < with <= in f";
        assert_eq!(tally().against(&[survivor("a.rs", name, 2)]), [""; 0]);
        assert_eq!(
            tally().against(&[]),
            [
                "SURVIVED: a.rs:3:9: replace < with <= in f",
                "SURVIVED: a.rs:7:2: replace < with <= in f"
            ]
        );
        assert_eq!(tally().against(&[survivor("a.rs", name, 1)]).len(), 3);
        // One too many, one that is caught, one of another file, one of a file that was not looked at.
        let wrong = tally().against(&[
            survivor("a.rs", name, 3),
            survivor("b.rs", "replace + with - in h", 1),
            survivor("b.rs", name, 1),
            survivor("c.rs", name, 1),
        ]);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(
            wrong
                .iter()
                .all(|line| line.starts_with("justified and caught: "))
        );
        let mut without = survivor("a.rs", name, 2);
        without.reason = " ".into();
        assert_eq!(tally().against(&[without]).len(), 1);
    }

    #[test]
    fn the_list_is_readable() {
        let text = fs::read_to_string(paths::repo_root().join("mutants.toml")).unwrap();
        let justified: Justified = toml::from_str(&text).unwrap();
        for survivor in justified.survivor {
            assert!(paths::repo_root().join(&survivor.file).is_file());
            assert!(survivor.times > 0 && !survivor.reason.is_empty());
        }
    }
}
