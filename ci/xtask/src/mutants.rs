//! `cargo xtask mutants`: cargo-mutants on what judges: the wire crate, and the harness's verdict. Each change that
//! no test notices must stand in `mutants.toml` with a reason, and whatever stands there must still survive: else
//! red. Only the tests of the package itself are asked.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::{child, exit, paths, run::target_dir, setup};

/// Percent of the mutants that tests must notice, justified ones included among the rest.
const LEAST: f64 = 95.0;
/// How long the tests of one mutant may take, seconds. One that they do not survive by going on forever is noticed.
const SECONDS: u32 = 60;
/// Of each property. With more, a mutant takes longer to test than to build, and one that these do not notice is noticed
/// by luck.
const CASES: &str = "64";

/// What is changed, and the tests that are asked.
struct Subject {
    name: &'static str,
    package: &'static str,
    /// As cargo-mutants takes them.
    files: &'static [&'static str],
    /// For `cargo test`: the quick tests first, then those that only mutants are shown that the quick ones miss.
    passes: &'static [&'static [&'static str]],
}

const SUBJECTS: [Subject; 2] = [
    Subject {
        name: "wire",
        package: "gauntlet-wire",
        files: &["ebpf/wire/src/*.rs"],
        // Laws that try every byte of every conversation take longer than all others; without them the score is, if
        // anything, too low.
        passes: &[
            &["--lib", "--test", "cases"],
            &[
                "--test",
                "laws",
                "--",
                "--skip=a_cut_at_any_offset_changes_nothing",
                "--skip=sequence_numbers_that_wrap_at_any_byte_change_nothing",
            ],
        ],
    },
    Subject {
        name: "verdict",
        package: "gauntlet-harness",
        files: &["harness/src/verdict.rs", "harness/src/verdict/*.rs"],
        passes: &[&["--lib", "verdict"]],
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
    /// Goes on where the last run ended: what it saw caught counts, though the code may have changed since
    #[arg(long)]
    resume: bool,
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
    /// With file, line and column, as `--list` has it.
    name: String,
}

#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
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
        let Some(tried) = subject.try_all(&root, options)? else {
            return Ok(exit::NO_VERDICT);
        };
        tally.add(tried);
    }
    let wrong = tally.against(&justified.survivor);
    // A few mutants of one file make no score.
    let scored = options.file.is_empty();
    for line in &wrong {
        println!("{line}");
    }
    let score = tally.score();
    println!("{}", tally.summary());
    Ok(if tally.noticed() + tally.missed() == 0 {
        eprintln!("xtask: a green run that never ran: no mutant was tried");
        exit::NO_VERDICT
    } else if wrong.is_empty() && (!scored || score >= LEAST) {
        exit::OK
    } else {
        exit::UNEXPECTED
    })
}

impl Subject {
    /// Runs cargo-mutants, once for each pass, and says what became of each mutant; `None`: it had no verdict.
    fn try_all(&self, root: &Path, options: &Options) -> Result<Option<Vec<(String, Summary)>>> {
        let output = target_dir()?.join("mutants").join(self.name);
        let mut record = Record::open(&output, options.resume)?;
        for (number, tests) in self.passes.iter().enumerate() {
            let mut mutants = self.command(&output, options)?;
            if number > 0 || options.resume {
                mutants.arg("--iterate");
            }
            mutants.arg("--").args(*tests).current_dir(root);
            let status = mutants
                .status()
                .with_context(|| format!("cannot start `{}`", child::line(&mutants)))?;
            record.take()?;
            match status.code() {
                Some(0) => break,
                // Survivors, and tests that did not end: both are judged here.
                Some(2 | 3) => {}
                _ => {
                    eprintln!("xtask: cargo-mutants ended with {status}");
                    return Ok(None);
                }
            }
        }
        let mut list = self.command(&output, options)?;
        let list = child::output(list.arg("--list").current_dir(root))?;
        anyhow::ensure!(list.status.success(), "cargo-mutants cannot list mutants");
        let (tried, untried) = record.of(&String::from_utf8_lossy(&list.stdout));
        if let Some(name) = untried.first() {
            let count = untried.len();
            eprintln!("xtask: {count} mutants were not tried, {name} for one");
            return Ok(None);
        }
        Ok(Some(tried))
    }

    fn command(&self, output: &Path, options: &Options) -> Result<Command> {
        let mut mutants = child::command(setup::CargoTool::MUTANTS.program(&paths::cache_dir()?));
        mutants
            .args(["mutants", "--no-shuffle", "--colors", "never"])
            .args(["--profile", "mutants", "--package", self.package])
            .args(["--jobs", &options.jobs.to_string()])
            .args(["--timeout", &SECONDS.to_string()])
            .arg("--output")
            .arg(output)
            // A changed snapshot is a failure, not a file to leave behind.
            .env("INSTA_UPDATE", "no")
            .env("PROPTEST_CASES", CASES)
            // Nobody reads the smallest input that shows a mutant.
            .env("PROPTEST_MAX_SHRINK_ITERS", "0");
        let files: Vec<&str> = if options.file.is_empty() {
            self.files.to_vec()
        } else {
            options.file.iter().map(String::as_str).collect()
        };
        for file in files {
            mutants.args(["--file", file]);
        }
        Ok(mutants)
    }
}

