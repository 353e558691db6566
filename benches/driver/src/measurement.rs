//! What was measured: ratios of neighbours in time, each with the absolute figure beside it.

use serde::Serialize;

use crate::report::short;
use crate::statistics::{Interval, interval};

/// One thing against another, measured together again and again.
#[derive(Debug, Clone, Serialize)]
pub struct Measurement {
    /// As in `budget.toml`.
    pub name: String,
    /// What, for people.
    pub what: String,
    /// Against what.
    pub against: String,
    /// The ratio in each round.
    pub ratios: Vec<f64>,
    /// The thing itself in each round.
    pub values: Vec<f64>,
    /// The unit of `values`.
    pub unit: &'static str,
    /// How far the same thing measured twice was from 1 in the same run (0.02: two percent); `None` where nothing
    /// was: then the rounds' spread is all that is known.
    pub noise: Option<f64>,
    /// Rounds that do not count, as what was measured in them is the machine's.
    pub left_out: usize,
    /// The ratios' median of all rounds, where some do not count: these are disturbed, which only adds.
    pub of_all: Option<Interval>,
    /// The ratios' median.
    pub ratio: Interval,
    /// The values' median.
    pub value: Interval,
}

impl Measurement {
    /// Of so many rounds. `noise`: what [`noise`] said of the control.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        what: impl Into<String>,
        against: impl Into<String>,
        (values, unit): (Vec<f64>, &'static str),
        ratios: Vec<f64>,
        noise: Option<f64>,
    ) -> Self {
        Self {
            name: name.into(),
            what: what.into(),
            against: against.into(),
            ratio: interval(&ratios),
            value: interval(&values),
            ratios,
            values,
            unit,
            noise,
            left_out: 0,
            of_all: None,
        }
    }

    /// The ratio with its interval, for people; a dash where no round counts.
    pub(crate) fn ratio_told(&self, told: impl Fn(Interval) -> String) -> String {
        if self.ratios.is_empty() {
            return "-".into();
        }
        told(self.ratio)
    }

    /// How many rounds do not count, and why; nothing where all do.
    pub(crate) fn left_out_told(&self) -> Option<String> {
        let of = self.ratios.len() + self.left_out;
        (self.left_out > 0).then(|| {
            format!(
                "{} of {of} rounds do not count: the machine stopped the reader's processor alone just before or after{}",
                self.left_out,
                self.of_all.map_or(String::new(), |Interval { low, median, high }| format!(
                    "; with them {} [{}-{}]",
                    short(median),
                    short(low),
                    short(high)
                ))
            )
        })
    }

    /// Leaves the ratios alone.
    pub(crate) fn forget_values(&mut self) {
        self.values.clear();
        self.value = interval(&[]);
    }

    /// The thing itself, with its unit; nothing where that is not told.
    pub(crate) fn itself(&self) -> String {
        if self.values.is_empty() {
            return String::new();
        }
        format!("{} {}", short(self.value.median), self.unit)
    }
}

/// How far from 1 the ratios of a thing against itself may be.
#[must_use]
pub fn noise(control: &[f64]) -> f64 {
    let found = interval(control);
    (found.high - 1.0).abs().max((1.0 - found.low).abs())
}
