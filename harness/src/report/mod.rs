//! What a run says, as values: one record when it starts, one for each case as it ends, one at the
//! end. The forms ([`human`], [`ndjson`], [`junit`]) print these and decide nothing.

pub mod human;
pub mod junit;
pub mod ndjson;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::probe::Event;
use crate::verdict::Verdict;

/// The number of this form; it grows when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// One line of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    /// The first.
    Start(Start),
    /// One for each case, in the order in which they ended.
    Case(Box<CaseReport>),
    /// The last; missing, if the run was cut short.
    Summary(Summary),
}

/// What is run, and on what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The kernel's release.
    pub kernel: String,
    /// The probe under test.
    pub probe: String,
    /// The seed of ports and certificates.
    pub seed: u64,
    /// How many cases were selected.
    pub cases: usize,
}

/// How one case ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseReport {
    /// The case id.
    pub id: String,
    /// What the probe had to report; null for silence.
    pub expected: Option<Expected>,
    /// What it reported.
    pub reported: Vec<Event>,
    /// The verdict.
    pub verdict: Verdict,
    /// Why, unless it passed.
    pub reason: Option<String>,
    /// What the three witnesses beside the probe saw.
    pub witnesses: Witnesses,
    /// From the first packet to the last beacon, milliseconds.
    pub duration_ms: u64,
    /// The folder with everything that was recorded, where the case failed.
    pub artifacts: Option<PathBuf>,
    /// The command that runs this case again.
    pub repro: String,
    /// What this machine lacks, by its name in `GAUNTLET_REQUIRE`, where the case was skipped for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<String>,
    /// Why the case was run again, and what was recorded then; absent where once was enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_attempt: Option<String>,
}

/// What a probe had to report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// `error.type`.
    pub class: String,
    /// `confidence`.
    pub confidence: String,
}

/// What the endpoints said and the wire showed, one line each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witnesses {
    /// The client's outcome: `ok`, or its error.
    pub client: String,
    /// The server's outcome.
    pub server: String,
    /// The wire's transcript.
    pub wire: String,
}

/// Classes expected, against classes reported; `none` stands for silence.
pub type Confusion = BTreeMap<String, BTreeMap<String, u64>>;

/// The run in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// As expected.
    pub pass: u64,
    /// The probe was wrong.
    pub fail: u64,
    /// The probe was wrong, as known.
    pub xfail: u64,
    /// The probe was right, though known to be wrong.
    pub xpass: u64,
    /// Not run.
    pub skip: u64,
    /// An endpoint did not end within the case's deadline.
    pub hang: u64,
    /// The probe was not judged: environment or harness.
    pub infra: u64,
    /// Classes expected, against classes reported, in the cases that were judged.
    pub confusion: Confusion,
    /// What the probe says it did not see or not report.
    pub lost_events: u64,
    /// What the probe reported after the last case had ended, when there was nothing left to report, and how
    /// often it counted other than it reported.
    #[serde(default)]
    pub late_events: u64,
    /// Cases that were run again: they hung, or the machine stood still. Whatever the second gave is counted above.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub run_again: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// How `none` is written in a confusion table.
pub const SILENCE: &str = "none";

impl Summary {
    /// Counts one more case.
    pub fn add(&mut self, case: &CaseReport) {
        let count = match case.verdict {
            Verdict::Pass => &mut self.pass,
            Verdict::Fail => &mut self.fail,
            Verdict::Xfail => &mut self.xfail,
            Verdict::Xpass => &mut self.xpass,
            Verdict::Skip => &mut self.skip,
            Verdict::Hang => &mut self.hang,
            Verdict::Infra => &mut self.infra,
        };
        *count += 1;
        self.run_again += u64::from(case.first_attempt.is_some());
        if !case.verdict.was_judged() {
            return;
        }
        let expected = case
            .expected
            .as_ref()
            .map_or(SILENCE, |expected| &expected.class);
        let row = self.confusion.entry(expected.into()).or_default();
        if case.reported.is_empty() {
            *row.entry(SILENCE.into()).or_default() += 1;
        }
        for event in &case.reported {
            *row.entry(event.class().unwrap_or("?").into()).or_default() += 1;
        }
    }

    /// The contract's exit code: 2 wins over 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.hang + self.infra > 0 {
            2
        } else if self.fail + self.xpass + self.lost_events + self.late_events > 0 {
            1
        } else {
            0
        }
    }
}
