//! Two builds of the probe against each other in one run: better, worse, the same, or INCONCLUSIVE.
//!
//! A program that is loaded twice is not as fast twice: where its code and its maps come to lie is worth some
//! percent for as long as it is loaded. So everything is loaded anew again and again, and one load is one sample,
//! however many rounds it has. The baseline is loaded twice each time; by how much its two differ is the
//! control. Inside a round, all three take turns.
//!
//! What the verifier walks and what the maps take is counted, not timed: there is nothing to be told by chance.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, anyhow};
use gauntlet_cli::exit;
use gauntlet_probes::cost;
use gauntlet_probes::load::Settings;
use gauntlet_probes::object::{CGROUP, INTERFACE};
use serde::Serialize;

use crate::budget::FEWEST;
use crate::machine::Machine;
use crate::measurement::{Measurement, noise};
use crate::memory;
use crate::program::Kind;
use crate::progress;
use crate::report::short;
use crate::stand::{BESIDE, Stand};
use crate::statistics::{Interval, median};

/// Differences that are smaller are none: they come and go with the compiler's mood.
const TELLING: f64 = 0.03;

/// A build of the probe.
#[derive(Debug, Clone, Copy)]
pub struct Build<'o> {
    /// Its BPF object, an ELF file's bytes.
    pub object: &'o [u8],
    /// How it is loaded.
    pub settings: &'o Settings,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How often everything is loaded: samples.
    pub loads: usize,
    /// Rounds with what is loaded.
    pub rounds: usize,
}

impl Plan {
    /// A minute.
    pub const QUICK: Self = Self {
        loads: 7,
        rounds: 5,
    };
    /// Some minutes.
    pub const FULL: Self = Self {
        loads: 15,
        rounds: 9,
    };
}

/// What became of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It costs less, whatever is in the interval.
    Better,
    /// It costs more, whatever is in the interval.
    Worse,
    /// Nothing in the interval is a difference that counts.
    Same,
    /// The interval holds one that counts, and none.
    Inconclusive,
}

impl Change {
    /// The word in tables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "WORSE",
            Self::Same => "same",
            Self::Inconclusive => "INCONCLUSIVE",
        }
    }

    fn of(ratio: Interval, noise: f64) -> Self {
        let low = ratio.low * (1.0 - noise);
        let high = ratio.high * (1.0 + noise);
        match (1.0 - TELLING, 1.0 + TELLING) {
            (_, more) if low > more => Self::Worse,
            (less, _) if high < less => Self::Better,
            (less, more) if low >= less && high <= more => Self::Same,
            _ => Self::Inconclusive,
        }
    }

    fn of_measured(one: &Measurement) -> Self {
        if one.ratios.len() < FEWEST {
            return Self::Inconclusive;
        }
        Self::of(one.ratio, one.noise.unwrap_or(0.0))
    }
}

/// What was measured, and what became of it.
#[derive(Debug, Serialize)]
pub struct Timed {
    /// The measurement: today's, in the baseline's.
    #[serde(flatten)]
    pub measurement: Measurement,
    /// The verdict.
    pub change: Change,
}

/// What is the same number each time.
#[derive(Debug, Serialize)]
pub struct Counted {
    /// Of what.
    pub name: String,
    /// The unit.
    pub unit: &'static str,
    /// Now.
    pub today: u64,
    /// In the baseline.
    pub then: u64,
    /// The verdict.
    pub change: Change,
}

/// Two builds side by side.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// On what; its commit is today's.
    pub machine: Machine,
    /// The baseline's commit.
    pub baseline: String,
    /// What was timed.
    pub timed: Vec<Timed>,
    /// What was counted.
    pub counted: Vec<Counted>,
}

