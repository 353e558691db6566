//! A table for the page of a CI job.

use std::fmt::Write;

use super::{Run, cell, classes, junit::escape, number};

pub(crate) fn markdown(runs: &[Run]) -> String {
    let mut text = String::from("### Kernels\n\n");
    let mut row = |cells: Vec<String>| {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    };
    let classes = classes(runs);
    let mut head = vec![
        "kernel",
        "verdict",
        "seconds",
        "red",
        "false alarms",
        "lost",
    ];
    head.extend(
        classes
            .iter()
            .map(|class| class.strip_prefix("SSL_").unwrap_or(class)),
    );
    row(head.iter().map(|cell| (*cell).to_owned()).collect());
    row(vec!["---".to_owned(); head.len()]);
    for run in runs {
        let results = run.results.as_ref();
        let mut cells = vec![
            run.kernel.clone(),
            run.judgement.verdict.name().to_owned(),
            format!("{} ({})", run.took.as_secs(), run.accelerator.name()),
            number(results.map(|results| results.summary.red())),
            number(results.map(super::Results::false_alarms)),
            number(results.map(|results| results.summary.lost_events)),
        ];
        cells.extend(classes.iter().map(|class| cell(run, class)));
        row(cells);
    }
    for run in runs {
        for reason in &run.judgement.reasons {
            let verdict = run.judgement.verdict.name();
            let reason = escape(reason).replace("&#10;", " ").replace('|', "\\|");
            let _ = writeln!(text, "\n* **{}**: {verdict}: {reason}", run.kernel);
        }
    }
    text
}
