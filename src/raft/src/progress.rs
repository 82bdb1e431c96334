//! What a leader knows of one peer's log, and what is on its way to it.
//!
//! Invariant: `matched < next`; what is in flight lies in `matched + 1 .. next`.

use std::collections::VecDeque;

use plinth_base::{Instant, LogIndex};

/// How entries go to a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// One message at a time, until it is known where the logs agree.
    Probe {
        /// The message is on its way.
        is_sent: bool,
    },
    /// As they come, without waiting, as far as the window goes.
    Replicate,
    /// A snapshot is on its way: what the peer lacks is no longer in the log.
    Snapshot,
}

/// A leader's view of a peer.
#[derive(Debug)]
pub(crate) struct Progress {
    /// The peer has this durably, in the leader's own log.
    pub(crate) matched: LogIndex,
    /// The next entry to send.
    pub(crate) next: LogIndex,
    pub(crate) mode: Mode,
    /// Last index and bytes of each message with entries that the peer hasn't made durable yet.
    in_flight: VecDeque<(LogIndex, usize)>,
    in_flight_bytes: usize,
    /// Entries from here on are being read from the disk.
    pub(crate) fetching: Option<LogIndex>,
    /// The peer said something in this term.
    pub(crate) heard: Option<Instant>,
    /// The log lane answered, or nothing was on its way. That the peer's disk is stuck doesn't make it silent.
    pub(crate) answered: Instant,
    /// The log lane said something, or was asked whether it is there: not to ask again too soon.
    pub(crate) nudged: Instant,
    /// The newest commit index that was sent on the log lane.
    pub(crate) commit_sent: LogIndex,
    /// The newest round of reads that it answered.
    pub(crate) round: u64,
}

impl Progress {
    /// A peer of which nothing is known, but that a leader's log ends at `last`.
    pub(crate) fn new(last: LogIndex, now: Instant) -> Self {
        Self {
            matched: LogIndex(0),
            next: last.next(),
            mode: Mode::Probe { is_sent: false },
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            fetching: None,
            heard: None,
            answered: now,
            nudged: now,
            commit_sent: LogIndex(0),
            round: 0,
        }
    }

    /// Nothing may be sent now.
    pub(crate) fn is_paused(&self, window_bytes: usize) -> bool {
        self.fetching.is_some()
            || match self.mode {
                Mode::Probe { is_sent } => is_sent,
                Mode::Replicate => self.in_flight_bytes >= window_bytes,
                Mode::Snapshot => true,
            }
    }

    /// Bytes that may still be sent.
    pub(crate) fn room_bytes(&self, window_bytes: usize) -> usize {
        window_bytes.saturating_sub(self.in_flight_bytes)
    }

    /// Something is on its way on the log lane.
    pub(crate) fn has_outstanding(&self) -> bool {
        !self.in_flight.is_empty() || matches!(self.mode, Mode::Probe { is_sent: true })
    }

    /// Entries up to `last` were sent.
    pub(crate) fn note_sent(&mut self, last: LogIndex, bytes: usize, now: Instant) {
        if !self.has_outstanding() {
            (self.answered, self.nudged) = (now, now);
        } else if bytes == 0 {
            self.nudged = now;
        }
        if bytes > 0 {
            self.in_flight.push_back((last, bytes));
            self.in_flight_bytes += bytes;
        }
        match &mut self.mode {
            Mode::Probe { is_sent } => *is_sent = true,
            Mode::Replicate => self.next = last.next(),
            Mode::Snapshot => {}
        }
    }

    /// The peer's log agrees up to `received` and is durable up to `durable`. Whether `matched` rose.
    pub(crate) fn note_agreed(&mut self, received: LogIndex, durable: LogIndex, now: Instant) -> bool {
        let rose = durable > self.matched;
        if rose {
            self.matched = durable;
        }
        while self.in_flight.front().is_some_and(|(last, _)| *last <= self.matched) {
            let (_, bytes) = self.in_flight.pop_front().expect("looked at above");
            self.in_flight_bytes -= bytes;
        }
        (self.answered, self.nudged) = (now, now);
        self.next = self.next.max(received.next()).max(self.matched.next());
        if let Mode::Probe { .. } = self.mode {
            self.mode = Mode::Replicate;
        }
        rose
    }

    /// The peer doesn't have `probed`; the logs may agree at `agreed`. False if that answers a question of long ago.
    pub(crate) fn note_refused(&mut self, probed: LogIndex, agreed: LogIndex) -> bool {
        let is_stale = match self.mode {
            Mode::Probe { .. } => probed.next() != self.next,
            // An answer to something that was sent before the peer's log was known to be further.
            Mode::Replicate => probed < self.matched,
            Mode::Snapshot => true,
        };
        if is_stale {
            return false;
        }
        self.next = LogIndex(probed.0.min(agreed.0 + 1).max(1));
        // It may have lost what it once had: it gets it again.
        self.matched = self.matched.min(LogIndex(self.next.0 - 1));
        self.probe();
        true
    }

    /// What was on its way is lost, or may be. The next question is about the end of what was sent: if that is gone its refusal tells where to go on.
    pub(crate) fn probe(&mut self) {
        self.mode = Mode::Probe { is_sent: false };
        self.fetching = None;
        self.in_flight.clear();
        self.in_flight_bytes = 0;
    }

    /// A snapshot is on its way.
    pub(crate) fn await_snapshot(&mut self, now: Instant) {
        self.probe();
        self.mode = Mode::Snapshot;
        self.answered = now;
    }
}

#[cfg(test)]
mod tests;
