//! The state machine of one member of one group.

use bytes::Bytes;
use plinth_base::{LogIndex, MemberId, Term};

use crate::{Effects, Entry, HardState, LogTail, ReadReady, Rejected};

/// What this member is in its term.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It waits for a leader.
    Follower,
    /// It asks for votes; its own counts once it is durable.
    Candidate,
    /// It proposes.
    Leader,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// Time passed without a leader: ask for votes.
    ElectionTimeout,
    /// A client's command.
    Propose {
        /// Comes back in [`Effects::accepted`] or [`Effects::rejected`].
        ticket: u64,
        /// The command, opaque here; not empty.
        payload: Bytes,
    },
    /// A read that must see everything committed before now.
    ReadIndex {
        /// Comes back in [`Effects::reads`] or [`Effects::rejected`].
        ticket: u64,
    },
    /// Entries up to here, and the hard state logged with or before them, are durable.
    Durable {
        /// The newest durable entry.
        index: LogIndex,
        /// The newest durable hard state.
        hard_state: HardState,
    },
}

/// What a member knows when it starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    /// This member.
    pub id: MemberId,
    /// From the log.
    pub hard_state: HardState,
    /// The log's end, all of it durable.
    pub last: LogIndex,
    /// The term of that entry.
    pub last_term: Term,
    /// How far the state machine's durable root has got.
    pub applied: LogIndex,
    /// The term of the newest entry in that root.
    pub applied_term: Term,
}

/// One member of one group.
#[derive(Debug)]
pub struct Raft {
    id: MemberId,
    role: Role,
    hard_state: HardState,
    /// Durable part of `hard_state`: what may be acted on.
    durable_term: Term,
    tail: LogTail,
    /// Where the leader's own term begins; nothing is committed by count below it.
    term_start: LogIndex,
    /// Reads that came before the leader committed in its term.
    waiting_reads: Vec<u64>,
}

/// Reads that may wait for a new leader's first commit; more are refused.
const WAITING_READS_MAX: usize = 16 << 10;

impl Raft {
    /// A member as it comes back from its disk. The root may be ahead of the log: the log then goes on behind it.
    #[must_use]
    pub fn new(start: Start) -> Self {
        let Start { id, mut hard_state, last, last_term, applied, applied_term } = start;
        let (last, last_term) = if applied > last { (applied, applied_term) } else { (last, last_term) };
        if applied_term > hard_state.term {
            hard_state.term = applied_term;
            hard_state.vote = None;
        }
        hard_state.term = hard_state.term.max(last_term);
        hard_state.commit = hard_state.commit.max(applied);
        assert!(hard_state.commit <= last, "a committed entry is in the log or in the root");
        Self {
            id,
            role: Role::Follower,
            hard_state,
            durable_term: hard_state.term,
            tail: LogTail { last, last_term, durable: last },
            term_start: last.next(),
            waiting_reads: Vec::new(),
        }
    }

    /// What it is now.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The leader it knows.
    #[must_use]
    pub fn leader(&self) -> Option<MemberId> {
        (self.role == Role::Leader).then_some(self.id)
    }

    /// Its term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// What is committed.
    #[must_use]
    pub fn commit(&self) -> LogIndex {
        self.hard_state.commit
    }

    /// The newest entry.
    #[must_use]
    pub fn last(&self) -> LogIndex {
        self.tail.last
    }

    /// What has to be remembered; the commit index in it is logged when something else is.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Handles one input.
    pub fn step(&mut self, input: Input, effects: &mut Effects) {
        match input {
            Input::ElectionTimeout => self.campaign(effects),
            Input::Propose { ticket, payload } => self.propose(ticket, payload, effects),
            Input::ReadIndex { ticket } => self.read_index(ticket, effects),
            Input::Durable { index, hard_state } => self.handle_durable(index, hard_state, effects),
        }
        assert!(self.hard_state.commit <= self.tail.durable, "a single voter commits only what its own disk holds");
    }

    fn campaign(&mut self, effects: &mut Effects) {
        if self.role == Role::Leader {
            return;
        }
        self.role = Role::Candidate;
        self.hard_state.term = Term(self.hard_state.term.0 + 1);
        self.hard_state.vote = Some(self.id);
        effects.hard_state = Some(self.hard_state);
        effects.role_changed = true;
    }

    fn propose(&mut self, ticket: u64, payload: Bytes, effects: &mut Effects) {
        assert!(!payload.is_empty(), "an empty payload opens a term");
        if self.role != Role::Leader {
            effects.rejected.push(Rejected { ticket });
            return;
        }
        let index = self.append(payload, effects);
        effects.accepted.push((ticket, index));
    }

    fn append(&mut self, payload: Bytes, effects: &mut Effects) -> LogIndex {
        let (index, term) = (self.tail.last.next(), self.hard_state.term);
        self.tail.append(index, term);
        effects.entries.push(Entry { index, term, payload });
        index
    }

    /// With one voter the round that confirms the leadership is the member itself, so a read is ready at once, except
    /// before the first commit of the term: what earlier leaders committed isn't known yet.
    fn read_index(&mut self, ticket: u64, effects: &mut Effects) {
        if self.role != Role::Leader {
            effects.rejected.push(Rejected { ticket });
        } else if self.hard_state.commit >= self.term_start {
            effects.reads.push(ReadReady { ticket, index: self.hard_state.commit });
        } else if self.waiting_reads.len() < WAITING_READS_MAX {
            self.waiting_reads.push(ticket);
        } else {
            effects.rejected.push(Rejected { ticket });
        }
    }

    fn handle_durable(&mut self, index: LogIndex, hard_state: HardState, effects: &mut Effects) {
        assert!(hard_state.term <= self.hard_state.term, "the disk can't know a later term");
        self.durable_term = self.durable_term.max(hard_state.term);
        self.tail.make_durable(index);
        if self.role == Role::Candidate && self.durable_term == self.hard_state.term {
            self.become_leader(effects);
        }
        self.advance_commit(effects);
    }

    fn become_leader(&mut self, effects: &mut Effects) {
        assert_eq!(self.hard_state.vote, Some(self.id), "a leader voted for itself");
        self.role = Role::Leader;
        effects.role_changed = true;
        self.term_start = self.append(Bytes::new(), effects);
    }

    fn advance_commit(&mut self, effects: &mut Effects) {
        let quorum = self.tail.durable;
        if self.role != Role::Leader || quorum < self.term_start || quorum <= self.hard_state.commit {
            return;
        }
        self.hard_state.commit = quorum;
        effects.committed = Some(quorum);
        effects.reads.extend(self.waiting_reads.drain(..).map(|ticket| ReadReady { ticket, index: quorum }));
    }
}

#[cfg(test)]
mod tests;
