//! What came of the calls of a run. One thread writes and reads it.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::Errors;
use crate::histogram::Latencies;

/// Counts while it is told to.
pub struct Tally {
    /// When measuring began.
    since: Cell<Option<Instant>>,
    latencies: RefCell<Latencies>,
    series: RefCell<Vec<u64>>,
    errors: RefCell<BTreeMap<u32, Errors>>,
    answer_bytes: Cell<u64>,
    /// Every answer since the start, measured or not.
    answers: Cell<u64>,
    lost: RefCell<Option<String>>,
    /// Something that whoever waits for the run should look at.
    pub changed: Notify,
}

impl Tally {
    /// Not measuring yet.
    pub fn new() -> Self {
        Self {
            since: Cell::new(None),
            latencies: RefCell::new(Latencies::new()),
            series: RefCell::default(),
            errors: RefCell::default(),
            answer_bytes: Cell::new(0),
            answers: Cell::new(0),
            lost: RefCell::default(),
            changed: Notify::new(),
        }
    }

    /// From here on calls count that end.
    pub fn begin(&self, now: Instant) {
        self.since.set(Some(now));
        self.errors.borrow_mut().clear();
    }

    /// A call succeeded; its answer had so many bytes.
    pub fn succeeded(&self, began: Instant, bytes: u64) {
        self.answers.set(self.answers.get() + 1);
        let Some(since) = self.since.get() else { return };
        let now = Instant::now();
        self.latencies.borrow_mut().record(now - began);
        self.answer_bytes.set(self.answer_bytes.get() + bytes);
        let second = usize::try_from((now - since).as_secs()).unwrap_or(usize::MAX);
        let mut series = self.series.borrow_mut();
        if series.len() <= second {
            series.resize(second + 1, 0);
        }
        series[second] += 1;
    }

    /// A call ended with an error of gRPC.
    pub fn failed(&self, code: u32, message: &str) {
        self.answers.set(self.answers.get() + 1);
        let mut errors = self.errors.borrow_mut();
        errors.entry(code).or_insert_with(|| Errors { code, count: 0, message: message.to_owned() }).count += 1;
    }

    /// A connection is gone. The first reason counts.
    pub fn lost(&self, reason: String) {
        self.lost.borrow_mut().get_or_insert(reason);
        self.changed.notify_one();
    }

    /// Why a connection is gone, if one is.
    pub fn why_lost(&self) -> Option<String> {
        self.lost.borrow().clone()
    }

    /// Answers since the start.
    pub fn answers(&self) -> u64 {
        self.answers.get()
    }

    /// Bytes of the answers that were measured.
    pub fn answer_bytes(&self) -> u64 {
        self.answer_bytes.get()
    }

    /// Median and 99th percentile so far, in µs.
    pub fn glance(&self) -> (Option<f64>, Option<f64>) {
        let latencies = self.latencies.borrow();
        (latencies.quantile_us(0.5), latencies.quantile_us(0.99))
    }

    /// Calls that failed since measuring began, by code.
    pub fn errors(&self) -> Vec<Errors> {
        self.errors.borrow().values().cloned().collect()
    }

    /// What was measured until now, and for how long.
    pub fn end(&self, now: Instant) -> (Latencies, Vec<u64>, Duration) {
        let elapsed = now - self.since.take().unwrap_or(now);
        (self.latencies.borrow().clone(), self.series.borrow().clone(), elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_before_measuring_begins_does_not_count() {
        let tally = Tally::new();
        let start = Instant::now();
        tally.succeeded(start, 10);
        tally.failed(8, "too many");
        tally.begin(Instant::now());
        tally.succeeded(start, 10);
        tally.failed(8, "too many");
        tally.failed(8, "another text");
        let (latencies, series, _) = tally.end(Instant::now());
        assert_eq!(tally.answer_bytes(), 10);
        assert_eq!((latencies.count(), series.iter().sum::<u64>(), tally.answers()), (1, 1, 5));
        assert_eq!(tally.errors(), [Errors { code: 8, count: 2, message: "too many".to_owned() }]);
    }
}
