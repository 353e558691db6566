//! JUnit XML, for CI systems: one suite for the run, one test case for each case.
//!
//! The file appears whole or not at all: it is written beside its place and renamed when the run is
//! over, and a run that is cut short leaves none.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use super::{CaseReport, Record, Start, Summary};
use crate::verdict::Verdict;

/// A file that will hold the report.
#[derive(Debug)]
pub struct JunitFile {
    place: PathBuf,
    draft: PathBuf,
    file: Option<File>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[error("JUnit file {place}: {message}", place = place.display())]
pub struct JunitError {
    place: PathBuf,
    message: String,
}

impl JunitFile {
    /// Opens the draft, so that a path that cannot be written is known before anything runs.
    ///
    /// # Errors
    /// When the folder is missing, or may not be written to.
    pub fn create(place: &Path) -> Result<Self, JunitError> {
        let mut name = place.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}.part", std::process::id()));
        let draft = place.with_file_name(name);
        if place.is_dir() {
            let message = "is a folder".into();
            return Err(JunitError {
                place: place.into(),
                message,
            });
        }
        match File::create(&draft) {
            Ok(file) => Ok(Self {
                place: place.into(),
                draft,
                file: Some(file),
            }),
            Err(error) => Err(JunitError {
                place: place.into(),
                message: error.to_string(),
            }),
        }
    }

    /// Writes the whole report and puts it into its place.
    ///
    /// # Errors
    /// When it cannot be written; then nothing is left.
    pub fn finish(mut self, records: &[Record]) -> Result<(), JunitError> {
        self.write(records).map_err(|message| JunitError {
            place: self.place.clone(),
            message,
        })
    }

    fn write(&mut self, records: &[Record]) -> Result<(), String> {
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        let text = render(records)?;
        let put = || -> io::Result<()> {
            let mut file = BufWriter::new(file);
            file.write_all(text.as_bytes())?;
            file.into_inner()
                .map_err(io::IntoInnerError::into_error)?
                .sync_all()?;
            fs::rename(&self.draft, &self.place)
        };
        put().map_err(|error| error.to_string())
    }
}

impl Drop for JunitFile {
    fn drop(&mut self) {
        // After a rename there is no draft, and removing nothing is what is wanted.
        let _ = fs::remove_file(&self.draft);
    }
}

/// The records of a run as JUnit XML.
///
/// # Errors
/// When the XML cannot be made.
pub fn render(records: &[Record]) -> Result<String, String> {
    let mut suite = TestSuite::new("gauntlet");
    let mut time = Duration::ZERO;
    for record in records {
        match record {
            Record::Start(start) => describe(&mut suite, start),
            Record::Case(case) => {
                time += Duration::from_millis(case.duration_ms);
                suite.add_test_case(test_case(case));
            }
            Record::Summary(summary) => of_no_case(&mut suite, summary),
        }
    }
    suite.set_time(time);
    let mut report = Report::new("gauntlet");
    report.set_time(time);
    report.add_test_suite(suite);
    report.to_string().map_err(|error| error.to_string())
}

fn describe(suite: &mut TestSuite, start: &Start) {
    for (name, value) in [
        ("kernel", &start.kernel),
        ("probe", &start.probe),
        ("seed", &start.seed.to_string()),
    ] {
        suite.add_property(Property::new(name, value.as_str()));
    }
}

/// Losses, and events after the last case, are of no case and make the run red all the same.
fn of_no_case(suite: &mut TestSuite, summary: &Summary) {
    let counts = [
        ("lost_events", summary.lost_events, "lost"),
        ("late_events", summary.late_events, "reported, of no case,"),
    ];
    for (name, count, what) in counts {
        suite.add_property(Property::new(name, count.to_string()));
        if count > 0 {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(format!("the probe {what} {count} events"));
            suite.add_test_case(TestCase::new(name, status));
        }
    }
}

fn test_case(case: &CaseReport) -> TestCase {
    let reason = case.reason.as_deref().unwrap_or_default();
    let failed = |kind| {
        let mut status = TestCaseStatus::non_success(kind);
        status.set_message(reason).set_type(case.verdict.name());
        let witnesses = &case.witnesses;
        let artifacts = case
            .artifacts
            .as_ref()
            .map(|folder| folder.display().to_string());
        status.set_description(format!(
            "{reason}\nclient: {}\nserver: {}\nwire: {}\nartifacts: {}\nagain: {}",
            witnesses.client,
            witnesses.server,
            witnesses.wire,
            artifacts.as_deref().unwrap_or("none"),
            case.repro
        ));
        status
    };
    let status = match case.verdict {
        Verdict::Pass => TestCaseStatus::success(),
        Verdict::Fail | Verdict::Xpass => failed(NonSuccessKind::Failure),
        Verdict::Hang | Verdict::Infra => failed(NonSuccessKind::Error),
        Verdict::Skip | Verdict::Xfail => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(reason).set_type(case.verdict.name());
            status
        }
    };
    let mut test = TestCase::new(case.id.as_str(), status);
    test.set_time(Duration::from_millis(case.duration_ms));
    test.set_classname(case.id.split("::").next().unwrap_or_default());
    test
}
