//! For how long the machine stops a reader's processor and not the producer's.
//!
//! A host stops a virtual processor thousands of times a second (8 to 20 in a millisecond were seen), for 1 to 4 us. For
//! seconds or minutes it stops both at the same moment, and only an event that is on its way just then is late. Then, for as
//! long, it stops one after the other: a reader is stopped while events are made, in every millisecond, and the p99 of 200
//! events is the host's. Two threads that do nothing but read the clock, where the reader and the producer of a run are
//! before and after it, tell which it is, with none of the code that is measured.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use gauntlet_probes::clock::monotonic;

use crate::processor::{Class, run_on};
use crate::statistics::median;

/// A run counts, where microseconds matter, if the reader alone is stopped for at most so many of them in the median
/// millisecond: every event that is made meanwhile is late, and 10 of them are a p99 by themselves. Below 6, one round of
/// some seventy was slow; from 7 on, most were.
pub(super) const MOST: f64 = 6.0;
/// How long is looked.
const LOOK: Duration = Duration::from_millis(20);
/// How long the median is of, ns.
const MOMENT: u64 = 1_000_000;
/// Reading the clock takes a tenth of that, ns.
const STOPPED: u64 = 300;
/// What is told where stops cannot be seen, which is no reason to call it quiet, us.
const UNSEEN: f64 = 1e3;
/// How long a quiet machine is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// When a processor did nothing for a thread that wanted it, by the monotonic clock, ns.
#[derive(Debug, Clone, Copy)]
struct Stop {
    from: u64,
    to: u64,
}

/// What a thread saw.
#[derive(Debug)]
struct Seen {
    from: u64,
    to: u64,
    /// How many times it read the clock.
    reads: u64,
    stops: Vec<Stop>,
}

/// Looks until it is little enough, a second at most; what was seen last.
pub(super) fn quiet(processors: [usize; 2], class: Class) -> Result<f64> {
    let start = Instant::now();
    loop {
        let alone = alone(processors, class)?;
        if alone <= MOST || start.elapsed() > PATIENCE {
            return Ok(alone);
        }
        // A thread of real-time priority may not have all of a processor: the run after this needs what is left.
        thread::sleep(LOOK);
    }
}

