//! What was measured and judged, as a table for a terminal and as JSON. Decides nothing but the exit code.

use std::fmt::Write as _;

use gauntlet_cli::exit;
use serde::Serialize;

use crate::budget::{Budget, FEWEST, Verdict};
use crate::delivery::{Delivered, Pressed, Row, rate_word};
use crate::growth::Growth;
use crate::machine::Machine;
use crate::measurement::Measurement;
use crate::memory::Memory;
use crate::progress::Part;
use crate::statistics::Interval;

/// A run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// On what.
    pub machine: Machine,
    /// Fewer rounds; only stable budgets gate.
    pub quick: bool,
    /// What was measured.
    pub measurements: Vec<Measurement>,
    /// What came of the budgets.
    pub budgets: Vec<Judged>,
    /// How long events took.
    pub delivery: Option<Delivered>,
    /// How long they took to a reader that is held back.
    pub pressed: Option<Pressed>,
    /// How costs grow.
    pub growth: Vec<Growth>,
    /// What it keeps in memory.
    pub memory: Option<Memory>,
    /// What was not measured.
    pub not_measured: Vec<NotMeasured>,
    /// How long each part of the run took.
    pub took: Vec<Part>,
}

/// Something that is not among the figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotMeasured {
    /// What.
    pub what: String,
    /// The reason.
    pub why: String,
    /// It should have been: something went wrong.
    pub broken: bool,
}

impl NotMeasured {
    /// For this reason.
    #[must_use]
    pub fn new(what: &str, why: &str) -> Self {
        Self {
            what: what.into(),
            why: why.into(),
            broken: false,
        }
    }

    /// Because of an error. The rest of the run counts, but there is no pass without it.
    #[must_use]
    pub fn broken(what: &str, why: &anyhow::Error) -> Self {
        Self {
            broken: true,
            ..Self::new(what, &format!("{why:#}"))
        }
    }
}

/// What is measured beside what has a budget.
#[derive(Debug, Default)]
pub struct Beside {
    /// How long events took.
    pub delivery: Option<Delivered>,
    /// How long they took to a reader that is held back.
    pub pressed: Option<Pressed>,
    /// How costs grow.
    pub growth: Vec<Growth>,
    /// What it keeps in memory.
    pub memory: Option<Memory>,
    /// What was not measured.
    pub not_measured: Vec<NotMeasured>,
    /// How long each part of the run took.
    pub took: Vec<Part>,
}

/// A budget, and what came of it.
#[derive(Debug, Serialize)]
pub struct Judged {
    /// The budget.
    #[serde(flatten)]
    pub budget: Budget,
    /// The verdict.
    pub verdict: Verdict,
    /// It counts in this run.
    pub gates: bool,
}

impl Report {
    /// Judges.
    #[must_use]
    pub fn new(
        machine: Machine,
        quick: bool,
        mut measurements: Vec<Measurement>,
        mut budgets: Vec<Budget>,
        beside: Beside,
    ) -> Self {
        if machine.is_emulated() {
            // Budgets are for processors.
            budgets.clear();
            measurements.iter_mut().for_each(Measurement::forget_values);
        }
        let mut beside = beside;
        if machine.is_emulated() {
            // Microseconds of an emulated machine are nobody's.
            beside.delivery = None;
            beside.pressed = None;
            let why = "emulated: the ratios above are all that is told of it";
            beside
                .not_measured
                .push(NotMeasured::new("how long events took", why));
        }
        let judge = |budget: Budget| {
            let measured = measurements.iter().find(|one| one.name == budget.of);
            let verdict = budget.judge(measured);
            let cannot = verdict == Verdict::NotMeasured && budget.needs.is_some();
            Judged {
                verdict,
                gates: (budget.stable || !quick) && !cannot,
                budget,
            }
        };
        Self {
            budgets: budgets.into_iter().map(judge).collect(),
            machine,
            quick,
            measurements,
            delivery: beside.delivery,
            pressed: beside.pressed,
            growth: beside.growth,
            memory: beside.memory,
            not_measured: beside.not_measured,
            took: beside.took,
        }
    }

