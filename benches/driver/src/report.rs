//! What was measured and judged, as a table for a terminal and as JSON. Decides nothing but the exit code.

use std::fmt::Write as _;

use gauntlet_cli::exit;
use serde::Serialize;

use crate::budget::{Budget, Verdict};
use crate::delivery::Delivered;
use crate::machine::Machine;
use crate::measurement::Measurement;

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
        measurements: Vec<Measurement>,
        budgets: Vec<Budget>,
        delivery: Option<Delivered>,
    ) -> Self {
        let judge = |budget: Budget| {
            let measured = measurements.iter().find(|one| one.name == budget.of);
            Judged {
                verdict: budget.judge(measured),
                gates: budget.stable || !quick,
                budget,
            }
        };
        Self {
            budgets: budgets.into_iter().map(judge).collect(),
            machine,
            quick,
            measurements,
            delivery,
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
        } else if any(&[Verdict::Inconclusive, Verdict::NotMeasured]) {
            exit::NO_VERDICT
        } else {
            exit::OK
        }
    }

    /// Lines for a terminal.
    #[must_use]
    pub fn table(&self) -> String {
        let Machine {
            processor,
            processors,
            kernel,
            accelerator,
            commit,
            date,
            ..
        } = &self.machine;
        let mut table = format!(
            "{processors} x {processor}, {accelerator}; Linux {kernel}; commit {commit}; {date}\n\n"
        );
        let mut row = |cells: [&str; 5]| {
            let [name, value, ratio, budget, verdict] = cells;
            let line = format!("{name:<34} {value:>10}  {ratio:<26} {budget:<11} {verdict}");
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
                &format!("{} {}", short(one.value.median), one.unit),
                &format!(
                    "{} [{}-{}]",
                    short(one.ratio.median),
                    short(one.ratio.low),
                    short(one.ratio.high)
                ),
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
        self.notes(&mut table);
        table
    }

    /// How long events took, in microseconds.
    fn deliveries(&self, table: &mut String) {
        let Some(delivery) = &self.delivery else {
            return;
        };
        let _infallible = writeln!(
            table,
            "\n{:<18} {:>5} {:>8} {:>8} {:>9} {:>9} {:>6} {:>8} {:>8} {:>8} {:>8} {:>6}",
            format!("us, {}", delivery.class.word()),
            "bytes",
            "wanted/s",
            "made/s",
            "offered",
            "delivered",
            "lost",
            "p50",
            "p99",
            "p99.9",
            "max",
            "reader"
        );
        for row in &delivery.rows {
            let _infallible = writeln!(
                table,
                "{:<18} {:>5} {:>8} {:>8.0} {:>9} {:>9} {:>6} {:>8} {:>8} {:>8} {:>8} {:>4.0} %",
                row.way.word(),
                row.bytes,
                row.rate,
                row.made,
                row.offered,
                row.delivered,
                row.lost,
                short(row.p50.median),
                short(row.p99.median),
                short(row.p999.median),
                short(row.max.median),
                row.processor.median * 100.0
            );
        }
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
                (Verdict::Inconclusive, _) => line(format!(
                    "{}: INCONCLUSIVE: the noise is larger than the budget's margin; no pass",
                    budget.of
                )),
                _ => {}
            }
        }
    }
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

    fn machine() -> Machine {
        Machine {
            processor: "a".into(),
            processors: 1,
            kernel: "b".into(),
            accelerator: "none".into(),
            load: String::new(),
            commit: "c".into(),
            date: "d".into(),
        }
    }

    fn report(quick: bool, ratio: f64, stable: bool) -> Report {
        let text =
            format!("[[budget]]\nof = \"x\"\nat_most = 1.3\nreason = \"r\"\nstable = {stable}\n");
        let ratios = vec![ratio; 9];
        let measured = Measurement::new("x", "", "y", (ratios.clone(), "ns"), ratios, Some(0.01));
        Report::new(
            machine(),
            quick,
            vec![measured],
            parse(&text).expect("sound"),
            None,
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
    fn what_could_not_be_told_is_no_pass() {
        assert_eq!(report(false, 1.3, true).exit_code(), exit::NO_VERDICT);
        let mut nothing = report(false, 1.1, true);
        nothing = Report::new(
            machine(),
            false,
            Vec::new(),
            nothing.budgets.into_iter().map(|one| one.budget).collect(),
            None,
        );
        assert_eq!(nothing.exit_code(), exit::NO_VERDICT);
        assert!(nothing.table().contains("not measured"));
    }
}
