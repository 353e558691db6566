//! Budgets (`benches/budget.toml`), and the verdict on each: values in, verdict out; nothing is measured and
//! nothing printed here.
//!
//! An interval that holds the budget, widened by what the same thing measured twice differed, is no pass and no
//! failure: INCONCLUSIVE. What a median is held to beside that is asked of the median alone.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::measurement::Measurement;

/// One budget.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Which measurement.
    pub of: String,
    /// The ratio is at most this.
    pub at_most: Option<f64>,
    /// The ratio is at least this.
    pub at_least: Option<f64>,
    /// The ratio's median by itself is at most this, beside what its interval is held to.
    pub median_at_most: Option<f64>,
    /// Why this much.
    pub reason: String,
    /// It gates quick runs too.
    #[serde(default)]
    pub stable: bool,
    /// What must be installed for it: where it is not, the budget is told as not measured, and does not gate.
    pub needs: Option<String>,
    /// It is known to be missed.
    pub missed: Option<Missed>,
}

/// How far a budget is known to be missed.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Missed {
    /// The ratio is at most this none the less.
    pub at_most: Option<f64>,
    /// The ratio is at least this none the less.
    pub at_least: Option<f64>,
    /// The measurement that shows why.
    pub reason: String,
}

/// What came of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is met.
    Met,
    /// It is missed.
    Missed,
    /// It is missed, no more than is known and explained.
    KnownMissed,
    /// The noise is larger than what is between the measurement and the budget, or too few rounds count.
    Inconclusive,
    /// Nothing was measured.
    NotMeasured,
}

impl Verdict {
    /// The word in tables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::KnownMissed => "missed, as known",
            Self::Inconclusive => "INCONCLUSIVE",
            Self::NotMeasured => "not measured",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    budget: Vec<Budget>,
}

/// Fewer rounds say nothing.
pub(crate) const FEWEST: usize = 5;

/// The budgets of a file's text.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Budget>> {
    let File { budget } = toml::from_str(text).context("budget.toml")?;
    for one in &budget {
        let bound = one.at_most.is_some() != one.at_least.is_some();
        ensure!(bound, "budget.toml: {}: either at_most or at_least", one.of);
        if let Some(missed) = &one.missed {
            let same = missed.at_most.is_some() == one.at_most.is_some()
                && missed.at_least.is_some() == one.at_least.is_some();
            ensure!(same, "budget.toml: {}: missed has another bound", one.of);
        }
        if let Some(median) = one.median_at_most {
            let below = one.at_most.is_some_and(|most| median <= most);
            ensure!(
                below,
                "budget.toml: {}: median_at_most is not below at_most",
                one.of
            );
        }
        ensure!(!one.reason.is_empty(), "budget.toml: {}: no reason", one.of);
    }
    Ok(budget)
}

impl Budget {
    /// Judges a measurement.
    #[must_use]
    pub fn judge(&self, measured: Option<&Measurement>) -> Verdict {
        let Some(measured) = measured else {
            return Verdict::NotMeasured;
        };
        let mut verdict = held(measured, self.at_most, self.at_least);
        if let Some(most) = self.median_at_most
            && measured.ratio.median > most
        {
            // Where all of the interval is above, no more rounds will tell otherwise.
            verdict = match held(measured, Some(most), None) {
                Verdict::Missed => Verdict::Missed,
                _ => Verdict::Inconclusive,
            };
        }
        match &self.missed {
            Some(missed) if verdict != Verdict::Met => {
                match held(measured, missed.at_most, missed.at_least) {
                    Verdict::Met => Verdict::KnownMissed,
                    worse => worse,
                }
            }
            _ => verdict,
        }
    }

    /// `<= 1.3`, for people.
    #[must_use]
    pub fn bound(&self) -> String {
        match (self.at_most, self.at_least) {
            (Some(most), _) => {
                let median = self.median_at_most.map(|most| format!(", median {most}"));
                format!("<= {most}{}", median.unwrap_or_default())
            }
            (_, Some(least)) => format!(">= {least}"),
            _ => String::new(),
        }
    }
}

