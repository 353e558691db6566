//! `cargo xtask bench --kernel`: a quick run in a guest for each kernel. What is measured there is the driver's
//! (`benches/driver`); this boots, one kernel after another, and puts the ratios side by side.
//!
//! Under emulation no time is that of any machine, and neither is a budget: only ratios are shown.

use std::{
    fmt::Write as _,
    fs,
    io::{Write as _, stdout},
    path::Path,
};

use anyhow::{Context, Result};
use gauntlet_guest::protocol::{FIGURES, Request, Task};
use gauntlet_guest::qemu::Accelerator;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{
    Options, accelerator, build, folder, prepare, report_missing, repro::show, say, series, vm,
};
use crate::{exit, setup};

/// Measures on each kernel. No verdict wins over a missed budget.
///
/// # Errors
/// When vmtest cannot be started, or a file not be written.
pub(crate) fn bench(kernels: &[String], out: &Path) -> Result<u8> {
    let selected = match series::select(kernels, None) {
        Ok(selected) => selected,
        Err(line) => {
            eprintln!("xtask: {line}");
            return Ok(exit::USAGE);
        }
    };
    if let Some(code) = setup::blocked(setup::Scope::Vm)? {
        return Ok(code);
    }
    let _one_matrix_at_a_time = folder::lock()?;
    let Some(bin) = build::bench()? else {
        eprintln!("xtask: what measures does not build, so nothing was run");
        return Ok(exit::NO_VERDICT);
    };
    let (targets, missing) = prepare(&Options::default(), &selected, &bin)?;
    report_missing(&missing);
    let Some(first) = targets.first() else {
        return Ok(exit::NO_VERDICT);
    };
    let accelerator = accelerator::find(&first.folder)?;
    let mut code = if missing.is_empty() {
        exit::OK
    } else {
        exit::NO_VERDICT
    };
    let mut measured = Vec::new();
    for target in &targets {
        let seen = target.ask(
            &request(accelerator),
            None,
            vm::limit(accelerator),
            accelerator,
        )?;
        code = worse(code, show(target, seen)?.code);
        let figures = target.folder.results().join(FIGURES);
        let Ok(text) = fs::read_to_string(figures.join("results.json")) else {
            say(format!("{}: no figures came back", target.name));
            code = exit::NO_VERDICT;
            continue;
        };
        for (name, end) in [("results.json", "json"), ("index.html", "html")] {
            let to = out.join(format!("kernel-{}.{end}", target.name));
            fs::create_dir_all(out)?;
            fs::copy(figures.join(name), &to)
                .with_context(|| format!("cannot write {}", to.display()))?;
        }
        let figures = serde_json::from_str(&text).context("the figures of a guest")?;
        measured.push((target.name.clone(), figures));
    }
    let mut shown = stdout().lock();
    write!(shown, "{}", side_by_side(&measured, accelerator))?;
    for (kernel, _) in &measured {
        let page = out.join(format!("kernel-{kernel}.html"));
        writeln!(shown, "{}", page.display())?;
    }
    Ok(code)
}

fn request(accelerator: Accelerator) -> Request {
    let arguments = ["--quick", "--accelerator", accelerator.name()];
    Request {
        task: Task::Bench,
        arguments: arguments.map(String::from).into(),
    }
}

fn worse(one: u8, other: u8) -> u8 {
    match (one, other) {
        (exit::NO_VERDICT, _) | (_, exit::NO_VERDICT) => exit::NO_VERDICT,
        (exit::OK, code) => code,
        (code, _) => code,
    }
}

/// What the driver left, as far as it is looked at here.
#[derive(Debug, Deserialize)]
struct Figures {
    measurements: Vec<Measured>,
}

