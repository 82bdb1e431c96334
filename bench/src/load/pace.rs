//! When requests begin.

use std::time::{Duration, Instant};

/// How requests follow each other.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pace {
    /// A client's next request begins when its last one is answered: a slow server is asked less, and its slowest answers are few.
    Closed,
    /// Requests begin so many times a second, evenly, whatever the server does. One for which no client is free waits, and its latency counts
    /// from when it was due: what a slow server keeps waiting is not left out.
    Open {
        /// Per second.
        rate: f64,
    },
}

/// The times at which requests are due.
#[derive(Clone, Debug)]
pub struct Schedule {
    start: Instant,
    rate: f64,
    given: u64,
}

impl Schedule {
    /// From `start` on.
    pub fn new(start: Instant, rate: f64) -> Self {
        Self { start, rate, given: 0 }
    }

    /// When the next one is due.
    pub fn next_due(&self) -> Instant {
        // Counted from the start: no error adds up.
        self.start + Duration::from_secs_f64(self.given as f64 / self.rate)
    }

    /// The next one, if it is due by now.
    pub fn take(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next_due();
        (due <= now).then(|| {
            self.given += 1;
            due
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_due_while_nobody_looked_is_due_at_its_own_time() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut schedule = Schedule::new(start, 100.0);
        assert_eq!((schedule.take(start), schedule.take(at(9)), schedule.next_due()), (Some(start), None, at(10)));
        let late: Vec<_> = std::iter::from_fn(|| schedule.take(at(45))).collect();
        assert_eq!(late, [at(10), at(20), at(30), at(40)]);
    }
}
