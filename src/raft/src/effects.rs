//! What a step asks its caller to do.

use bytes::Bytes;
use plinth_base::{LogIndex, MemberId, Term};

use crate::{Message, Position};

/// What a member must not forget: its term, its vote in it, how far it knows the log to be committed, and whether its log may lack what it once had.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct HardState {
    /// The newest term this member has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<MemberId>,
    /// A lower bound of what is committed.
    pub commit: LogIndex,
    /// Recovery cut off the end of the log, which may have held entries that were acknowledged. Until the member has
    /// caught up with a leader its vote counts only where all voters vote.
    pub is_doubtful: bool,
}

/// An entry of the group's log. An empty payload is the entry by which a leader opens its term.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its position.
    pub index: LogIndex,
    /// The term in which it was proposed.
    pub term: Term,
    /// It changes the members: what it says comes back in [`crate::Input::Configured`] when it is applied.
    pub is_change: bool,
    /// The command, opaque here.
    pub payload: Bytes,
}

impl Entry {
    /// Its place in the log.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { index: self.index, term: self.term }
    }
}

/// A read that may be served as soon as `index` is applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadReady {
    /// The ticket the read came with.
    pub ticket: u64,
    /// Everything up to here was committed before the read began.
    pub index: LogIndex,
}

/// Why a proposal or read can't be taken. It was not proposed, and will not be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// No leader is known.
    NoLeader,
    /// The leader changed while it was under way, or is about to.
    LeaderChanged,
    /// Too many wait already.
    TooMany,
    /// A change of the members is under way, or the leader hasn't committed in its term yet.
    ChangeUnderWay,
}

/// A proposal or read that this member can't take now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rejected {
    /// The ticket it came with.
    pub ticket: u64,
    /// Why.
    pub reason: Reason,
}

/// Entries for a peer that are no longer in memory: the caller reads them from the log and answers with [`crate::Input::Fetched`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fetch {
    /// Who needs them.
    pub peer: MemberId,
    /// The first one.
    pub from: LogIndex,
    /// As many as fit, at least one.
    pub bytes_max: usize,
}

/// Why a member led no longer although nobody had asked for that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fled {
    /// Its log's device is stuck, and the others' aren't.
    Stall,
    /// It was removed.
    Removed,
}

/// The effects of one or more steps. The log's part (`hard_state`, then `entries`) goes first; nothing else waits for it here, because what must
/// wait until it is durable comes out of the step that says so. Reused between turns.
#[derive(Default, Debug)]
pub struct Effects {
    /// To be logged before `entries`, in the same batch or an earlier one.
    pub hard_state: Option<HardState>,
    /// To be logged, in this order. One whose index is not above the log's last replaces that one and all behind it.
    pub entries: Vec<Entry>,
    /// To be sent, in this order.
    pub messages: Vec<Message>,
    /// Tickets of proposals that became entries here, with the entry's index.
    pub accepted: Vec<(u64, LogIndex)>,
    /// Proposals and reads that can't be taken.
    pub rejected: Vec<Rejected>,
    /// Everything up to here may be applied.
    pub committed: Option<LogIndex>,
    /// Reads that may be served.
    pub reads: Vec<ReadReady>,
    /// Entries to be read from the log for peers.
    pub fetches: Vec<Fetch>,
    /// Peers that need a snapshot, since the log no longer holds what they lack.
    pub snapshots: Vec<MemberId>,
    /// Learners that may become the voters they were added as: they have been heard of and have caught up.
    pub arrived: Vec<MemberId>,
    /// The joint configuration is applied: the leader has to propose the one behind it.
    pub leave_joint: bool,
    /// Transfers of leadership that have ended: the ticket, and whether it came about.
    pub transferred: Vec<(u64, bool)>,
    /// Leadership was given away of itself: to whom, and why.
    pub fled: Option<(MemberId, Fled)>,
    /// The member's role, its term or the leader it knows changed.
    pub role_changed: bool,
}

impl Effects {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        let Self {
            hard_state,
            entries,
            messages,
            accepted,
            rejected,
            committed,
            reads,
            fetches,
            snapshots,
            arrived,
            leave_joint,
            transferred,
            fled,
            role_changed,
        } = self;
        *hard_state = None;
        *committed = None;
        *fled = None;
        *leave_joint = false;
        *role_changed = false;
        entries.clear();
        messages.clear();
        accepted.clear();
        rejected.clear();
        reads.clear();
        fetches.clear();
        snapshots.clear();
        arrived.clear();
        transferred.clear();
    }
}
