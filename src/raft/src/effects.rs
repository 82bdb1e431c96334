//! What a step asks its caller to do.

use bytes::Bytes;
use plinth_base::{LogIndex, MemberId, Term};

/// What a member must not forget: its term, its vote in it, and how far it knows the log to be committed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct HardState {
    /// The newest term this member has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<MemberId>,
    /// A lower bound of what is committed.
    pub commit: LogIndex,
}

/// An entry of the group's log. An empty payload is the entry by which a leader opens its term.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its position.
    pub index: LogIndex,
    /// The term in which it was proposed.
    pub term: Term,
    /// The command, opaque here.
    pub payload: Bytes,
}

/// A read that may be served as soon as `index` is applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadReady {
    /// The ticket the read came with.
    pub ticket: u64,
    /// Everything up to here was committed before the read began.
    pub index: LogIndex,
}

/// A proposal or read that this member can't take now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rejected {
    /// The ticket it came with.
    pub ticket: u64,
}

/// The effects of one or more steps, in the order in which they must be carried out: log, then everything else. Reused between turns.
#[derive(Default, Debug)]
pub struct Effects {
    /// To be logged together with `entries`, before anything that depends on it is sent.
    pub hard_state: Option<HardState>,
    /// To be logged, in this order.
    pub entries: Vec<Entry>,
    /// Tickets of proposals that became entries, with the entry's index.
    pub accepted: Vec<(u64, LogIndex)>,
    /// Proposals and reads that found no leader.
    pub rejected: Vec<Rejected>,
    /// Everything up to here may be applied.
    pub committed: Option<LogIndex>,
    /// Reads that may be served.
    pub reads: Vec<ReadReady>,
    /// The member became leader, or stopped being it.
    pub role_changed: bool,
}

impl Effects {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        let Self { hard_state, entries, accepted, rejected, committed, reads, role_changed } = self;
        *hard_state = None;
        *committed = None;
        *role_changed = false;
        entries.clear();
        accepted.clear();
        rejected.clear();
        reads.clear();
    }
}
