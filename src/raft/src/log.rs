//! The group's log as raft needs it: the term of every entry, and the newest entries themselves. The rest is in the write-ahead log.
//!
//! Invariant: `start <= durable <= last`; the cache ends at `last`, and holds every entry behind `durable`, for those can't be read back.

use std::collections::VecDeque;

use plinth_base::{LogIndex, Term};

use crate::Entry;

/// An entry's place in a group's log.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Position {
    /// Its index.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
}

impl Position {
    /// Whether a log that ends here has everything that one which ends at `other` may have committed (Raft, section 5.4.1).
    #[must_use]
    pub fn is_up_to_date_with(self, other: Self) -> bool {
        (self.term, self.index) >= (other.term, other.index)
    }
}

/// What a log can give to a peer.
#[derive(Debug)]
pub(crate) enum Slice {
    /// These entries.
    Entries(Vec<Entry>),
    /// They are on the disk only.
    NotInMemory,
    /// They are gone; a snapshot has what they did.
    Gone,
}

/// The log of one group.
#[derive(Debug)]
pub(crate) struct Log {
    /// The first index of each run of entries of one term. The first run begins where the log starts, behind which entries are.
    runs: VecDeque<Position>,
    last: LogIndex,
    durable: LogIndex,
    /// Entries not applied yet that change the members.
    changes: VecDeque<LogIndex>,
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    cache_bytes_max: usize,
}

/// What an entry costs in memory and in a message beside its payload.
const ENTRY_OVERHEAD_BYTES: usize = 48;

pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    entry.payload.len() + ENTRY_OVERHEAD_BYTES
}

impl Log {
    /// A log whose entries up to `last` are on the disk. `runs` is not empty and begins where the log starts.
    pub(crate) fn new(
        runs: VecDeque<Position>,
        changes: VecDeque<LogIndex>,
        last: LogIndex,
        cache_bytes_max: usize,
    ) -> Self {
        assert!(
            runs.front().is_some_and(|start| start.index <= last),
            "a log starts somewhere and ends not before that"
        );
        assert!(
            runs.iter().zip(runs.iter().skip(1)).all(|(run, next)| run.index < next.index && run.term < next.term),
            "indexes and terms of a log rise"
        );
        assert!(runs.back().is_some_and(|run| run.index <= last), "no run begins behind the log's end");
        Self { runs, last, durable: last, changes, cache: VecDeque::new(), cache_bytes: 0, cache_bytes_max }
    }

    /// The entry behind which the log begins.
    pub(crate) fn start(&self) -> Position {
        *self.runs.front().expect("there is always a first run")
    }

    pub(crate) fn last(&self) -> Position {
        Position { index: self.last, term: self.runs.back().expect("there is always a run").term }
    }

    pub(crate) fn durable(&self) -> LogIndex {
        self.durable
    }

    /// The term of an entry, or of the one behind which the log begins.
    pub(crate) fn term_of(&self, index: LogIndex) -> Option<Term> {
        if index > self.last {
            return None;
        }
        let run = self.runs.partition_point(|run| run.index <= index).checked_sub(1)?;
        Some(self.runs[run].term)
    }

    pub(crate) fn holds(&self, position: Position) -> bool {
        self.term_of(position.index) == Some(position.term)
    }

    /// The newest entry up to `at.index` whose term is at most `at.term`: nothing behind it can agree with a log that has `at`.
    pub(crate) fn newest_that_may_agree(&self, at: Position) -> Position {
        let index = at.index.min(self.last);
        let run = self.runs.iter().rposition(|run| run.index <= index && run.term <= at.term);
        // Where the log starts everything is committed: it agrees.
        let Some(run) = run else { return self.start() };
        let end = self.runs.get(run + 1).map_or(self.last, |next| LogIndex(next.index.0 - 1));
        Position { index: index.min(end), term: self.runs[run].term }
    }

    /// Takes in the next entry.
    pub(crate) fn push(&mut self, entry: Entry) {
        assert_eq!(entry.index, self.last.next(), "entries follow each other");
        let newest = self.last().term;
        assert!(entry.term >= newest, "terms never go back");
        if entry.term > newest {
            self.runs.push_back(entry.position());
        }
        if entry.is_change {
            self.changes.push_back(entry.index);
        }
        self.last = entry.index;
        self.cache_bytes += entry_bytes(&entry);
        self.cache.push_back(entry);
    }