/// What became of mutants, by name, over all passes. Kept beside cargo-mutants' own folder, which says of earlier passes
/// only which mutants need not be tried again: those that were caught and those that do not build, in one list.
struct Record {
    folder: PathBuf,
    known: BTreeMap<String, Summary>,
}

impl Record {
    /// What earlier runs learned, that of one which was cut short included; or nothing.
    fn open(folder: &Path, resume: bool) -> Result<Self> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let mut record = Self {
            folder: folder.to_owned(),
            known: BTreeMap::new(),
        };
        if resume {
            record.known = read(&record.file())?.unwrap_or_default();
            record.take()?;
        }
        Ok(record)
    }

    fn file(&self) -> PathBuf {
        self.folder.join("tried.json")
    }

    /// Takes what the last pass says.
    fn take(&mut self) -> Result<()> {
        let last: Option<Outcomes> = read(&self.folder.join("mutants.out/outcomes.json"))?;
        for outcome in last.into_iter().flat_map(|last| last.outcomes) {
            if let Scenario::Mutant(mutant) = outcome.scenario {
                self.known.insert(mutant.name, outcome.summary);
            }
        }
        let file = self.file();
        fs::write(&file, serde_json::to_vec(&self.known)?)
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// What became of these, a name a line; and those of which nothing is known.
    fn of(&self, list: &str) -> (Vec<(String, Summary)>, Vec<String>) {
        let (mut tried, mut untried) = (Vec::new(), Vec::new());
        for name in list.lines().filter(|line| !line.is_empty()) {
            match self.known.get(name) {
                Some(summary) => tried.push((name.to_owned(), *summary)),
                None => untried.push(name.to_owned()),
            }
        }
        (tried, untried)
    }
}

/// A JSON file, if there is one.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .with_context(|| format!("{} is no record of mutants", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// `FILE:LINE:COLUMN: MUTATION`, in two: the file, and what is changed.
fn parts(name: &str) -> (&str, &str) {
    let file = name.split(':').next().unwrap_or_default();
    (file, name.split_once(": ").map_or(name, |(_, what)| what))
}

impl Tally {
    fn add(&mut self, tried: Vec<(String, Summary)>) {
        for (name, summary) in tried {
            let (file, mutation) = parts(&name);
            if !self.files.iter().any(|known| known == file) {
                self.files.push(file.to_owned());
            }
            match summary {
                Summary::CaughtMutant => self.caught += 1,
                Summary::Timeout => self.timeout += 1,
                Summary::MissedMutant | Summary::Success => {
                    let key = (file.to_owned(), mutation.to_owned());
                    self.survived.entry(key).or_default().push(name);
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

    const OUTCOMES: &str = r#"{"outcomes":[
        {"scenario":"Baseline","summary":"Success"},
        {"scenario":{"Mutant":{"name":"a.rs:3:9: replace < with <= in f"}},"summary":"MissedMutant"},
        {"scenario":{"Mutant":{"name":"a.rs:7:2: replace < with <= in f"}},"summary":"MissedMutant"},
        {"scenario":{"Mutant":{"name":"a.rs:8:2: replace g -> u8 with 0"}},"summary":"CaughtMutant"},
        {"scenario":{"Mutant":{"name":"b.rs:1:2: replace + with - in h"}},"summary":"Timeout"},
        {"scenario":{"Mutant":{"name":"b.rs:1:2: replace + with * in h"}},"summary":"Unviable"}]}"#;

    fn tally() -> Tally {
        let outcomes: Outcomes = serde_json::from_str(OUTCOMES).unwrap();
        let tried = outcomes.outcomes.into_iter().filter_map(|outcome| {
            let Scenario::Mutant(mutant) = outcome.scenario else {
                return None;
            };
            Some((mutant.name, outcome.summary))
        });
        let mut tally = Tally::default();
        tally.add(tried.collect());
        tally
    }

    #[test]
    fn what_earlier_passes_learned_is_kept_and_what_is_no_mutant_any_more_is_not_counted() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("mutants.out");
        fs::create_dir_all(&out).unwrap();
        let pass = |outcomes: &str| fs::write(out.join("outcomes.json"), outcomes).unwrap();
        pass(OUTCOMES);
        let mut record = Record::open(folder.path(), false).unwrap();
        record.take().unwrap();
        // A second pass, of those that survived the first: one of them is caught.
        pass(
            r#"{"outcomes":[{"scenario":{"Mutant":{"name":"a.rs:3:9: replace < with <= in f"}},"summary":"CaughtMutant"}]}"#,
        );
        let resumed = Record::open(folder.path(), true).unwrap();
        let list =
            "a.rs:3:9: replace < with <= in f\nb.rs:1:2: replace + with * in h\nc.rs:1:1: new\n";
        let (tried, untried) = resumed.of(list);
        let names = [
            "a.rs:3:9: replace < with <= in f",
            "b.rs:1:2: replace + with * in h",
        ];
        let summaries = [Summary::CaughtMutant, Summary::Unviable];
        let expected: Vec<_> = names
            .map(str::to_owned)
            .into_iter()
            .zip(summaries)
            .collect();
        assert_eq!(tried, expected);
        assert_eq!(untried, ["c.rs:1:1: new"]);
        // Another run begins anew.
        let fresh = Record::open(folder.path(), false).unwrap();
        assert_eq!(fresh.of(list).1.len(), 3);
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
