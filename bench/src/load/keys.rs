//! Which key is next.

use plinth_base::Prng;

/// How keys are chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Distribution {
    /// All alike.
    Uniform,
    /// Some far more often than others: the n-th most popular one in proportion to 1 / n^0.99, as YCSB has it. The popular ones are spread over
    /// all keys.
    Zipf,
    /// One after the other, again from the first behind the last.
    Sequential,
}

/// As the command line names them.
pub const DISTRIBUTIONS: [(&str, Distribution); 3] =
    [("uniform", Distribution::Uniform), ("zipf", Distribution::Zipf), ("sequential", Distribution::Sequential)];

impl Distribution {
    /// As the command line names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        DISTRIBUTIONS.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }
}

/// Chooses keys.
#[derive(Clone, Debug)]
pub struct Keys {
    prng: Prng,
    count: u64,
    /// 1: every key; 10: keys 0, 10, 20 and so on.
    stride: u64,
    next: u64,
    way: Way,
}

#[derive(Clone, Debug)]
enum Way {
    Uniform,
    Zipf(Zipf),
    Sequential,
}

impl Keys {
    /// Among `count` keys, `stride` apart.
    pub fn new(prng: Prng, distribution: Distribution, count: u64, stride: u64) -> Self {
        let way = match distribution {
            Distribution::Uniform => Way::Uniform,
            Distribution::Zipf => Way::Zipf(Zipf::new(count)),
            Distribution::Sequential => Way::Sequential,
        };
        Self { prng, count, stride, next: 0, way }
    }

    /// The next one.
    pub fn next(&mut self) -> u64 {
        let key = match &self.way {
            Way::Uniform => self.prng.below(self.count),
            Way::Zipf(zipf) => spread(zipf.rank(unit(&mut self.prng)), self.count),
            Way::Sequential => {
                let key = self.next;
                self.next = (key + 1) % self.count;
                key
            }
        };
        key * self.stride
    }
}

/// A number from 0 to 1, 1 left out.
fn unit(prng: &mut Prng) -> f64 {
    (prng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Neighbours in rank are no neighbours in the key space.
fn spread(rank: u64, count: u64) -> u64 {
    let mixed = (rank ^ rank >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29) % count
}

/// Ranks in proportion to 1 / n^THETA, by the approximation of Gray and others, "Quickly Generating Billion-Record Synthetic Databases" (1994).
#[derive(Clone, Debug)]
struct Zipf {
    count: f64,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

const THETA: f64 = 0.99;

impl Zipf {
    fn new(count: u64) -> Self {
        let sum = |count: u64| (1..=count).map(|rank| (rank as f64).powf(-THETA)).sum::<f64>();
        let (zeta, count) = (sum(count), count as f64);
        let eta = (1.0 - (2.0 / count).powf(1.0 - THETA)) / (1.0 - sum(2) / zeta);
        Self { count, zeta, alpha: 1.0 / (1.0 - THETA), eta }
    }

    /// The rank at a place from 0 to 1: 0 is the most popular.
    fn rank(&self, place: f64) -> u64 {
        let scaled = place * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(THETA) {
            return 1;
        }
        let rank = self.count * (self.eta * place - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.count as u64 - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(distribution: Distribution, count: u64, stride: u64, times: usize) -> Vec<u64> {
        let mut keys = Keys::new(Prng::new(1), distribution, count, stride);
        (0..times).map(|_| keys.next()).collect()
    }

    #[test]
    fn sequential_keys_come_in_order_and_again_and_strides_leave_keys_out() {
        assert_eq!(chosen(Distribution::Sequential, 3, 1, 5), [0, 1, 2, 0, 1]);
        let some = chosen(Distribution::Uniform, 4, 10, 100);
        assert!(some.iter().all(|key| key % 10 == 0 && *key < 40), "{some:?}");
        assert!([0, 10, 20, 30].iter().all(|key| some.contains(key)));
    }

    #[test]
    fn popular_keys_are_as_popular_as_zipf_says() {
        const TIMES: usize = 200_000;
        let mut counts = vec![0_u32; 1000];
        for key in chosen(Distribution::Zipf, 1000, 1, TIMES) {
            counts[usize::try_from(key).expect("small")] += 1;
        }
        counts.sort_unstable_by(|a, b| b.cmp(a));
        // The sum of 1 / n^0.99 up to 1000 is 7.73.
        let share = f64::from(counts[0]) / TIMES as f64;
        assert!((0.12..0.15).contains(&share), "{share}");
        let ratio = f64::from(counts[0]) / f64::from(counts[9]);
        assert!((8.0..12.0).contains(&ratio), "the tenth is a tenth as popular: {ratio}");
        assert_eq!(chosen(Distribution::Zipf, 1, 1, 3), [0, 0, 0], "of one key there is no choice");
    }
}