    /// What to end with: a miss is 1; what could not be told is never a pass.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let any = |wanted: &[Verdict]| {
            self.budgets
                .iter()
                .any(|judged| judged.gates && wanted.contains(&judged.verdict))
        };
        if any(&[Verdict::Missed]) {
            exit::UNEXPECTED
        } else if any(&[Verdict::Inconclusive, Verdict::NotMeasured])
            || self.not_measured.iter().any(|one| one.broken)
        {
            exit::NO_VERDICT
        } else {
            exit::OK
        }
    }

    /// Lines for a terminal.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = format!("{}\n\n", self.machine.line());
        if self.machine.is_emulated() {
            table.push_str(EMULATED);
            table.push_str("\n\n");
        }
        let mut row = |cells: [&str; 5]| {
            let [name, value, ratio, budget, verdict] = cells;
            let line = format!("{name:<34} {value:>10}  {ratio:<26} {budget:<21} {verdict}");
            let _infallible = writeln!(table, "{}", line.trim_end());
        };
        row(["what", "", "times its floor [95 %]", "budget", ""]);
        for one in &self.measurements {
            let judged = self
                .budgets
                .iter()
                .find(|judged| judged.budget.of == one.name);
            let verdict = judged.map_or("", |judged| judged.verdict.word());
            let budget = judged.map_or(String::new(), |judged| judged.budget.bound());
            row([
                &one.name,
                &one.itself(),
                &one.ratio_told(|Interval { low, median, high }| {
                    format!("{} [{}-{}]", short(median), short(low), short(high))
                }),
                &budget,
                verdict,
            ]);
        }
        for judged in &self.budgets {
            if judged.verdict == Verdict::NotMeasured {
                row([
                    &judged.budget.of,
                    "",
                    "",
                    &judged.budget.bound(),
                    judged.verdict.word(),
                ]);
            }
        }
        self.deliveries(&mut table);
        self.grown(&mut table);
        self.kept(&mut table);
        self.notes(&mut table);
        self.parts(&mut table);
        table
    }

    /// How long events took, in microseconds. Some of it: the page has the rest.
    fn deliveries(&self, table: &mut String) {
        if let Some(delivery) = &self.delivery {
            let head = format!("us, {}, 128 bytes", delivery.class.word());
            let rows = delivery.rows.iter().filter(|row| row.bytes == 128);
            delivered(table, &head, rows);
        }
        for under in self.pressed.iter().flat_map(|pressed| &pressed.under) {
            let head = format!("us, {}", under.condition);
            let rows = under.rows.iter().filter(|row| row.rate == Some(50_000));
            delivered(table, &head, rows);
        }
    }

    /// How costs grow.
    fn grown(&self, table: &mut String) {
        for Growth {
            with,
            against,
            curves,
            ..
        } in &self.growth
        {
            table.push('\n');
            let mut line = |cells: &[String]| {
                let [what, points @ ..] = cells else { return };
                let points = points.iter().fold(String::new(), |mut line, point| {
                    let _infallible = write!(line, " {point:>24}");
                    line
                });
                let _infallible = writeln!(table, "{what:<46}{points}");
            };
            let Some(first) = curves.first() else {
                continue;
            };
            let heads = first.points.iter().map(|point| point.at.to_string());
            let head: Vec<String> = [format!("{against}, by {with}")]
                .into_iter()
                .chain(heads)
                .collect();
            line(&head);
            for curve in curves {
                let points = curve.points.iter().map(|point| {
                    let Interval { low, median, high } = point.ratio;
                    format!("{median:.3} [{low:.3}-{high:.3}]")
                });
                let row: Vec<String> = [curve.what.clone()].into_iter().chain(points).collect();
                line(&row);
            }
        }
    }

    /// What it keeps in memory.
    fn kept(&self, table: &mut String) {
        let Some(memory) = &self.memory else {
            return;
        };
        let (at_rest, full) = memory.sums();
        let _infallible = writeln!(
            table,
            "\nmemory: maps {} MiB at rest, {} MiB full ({} handshakes under way); {:.0} bytes for each that may be",
            mib(at_rest),
            mib(full),
            memory.flows,
            memory.per_flow
        );
        if let Some(process) = &memory.process {
            let _infallible = writeln!(
                table,
                "memory: mtls-probe watch {} MiB resident ({} its own) at rest, {} at most ({} its own) while {} \
                 handshakes stall at once",
                mib(process.at_rest),
                mib(process.own_at_rest),
                mib(process.most),
                mib(process.own_then),
                memory.flows
            );
        }
    }

    /// How long it took.
    fn parts(&self, table: &mut String) {
        if self.took.is_empty() {
            return;
        }
        let parts: Vec<String> = self
            .took
            .iter()
            .map(|Part { what, seconds }| format!("{what} {seconds:.0} s"))
            .collect();
        let all: f64 = self.took.iter().map(|part| part.seconds).sum();
        let _infallible = writeln!(table, "took {all:.0} s: {}", parts.join(", "));
    }

    /// Why, where a budget is not simply met.
    fn notes(&self, table: &mut String) {
        let mut floors: Vec<(&str, f64)> = Vec::new();
        for one in &self.measurements {
            let told = floors.iter().any(|(against, _)| *against == one.against);
            if let Some(noise) = one.noise.filter(|_| !told) {
                floors.push((&one.against, noise));
            }
        }
        let mut line = |line: String| {
            let _infallible = writeln!(table, "{line}");
        };
        line(String::new());
        for (against, noise) in floors {
            line(format!(
                "against {against}: the same measured twice differs by up to {:.1} %",
                noise * 100.0
            ));
        }
        for one in &self.measurements {
            if let Some(told) = one.left_out_told() {
                line(format!("{}: {told}", one.name));
            }
        }
        for NotMeasured { what, why, broken } in &self.not_measured {
            let how = if *broken { "FAILED" } else { "not measured" };
            line(format!("{what}: {how}: {why}"));
        }
        for judged in &self.budgets {
            let Judged {
                budget, verdict, ..
            } = judged;
            match (verdict, &budget.missed) {
                (Verdict::KnownMissed, Some(missed)) => {
                    line(format!("{}: {}", budget.of, missed.reason));
                }
                (Verdict::Missed, _) => line(format!(
                    "{}: MISSED; the budget's reason: {}",
                    budget.of, budget.reason
                )),
                (Verdict::Inconclusive, _) => {
                    let few = self
                        .measurements
                        .iter()
                        .any(|one| one.name == budget.of && one.ratios.len() < FEWEST);
                    let why = if few {
                        "too few rounds count"
                    } else {
                        "the noise is larger than the budget's margin"
                    };
                    line(format!("{}: INCONCLUSIVE: {why}; no pass", budget.of));
                }
                _ => {}
            }
        }
    }
}

