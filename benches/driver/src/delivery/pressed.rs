//! Delivery to a reader that does not have its processor for itself: beside a busy neighbour, with and without a
//! real-time priority, and under a quota; and the same reader with the processor for itself, to compare with.
//!
//! No budgets: what a scheduler does with a reader that it is told to hold back is not the probe's doing. What is
//! lost meanwhile is told.

use std::fmt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;

use super::{Asked, Manner, Rate, Row, Run, Stand, Way, rows};
use crate::processor::Class;
use crate::progress;
use crate::quota::{PERIOD, Quota};
use crate::report::NotMeasured;

/// What a reader is up against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Nothing; SCHED_OTHER, like the others, since that is what a reader has unless it asks for more.
    Alone,
    /// A process on the same processor that never waits for anything.
    Neighbour,
    /// The same, and the reader has a real-time priority (`--rt-priority`).
    NeighbourRealTime,
    /// A fifth of a processor, by its cgroup.
    Quota,
}

impl Condition {
    const ALL: [Self; 4] = [
        Self::Alone,
        Self::Neighbour,
        Self::NeighbourRealTime,
        Self::Quota,
    ];

    /// For people.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Neighbour => "beside a busy process",
            Self::NeighbourRealTime => "the same, real-time",
            Self::Quota => "quota: a fifth",
        }
    }

    const fn class(self) -> Class {
        match self {
            Self::NeighbourRealTime => Class::Fifo,
            _ => Class::Other,
        }
    }

    const fn has_neighbour(self) -> bool {
        matches!(self, Self::Neighbour | Self::NeighbourRealTime)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.what())
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Rounds.
    pub rounds: usize,
    /// How long one run is: some [`PERIOD`]s.
    pub time: Duration,
    /// Rates.
    pub rates: &'static [Rate],
}

/// Some minutes.
pub const HELD_BACK: Plan = Plan {
    rounds: 3,
    time: Duration::from_millis(400),
    rates: &[Some(1_000), Some(50_000), Some(200_000)],
};

/// Every way under one condition.
#[derive(Debug, Clone, Serialize)]
pub struct Under {
    /// Which.
    pub condition: Condition,
    /// Every way at every rate, 128 bytes each.
    pub rows: Vec<Row>,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub struct Pressed {
    /// By condition.
    pub under: Vec<Under>,
    /// What could not be had here.
    #[serde(skip)]
    pub missing: Vec<NotMeasured>,
}

impl Pressed {
    /// Measures it.
    ///
    /// # Errors
    /// As [`super::Session`].
    pub fn measure(plan: Plan) -> Result<Self> {
        let mut stand = Stand::new()?;
        let mut pressed = Self::default();
        let mut missing = |condition: Condition, why: &str| {
            let what = format!("delivery to a reader, {condition}");
            pressed.missing.push(NotMeasured::new(&what, why));
        };
        let quota = Quota::new(PERIOD / 5);
        let mut conditions = Vec::new();
        for condition in Condition::ALL {
            match (condition, &quota) {
                (Condition::Quota, Err(why)) => missing(condition, &format!("{why:#}")),
                (Condition::NeighbourRealTime, _) if stand.class != Class::Fifo => {
                    missing(condition, "no real-time priority is to be had");
                }
                _ => conditions.push((condition, Vec::<Vec<Run>>::new())),
            }
        }
        let quota = quota.ok();
        let all = plan.rounds * conditions.len();
        for round in 0..plan.rounds {
            for place in 0..conditions.len() {
                progress::at(round * conditions.len() + place, all)?;
                let which = (place + round) % conditions.len();
                let (condition, runs) = &mut conditions[which];
                let quota = quota.as_ref().filter(|_| *condition == Condition::Quota);
                runs.push(stand.under(*condition, quota, plan)?);
            }
        }
        if let Some(quota) = &quota {
            ensure!(quota.throttled()? > 0, "the quota held nobody back");
        }
        pressed.under = conditions
            .into_iter()
            .map(|(condition, runs)| Under {
                condition,
                rows: rows(&runs),
            })
            .collect();
        Ok(pressed)
    }
}

impl Stand {
    /// Each way at each rate once.
    fn under(
        &mut self,
        condition: Condition,
        quota: Option<&Quota>,
        plan: Plan,
    ) -> Result<Vec<Run>> {
        let neighbour = condition
            .has_neighbour()
            .then(|| Neighbour::on(self.processors[0]));
        let _until_then = neighbour.transpose()?;
        let mut runs = Vec::new();
        for &rate in plan.rates {
            for way in Way::PROGRAMS {
                let asked = Asked {
                    way,
                    rate,
                    bytes: 128,
                    time: plan.time,
                    manner: Manner::Sound,
                };
                let run = self.run(asked, condition.class(), quota);
                runs.push(run.with_context(|| condition.what())?);
            }
        }
        Ok(runs)
    }
}

/// A process that does nothing, without a pause, until this is dropped.
struct Neighbour(Child);

impl Neighbour {
    fn on(processor: usize) -> Result<Self> {
        // Ends by itself where nobody is left to end it.
        let line = "while [ -d /proc/$PPID ]; do i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done; done";
        let mut command = Command::new("sh");
        command.args(["-c", line]).stdin(Stdio::null());
        let neighbour = Self(command.spawn().context("sh")?);
        let mut there = CpuSet::new();
        there.set(processor)?;
        sched_setaffinity(Pid::from_raw(neighbour.0.id().cast_signed()), &there)?;
        Ok(neighbour)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ended = self.0.kill().and_then(|()| self.0.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_wants_its_processor_all_the_time_and_ends_with_its_guard() {
        let neighbour = Neighbour::on(0).expect("sh");
        let process = neighbour.0.id();
        let stat = || std::fs::read_to_string(format!("/proc/{process}/stat"));
        let runs = || stat().is_ok_and(|stat| stat.contains(") R "));
        let start = std::time::Instant::now();
        while !runs() {
            assert!(start.elapsed() < Duration::from_secs(10), "it waits");
        }
        drop(neighbour);
        assert!(stat().is_err());
    }
}
