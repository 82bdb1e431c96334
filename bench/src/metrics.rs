//! A scrape of a server's /metrics.

mod spread;

pub use spread::{Spread, Within, quantile};

/// The text, in Prometheus's format.
#[derive(Clone, Debug)]
pub struct Metrics(pub String);

impl Metrics {
    /// The value of a metric, summed over its labels; 0 if there is none.
    #[must_use]
    pub fn value(&self, name: &str) -> f64 {
        self.samples(name).map(|(_, value)| value).sum()
    }

    /// The value of the sample with exactly these labels, as in `{use="scrub"}`; 0 if there is none.
    #[must_use]
    pub fn labelled(&self, name: &str, labels: &str) -> f64 {
        self.samples(name).filter(|(known, _)| *known == labels).map(|(_, value)| value).sum()
    }

    /// Whether there is such a metric.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.samples(name).next().is_some()
    }

    /// What was added to a counter since `before`.
    #[must_use]
    pub fn since(&self, before: &Self, name: &str) -> f64 {
        self.value(name) - before.value(name)
    }

    /// What each of plinth's executors added to one of its counters since `before`.
    #[must_use]
    pub fn by_executor_since(&self, before: &Self, counter: &str) -> Vec<f64> {
        let name = format!("plinth_executor_{counter}_total");
        let values = |metrics: &Self| metrics.samples(&name).map(|(_, value)| value).collect::<Vec<_>>();
        values(self).iter().zip(values(before)).map(|(now, then)| now - then).collect()
    }

    /// The buckets of a histogram that filled since `before`, summed over its labels: upper bound and count, not cumulated. What wasn't there before had nothing.
    #[must_use]
    pub fn buckets_since(&self, before: &Self, name: &str) -> Vec<(f64, f64)> {
        let before = before.buckets(name);
        let mut below = 0.0;
        let since = self.buckets(name).into_iter().map(|(bound, now)| {
            let then = before.iter().find(|(known, _)| *known == bound).map_or(0.0, |(_, then)| *then);
            let count = now - then - below;
            below = now - then;
            (bound, count)
        });
        since.collect()
    }

    /// Upper bounds and cumulated counts of a histogram, summed over its labels.
    fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for (labels, count) in self.samples(&format!("{name}_bucket")) {
            let bound = bound(labels);
            match buckets.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, sum)) => *sum += count,
                None => buckets.push((bound, count)),
            }
        }
        buckets
    }

    /// Labels and values of a metric, in the order of the text.
    fn samples<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{']))?;
            let (labels, value) = rest.rsplit_once(' ')?;
            Some((labels, value.parse().ok()?))
        })
    }
}

/// The label `le` of `{le="0.5"}`.
fn bound(labels: &str) -> f64 {
    let value = labels.split_once("le=\"").and_then(|(_, rest)| rest.split_once('"'));
    value.and_then(|(bound, _)| bound.trim_start_matches('+').parse().ok()).unwrap_or(f64::INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "# TYPE a counter\na 1\nab 5\nh_bucket{le=\"0.1\"} 1\nh_bucket{le=\"+Inf\"} 2\n\
        plinth_executor_requests_total{executor=\"0\"} 7\nplinth_executor_requests_total{executor=\"1\"} 1\n";
    const AFTER: &str = "a 4\nab 5\nh_bucket{le=\"0.1\"} 3\nh_bucket{le=\"+Inf\"} 9\n\
        plinth_executor_requests_total{executor=\"0\"} 8\nplinth_executor_requests_total{executor=\"1\"} 17\n";

    #[test]
    fn differences_are_taken_by_exact_name() {
        let (before, after) = (Metrics(BEFORE.to_owned()), Metrics(AFTER.to_owned()));
        assert_eq!((after.since(&before, "a"), after.since(&before, "ab"), after.value("none")), (3.0, 0.0, 0.0));
        assert_eq!(after.by_executor_since(&before, "requests"), [1.0, 16.0]);
        assert_eq!(after.buckets_since(&before, "h"), [(0.1, 2.0), (f64::INFINITY, 5.0)]);
        assert_eq!(after.labelled("plinth_executor_requests_total", "{executor=\"1\"}"), 17.0);
    }

    #[test]
    fn a_histogram_of_several_is_summed_and_one_that_is_new_had_nothing() {
        let peer = |to: &str, fast: u64, all: u64| {
            format!("l_bucket{{To=\"{to}\",le=\"0.01\"}} {fast}\nl_bucket{{To=\"{to}\",le=\"+Inf\"}} {all}\n")
        };
        let (before, after) = (Metrics(peer("a", 2, 3)), Metrics(peer("a", 7, 9) + &peer("b", 1, 1)));
        assert_eq!(after.buckets_since(&before, "l"), [(0.01, 6.0), (f64::INFINITY, 1.0)]);
    }
}
