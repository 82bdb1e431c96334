//! Watchers beside a load. Each must see each acknowledged put of what it watches exactly once, in order: a run in which one doesn't is an error
//! and no figure.
//!
//! Puts and watchers share the load's thread. A value begins with the time it was sent, so the latency of an event is from sending the put to
//! having read the event, on one clock.

mod board;
mod streams;
mod times;

pub use self::{board::Board, streams::of_board, times::EventTimes};

/// Who watches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watchers {
    /// How many, ten on a stream, the streams on eight connections. Each watches a key of its own, spread evenly over all keys.
    pub count: u64,
    /// Whether only keys are put that are watched.
    pub puts_hit_always: bool,
    /// Whether each watches all keys instead: every put goes to every watcher.
    pub all_keys: bool,
}

impl Watchers {
    /// From one watched key to the next.
    #[must_use]
    pub fn stride(self, keys: u64) -> u64 {
        keys.checked_div(self.count).unwrap_or(keys)
    }
}
