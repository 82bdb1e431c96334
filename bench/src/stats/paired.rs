//! How two servers compare, from a few pairs of turns, and how sure that is.
//!
//! The figure is the geometric mean of the pairs' ratios: what A / B is, B / A is the reciprocal of, and what disturbs both turns of a pair alike
//! cancels. The interval comes of the bootstrap: the pairs are drawn again and again, with replacement, and the middle 95 % of the means that come
//! out are taken.
//!
//! With five pairs that alone is far too narrow (Hesterberg, "What Teachers Should Know About the Bootstrap", 2015, section 3.2): a resample's
//! spread is that of the sample, which is smaller than the population's by sqrt((n - 1) / n), and the quantiles are those of a normal distribution where
//! Student's belong. So both distances from the mean are widened by the two. The test in `paired/coverage.rs` shows what that gives.

use plinth_base::Prng;
use serde::{Deserialize, Serialize};

/// How often the pairs are drawn again.
const RESAMPLES: usize = 10_000;
/// The same pairs have the same interval.
const SEED: u64 = 1;
/// What lies below an interval and above it, each: an interval is of 95 %.
const TAIL: f64 = 0.025;
/// Quantile 0.975 of the normal distribution.
const NORMAL: f64 = 1.959_964;
/// The same of Student's, for 1, 2, 3 ... degrees of freedom.
const STUDENT: [f64; 10] = [12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281];

/// What A is in parts of B.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct PairedRatio {
    /// The geometric mean of the pairs' ratios.
    pub center: f64,
    /// Where the true ratio is with 95 % confidence; one pair says nothing about that.
    pub interval: Option<Interval>,
    /// How many pairs there are.
    pub pairs: usize,
}

/// From where to where.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl PairedRatio {
    /// Of `a` to `b`, pair by pair. `None` of no pairs, and if a ratio is no positive number.
    #[must_use]
    pub fn of(a: &[f64], b: &[f64]) -> Option<Self> {
        Self::resampled(a, b, RESAMPLES)
    }

    fn resampled(a: &[f64], b: &[f64], resamples: usize) -> Option<Self> {
        let logs: Vec<f64> = a.iter().zip(b).map(|(a, b)| (a / b).ln()).collect();
        if logs.is_empty() || logs.iter().any(|log| !log.is_finite()) {
            return None;
        }
        let center = mean(logs.iter().copied());
        let interval = (logs.len() > 1).then(|| interval(&logs, center, resamples));
        Some(Self { center: center.exp(), interval, pairs: logs.len() })
    }
}

impl Interval {
    /// Whether `value` lies in it.
    #[must_use]
    pub fn holds(self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

impl std::fmt::Display for PairedRatio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3}", self.center)?;
        match self.interval {
            Some(Interval { low, high }) => write!(f, " ({low:.3} to {high:.3})"),
            None => Ok(()),
        }
    }
}

fn interval(logs: &[f64], center: f64, resamples: usize) -> Interval {
    let mut prng = Prng::new(SEED);
    let mut draw = || mean(logs.iter().map(|_| logs[prng.index(logs.len())]));
    let mut means: Vec<f64> = (0..resamples).map(|_| draw()).collect();
    means.sort_by(f64::total_cmp);
    let quantile = |quantile: f64| means[(quantile * (resamples - 1) as f64).round() as usize];
    let end = |mean: f64| (center + widening(logs.len()) * (mean - center)).exp();
    Interval { low: end(quantile(TAIL)), high: end(quantile(1.0 - TAIL)) }
}

/// By how much the bootstrap's distances are too short for `pairs` of them.
fn widening(pairs: usize) -> f64 {
    let (pairs, degrees) = (pairs as f64, pairs - 1);
    (pairs / degrees as f64).sqrt() * student(degrees) / NORMAL
}

/// Quantile 0.975 of Student's distribution.
fn student(degrees: usize) -> f64 {
    STUDENT.get(degrees - 1).copied().unwrap_or_else(|| {
        // The first terms of Fisher's expansion: right to three digits from ten degrees on.
        let (z, n) = (NORMAL, degrees as f64);
        z + (z.powi(3) + z) / (4.0 * n) + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * n * n)
    })
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

#[cfg(test)]
mod coverage;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_center_is_the_geometric_mean_and_the_reciprocal_the_other_way_round() {
        let (a, b) = ([1.0, 8.0, 3.0], [2.0, 4.0, 3.0]);
        let ratio = PairedRatio::of(&a, &b).expect("three pairs");
        assert!((ratio.center - 1.0).abs() < 1e-12 && ratio.pairs == 3, "{ratio:?}");
        let (there, back) = (PairedRatio::of(&[4.0, 6.0], &[2.0, 2.0]), PairedRatio::of(&[2.0, 2.0], &[4.0, 6.0]));
        let (there, back) = (there.expect("two pairs"), back.expect("two pairs"));
        assert!((there.center * back.center - 1.0).abs() < 1e-12);
        let text = PairedRatio { center: 0.4119, interval: Some(Interval { low: 0.397, high: 0.431 }), pairs: 5 };
        assert_eq!(text.to_string(), "0.412 (0.397 to 0.431)");
    }

    #[test]
    fn what_has_no_ratio_or_no_spread_says_so() {
        assert_eq!(PairedRatio::of(&[], &[]), None);
        assert_eq!(PairedRatio::of(&[1.0, 0.0], &[1.0, 0.0]), None, "nothing was flushed");
        assert_eq!(PairedRatio::of(&[1.0, 5.0], &[1.0, 0.0]), None);
        assert_eq!(PairedRatio::of(&[f64::NAN], &[1.0]), None);
        let one = PairedRatio::of(&[1.0], &[2.0]).expect("a pair");
        assert_eq!((one.interval, one.to_string()), (None, "0.500".to_owned()));
        let alike = PairedRatio::of(&[3.0; 5], &[3.0; 5]).and_then(|ratio| ratio.interval).expect("five pairs");
        assert_eq!((alike.low, alike.high), (1.0, 1.0));
    }

    #[test]
    fn the_same_pairs_have_the_same_interval_and_more_spread_makes_it_wider() {
        let b = [1.0; 5];
        let of = |a: &[f64; 5]| PairedRatio::of(a, &b).and_then(|ratio| ratio.interval).expect("five pairs");
        let narrow = of(&[1.0, 1.01, 0.99, 1.0, 1.02]);
        assert_eq!(narrow, of(&[1.0, 1.01, 0.99, 1.0, 1.02]));
        let wide = of(&[1.0, 1.1, 0.9, 1.0, 1.2]);
        assert!(wide.low < narrow.low && narrow.high < wide.high);
        assert!(narrow.holds(1.0) && !narrow.holds(1.1));
    }

    #[test]
    fn students_quantiles_go_on_where_the_table_ends() {
        assert_eq!(student(4), 2.7764);
        assert!((student(11) - 2.2010).abs() < 0.003 && (student(30) - 2.0423).abs() < 0.001);
        assert!(student(10) > student(11), "no step between table and expansion");
    }
}
