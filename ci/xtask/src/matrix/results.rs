//! What a guest left in its results folder, read strictly: a result that is cut short is none.

use std::{collections::BTreeMap, fs, path::Path};

use gauntlet_guest::protocol;
use serde::{Deserialize, Serialize};

/// What a case may need and a guest may lack, by its name in `GAUNTLET_REQUIRE`: stacks that are optional.
const OPTIONAL: [&str; 3] = ["gnutls", "go", "boring"];

/// The configuration of the programs that is not named.
const DEFAULT: &str = "default";

/// One case, as far as the matrix looks at it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) expected: Option<Expected>,
    pub(crate) reported: Vec<serde_json::Value>,
    pub(crate) verdict: String,
    pub(crate) reason: Option<String>,
    pub(crate) duration_ms: u64,
    /// What the guest lacked, where it was skipped for that.
    #[serde(default)]
    pub(crate) lacks: Option<String>,
    /// Why it was run again, where it was.
    #[serde(default)]
    pub(crate) first_attempt: Option<String>,
}

/// What the probe had to report.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Expected {
    pub(crate) class: String,
}

/// The end of a run, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Summary {
    pub(crate) pass: u64,
    pub(crate) fail: u64,
    pub(crate) xfail: u64,
    pub(crate) xpass: u64,
    pub(crate) skip: u64,
    pub(crate) hang: u64,
    pub(crate) infra: u64,
    pub(crate) lost_events: u64,
    #[serde(default)]
    pub(crate) late_events: u64,
}

/// What loading one program cost, as `mtls-probe programs` says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Program {
    /// With `@CONFIGURATION`, unless that is the default one.
    pub(crate) name: String,
    pub(crate) configuration: String,
    /// False when the kernel refused it; what the verifier said is in `programs.log`.
    pub(crate) loaded: bool,
    pub(crate) load_us: Option<u64>,
    pub(crate) verified_instructions: Option<u64>,
    pub(crate) jited_bytes: Option<u64>,
    pub(crate) stack_bytes: Option<u64>,
    /// What this kernel allows; unknown of a program that was refused.
    pub(crate) limits: Option<Limits>,
    /// What is left of it.
    pub(crate) headroom: Option<Limits>,
}

/// What a kernel allows one program, or how much of that is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) verified_instructions: Option<u64>,
    pub(crate) stack_bytes: Option<u64>,
    pub(crate) tail_calls: Option<u64>,
}

impl Program {
    /// How much is left of one of the limits, percent, rounded down.
    pub(crate) fn left(&self, of: fn(&Limits) -> Option<u64>) -> Option<u64> {
        let (left, limit) = (of(self.headroom.as_ref()?)?, of(self.limits.as_ref()?)?);
        (left * 100).checked_div(limit)
    }
}

