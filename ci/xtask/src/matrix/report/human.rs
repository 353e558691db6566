//! For people.

use std::fmt::Write;

use super::{Run, cell, classes, number};
use crate::matrix::verdict::Verdict;

/// Kernels as columns, classes as rows; then what the programs cost; then what is wrong.
pub(crate) fn human(runs: &[Run]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail, here and below.
    let mut row = |name: &str, of: &dyn Fn(&Run) -> String| {
        let _ = write!(text, "{name:<42}");
        for run in runs {
            let _ = write!(text, " {:>8}", of(run));
        }
        text.push('\n');
    };
    let summary = |run: &Run, of: fn(&super::Results) -> u64| number(run.results.as_ref().map(of));
    row("kernel", &|run| run.kernel.clone());
    row("verdict", &|run| run.judgement.verdict.name().into());
    row("seconds", &|run| run.took.as_secs().to_string());
    row("accelerator", &|run| run.accelerator.name().into());
    row("cases that passed", &|run| {
        summary(run, |results| results.summary.pass)
    });
    row("cases that are red", &|run| {
        summary(run, super::Results::red)
    });
    row("cases that were skipped", &|run| {
        summary(run, |results| results.summary.skip)
    });
    for class in classes(runs) {
        row(&class, &|run| cell(run, &class));
    }
    row("false alarms", &|run| {
        summary(run, super::Results::false_alarms)
    });
    row("lost events", &|run| {
        summary(run, |results| results.summary.lost_events)
    });
    row("least memory left, MiB", &|run| {
        let results = run.results.as_ref();
        number(results.and_then(|results| Some(results.least_memory? / 1024)))
    });
    for name in programs(runs) {
        let cost = |run: &Run, of: fn(&crate::matrix::results::Program) -> Option<u64>| {
            let programs = run.results.iter().flat_map(|results| &results.programs);
            number(
                programs
                    .into_iter()
                    .find(|program| program.name == name)
                    .and_then(of),
            )
        };
        row(&format!("{name}: load, ms"), &|run| {
            cost(run, |program| program.load_us.map(|us| us / 1000))
        });
        row(&format!("{name}: verified instructions"), &|run| {
            cost(run, |program| program.verified_instructions)
        });
        row(&format!("{name}: machine code, bytes"), &|run| {
            cost(run, |program| program.jited_bytes)
        });
        row(&format!("{name}: stack, bytes"), &|run| {
            cost(run, |program| program.stack_bytes)
        });
        row(&format!("{name}: instructions left, %"), &|run| {
            cost(run, |program| {
                program.left(|limits| limits.verified_instructions)
            })
        });
        row(&format!("{name}: stack left, %"), &|run| {
            cost(run, |program| program.left(|limits| limits.stack_bytes))
        });
        row(&format!("{name}: tail calls left"), &|run| {
            cost(run, |program| program.headroom?.tail_calls)
        });
    }
    for run in runs
        .iter()
        .filter(|run| run.judgement.verdict != Verdict::Pass)
    {
        for reason in &run.judgement.reasons {
            let _ = writeln!(
                text,
                "{}: {}: {reason}",
                run.kernel,
                run.judgement.verdict.name()
            );
        }
    }
    text
}

/// The programs that any kernel named, in the order of their loading.
pub(super) fn programs(runs: &[Run]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for program in runs
        .iter()
        .filter_map(|run| run.results.as_ref())
        .flat_map(|results| &results.programs)
    {
        if !names.contains(&program.name) {
            names.push(program.name.clone());
        }
    }
    names
}