/// For how long in the median millisecond the first of these processors, a reader's, is stopped and the second, the
/// producer's, is not, us. All of it where that cannot be seen: the clock is too slow, or they did not look at the same
/// time.
///
/// # Errors
/// When there is no such processor.
pub fn alone(processors: [usize; 2], class: Class) -> Result<f64> {
    let both = Barrier::new(2);
    let [reader, producer] = thread::scope(|scope| {
        let look = |processor| {
            let both = &both;
            scope.spawn(move || {
                let there = run_on(processor, class);
                both.wait();
                there.map(|()| look())
            })
        };
        processors.map(look).map(|looking| {
            looking
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    });
    Ok(in_the_median_moment(&reader?, &producer?))
}

fn look() -> Seen {
    // Touched, so that what is told here is not of its own pages.
    let mut stops = vec![Stop { from: 1, to: 1 }; 1 << 12];
    stops.clear();
    let from = monotonic();
    let end = from + LOOK.as_nanos() as u64;
    let (mut last, mut reads) = (from, 0);
    while last < end {
        let now = monotonic();
        reads += 1;
        if now - last > STOPPED {
            stops.push(Stop {
                from: last,
                to: now,
            });
        }
        last = now;
    }
    Seen {
        from,
        to: last,
        reads,
        stops,
    }
}

/// Of the time in which both looked.
fn in_the_median_moment(reader: &Seen, producer: &Seen) -> f64 {
    let from = reader.from.max(producer.from);
    let both = reader.to.min(producer.to).saturating_sub(from);
    let slow = |seen: &Seen| seen.to - seen.from > seen.reads * STOPPED;
    if both < LOOK.as_nanos() as u64 / 2 || slow(reader) || slow(producer) {
        return UNSEEN;
    }
    let moments: Vec<f64> = (0..both / MOMENT)
        .map(|number| {
            let begin = from + number * MOMENT;
            let moment = Stop {
                from: begin,
                to: begin + MOMENT,
            };
            let alone = reader
                .stops
                .iter()
                .filter_map(|stop| stop.within(moment))
                .map(|stop| stop.to - stop.from - shared(stop, &producer.stops));
            alone.sum::<u64>() as f64
        })
        .collect();
    median(&moments) / 1e3
}

impl Stop {
    /// What of it is in that time.
    fn within(self, time: Self) -> Option<Self> {
        let (from, to) = (self.from.max(time.from), self.to.min(time.to));
        (from < to).then_some(Self { from, to })
    }
}

/// For how much of a stop the other processor is stopped as well. Its stops are in their order.
fn shared(stop: Stop, others: &[Stop]) -> u64 {
    let first = others.partition_point(|other| other.to <= stop.from);
    others[first..]
        .iter()
        .take_while(|other| other.from < stop.to)
        .map(|other| other.to.min(stop.to) - other.from.max(stop.from))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: u64 = 1_000_000_000;

    /// Twenty milliseconds with these stops.
    fn looked(stops: Vec<Stop>) -> Seen {
        Seen {
            from: BEGIN,
            to: BEGIN + 20 * MOMENT,
            reads: 500_000,
            stops,
        }
    }

    /// With a stop of 2 us every 50, so much later.
    fn seen(later: u64) -> Seen {
        let stop = |number: u64| {
            let from = BEGIN + number * 50_000 + later;
            Stop {
                from,
                to: from + 2_000,
            }
        };
        looked((0..400).map(stop).collect())
    }

    #[test]
    fn who_is_stopped_together_is_not_stopped_alone() {
        assert_eq!(in_the_median_moment(&seen(0), &seen(0)), 0.0);
        // Twenty times in a millisecond, for 0.3 us each.
        assert_eq!(in_the_median_moment(&seen(0), &seen(300)), 6.0);
        assert_eq!(in_the_median_moment(&seen(300), &seen(0)), 6.0);
        assert_eq!(in_the_median_moment(&seen(0), &seen(10_000)), 40.0);
    }

    #[test]
    fn a_producer_that_is_stopped_makes_no_event_meanwhile() {
        let never = looked(Vec::new());
        assert_eq!(in_the_median_moment(&seen(0), &never), 40.0);
        assert_eq!(in_the_median_moment(&never, &seen(0)), 0.0);
    }

    #[test]
    fn a_long_stop_is_in_each_moment_that_it_reaches() {
        // 4 ms of every 6, from before the look on.
        let away = |number: u64| Stop {
            from: BEGIN - MOMENT + number * 6 * MOMENT,
            to: BEGIN + 3 * MOMENT + number * 6 * MOMENT,
        };
        let reader = looked((0..4).map(away).collect());
        let never = looked(Vec::new());
        assert_eq!(in_the_median_moment(&reader, &never), 1_000.0);
        assert_eq!(in_the_median_moment(&reader, &reader), 0.0);
    }

    #[test]
    fn what_cannot_be_seen_is_not_quiet() {
        let never = || looked(Vec::new());
        let late = Seen {
            from: BEGIN + 11 * MOMENT,
            ..never()
        };
        let slow = Seen {
            reads: 60_000,
            ..never()
        };
        assert_eq!(in_the_median_moment(&never(), &never()), 0.0);
        for other in [late, slow] {
            assert_eq!(in_the_median_moment(&never(), &other), UNSEEN);
            assert_eq!(in_the_median_moment(&other, &never()), UNSEEN);
        }
    }

    #[test]
    fn a_stop_that_is_cut_by_others_is_alone_for_the_rest() {
        let stop = |from, to| Stop { from, to };
        let others = [stop(0, 10), stop(20, 30), stop(35, 50), stop(60, 70)];
        assert_eq!(shared(stop(5, 40), &others), 5 + 10 + 5);
        assert_eq!(shared(stop(10, 20), &others), 0);
        assert_eq!(shared(stop(50, 90), &others), 10);
        assert_eq!(shared(stop(5, 40), &[]), 0);
    }

    #[test]
    fn a_tick_now_and_then_is_not_in_the_median_moment() {
        let mut ticks = seen(0);
        ticks.stops.retain(|stop| stop.from % 4_000_000 < 50_000);
        assert_eq!(ticks.stops.len(), 5);
        assert_eq!(in_the_median_moment(&ticks, &looked(Vec::new())), 0.0);
    }

    #[test]
    fn a_processor_that_is_not_there_is_an_error_and_nobody_waits_for_it() {
        assert!(alone([0, 0], Class::Other).is_ok());
        assert!(alone([0, 100_000], Class::Other).is_err());
    }
}
