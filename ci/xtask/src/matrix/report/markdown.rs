//! A table for the page of a CI job.

use std::fmt::Write;

use super::{Run, cell, classes, human::programs, junit::escape, number};
use crate::matrix::results::Program;

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
            number(results.map(|results| results.red())),
            number(results.map(super::Results::false_alarms)),
            number(results.map(|results| results.summary.lost_events)),
        ];
        cells.extend(classes.iter().map(|class| cell(run, class)));
        row(cells);
    }
    text.push_str(&costs(runs));
    for run in runs {
        for reason in &run.judgement.reasons {
            let verdict = run.judgement.verdict.name();
            let reason = escape(reason).replace("&#10;", " ").replace('|', "\\|");
            let _ = writeln!(text, "\n* **{}**: {verdict}: {reason}", run.kernel);
        }
    }
    text
}

/// What loading cost, and how much of the kernel's limits is left: a row for each kernel and program.
fn costs(runs: &[Run]) -> String {
    const HEAD: &str = "\n| kernel | program | load, ms | verified instructions | left | stack, bytes | left | tail calls left | machine code, bytes |\n\
        |---|---|---|---|---|---|---|---|---|\n";
    let percent =
        |value: Option<u64>| value.map_or_else(|| "-".into(), |value| format!("{value} %"));
    let mut rows = String::new();
    for name in programs(runs) {
        for run in runs {
            let of_run = run.results.iter().flat_map(|results| &results.programs);
            let program: Option<&Program> = of_run.into_iter().find(|one| one.name == name);
            let of = |value: fn(&Program) -> Option<u64>| program.and_then(value);
            // Writing to a String cannot fail.
            let _ = writeln!(
                rows,
                "| {} | `{name}` | {} | {} | {} | {} | {} | {} | {} |",
                run.kernel,
                number(of(|program| program.load_us.map(|us| us / 1000))),
                number(of(|program| program.verified_instructions)),
                percent(of(
                    |program| program.left(|limits| limits.verified_instructions)
                )),
                number(of(|program| program.stack_bytes)),
                percent(of(|program| program.left(|limits| limits.stack_bytes))),
                number(of(|program| program.headroom?.tail_calls)),
                number(of(|program| program.jited_bytes)),
            );
        }
    }
    if rows.is_empty() {
        rows
    } else {
        format!("{HEAD}{rows}")
    }
}