/// A whole result.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Results {
    /// The guest's `uname -r`.
    pub(crate) release: String,
    pub(crate) cases: Vec<Case>,
    pub(crate) summary: Summary,
    pub(crate) programs: Vec<Program>,
    /// The exit code of what was run.
    pub(crate) code: i32,
    /// The least memory that the guest had left, KiB, where it said so.
    pub(crate) least_memory: Option<u64>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Record {
    Start {
        kernel: String,
        cases: usize,
    },
    Case(Box<Case>),
    Summary(Summary),
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ProgramRecord {
    Program(Box<Program>),
    #[serde(other)]
    Other,
}

/// Whether the guest came as far as the suite.
pub(crate) fn begun(folder: &Path) -> bool {
    folder.join(protocol::BEGUN).is_file()
}

/// Whether the guest said that it was done.
pub(crate) fn ended(folder: &Path) -> Option<i32> {
    let marker = fs::read_to_string(folder.join(protocol::END)).ok()?;
    let code = marker
        .strip_prefix("end ")?
        .strip_suffix('\n')?
        .parse()
        .ok()?;
    (marker == protocol::end_marker(code)).then_some(code)
}

/// Reads a whole result.
///
/// # Errors
/// In one line, when something is missing, cut short or does not add up.
pub(crate) fn read(folder: &Path) -> Result<Results, String> {
    let text = |name: &str| {
        fs::read_to_string(folder.join(name))
            .map_err(|error| format!("no {name} came back: {error}"))
    };
    let code = ended(folder).ok_or("no end marker came back")?;
    let mut results = read_cases(&text(protocol::CASES)?)?;
    results.code = code;
    results.programs = read_programs(&text(protocol::PROGRAMS)?)?;
    let memory = text(protocol::MEMORY).ok();
    results.least_memory = memory.and_then(|text| text.trim().parse().ok());
    let release = text(protocol::BEGUN)?;
    if results.release != release.trim() {
        return Err(format!(
            "the suite ran on {}, the guest is {}",
            results.release,
            release.trim()
        ));
    }
    Ok(results)
}

fn read_cases(text: &str) -> Result<Results, String> {
    let mut results = Results::default();
    let (mut announced, mut summary) = (None, None);
    for (index, line) in text.lines().enumerate() {
        let wrong = |what: String| format!("{}, line {}: {what}", protocol::CASES, index + 1);
        if summary.is_some() {
            return Err(wrong("something after the summary".into()));
        }
        match serde_json::from_str(line).map_err(|error| wrong(error.to_string()))? {
            Record::Start { kernel, cases } => {
                results.release = kernel;
                announced = Some(cases);
            }
            Record::Case(case) => results.cases.push(*case),
            Record::Summary(numbers) => summary = Some(numbers),
            Record::Other => {}
        }
    }
    let cut = |what: &str| format!("{} is cut short: {what}", protocol::CASES);
    let announced = announced.ok_or_else(|| cut("it has no start"))?;
    results.summary = summary.ok_or_else(|| cut("it has no summary"))?;
    if announced == 0 {
        return Err("no case was run".into());
    }
    let counted = results.summary.cases();
    if results.cases.len() != announced || counted != announced as u64 {
        let came = results.cases.len();
        return Err(cut(&format!(
            "{announced} cases were announced, {came} came, {counted} were counted"
        )));
    }
    Ok(results)
}

fn read_programs(text: &str) -> Result<Vec<Program>, String> {
    let mut programs = Vec::new();
    for line in text.lines() {
        let record = serde_json::from_str(line)
            .map_err(|error| format!("{}: {error}", protocol::PROGRAMS))?;
        if let ProgramRecord::Program(mut program) = record {
            if program.configuration != DEFAULT {
                program.name = format!("{}@{}", program.name, program.configuration);
            }
            if programs
                .iter()
                .any(|one: &Program| one.name == program.name)
            {
                return Err(format!(
                    "{} names {} twice",
                    protocol::PROGRAMS,
                    program.name
                ));
            }
            programs.push(*program);
        }
    }
    if programs.is_empty() {
        return Err(format!("{} names no program", protocol::PROGRAMS));
    }
    Ok(programs)
}

impl Summary {
    fn cases(&self) -> u64 {
        self.pass + self.fail + self.xfail + self.xpass + self.skip + self.hang + self.infra
    }
}

impl Case {
    /// Whether it is neither as expected, nor known to deviate, nor skipped for lack of something optional.
    fn is_red(&self) -> bool {
        match self.verdict.as_str() {
            "pass" | "xfail" => false,
            "skip" => (self.lacks.as_deref()).is_none_or(|lacks| !OPTIONAL.contains(&lacks)),
            _ => true,
        }
    }
}

/// How one class fared on one kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Score {
    /// Failures of this class that were made.
    pub(crate) made: u64,
    /// Of those, how many cases passed.
    pub(crate) named: u64,
}

impl Results {
    /// Per class, how many failures were made and how many of them were named.
    pub(crate) fn recall(&self) -> BTreeMap<String, Score> {
        let mut scores: BTreeMap<String, Score> = BTreeMap::new();
        for case in &self.cases {
            let Some(expected) = case.expected.as_ref().filter(|_| case.verdict != "skip") else {
                continue;
            };
            let score = scores.entry(expected.class.clone()).or_default();
            score.made += 1;
            score.named += u64::from(case.verdict == "pass");
        }
        scores
    }

    /// Cases in which nothing failed, and something was reported.
    pub(crate) fn false_alarms(&self) -> u64 {
        let quiet = self.cases.iter().filter(|case| case.expected.is_none());
        quiet.filter(|case| !case.reported.is_empty()).count() as u64
    }

    /// How many cases are red.
    pub(crate) fn red(&self) -> u64 {
        self.cases.iter().filter(|case| case.is_red()).count() as u64
    }

