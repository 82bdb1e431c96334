//! What came of the calls of a run.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{Errors, work::Fate};
use crate::histogram::Latencies;

/// What came of the calls of one kind.
#[derive(Clone, Debug)]
pub struct Kind {
    /// As in tables.
    pub name: &'static str,
    /// Of those that were answered without an error.
    pub latencies: Latencies,
    /// Of these: compares that didn't hold.
    pub conflicts: u64,
}

/// Which calls are measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Window {
    /// None yet.
    Before,
    /// Those since then.
    Since(Instant),
    /// Those from the first to the second.
    Between(Instant, Instant),
}

/// Counts while it is told to.
#[derive(Debug)]
pub struct Tally {
    window: Window,
    /// Whether a call belongs to the time at which it was due, and not to that of its answer.
    by_due: bool,
    kinds: Vec<Kind>,
    series: Vec<u64>,
    errors: BTreeMap<u32, Errors>,
    answer_bytes: u64,
    /// Every answer since the start, measured or not.
    answers: u64,
}

impl Tally {
    /// Not measuring yet.
    pub fn new(kinds: &[&'static str], by_due: bool) -> Self {
        let kind = |name: &&'static str| Kind { name, latencies: Latencies::new(), conflicts: 0 };
        Self {
            window: Window::Before,
            by_due,
            kinds: kinds.iter().map(kind).collect(),
            series: Vec::new(),
            errors: BTreeMap::new(),
            answer_bytes: 0,
            answers: 0,
        }
    }

    /// From here on calls count.
    pub fn begin(&mut self, now: Instant) {
        self.window = Window::Since(now);
        self.errors.clear();
    }

    /// Until here calls counted: those that are due later don't, and those that are answered later only if they belong to when they were due.
    pub fn end(&mut self, now: Instant) {
        if let Window::Since(since) = self.window {
            self.window = Window::Between(since, now);
        }
    }

    /// How long into the measured time a call is, if it counts.
    fn place(&self, began: Instant, now: Instant) -> Option<Duration> {
        let at = if self.by_due { began } else { now };
        match self.window {
            Window::Before => None,
            Window::Since(since) => at.checked_duration_since(since),
            Window::Between(since, until) => at.checked_duration_since(since).filter(|_| at < until),
        }
    }

    /// A call that began, or was due, at `began` was answered without an error, with so many bytes.
    pub fn succeeded(&mut self, kind: usize, began: Instant, now: Instant, bytes: u64, fate: Fate) {
        self.answers += 1;
        let Some(place) = self.place(began, now) else { return };
        let kind = &mut self.kinds[kind];
        kind.latencies.record(now.saturating_duration_since(began));
        kind.conflicts += u64::from(fate == Fate::Conflict);
        self.answer_bytes += bytes;
        let second = usize::try_from(place.as_secs()).unwrap_or(usize::MAX);
        if self.series.len() <= second {
            self.series.resize(second + 1, 0);
        }
        self.series[second] += 1;
    }

    /// A call ended with an error of gRPC.
    pub fn failed(&mut self, code: u32, message: &str) {
        self.answers += 1;
        self.errors.entry(code).or_insert_with(|| Errors { code, count: 0, message: message.to_owned() }).count += 1;
    }

    /// A call that was due at `began` has no answer by now.
    pub fn unanswered(&mut self, kind: usize, began: Instant, now: Instant) -> bool {
        let counts = self.place(began, now).is_some();
        if counts {
            self.kinds[kind].latencies.record(now.saturating_duration_since(began));
        }
        counts
    }

    /// Answers since the start.
    pub fn answers(&self) -> u64 {
        self.answers
    }

    /// Calls that were measured.
    pub fn measured(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.latencies.count()).sum()
    }

    /// Bytes of the answers that were measured.
    pub fn answer_bytes(&self) -> u64 {
        self.answer_bytes
    }

    /// All latencies so far.
    pub fn latencies(&self) -> Latencies {
        let mut all = Latencies::new();
        self.kinds.iter().for_each(|kind| all.add(&kind.latencies));
        all
    }

    /// Each kind's part.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// Calls per second of the measured time.
    pub fn series(&self) -> &[u64] {
        &self.series
    }

    /// Whether any has.
    pub fn has_failed(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Calls that failed since measuring began, by code.
    pub fn errors(&self) -> Vec<Errors> {
        self.errors.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_before_measuring_begins_does_not_count() {
        let mut tally = Tally::new(&["put"], false);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        tally.succeeded(0, start, at(5), 10, Fate::Done);
        tally.failed(8, "too many");
        tally.begin(at(10));
        tally.succeeded(0, start, at(1500), 10, Fate::Conflict);
        tally.failed(8, "too many");
        tally.failed(8, "another text");
        tally.end(at(2000));
        tally.succeeded(0, at(1600), at(2500), 10, Fate::Done);
        assert_eq!((tally.measured(), tally.answer_bytes(), tally.answers()), (1, 10, 6));
        assert_eq!((tally.series(), tally.kinds()[0].conflicts), (&[0, 1][..], 1));
        assert_eq!(tally.errors(), [Errors { code: 8, count: 2, message: "too many".to_owned() }]);
    }

    #[test]
    fn in_an_open_loop_a_call_belongs_to_the_time_at_which_it_was_due() {
        let mut tally = Tally::new(&["put"], true);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        tally.begin(at(1000));
        tally.succeeded(0, at(900), at(1100), 10, Fate::Done);
        tally.succeeded(0, at(1900), at(1901), 10, Fate::Done);
        tally.end(at(2000));
        tally.succeeded(0, at(1950), at(2450), 10, Fate::Done);
        tally.succeeded(0, at(2050), at(2060), 10, Fate::Done);
        assert!(tally.unanswered(0, at(1960), at(4000)) && !tally.unanswered(0, at(2100), at(4000)));
        assert_eq!((tally.measured(), tally.series()), (3, &[2][..]));
        assert!(tally.latencies().max_us() > 2_000_000.0);
    }
}