fn delivered<'r>(table: &mut String, head: &str, rows: impl IntoIterator<Item = &'r Row>) {
    let _infallible = writeln!(
        table,
        "\n{head:<28} {:>8} {:>8} {:>9} {:>9} {:>6} {:>8} {:>8} {:>8} {:>8} {:>8} {:>6}",
        "wanted/s",
        "made/s",
        "offered",
        "delivered",
        "lost",
        "p50",
        "moment",
        "p99",
        "p99.9",
        "max",
        "reader"
    );
    for row in rows {
        let _infallible = writeln!(
            table,
            "{:<28} {:>8} {:>8.0} {:>9} {:>9} {:>6} {:>8} {:>8} {:>8} {:>8} {:>8} {:>4.0} %",
            row.way.word(),
            rate_word(row.rate),
            row.made,
            row.offered,
            row.delivered,
            row.lost,
            short(row.p50.median),
            short(row.moment.median),
            short(row.p99.median),
            short(row.p999.median),
            short(row.max.median),
            row.processor.median * 100.0
        );
    }
}

/// What is to be known of such figures.
pub(crate) const EMULATED: &str =
    "emulated: no time is that of any machine, so there are only ratios, and no budget is judged";

/// MiB, of bytes.
pub(crate) fn mib(bytes: u64) -> String {
    short(bytes as f64 / f64::from(1 << 20))
}

