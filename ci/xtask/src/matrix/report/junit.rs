//! JUnit XML: a kernel is a suite, a case is a test.

use std::fmt::Write;

use super::Run;
use crate::matrix::{
    results::Case,
    verdict::{Judgement, Verdict},
};

pub(crate) fn junit(runs: &[Run]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for run in runs {
        suite(&mut xml, run);
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn suite(xml: &mut String, run: &Run) {
    let cases: &[Case] = run.results.as_ref().map_or(&[], |results| &results.cases);
    // The kernel itself is a test too: its log, its programs, and whether it came back at all.
    let of_kernel = of_kernel(&run.judgement);
    let kinds = cases
        .iter()
        .map(|case| kind(&case.verdict))
        .chain([of_kernel]);
    let count = |wanted| kinds.clone().filter(|kind| *kind == wanted).count();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        xml,
        "<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{:.1}\">",
        escape(&run.kernel),
        cases.len() + 1,
        count(Some("failure")),
        count(Some("error")),
        count(Some("skipped")),
        run.took.as_secs_f64()
    );
    let _ = writeln!(
        xml,
        "<properties><property name=\"release\" value=\"{}\"/><property name=\"accelerator\" value=\"{}\"/></properties>",
        escape(run.results.as_ref().map_or("", |results| &results.release)),
        run.accelerator.name()
    );
    test(
        xml,
        "kernel",
        0,
        of_kernel,
        &run.judgement.reasons.join("\n"),
    );
    for case in cases {
        let reason = case.reason.as_deref().unwrap_or_default();
        test(xml, &case.id, case.duration_ms, kind(&case.verdict), reason);
    }
    xml.push_str("</testsuite>\n");
}

fn of_kernel(judgement: &Judgement) -> Option<&'static str> {
    match judgement.verdict {
        Verdict::Pass => None,
        Verdict::Fail => Some("failure"),
        Verdict::Hang | Verdict::Infra => Some("error"),
    }
}

/// The element that a case's verdict is; none for green.
fn kind(verdict: &str) -> Option<&'static str> {
    match verdict {
        "pass" | "xfail" => None,
        "skip" => Some("skipped"),
        "fail" | "xpass" => Some("failure"),
        _ => Some("error"),
    }
}

fn test(xml: &mut String, name: &str, milliseconds: u64, kind: Option<&str>, reason: &str) {
    let seconds = std::time::Duration::from_millis(milliseconds).as_secs_f64();
    let _ = write!(
        xml,
        "<testcase name=\"{}\" time=\"{seconds:.3}\"",
        escape(name)
    );
    match kind {
        None => xml.push_str("/>\n"),
        Some(kind) => {
            let _ = writeln!(xml, "><{kind} message=\"{}\"/></testcase>", escape(reason));
        }
    }
}

/// Also takes out what XML 1.0 cannot hold, such as a terminal's escapes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            c if c.is_control() => {}
            c => escaped.push(c),
        }
    }
    escaped
}
