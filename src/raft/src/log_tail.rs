//! Where the log ends and how much of it is durable, as far as raft needs to know; the entries themselves are in the write-ahead log.

use plinth_base::{LogIndex, Term};

/// The end of a group's log.
///
/// Invariant: `durable <= last`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogTail {
    /// The newest entry, or where the log starts if it has none.
    pub last: LogIndex,
    /// That entry's term.
    pub last_term: Term,
    /// The newest entry that survives a crash.
    pub durable: LogIndex,
}

impl LogTail {
    /// Takes the next entry in.
    pub fn append(&mut self, index: LogIndex, term: Term) {
        assert_eq!(index, self.last.next(), "entries follow each other");
        assert!(term >= self.last_term, "terms never go back");
        (self.last, self.last_term) = (index, term);
    }

    /// Takes note of what became durable.
    pub fn make_durable(&mut self, index: LogIndex) {
        assert!(index <= self.last, "an entry can't be durable before it exists");
        self.durable = self.durable.max(index);
    }
}
