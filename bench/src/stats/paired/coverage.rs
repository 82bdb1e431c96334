//! Whether intervals hold the true ratio as often as they say, over thousands of made-up comparisons. Everything is seeded: the counts
//! are the same everywhere.

use super::*;

/// Comparisons for each kind of noise and number of pairs.
const COMPARISONS: usize = 2000;
/// Enough to see the quantiles, and fast.
const RESAMPLES: usize = 500;
const COVERAGE_MIN: f64 = 0.93;
/// What A truly is in parts of B.
const RATIO: f64 = 0.4;

/// Makes the factor by which a turn's figure is off.
type Noise = fn(&mut Prng) -> f64;

const NOISES: [(&str, Noise); 6] = [
    ("normal, 3 %", |prng| 1.0 + 0.03 * normal(prng)),
    ("lognormal, a third", |prng| (0.33 * normal(prng)).exp()),
    // Student's with three degrees of freedom: now and then a turn is far off.
    ("heavy tails", |prng| (0.05 * student_of_three(prng)).exp()),
    ("skewed", |prng| 1.0 + 0.2 * exponential(prng)),
    ("a spike in each tenth turn", |prng| {
        let spike = if prng.chance(1, 10) { 1.5 } else { 1.0 };
        spike * (0.02 * normal(prng)).exp()
    }),
    ("uniform, 10 %", |prng| 0.95 + 0.1 * uniform(prng)),
];

fn uniform(prng: &mut Prng) -> f64 {
    // Never 0, whose logarithm there is none of.
    ((prng.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// By Box and Muller.
fn normal(prng: &mut Prng) -> f64 {
    let radius = (-2.0 * uniform(prng).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(prng)).cos()
}

fn exponential(prng: &mut Prng) -> f64 {
    -uniform(prng).ln()
}

fn student_of_three(prng: &mut Prng) -> f64 {
    let squares: f64 = (0..3).map(|_| normal(prng).powi(2)).sum();
    normal(prng) / (squares / 3.0).sqrt()
}

/// One comparison: the machine drifts from turn to turn, and each turn has noise of its own.
fn compare(prng: &mut Prng, pairs: usize, drift: f64, noise: Noise) -> Interval {
    let mut level = 1000.0;
    let (mut a, mut b) = (Vec::new(), Vec::new());
    let mut turn = |ratio: f64| {
        level *= (drift * normal(prng)).exp();
        ratio * level * noise(prng)
    };
    for _ in 0..pairs {
        a.push(turn(RATIO));
        b.push(turn(1.0));
    }
    let ratio = PairedRatio::resampled(&a, &b, RESAMPLES).expect("all is positive");
    ratio.interval.expect("there are pairs")
}

fn coverage(pairs: usize, drift: f64, noise: Noise) -> f64 {
    let mut prng = Prng::new(pairs as u64);
    let held = (0..COMPARISONS).filter(|_| compare(&mut prng, pairs, drift, noise).holds(RATIO)).count();
    held as f64 / COMPARISONS as f64
}

#[test]
fn intervals_hold_the_true_ratio_as_often_as_they_say() {
    for (name, noise) in NOISES {
        for pairs in [5, 10] {
            for drift in [0.0, 0.1] {
                let found = coverage(pairs, drift, noise);
                println!("{name}, {pairs} pairs, drift {drift}: {:.1} %", 100.0 * found);
                assert!(found >= COVERAGE_MIN, "{name}, {pairs} pairs, drift {drift}: {found}");
            }
        }
    }
}

#[test]
fn without_widening_they_do_not() {
    let (pairs, noise) = (5, NOISES[0].1);
    let mut prng = Prng::new(1);
    let held = (0..COMPARISONS).filter(|_| {
        let Interval { low, high } = compare(&mut prng, pairs, 0.0, noise);
        // The center of the interval in logarithms is nearly the mean.
        let middle = (low * high).sqrt();
        let narrowed = |end: f64| middle * (end / middle).powf(1.0 / widening(pairs));
        (narrowed(low)..=narrowed(high)).contains(&RATIO)
    });
    let found = held.count() as f64 / COMPARISONS as f64;
    assert!(found < 0.9, "plain bootstrap of {pairs} pairs: {found}");
}

#[test]
fn a_server_against_itself_is_told_equal_in_at_least_nine_of_ten_runs() {
    for (name, noise) in NOISES {
        let mut prng = Prng::new(20);
        let held = (0..200).filter(|_| {
            let turns = |prng: &mut Prng| (0..5).map(|_| noise(prng)).collect::<Vec<_>>();
            let (a, b) = (turns(&mut prng), turns(&mut prng));
            PairedRatio::of(&a, &b).and_then(|ratio| ratio.interval).expect("five pairs").holds(1.0)
        });
        let held = held.count();
        assert!(held >= 180, "{name}: {held} of 200");
    }
}