    /// Forgets the entries from `index` on.
    pub(crate) fn cut(&mut self, index: LogIndex) {
        assert!(self.start().index < index && index <= self.last, "only entries can be cut off");
        while self.cache.back().is_some_and(|entry| entry.index >= index) {
            let entry = self.cache.pop_back().expect("looked at above");
            self.cache_bytes -= entry_bytes(&entry);
        }
        self.last = LogIndex(index.0 - 1);
        self.durable = self.durable.min(self.last);
        while self.runs.back().is_some_and(|run| run.index > self.last) {
            self.runs.pop_back();
        }
        while self.changes.back().is_some_and(|change| *change > self.last) {
            self.changes.pop_back();
        }
    }

    /// The log begins anew behind `start`, which is durable.
    pub(crate) fn restart(&mut self, start: Position) {
        self.runs.clear();
        self.runs.push_back(start);
        self.changes.clear();
        (self.last, self.durable) = (start.index, start.index);
        self.cache.clear();
        self.cache_bytes = 0;
    }

    /// Changes of the members up to `applied` are in force.
    pub(crate) fn forget_changes(&mut self, applied: LogIndex) {
        while self.changes.front().is_some_and(|change| *change <= applied) {
            self.changes.pop_front();
        }
    }

    /// Whether an entry behind `applied` changes the members.
    pub(crate) fn has_changes_behind(&self, applied: LogIndex) -> bool {
        self.changes.back().is_some_and(|change| *change > applied)
    }

    /// Whether an entry behind `applied`, up to `commit`, changes the members.
    pub(crate) fn has_changes_within(&self, applied: LogIndex, commit: LogIndex) -> bool {
        self.changes.iter().any(|change| applied < *change && *change <= commit)
    }

    /// The oldest change of the members that isn't applied yet.
    pub(crate) fn next_change(&self) -> Option<LogIndex> {
        self.changes.front().copied()
    }

    /// The newest change of the members that isn't applied yet.
    pub(crate) fn newest_change(&self) -> Option<LogIndex> {
        self.changes.back().copied()
    }

    /// The one before it, which is committed.
    pub(crate) fn newest_change_but_one(&self) -> Option<LogIndex> {
        self.changes.len().checked_sub(2).map(|at| self.changes[at])
    }

    /// Takes note of what became durable. Whether anything did: an entry that was replaced meanwhile is no news.
    pub(crate) fn make_durable(&mut self, through: Position) -> bool {
        if through.index <= self.durable || !self.holds(through) {
            return false;
        }
        self.durable = through.index;
        true
    }

    /// Lets go of entries in memory that the disk has, beyond what is worth keeping; all of them if there is nobody to send them to.
    pub(crate) fn trim(&mut self, is_alone: bool) {
        let bytes_max = if is_alone { 0 } else { self.cache_bytes_max };
        while self.cache_bytes > bytes_max && self.cache.front().is_some_and(|entry| entry.index <= self.durable) {
            let entry = self.cache.pop_front().expect("looked at above");
            self.cache_bytes -= entry_bytes(&entry);
        }
    }

    /// Entries up to `index` are gone from the disk.
    pub(crate) fn release(&mut self, index: LogIndex) {
        let index = index.min(self.durable);
        if index <= self.start().index {
            return;
        }
        let term = self.term_of(index).expect("it lies between the log's start and end");
        while self.runs.get(1).is_some_and(|run| run.index <= index) {
            self.runs.pop_front();
        }
        self.runs[0] = Position { index, term };
    }

    /// Entries from `from` on, at most `bytes_max` of them, but at least one.
    pub(crate) fn slice(&self, from: LogIndex, bytes_max: usize) -> Slice {
        if from <= self.start().index {
            return Slice::Gone;
        }
        let Some(front) = self.cache.front().filter(|front| front.index <= from) else { return Slice::NotInMemory };
        let at = usize::try_from(from.0 - front.index.0).expect("the cache is in memory");
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let is_first = bytes == 0;
            bytes += entry_bytes(entry);
            is_first || bytes <= bytes_max
        };
        Slice::Entries(self.cache.iter().skip(at).take_while(fits).cloned().collect())
    }
}

#[cfg(test)]
mod tests;