/// Three digits that matter.
pub(crate) fn short(number: f64) -> String {
    let digits = match number.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        0.1.. => 3,
        _ => 4,
    };
    format!("{number:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::parse;
    use crate::processor::Class;

    fn report(quick: bool, ratio: f64, stable: bool) -> Report {
        let text =
            format!("[[budget]]\nof = \"x\"\nat_most = 1.3\nreason = \"r\"\nstable = {stable}\n");
        let ratios = vec![ratio; 9];
        let measured = Measurement::new("x", "", "y", (ratios.clone(), "ns"), ratios, Some(0.01));
        Report::new(
            Machine::nowhere(),
            quick,
            vec![measured],
            parse(&text).expect("sound"),
            Beside::default(),
        )
    }

    #[test]
    fn a_missed_budget_is_red_where_it_gates() {
        assert_eq!(report(false, 1.1, true).exit_code(), exit::OK);
        assert_eq!(report(false, 2.0, true).exit_code(), exit::UNEXPECTED);
        assert_eq!(report(true, 2.0, true).exit_code(), exit::UNEXPECTED);
        assert_eq!(report(true, 2.0, false).exit_code(), exit::OK);
        assert!(report(false, 2.0, true).table().contains("MISSED"));
    }

    #[test]
    fn what_needs_a_program_that_is_not_installed_does_not_gate_but_is_told() {
        let text = "[[budget]]\nof = \"x\"\nat_most = 1.3\nreason = \"r\"\nneeds = \"y\"\n";
        let budgets = || parse(text).expect("sound");
        let measured = |ratio: f64| {
            let ratios = vec![ratio; 9];
            vec![Measurement::new(
                "x",
                "",
                "y",
                (ratios.clone(), "us"),
                ratios,
                None,
            )]
        };
        let of = |measured| {
            Report::new(
                Machine::nowhere(),
                false,
                measured,
                budgets(),
                Beside::default(),
            )
        };
        assert_eq!(of(Vec::new()).exit_code(), exit::OK);
        assert!(of(Vec::new()).table().contains("not measured"));
        assert_eq!(of(measured(2.0)).exit_code(), exit::UNEXPECTED);
    }

    #[test]
    fn of_an_emulated_machine_only_ratios_are_told() {
        let report = report(false, 2.0, true);
        let emulated = Report::new(
            Machine {
                accelerator: "tcg".into(),
                ..Machine::nowhere()
            },
            false,
            report.measurements,
            report.budgets.into_iter().map(|one| one.budget).collect(),
            Beside {
                delivery: Some(Delivered {
                    class: Class::highest(),
                    stops: Vec::new(),
                    rows: Vec::new(),
                }),
                ..Beside::default()
            },
        );
        let table = emulated.table();
        assert!(emulated.delivery.is_none(), "microseconds");
        assert!(
            table.contains("how long events took: not measured"),
            "{table}"
        );
        assert!(table.contains("emulated"), "{table}");
        assert!(
            table.contains("2.00 [2.00-2.00]") && !table.contains(" ns"),
            "{table}"
        );
        assert_eq!(emulated.exit_code(), exit::OK);
    }

    #[test]
    fn rounds_that_do_not_count_are_told_and_too_few_are_no_pass() {
        let of = |ratios: &[f64], left_out| {
            let mut sound = report(false, 1.1, true);
            let values = (ratios.to_vec(), "us");
            let mut measured = Measurement::new("x", "", "y", values, ratios.to_vec(), None);
            measured.left_out = left_out;
            sound.measurements = vec![measured];
            let budgets = sound.budgets.into_iter().map(|one| one.budget);
            Report::new(
                sound.machine,
                false,
                sound.measurements,
                budgets.collect(),
                Beside::default(),
            )
        };
        let met = of(&[1.1; 5], 4);
        assert_eq!(met.exit_code(), exit::OK);
        let table = met.table();
        assert!(table.contains("x: 4 of 9 rounds do not count"), "{table}");
        let few = of(&[1.1; 4], 5);
        assert_eq!(few.exit_code(), exit::NO_VERDICT);
        let table = few.table();
        assert!(table.contains("too few rounds"), "{table}");
        let none = of(&[], 9);
        assert_eq!(none.exit_code(), exit::NO_VERDICT);
        assert!(
            none.table()
                .lines()
                .any(|line| line.starts_with("x ") && line.contains(" - "))
        );
    }

    #[test]
    fn a_part_that_failed_is_told_and_no_pass() {
        let mut sound = report(false, 1.1, true);
        sound.not_measured.push(NotMeasured::new("this", "that"));
        assert_eq!(sound.exit_code(), exit::OK);
        let why = anyhow::anyhow!("it broke");
        sound.not_measured.push(NotMeasured::broken("memory", &why));
        assert_eq!(sound.exit_code(), exit::NO_VERDICT);
        let table = sound.table();
        assert!(table.contains("this: not measured: that"), "{table}");
        assert!(table.contains("memory: FAILED: it broke"), "{table}");
        // A miss is a miss.
        let mut missed = report(false, 2.0, true);
        missed
            .not_measured
            .push(NotMeasured::broken("memory", &why));
        assert_eq!(missed.exit_code(), exit::UNEXPECTED);
    }

    #[test]
    fn what_could_not_be_told_is_no_pass() {
        assert_eq!(report(false, 1.3, true).exit_code(), exit::NO_VERDICT);
        let mut nothing = report(false, 1.1, true);
        nothing = Report::new(
            Machine::nowhere(),
            false,
            Vec::new(),
            nothing.budgets.into_iter().map(|one| one.budget).collect(),
            Beside::default(),
        );
        assert_eq!(nothing.exit_code(), exit::NO_VERDICT);
        assert!(nothing.table().contains("not measured"));
    }
}