fn held(measured: &Measurement, at_most: Option<f64>, at_least: Option<f64>) -> Verdict {
    if measured.ratios.len() < FEWEST {
        // What disturbs a round only adds: with all of them it is an upper bound, and nothing else.
        let enough = measured.ratios.len() + measured.left_out >= FEWEST;
        return match (measured.of_all, at_most) {
            (Some(all), Some(most)) if enough && all.high <= most => Verdict::Met,
            _ => Verdict::Inconclusive,
        };
    }
    let noise = measured.noise.unwrap_or(0.0);
    let low = measured.ratio.low * (1.0 - noise);
    let high = measured.ratio.high * (1.0 + noise);
    let (good, bad) = match (at_most, at_least) {
        (Some(most), _) => (high <= most, low > most),
        (_, Some(least)) => (low >= least, high < least),
        _ => (false, false),
    };
    match (good, bad) {
        (true, _) => Verdict::Met,
        (_, true) => Verdict::Missed,
        _ => Verdict::Inconclusive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::Interval;

    fn measured(ratios: &[f64], noise: f64) -> Measurement {
        let values = (ratios.to_vec(), "ns");
        Measurement::new("x", "", "", values, ratios.to_vec(), Some(noise))
    }

    fn budget(text: &str) -> Budget {
        let text = format!("[[budget]]\nof = \"x\"\nreason = \"r\"\n{text}");
        parse(&text).expect("a budget").remove(0)
    }

    #[test]
    fn a_budget_is_met_missed_or_undecided() {
        let budget = budget("at_most = 1.3");
        let judge = |ratios: &[f64], noise| budget.judge(Some(&measured(ratios, noise)));
        assert_eq!(judge(&[1.1; 9], 0.01), Verdict::Met);
        assert_eq!(judge(&[1.5; 9], 0.01), Verdict::Missed);
        // Its interval holds the budget.
        let spread = [1.1, 1.2, 1.25, 1.3, 1.35, 1.4, 1.5];
        assert_eq!(judge(&spread, 0.0), Verdict::Inconclusive);
        // The control differs by more than is left to the budget, above or below.
        assert_eq!(judge(&[1.2; 9], 0.15), Verdict::Inconclusive);
        assert_eq!(judge(&[1.4; 9], 0.15), Verdict::Inconclusive);
        // Too few to say anything, and nothing at all.
        assert_eq!(judge(&[1.1; 4], 0.0), Verdict::Inconclusive);
        assert_eq!(budget.judge(None), Verdict::NotMeasured);
    }

    #[test]
    fn what_is_met_by_all_rounds_is_met_where_few_count() {
        let budget = budget("at_most = 1.3");
        let judge = |counted: &[f64], left_out, high| {
            let mut one = measured(counted, 0.0);
            one.left_out = left_out;
            one.of_all = Some(Interval {
                low: 1.0,
                median: 1.1,
                high,
            });
            budget.judge(Some(&one))
        };
        assert_eq!(judge(&[1.1; 3], 4, 1.3), Verdict::Met);
        assert_eq!(judge(&[1.1; 3], 4, 1.4), Verdict::Inconclusive);
        assert_eq!(judge(&[1.1; 5], 4, 1.4), Verdict::Met);
        assert_eq!(judge(&[1.5; 5], 4, 1.6), Verdict::Missed);
        // Enough of them count: they decide.
        assert_eq!(judge(&[1.5; 5], 4, 1.2), Verdict::Missed);
        assert_eq!(judge(&[1.1; 2], 2, 1.2), Verdict::Inconclusive);
    }

    #[test]
    fn a_lower_bound_is_judged_the_other_way_round() {
        let budget = budget("at_least = 0.999");
        assert_eq!(budget.judge(Some(&measured(&[1.0; 9], 0.0))), Verdict::Met);
        assert_eq!(
            budget.judge(Some(&measured(&[0.9; 9], 0.0))),
            Verdict::Missed
        );
    }

    #[test]
    fn a_known_miss_is_no_licence_to_get_worse() {
        let budget = budget("at_most = 1.3\nmissed = { at_most = 2.0, reason = \"r\" }");
        let judge = |ratio| budget.judge(Some(&measured(&[ratio; 9], 0.01)));
        assert_eq!(judge(1.1), Verdict::Met);
        assert_eq!(judge(1.8), Verdict::KnownMissed);
        assert_eq!(judge(2.5), Verdict::Missed);
    }

    #[test]
    fn a_file_that_means_nothing_is_refused() {
        for wrong in [
            "[[budget]]\nof = \"x\"\nreason = \"r\"",
            "[[budget]]\nof = \"x\"\nreason = \"r\"\nat_most = 1.0\nat_least = 1.0",
            "[[budget]]\nof = \"x\"\nreason = \"\"\nat_most = 1.0",
            "[[budget]]\nof = \"x\"\nreason = \"r\"\nat_most = 1.0\nmedian_at_most = 1.1",
            "[[budget]]\nof = \"x\"\nreason = \"r\"\nat_least = 1.0\nmedian_at_most = 1.0",
            "[[budget]]\nof = \"x\"\nreason = \"r\"\nat_mots = 1.0",
            "[[budget]]\nof = \"x\"\nreason = \"r\"\nat_most = 1.0\nmissed = { at_least = 1.0, reason = \"r\" }",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_median_has_a_budget_of_its_own() {
        let budget = budget("at_most = 1.03\nmedian_at_most = 1.015");
        let judge = |ratio| budget.judge(Some(&measured(&[ratio; 9], 0.001)));
        assert_eq!(budget.bound(), "<= 1.03, median 1.015");
        assert_eq!(judge(1.015), Verdict::Met);
        assert_eq!(judge(1.02), Verdict::Missed);
        assert_eq!(judge(1.04), Verdict::Missed);
        let above = [1.02, 1.022, 1.025, 1.027, 1.03, 1.032, 1.034, 1.035, 1.036];
        let missed = budget.judge(Some(&measured(&above, 0.0)));
        assert_eq!(missed, Verdict::Missed);
        let around = [1.0, 1.005, 1.01, 1.01, 1.02, 1.02, 1.022, 1.025, 1.028];
        let undecided = budget.judge(Some(&measured(&around, 0.0)));
        assert_eq!(undecided, Verdict::Inconclusive);
    }

    #[test]
    fn the_budgets_in_the_repository_are_sound() {
        parse(include_str!("../../budget.toml")).expect("sound");
    }
}
