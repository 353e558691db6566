//! What runs of delivery come to: ratios inside each round, as budgets are for them.
//!
//! What the same thing measured twice differs is in their interval: no two runs are neighbours.

use super::latencies::Figures;
use super::{BUDGETED_BYTES, Figure, HIGH, LOW, Rate, Run, Way};
use crate::measurement::Measurement;
use crate::statistics::interval;

/// A way at a rate.
type At = (Way, Rate);

/// A time of a run's events, and in which of its rounds it counts.
struct Time {
    suffix: &'static str,
    what: &'static str,
    value: fn(&Figures) -> f64,
    /// Only in rounds in which no reader was stopped alone, as far as somebody looked.
    quiet: bool,
}

/// What may be told of a pair.
const TIMES: [Time; 3] = [
    // The first has a budget. So has the second where a reader that looks is held to a floor; the third is told.
    Time {
        suffix: "",
        what: "p99 of a moment",
        value: |took| took.moment,
        quiet: true,
    },
    Time {
        suffix: ".p95",
        what: "p95 of a run",
        value: |took| took.p95,
        quiet: false,
    },
    Time {
        suffix: ".whole",
        what: "p99 of a run",
        value: |took| took.p99,
        quiet: false,
    },
];

/// All of them.
pub(super) fn measurements(runs: &[Vec<Run>]) -> Vec<Measurement> {
    let mut all = Vec::new();
    for (way, name) in [
        (Way::Latency, "latency"),
        (Way::Balanced, "balanced"),
        (Way::Quiet, "quiet"),
    ] {
        let wanted = HIGH.map_or(1.0, f64::from);
        let made = |run: &Run| run.made;
        let what = ("made a second, of 200 K", "what was wanted", "/s");
        let name_of = |figure: &str| format!("delivery.{name}.{figure}");
        all.push(to(runs, &name_of("made"), what, (way, HIGH), made, wanted));
        let share = |run: &Run| run.delivered as f64 / run.offered as f64;
        let what = ("delivered, at 200 K/s", "what was offered", "");
        all.push(to(
            runs,
            &name_of("delivered"),
            what,
            (way, HIGH),
            share,
            1.0,
        ));
    }
    let balanced = (Way::Balanced, HIGH);
    for (name, of, against) in [
        ("latency.spin_echo", (Way::Latency, HIGH), Way::SpinEcho),
        ("latency.perf", (Way::Latency, HIGH), Way::Perf),
        ("balanced.perf", balanced, Way::Perf),
        ("latency.eventfd", (Way::Latency, LOW), Way::EventFd),
    ] {
        all.extend(times(runs, name, of, against));
    }
    let what = (
        "delivered a second, 200 K/s wanted",
        "a perf event array",
        "/s",
    );
    let events = |run: &Run| run.made * run.delivered as f64 / run.offered as f64;
    let pairs = pairs(runs, balanced, (Way::Perf, HIGH));
    let values = pairs.iter().map(|(one, _)| events(one)).collect();
    let ratios = pairs.iter().map(|(one, other)| events(one) / events(other));
    all.push(measured(
        "delivery.balanced.events",
        balanced,
        what,
        values,
        ratios.collect(),
    ));
    let what = ("the reader's time, at 200 K/s", "a processor", "");
    let processor = |run: &Run| run.processor;
    all.push(to(
        runs,
        "delivery.balanced.processor",
        what,
        balanced,
        processor,
        1.0,
    ));
    all
}

/// How long events take against another way's.
fn times(runs: &[Vec<Run>], name: &str, of: At, against: Way) -> Vec<Measurement> {
    let at = if of.1 == HIGH {
        "at 200 K/s"
    } else {
        "at 1 K/s, asleep in between"
    };
    let pairs = pairs(runs, of, (against, of.1));
    let mut all = Vec::new();
    for time in TIMES {
        if time.suffix == ".p95" && against != Way::SpinEcho {
            continue;
        }
        // A spin echo is stopped like whoever is held against it, and is far enough from its budget: every round counts.
        let choosy = time.quiet && against != Way::SpinEcho;
        let counted: Vec<_> = pairs
            .iter()
            .filter(|(one, _)| !choosy || one.counts())
            .collect();
        let value = |run: &Run| (time.value)(&run.took);
        let ratio = |(one, other): &(&Run, &Run)| value(one) / value(other);
        let mut measurement = measured(
            &format!("delivery.{name}{}", time.suffix),
            of,
            (&format!("{}, {at}", time.what), against.word(), "us"),
            counted.iter().map(|(one, _)| value(one)).collect(),
            counted.iter().copied().map(ratio).collect(),
        );
        measurement.left_out = pairs.len() - counted.len();
        if measurement.left_out > 0 {
            let all: Vec<f64> = pairs.iter().map(ratio).collect();
            measurement.of_all = Some(interval(&all));
        }
        all.push(measurement);
    }
    all
}

