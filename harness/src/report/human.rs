//! For a person at a terminal: a line a case as it ends, then how classes were confused, then the
//! failures with what to do about them, last, where the eye is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use comfy_table::{Cell, CellAlignment, Color, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{CaseReport, Confusion, Record, SILENCE, Start, Summary};
use crate::verdict::Verdict;

/// Writes a run for people.
pub struct Human<W> {
    out: W,
    colour: bool,
    bar: ProgressBar,
    failures: Vec<CaseReport>,
    /// Cases that were not run, by reason.
    skipped: BTreeMap<String, usize>,
}

impl<W: Write> Human<W> {
    /// To `out`; `bar` also draws a progress bar on stderr, which should be a terminal.
    pub fn new(out: W, colour: bool, bar: bool) -> Self {
        let target = if bar {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        Self {
            out,
            colour,
            bar,
            failures: Vec::new(),
            skipped: BTreeMap::new(),
        }
    }

    /// Writes one record.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn record(&mut self, record: &Record) -> io::Result<()> {
        match record {
            Record::Start(start) => self.start(start),
            Record::Case(case) => self.case(case),
            Record::Summary(summary) => self.summary(summary),
        }
    }

    /// Takes the progress bar away, for a run that ends early.
    pub fn clear(&mut self) {
        self.bar.finish_and_clear();
    }

    fn start(&mut self, start: &Start) -> io::Result<()> {
        let Start {
            kernel,
            probe,
            seed,
            cases,
            ..
        } = start;
        self.bar.set_length(*cases as u64);
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {eta}") {
            self.bar.set_style(style);
        }
        self.bar.enable_steady_tick(Duration::from_millis(200));
        self.line(&format!(
            "{cases} cases, probe {probe}, kernel {kernel}, seed {seed}"
        ))
    }

    fn case(&mut self, case: &CaseReport) -> io::Result<()> {
        let said = match (&case.reason, case.reported.first()) {
            (Some(reason), _) => reason.clone(),
            (None, Some(event)) => format!(
                "{} ({})",
                event.class().unwrap_or("?"),
                event.text("confidence").unwrap_or("?")
            ),
            (None, None) => "silence".into(),
        };
        self.line(&format!(
            "{} {}  {}  {} ms",
            self.verdict(case.verdict),
            case.id,
            said,
            case.duration_ms
        ))?;
        if let Some(first) = &case.first_attempt {
            self.line(&format!("     run again; at first: {first}"))?;
        }
        self.bar.inc(1);
        match (case.verdict, &case.reason) {
            (Verdict::Skip, Some(reason)) => {
                *self.skipped.entry(reason.clone()).or_default() += 1;
            }
            (verdict, _) if !verdict.is_green() => self.failures.push(case.clone()),
            _ => {}
        }
        Ok(())
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        self.bar.finish_and_clear();
        if !summary.confusion.is_empty() {
            self.line("")?;
            self.line(&confusion(&summary.confusion, self.colour))?;
        }
        for case in std::mem::take(&mut self.failures) {
            self.failure(&case)?;
        }
        self.line("")?;
        for (reason, count) in std::mem::take(&mut self.skipped) {
            self.line(&format!("{count} skipped: {reason}"))?;
        }
        let counts = [
            (summary.pass, Verdict::Pass),
            (summary.fail, Verdict::Fail),
            (summary.xfail, Verdict::Xfail),
            (summary.xpass, Verdict::Xpass),
            (summary.skip, Verdict::Skip),
            (summary.hang, Verdict::Hang),
            (summary.infra, Verdict::Infra),
        ];
        let counts: Vec<String> = counts
            .into_iter()
            .filter(|(count, verdict)| *count > 0 || *verdict == Verdict::Pass)
            .map(|(count, verdict)| format!("{count} {}", verdict.name()))
            .collect();
        let mut end = format!("{}; {} events lost", counts.join(", "), summary.lost_events);
        if summary.late_events > 0 {
            let _ = write!(end, "; {} events of no case", summary.late_events);
        }
        if summary.run_again > 0 {
            let _ = write!(end, "; {} run again", summary.run_again);
        }
        let colour = if summary.exit_code() == 0 { GREEN } else { RED };
        let end = self.paint(colour, &end);
        self.line(&end)
    }

    fn failure(&mut self, case: &CaseReport) -> io::Result<()> {
        self.line("")?;
        self.line(&format!("{} {}", self.verdict(case.verdict), case.id))?;
        self.line(&format!(
            "  reason:    {}",
            case.reason.as_deref().unwrap_or("not given")
        ))?;
        self.line(&format!("  client:    {}", case.witnesses.client))?;
        self.line(&format!("  server:    {}", case.witnesses.server))?;
        self.line(&format!("  wire:      {}", case.witnesses.wire))?;
        if let Some(folder) = &case.artifacts {
            self.line(&format!("  artifacts: {}", folder.display()))?;
        }
        self.line(&format!("  again:     {}", case.repro))
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        let out = &mut self.out;
        self.bar.suspend(|| writeln!(out, "{text}"))
    }

    fn verdict(&self, verdict: Verdict) -> String {
        let colour = match verdict {
            Verdict::Pass => GREEN,
            Verdict::Xfail | Verdict::Skip => YELLOW,
            Verdict::Fail | Verdict::Xpass | Verdict::Hang | Verdict::Infra => RED,
        };
        self.paint(colour, &format!("{:5}", verdict.name()))
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour {
            format!("{colour}{text}\x1b[0m")
        } else {
            text.into()
        }
    }
}

const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RED: &str = "\x1b[31m";

/// Rows are what was true, columns what was reported, by letter; off the diagonal is wrong.
fn confusion(confusion: &Confusion, colour: bool) -> String {
    let mut classes: Vec<&str> = confusion
        .iter()
        .flat_map(|(expected, reported)| reported.keys().chain([expected]))
        .map(String::as_str)
        .filter(|class| *class != SILENCE)
        .collect();
    classes.sort_unstable();
    classes.dedup();
    classes.push(SILENCE);
    let letter = |index: usize| match classes[index] {
        SILENCE => SILENCE.to_string(),
        _ => char::from(b'a' + (index % 26) as u8).to_string(),
    };

    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    let mut header = vec![Cell::new(""), Cell::new("expected / reported")];
    header.extend((0..classes.len()).map(|index| right(letter(index))));
    table.set_header(header);
    for (row, class) in classes.iter().enumerate() {
        let Some(reported) = confusion.get(*class) else {
            continue;
        };
        let mut cells = vec![right(letter(row)), Cell::new(class)];
        for (column, other) in classes.iter().enumerate() {
            let count = reported.get(*other).copied().unwrap_or_default();
            let text = if count == 0 {
                ".".into()
            } else {
                count.to_string()
            };
            let mut cell = right(text);
            if colour && count > 0 {
                cell = cell.fg(if row == column {
                    Color::Green
                } else {
                    Color::Red
                });
            }
            cells.push(cell);
        }
        table.add_row(cells);
    }
    table
        .lines()
        .map(|line| line.trim_end().to_string())
        .collect::<Vec<_>>()
        .join("\n")
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}
