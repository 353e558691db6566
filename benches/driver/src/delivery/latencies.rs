//! How long each event of a run took, and what of it is the machine's: all events together, and a typical moment.
//!
//! A virtual processor is away some hundreds of times a second, for its timer and for its host, tens to hundreds of
//! microseconds each. At 200,000 events a second that can be near one event of a hundred, so that the p99 of a whole run
//! is that of a reader in one run and that of an interruption in the next. A moment is 1 ms then, and most are free of
//! either: the p99 of the median moment is the reader's, as long as less than half of them are disturbed. (Where the
//! timer ticks 1,000 times a second, each has a tick; 250 are usual.)
//!
//! What is slow for less than half of the time is not seen there: it is in the figures of the whole, of which the p95 has
//! a budget too.

use std::time::Duration;

use gauntlet_probes::clock::monotonic;

use crate::statistics::{median, quantile, sorted};

/// How many events a moment is meant to have, at the rate that is wanted.
const OF_MOMENT: u32 = 200;
/// A moment with fewer has no p99.
const FEWEST: usize = 20;

/// One event, by the monotonic clock, ns.
#[derive(Debug, Clone, Copy)]
struct Event {
    made: u64,
    took: u64,
}

/// The events of a run. Its memory is touched before a run and used in the next one again: a page that is touched for
/// the first time is an interruption too.
pub(super) struct Latencies {
    events: Vec<Event>,
    room: usize,
}

/// What they come to, microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figures {
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
    /// The p99 of the median moment.
    pub(super) moment: f64,
}

impl Latencies {
    /// With room for the events of a run; where there are more, it grows.
    pub(super) fn new(room: usize) -> Self {
        Self {
            events: Vec::with_capacity(room),
            room,
        }
    }

    /// Forgets the run before.
    pub(super) fn clear(&mut self) {
        self.events.clear();
        self.events.shrink_to(self.room);
        // Not 0, which fresh memory is without being touched.
        self.events.resize(self.room, Event { made: 1, took: 1 });
        self.events.clear();
    }

    /// An event that was made then, and is seen now.
    pub(super) fn seen(&mut self, made: u64) {
        let took = monotonic().saturating_sub(made);
        self.events.push(Event { made, took });
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Of events in the order in which they were made. `rate`: how many were wanted a second; none: as many as can be.
    pub(super) fn figures(&self, rate: Option<u32>) -> Figures {
        let all = microseconds(&self.events);
        let at = |share| quantile(&all, share);
        // As long as 200,000 a second take to be so many.
        let rate = u64::from(rate.unwrap_or(200_000)).max(1);
        let moment = Duration::from_nanos(u64::from(OF_MOMENT) * 1_000_000_000 / rate);
        let begin = self.events.first().map_or(0, |event| event.made);
        let moment_of =
            |event: &Event| u128::from(event.made.saturating_sub(begin)) / moment.as_nanos();
        let mut moments: Vec<&[Event]> = self
            .events
            .chunk_by(|one, next| moment_of(one) == moment_of(next))
            .collect();
        if moments.len() > 1 {
            // Half a moment, mostly.
            moments.pop();
        }
        let p99s: Vec<f64> = moments
            .iter()
            .filter(|events| events.len() >= FEWEST)
            .map(|events| quantile(&microseconds(events), 0.99))
            .collect();
        Figures {
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: at(1.0),
            moment: if p99s.is_empty() {
                // All of them are one.
                at(0.99)
            } else {
                median(&p99s)
            },
        }
    }
}

/// Sorted.
fn microseconds(events: &[Event]) -> Vec<f64> {
    let took: Vec<f64> = events.iter().map(|event| event.took as f64 / 1e3).collect();
    sorted(&took)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A quarter of a second at 200,000 a second; what each takes, ns, by its number.
    fn run(took: impl Fn(u64) -> u64) -> Figures {
        let mut latencies = Latencies::new(8);
        latencies.clear();
        for number in 0..50_000 {
            latencies.events.push(Event {
                made: 1_000_000 + number * 5_000,
                took: took(number),
            });
        }
        latencies.figures(Some(200_000))
    }

    #[test]
    fn interruptions_are_of_the_whole_and_not_of_a_moment() {
        // 30 us, 250 times a second: seven events wait for each.
        let away = |number: u64| match number % 800 {
            late @ 0..7 => 30_000 - late * 4_000,
            _ => 500,
        };
        let (quiet, interrupted) = (run(|_| 500), run(away));
        assert_eq!((quiet.p99, quiet.moment), (0.5, 0.5));
        assert_eq!((interrupted.p50, interrupted.moment), (0.5, 0.5));
        assert!(interrupted.p999 > 20.0, "{interrupted:?}");
        // A hair more of them, and they are the p99 of the whole.
        let more = run(|number| away(number % 640));
        assert!(more.p99 > 5.0 && more.moment == 0.5, "{more:?}");
    }

    #[test]
    fn a_reader_that_is_slow_in_every_moment_is_seen_in_it() {
        let slow = run(|number| if number % 50 == 0 { 90_000 } else { 500 });
        assert_eq!((slow.p50, slow.moment), (0.5, 90.0));
        let slower = run(|_| 40_000);
        assert_eq!((slower.p50, slower.moment), (40.0, 40.0));
    }

    #[test]
    fn a_reader_that_is_slow_for_a_third_of_the_time_is_seen_in_the_whole() {
        let nods = run(|number| {
            if number % 3_000 < 1_000 {
                5_000_000
            } else {
                500
            }
        });
        assert_eq!((nods.p50, nods.moment, nods.p95), (0.5, 0.5, 5_000.0));
    }

    #[test]
    fn few_events_are_one_moment_and_the_rest_of_a_run_is_none() {
        let mut latencies = Latencies::new(4);
        let mut slowest = |events: u64, slow_from: u64| {
            latencies.clear();
            for number in 0..events {
                latencies.events.push(Event {
                    made: 1_000 + number * 1_000_000,
                    took: if number < slow_from { 1_000 } else { 9_000 },
                });
            }
            assert_eq!(latencies.len() as u64, events);
            latencies.figures(Some(1_000)).moment
        };
        assert_eq!(slowest(10, 10), 1.0);
        assert_eq!(slowest(10, 0), 9.0);
        // 200 are a moment, 50 are half a one.
        assert_eq!(slowest(250, 200), 1.0);
        assert_eq!(slowest(0, 0), 0.0);
    }
}