/// Against a figure that is the same in each round.
fn to(
    runs: &[Vec<Run>],
    name: &str,
    what: (&str, &str, &'static str),
    of: At,
    value: Figure,
    against: f64,
) -> Measurement {
    let values: Vec<f64> = runs
        .iter()
        .filter_map(|round| find(round, of))
        .map(value)
        .collect();
    let ratios = values.iter().map(|value| value / against).collect();
    measured(name, of, what, values, ratios)
}

fn measured(
    name: &str,
    (way, _): At,
    (what, against, unit): (&str, &str, &'static str),
    values: Vec<f64>,
    ratios: Vec<f64>,
) -> Measurement {
    Measurement::new(
        name,
        format!("{}: {what}", way.word()),
        against,
        (values, unit),
        ratios,
        None,
    )
}

/// The runs of two ways in each round that has both.
fn pairs(runs: &[Vec<Run>], one: At, other: At) -> Vec<(&Run, &Run)> {
    runs.iter()
        .filter_map(|round| Some((find(round, one)?, find(round, other)?)))
        .collect()
}

fn find(round: &[Run], (way, rate): At) -> Option<&Run> {
    round
        .iter()
        .find(|run| run.way == way && run.rate == rate && run.bytes == BUDGETED_BYTES)
}

#[cfg(test)]
mod tests {
    use super::super::{Around, stops::MOST};
    use super::*;

    /// A run whose events all take so long, us.
    fn run(way: Way, rate: Rate, took: f64, after: Option<f64>) -> Run {
        Run {
            way,
            bytes: BUDGETED_BYTES,
            rate,
            offered: 10,
            delivered: 10,
            lost: 0,
            made: 200_000.0,
            took: Figures {
                p50: took,
                p95: took,
                p99: took,
                p999: took,
                max: took,
                moment: took,
            },
            processor: 0.5,
            stops: after.map(|after| Around { before: 0.0, after }),
        }
    }

    fn called<'m>(all: &'m [Measurement], name: &str) -> &'m Measurement {
        all.iter().find(|one| one.name == name).expect(name)
    }

    #[test]
    fn a_round_counts_where_no_reader_was_stopped_alone() {
        let round = |probe: f64, stops| {
            vec![
                run(Way::Latency, HIGH, probe, Some(stops)),
                run(Way::SpinEcho, HIGH, 1.0, None),
                run(Way::Perf, HIGH, 40.0, None),
            ]
        };
        let runs = [round(1.0, 0.0), round(2.0, MOST), round(9.0, MOST + 0.5)];
        let all = measurements(&runs);
        let perf = called(&all, "delivery.latency.perf");
        assert_eq!((&*perf.values, perf.left_out), (&[1.0, 2.0][..], 1));
        assert_eq!(perf.of_all.map(|all| all.median), Some(2.0 / 40.0));
        for name in ["perf.whole", "spin_echo", "spin_echo.p95"] {
            let one = called(&all, &format!("delivery.latency.{name}"));
            assert_eq!(
                (&*one.values, one.left_out),
                (&[1.0, 2.0, 9.0][..], 0),
                "{name}"
            );
        }
    }

    #[test]
    fn where_nobody_looked_every_round_counts() {
        let round = vec![
            run(Way::Balanced, HIGH, 60.0, None),
            run(Way::Perf, HIGH, 40.0, None),
        ];
        let all = measurements(&[round]);
        let perf = called(&all, "delivery.balanced.perf");
        assert_eq!((&*perf.ratios, perf.left_out), (&[1.5][..], 0));
        // What was not run has no figure.
        assert!(called(&all, "delivery.latency.eventfd").ratios.is_empty());
    }
}