    /// The first of them.
    pub(crate) fn first_red(&self) -> Option<&Case> {
        self.cases.iter().find(|case| case.is_red())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const START: &str = r#"{"type":"start","schema":1,"kernel":"6.1.0-50-amd64","probe":"shipped","seed":1,"cases":2}"#;
    pub(crate) const FAILURE: &str = r#"{"type":"case","id":"a::x","expected":{"class":"SSL_ERROR_SYSCALL","confidence":"certain"},"reported":[{"error.type":"SSL_ERROR_SYSCALL"}],"verdict":"pass","reason":null,"witnesses":{},"duration_ms":4,"artifacts":null,"repro":""}"#;
    pub(crate) const SILENCE: &str = r#"{"type":"case","id":"a::x::near_miss","expected":null,"reported":[],"verdict":"pass","reason":null,"witnesses":{},"duration_ms":4,"artifacts":null,"repro":""}"#;
    pub(crate) const SUMMARY: &str = r#"{"type":"summary","pass":2,"fail":0,"xfail":0,"xpass":0,"skip":0,"hang":0,"infra":0,"confusion":{},"lost_events":0}"#;

    pub(crate) fn whole() -> Results {
        let mut results = read_cases(&[START, FAILURE, SILENCE, SUMMARY].join("\n")).unwrap();
        results.programs = read_programs(PROGRAM).unwrap();
        results
    }

    pub(crate) const PROGRAM: &str = r#"{"type":"program","name":"gauntlet_watch","configuration":"default","loaded":true,"load_us":100,"verified_instructions":1000,"jited_bytes":2000,"stack_bytes":200,"limits":{"verified_instructions":1000000,"stack_bytes":512,"tail_calls":33},"headroom":{"verified_instructions":999000,"stack_bytes":312,"tail_calls":0}}"#;

    #[test]
    fn a_whole_result_is_read_and_scored() {
        let results = whole();
        assert_eq!(results.summary.pass, 2);
        assert_eq!(
            results.recall()["SSL_ERROR_SYSCALL"],
            Score { made: 1, named: 1 }
        );
        assert_eq!(results.false_alarms(), 0);
    }

    #[test]
    fn a_result_that_is_cut_short_anywhere_is_none() {
        let whole = [START, FAILURE, SILENCE, SUMMARY].join("\n");
        for end in 0..whole.len() {
            assert!(
                read_cases(&whole[..end]).is_err(),
                "cut at {end}: {}",
                &whole[..end]
            );
        }
        for missing in [
            [FAILURE, SILENCE, SUMMARY],
            [START, SILENCE, SUMMARY],
            [START, FAILURE, SILENCE],
        ] {
            assert!(read_cases(&missing.join("\n")).is_err());
        }
        assert!(read_cases(&[START, FAILURE, SILENCE, SUMMARY, SILENCE].join("\n")).is_err());
    }

    #[test]
    fn tests_that_never_ran_are_no_result() {
        let none = [START.replace(":2}", ":0}"), SUMMARY.replace(":2,", ":0,")].join("\n");
        assert_eq!(read_cases(&none), Err("no case was run".into()));
        assert!(read_programs("").is_err());
    }

    #[test]
    fn another_configuration_is_another_program_and_headroom_is_read() {
        let other = PROGRAM.replace(r#""default""#, r#""small""#);
        let programs = read_programs(&[PROGRAM, &other].join("\n")).unwrap();
        assert_eq!(programs[1].name, "gauntlet_watch@small");
        let left = |of| programs[0].left(of);
        assert_eq!(left(|limits| limits.verified_instructions), Some(99));
        assert_eq!(left(|limits| limits.stack_bytes), Some(60));
        assert_eq!(left(|limits| limits.tail_calls), Some(0));
        assert!(read_programs(&[PROGRAM, PROGRAM].join("\n")).is_err());
    }

    #[test]
    fn only_a_whole_end_marker_counts() {
        let folder = std::env::temp_dir().join(format!("gauntlet-end-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(ended(&folder), None);
        for (text, code) in [
            ("end 0\n", Some(0)),
            ("end 2\n", Some(2)),
            ("end 0", None),
            ("end \n", None),
            ("", None),
            ("end 00\n", None),
        ] {
            fs::write(folder.join(protocol::END), text).unwrap();
            assert_eq!(ended(&folder), code, "{text:?}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
