//! Medians with intervals. No mean anywhere: one that was descheduled must not count for more than one.
//!
//! Refuses to judge.

use serde::Serialize;

/// A median and where it may be: its 95 % interval by bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The median.
    pub median: f64,
    /// The upper end.
    pub high: f64,
}

/// How many times the samples are drawn anew.
const DRAWS: usize = 2_000;

/// The value below which a share of the samples is (0 to 1); 0 of none. The samples are sorted.
#[must_use]
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let place = share.clamp(0.0, 1.0) * last as f64;
    let below = sorted[place.floor() as usize];
    let above = sorted[place.ceil() as usize];
    below + (above - below) * place.fract()
}

/// The median; 0 of none.
#[must_use]
pub fn median(samples: &[f64]) -> f64 {
    quantile(&sorted(samples), 0.5)
}

/// The median, and its interval. The same samples give the same interval.
#[must_use]
pub fn interval(samples: &[f64]) -> Interval {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut drawn = vec![0.0; samples.len()];
    let mut medians = Vec::with_capacity(DRAWS);
    if !samples.is_empty() {
        for _ in 0..DRAWS {
            for slot in &mut drawn {
                *slot = samples[random.below(samples.len())];
            }
            medians.push(median(&drawn));
        }
    }
    let medians = sorted(&medians);
    Interval {
        low: quantile(&medians, 0.025),
        median: median(samples),
        high: quantile(&medians, 0.975),
    }
}

/// Sorted, smallest first.
#[must_use]
pub fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// xorshift64*: which samples are drawn need not be hard to guess, but the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((high * end as u64) >> 32) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_samples() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(quantile(&sorted, 0.0), 1.0);
        assert_eq!(quantile(&sorted, 0.5), 2.5);
        assert_eq!(quantile(&sorted, 1.0), 4.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
        assert_eq!(median(&[9.0, 1.0, 2.0]), 2.0);
    }

    #[test]
    fn an_interval_holds_its_median_and_narrows_with_samples() {
        let samples =
            |count: usize| -> Vec<f64> { (0..count).map(|n| ((n * 7_919) % 101) as f64).collect() };
        let few = interval(&samples(9));
        let many = interval(&samples(900));
        for one in [few, many] {
            assert!(one.low <= one.median && one.median <= one.high, "{one:?}");
        }
        assert!(many.high - many.low < (few.high - few.low) / 2.0);
        assert_eq!(interval(&[3.0; 5]).high, 3.0);
    }
}