/// Compares today's build with a baseline.
///
/// # Errors
/// When one of them cannot be loaded, or does with a packet something else than is meant.
pub fn compare(
    machine: Machine,
    today: Build<'_>,
    (then, baseline): (Build<'_>, &str),
    plan: Plan,
) -> Result<Comparison> {
    let mut counted = verified(today, then).map_err(of_baseline(baseline))?;
    counted.extend(maps(today, then).map_err(of_baseline(baseline))?);
    Ok(Comparison {
        machine,
        baseline: baseline.into(),
        timed: timed(today, (then, baseline), plan)?,
        counted,
    })
}

/// Only what is timed.
///
/// # Errors
/// As [`compare`].
pub fn timed(
    today: Build<'_>,
    (then, baseline): (Build<'_>, &str),
    plan: Plan,
) -> Result<Vec<Timed>> {
    let mut samples = Samples::default();
    for load in 0..plan.loads {
        progress::at(load, plan.loads)?;
        samples.load(today, (then, baseline), plan.rounds, load)?;
    }
    Ok(samples.timed(baseline))
}

/// Why a baseline cannot be measured, in a line: what is around the cause says it again.
fn of_baseline(baseline: &str) -> impl Fn(anyhow::Error) -> anyhow::Error {
    move |error| {
        anyhow!(
            "today's driver cannot measure {baseline}: {}",
            error.root_cause()
        )
    }
}

/// By kind, one of each load.
#[derive(Default)]
struct Samples {
    values: [Vec<f64>; Kind::ALL.len()],
    ratios: [Vec<f64>; Kind::ALL.len()],
    control: [Vec<f64>; Kind::ALL.len()],
}

/// Where each is among the three that take turns.
const TODAY: usize = 0;
const THEN: usize = 1;
const AGAIN: usize = 2;

impl Samples {
    fn load(
        &mut self,
        today: Build<'_>,
        (then, baseline): (Build<'_>, &str),
        rounds: usize,
        load: usize,
    ) -> Result<()> {
        let builds = [today, then, then];
        let mut stands = [const { None }; 3];
        for turn in turns(load) {
            let Build { object, settings } = builds[turn];
            let made = Stand::new(object, settings, BESIDE);
            stands[turn] = Some(if turn == TODAY {
                made?
            } else {
                made.map_err(of_baseline(baseline))?
            });
        }
        let [Some(a), Some(b), Some(c)] = stands else {
            return Ok(()); // there are three turns
        };
        let mut stands = [a, b, c];
        let mut took = [const { [const { Vec::new() }; 3] }; Kind::ALL.len()];
        // Once unmeasured: caches, and the processor's clock.
        for round in 0..=rounds {
            progress::ongoing()?;
            for (at, kind) in Kind::ALL.into_iter().enumerate() {
                for turn in turns(load + round) {
                    let stand = &mut stands[turn];
                    let empty = stand.empty()?;
                    let one = stand.several(kind, empty);
                    let one = if turn == TODAY {
                        one?
                    } else {
                        one.map_err(of_baseline(baseline))?
                    };
                    if round > 0 {
                        took[at][turn].push(one);
                    }
                }
            }
        }
        for (at, took) in took.iter().enumerate() {
            let [today, then, again] = [TODAY, THEN, AGAIN].map(|turn| median(&took[turn]));
            self.values[at].push(today);
            self.ratios[at].push(today / f64::midpoint(then, again));
            self.control[at].push(again / then);
        }
        Ok(())
    }

    fn timed(self, baseline: &str) -> Vec<Timed> {
        let all = Kind::ALL.into_iter().zip(self.values);
        let all = all.zip(self.ratios.into_iter().zip(self.control));
        all.map(|((kind, values), (ratios, control))| {
            let measurement = Measurement::new(
                kind.name(),
                kind.what(),
                baseline,
                (values, "ns"),
                ratios,
                Some(noise(&control)),
            );
            Timed {
                change: Change::of_measured(&measurement),
                measurement,
            }
        })
        .collect()
    }
}

/// Who comes first, and who then: each has each place in turn.
fn turns(round: usize) -> [usize; 3] {
    [TODAY, THEN, AGAIN].map(|turn| (turn + round) % 3)
}

/// Instructions that the verifier walks, by program.
fn verified(today: Build<'_>, then: Build<'_>) -> Result<Vec<Counted>> {
    let mut counted = Vec::new();
    for family in [INTERFACE, CGROUP] {
        let [today, then] = [today, then].map(|build| {
            cost::of_object(build.object, build.settings, family)?
                .into_iter()
                .map(|one| one.map_err(|no| anyhow!("the kernel refused {}", no.program)))
                .collect::<Result<Vec<_>>>()
        });
        for (today, then) in today?.into_iter().zip(then?) {
            let both = today
                .verified_instructions
                .zip(then.verified_instructions)
                .context("the kernel does not say what it verified")?;
            counted.push(Counted::new(today.program, "instructions verified", both));
        }
    }
    Ok(counted)
}

/// What the maps take, those of which both have none apart.
fn maps(today: Build<'_>, then: Build<'_>) -> Result<Vec<Counted>> {
    let [today, then] =
        [today, then].map(|build| memory::maps_at_rest(build.object, build.settings));
    let (today, then) = (today?, then?);
    let sum = |maps: &memory::Maps| maps.values().sum();
    let mut counted = vec![Counted::new("all maps", "bytes", (sum(&today), sum(&then)))];
    let names = today
        .keys()
        .chain(then.keys().filter(|name| !today.contains_key(*name)));
    for name in names {
        let of = |maps: &memory::Maps| maps.get(name).copied().unwrap_or(0);
        if of(&today) != of(&then) {
            counted.push(Counted::new(name, "bytes", (of(&today), of(&then))));
        }
    }
    Ok(counted)
}

impl Counted {
    fn new(name: &str, unit: &'static str, (today, then): (u64, u64)) -> Self {
        let ratio = today as f64 / then as f64;
        let change = if today == then {
            Change::Same
        } else {
            Change::of(
                Interval {
                    low: ratio,
                    median: ratio,
                    high: ratio,
                },
                0.0,
            )
        };
        Self {
            name: name.into(),
            unit,
            today,
            then,
            change,
        }
    }
}

impl Comparison {
    /// What to end with: 1 where something is worse; what could not be told is never a pass.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let timed = self.timed.iter().map(|one| one.change);
        let counted = self.counted.iter().map(|one| one.change);
        let changes: Vec<Change> = timed.chain(counted).collect();
        if changes.contains(&Change::Worse) {
            exit::UNEXPECTED
        } else if changes.contains(&Change::Inconclusive) {
            exit::NO_VERDICT
        } else {
            exit::OK
        }
    }

    /// Lines for a terminal.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = format!(
            "{}\n\n{:<34} {:>10}  {:<26} {:>8}\n",
            self.machine.line(),
            format!("against {}", self.baseline),
            "",
            "times as much [95 %]",
            "control"
        );
        for Timed {
            measurement,
            change,
        } in &self.timed
        {
            let Measurement {
                name,
                value,
                unit,
                ratio,
                noise,
                ..
            } = measurement;
            let _infallible = writeln!(
                table,
                "{name:<34} {:>7} {unit}  {:<26} {:>6.1} %  {}",
                short(value.median),
                format!("{:.3} [{:.3}-{:.3}]", ratio.median, ratio.low, ratio.high),
                noise.unwrap_or(0.0) * 100.0,
                change.word()
            );
        }
        table.push('\n');
        for one in &self.counted {
            let _infallible = writeln!(
                table,
                "{:<34} {:>10}  {:<26} {}",
                one.name,
                one.today,
                format!("{}; were {}", one.unit, one.then),
                one.change.word()
            );
        }
        let _infallible = writeln!(
            table,
            "\nworse, better: by more than {:.0} %, whatever the interval and the control leave open; same: by less. \
             A packet's time has the run's own in it",
            TELLING * 100.0
        );
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(ratios: &[f64], noise: f64) -> Change {
        let values = (ratios.to_vec(), "ns");
        Change::of_measured(&Measurement::new(
            "x",
            "",
            "",
            values,
            ratios.to_vec(),
            Some(noise),
        ))
    }

    #[test]
    fn a_difference_is_told_only_where_it_counts_and_nothing_else_explains_it() {
        assert_eq!(change(&[1.2; 9], 0.01), Change::Worse);
        assert_eq!(change(&[0.8; 9], 0.01), Change::Better);
        assert_eq!(change(&[1.0; 9], 0.01), Change::Same);
        // Small, however sure.
        assert_eq!(change(&[1.02; 9], 0.0), Change::Same);
        // The baseline differs from itself by as much.
        assert_eq!(change(&[1.2; 9], 0.2), Change::Inconclusive);
        assert_eq!(change(&[0.8; 9], 0.3), Change::Inconclusive);
        // It may be nothing.
        let wide = [0.9, 0.95, 1.0, 1.0, 1.05, 1.1, 1.2];
        assert_eq!(change(&wide, 0.0), Change::Inconclusive);
        // Too few loads say nothing.
        assert_eq!(change(&[1.5; 4], 0.0), Change::Inconclusive);
    }

    #[test]
    fn what_is_counted_is_judged_as_it_is() {
        let of = |today, then| Counted::new("x", "bytes", (today, then)).change;
        assert_eq!(of(100, 100), Change::Same);
        assert_eq!(of(0, 0), Change::Same);
        assert_eq!(of(102, 100), Change::Same);
        assert_eq!(of(110, 100), Change::Worse);
        assert_eq!(of(90, 100), Change::Better);
        // A map that the baseline has not.
        assert_eq!(of(1, 0), Change::Worse);
    }

    #[test]
    fn each_of_the_three_has_each_place_in_turn() {
        for place in 0..3 {
            let mut had: Vec<usize> = (0..3).map(|round| turns(round)[place]).collect();
            had.sort_unstable();
            assert_eq!(had, [TODAY, THEN, AGAIN]);
        }
    }

    #[test]
    fn a_baseline_that_cannot_be_measured_is_told_in_a_line() {
        let error = anyhow!("no GLANCE")
            .context("no GLANCE, says the parser")
            .context("a map");
        let told = of_baseline("abc")(error);
        assert_eq!(
            format!("{told:#}"),
            "today's driver cannot measure abc: no GLANCE"
        );
    }

    #[test]
    fn worse_is_red_and_what_cannot_be_told_is_no_pass() {
        let code = |ratios: &[&[f64]]| {
            let timed = |ratios: &&[f64]| {
                let values = (ratios.to_vec(), "ns");
                let measurement = Measurement::new("x", "", "", values, ratios.to_vec(), Some(0.0));
                Timed {
                    change: Change::of_measured(&measurement),
                    measurement,
                }
            };
            let comparison = Comparison {
                machine: Machine::nowhere(),
                baseline: "b".into(),
                timed: ratios.iter().map(timed).collect(),
                counted: vec![Counted::new("c", "bytes", (1, 1))],
            };
            assert!(comparison.table().contains("against b"));
            comparison.exit_code()
        };
        let (same, better, worse) = ([1.0; 9], [0.5; 9], [1.5; 9]);
        assert_eq!(code(&[&same, &better]), exit::OK);
        assert_eq!(code(&[&same, &same[..4]]), exit::NO_VERDICT);
        assert_eq!(code(&[&worse, &same[..4]]), exit::UNEXPECTED);
    }
}