#[derive(Debug, Deserialize)]
struct Measured {
    name: String,
    /// None of a round that counts: then it was not measured.
    ratios: Vec<IgnoredAny>,
    ratio: Interval,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Interval {
    low: f64,
    median: f64,
    high: f64,
}

/// A column for each kernel.
fn side_by_side(measured: &[(String, Figures)], accelerator: Accelerator) -> String {
    let mut text = String::from("\ntimes its floor in the same guest [95 %]");
    if accelerator == Accelerator::Tcg {
        text.push_str("; emulated: what a processor would need is another matter");
    }
    let mut row = |name: &str, cells: &mut dyn Iterator<Item = String>| {
        let _infallible = write!(text, "\n{name:<34}");
        for cell in cells {
            let _infallible = write!(text, " {cell:<22}");
        }
        text.truncate(text.trim_end().len());
    };
    row("", &mut measured.iter().map(|(kernel, _)| kernel.clone()));
    for first in measured
        .iter()
        .take(1)
        .flat_map(|(_, one)| &one.measurements)
    {
        let cell = |(_, figures): &(String, Figures)| {
            let mut all = figures.measurements.iter();
            all.find(|one| one.name == first.name && !one.ratios.is_empty())
                .map_or_else(|| "-".into(), |one| one.ratio.text())
        };
        row(&first.name, &mut measured.iter().map(cell));
    }
    text.push('\n');
    text
}

impl Interval {
    fn text(self) -> String {
        let Self { low, median, high } = self;
        format!("{median:.2} [{low:.2}-{high:.2}]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0: of no round.
    fn figures(of: &[(&str, f64)]) -> Figures {
        let one = |(name, ratio): &(&str, f64)| {
            let all = if *ratio > 0.0 { "null,1.0" } else { "" };
            format!(
                r#"{{"name":"{name}","what":"w","ratios":[{all}],"ratio":{{"low":1.0,"median":{ratio:?},"high":9.0}}}}"#
            )
        };
        let all: Vec<String> = of.iter().map(one).collect();
        let text = format!(r#"{{"quick":true,"measurements":[{}]}}"#, all.join(","));
        serde_json::from_str(&text).expect("as the driver writes it")
    }

    #[test]
    fn kernels_stand_side_by_side_and_emulation_is_said() {
        let measured = [
            (
                "5.10".into(),
                figures(&[("program.ack", 1.5), ("program.syn", 4.0)]),
            ),
            (
                "7.3".into(),
                figures(&[("program.ack", 1.25), ("program.syn", 0.0)]),
            ),
            ("6.12".into(), figures(&[("program.ack", 1.5)])),
        ];
        let text = side_by_side(&measured, Accelerator::Tcg);
        let lines: Vec<&str> = text.trim_start().lines().collect();
        assert!(lines[0].contains("emulated"), "{text}");
        assert_eq!(
            lines[1].split_whitespace().collect::<Vec<_>>(),
            ["5.10", "7.3", "6.12"]
        );
        assert!(
            lines[2].contains("1.50 [1.00-9.00]") && lines[2].contains("1.25"),
            "{text}"
        );
        // What one of them lacks, or has of no round that counts, is not told as measured.
        let cells: Vec<&str> = lines[3].split_whitespace().collect();
        assert_eq!(cells[cells.len() - 2..], ["-", "-"], "{text}");
        assert!(!side_by_side(&measured, Accelerator::Kvm).contains("emulated"));
    }

    #[test]
    fn no_verdict_wins() {
        assert_eq!(worse(exit::OK, exit::UNEXPECTED), exit::UNEXPECTED);
        assert_eq!(worse(exit::UNEXPECTED, exit::OK), exit::UNEXPECTED);
        assert_eq!(worse(exit::UNEXPECTED, exit::NO_VERDICT), exit::NO_VERDICT);
        assert_eq!(worse(exit::OK, exit::OK), exit::OK);
    }

    #[test]
    fn a_guest_is_told_what_runs_it() {
        let words = request(Accelerator::Tcg).arguments.join(" ");
        assert_eq!(words, "--quick --accelerator tcg");
    }
}
