//! What members of a group say to each other.

use plinth_base::{LogIndex, MemberId, Term};

use crate::{Entry, Position};

/// Which of a peer's connections carries a message. Each keeps its order; none waits for another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lane {
    /// Small and urgent: votes, heartbeats, reads, the hand-over of leadership.
    Pulse,
    /// Entries and their answers, proposals on their way to the leader.
    Log,
}

/// A message from one member of a group to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Who says it.
    pub from: MemberId,
    /// To whom.
    pub to: MemberId,
    /// The sender's term; durable at the sender since before the message left.
    pub term: Term,
    /// What is said.
    pub body: Body,
}

/// What is said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Would you vote for me in `next_term`? Changes nothing at either side.
    PreVote {
        /// The term that the sender would campaign in.
        next_term: Term,
        /// The end of the sender's log.
        last: Position,
        /// The newest entry that the sender knows to be committed: whoever has it knows so too, from now on. A change of the members may have been committed
        /// without the one who has to act on it.
        commit: Position,
    },
    /// The answer to a pre-vote.
    PreVoteReply {
        /// The term that was asked for.
        next_term: Term,
        /// Yes.
        granted: bool,
        /// The sender lost the end of its log once and hasn't caught up since: see [`crate::HardState::is_doubtful`].
        is_doubtful: bool,
        /// As in [`Body::PreVote`].
        commit: Position,
    },
    /// Vote for me in my term.
    Vote {
        /// The end of the sender's log.
        last: Position,
        /// The leader asked for this election: it is no reason to protect that leader.
        is_handover: bool,
        /// As in [`Body::PreVote`].
        commit: Position,
    },
    /// The answer to a vote request.
    VoteReply {
        /// Yes.
        granted: bool,
        /// As in [`Body::PreVoteReply`].
        is_doubtful: bool,
        /// As in [`Body::PreVote`].
        commit: Position,
    },
    /// The leader is there.
    Heartbeat {
        /// What is committed, as far as the receiver is known to have it.
        commit: LogIndex,
        /// The newest round of reads that had begun when this left.
        round: u64,
    },
    /// The answer to a heartbeat.
    HeartbeatReply {
        /// The heartbeat's.
        round: u64,
    },
    /// Entries for the log; none is a question.
    Append {
        /// The entry before the first of `entries`.
        previous: Position,
        /// What is committed.
        commit: LogIndex,
        /// In order, of one log.
        entries: Vec<Entry>,
    },
    /// News of what is committed, behind the entries that were sent. Nobody answers it.
    Commit {
        /// The last entry that was sent.
        previous: Position,
        /// What is committed.
        commit: LogIndex,
    },
    /// The log agrees with the leader's.
    AppendReply {
        /// Up to here; not all of it need be durable.
        received: LogIndex,
        /// Up to here, and durable.
        durable: LogIndex,
    },
    /// There is no `previous` here.
    AppendRefused {
        /// The index of the `previous` that was asked for.
        probed: LogIndex,
        /// The newest entry here that may be in the leader's log.
        hint: Position,
    },
    /// Campaign at once, with the leader's consent.
    TimeoutNow,
    /// A client's command for the leader. Sent once; whoever sent it never sends it again.
    Propose {
        /// The sender's name for it.
        ticket: u64,
        /// The command.
        payload: bytes::Bytes,
    },
    /// The command was not, and will not be, proposed.
    ProposeRefused {
        /// The sender's name for it.
        ticket: u64,
    },
    /// A read that must see everything committed before now.
    ReadIndex {
        /// The sender's name for it.
        ticket: u64,
    },
    /// The read may be served when `index` is applied.
    ReadIndexReply {
        /// The receiver's name for it.
        ticket: u64,
        /// Everything up to here was committed before the read began.
        index: LogIndex,
    },
    /// No leader is here that could serve the read.
    ReadIndexRefused {
        /// The receiver's name for it.
        ticket: u64,
    },
}

impl Body {
    /// Which connection carries it.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            Self::Append { .. }
            | Self::Commit { .. }
            | Self::AppendReply { .. }
            | Self::AppendRefused { .. }
            | Self::Propose { .. }
            | Self::ProposeRefused { .. } => Lane::Log,
            Self::PreVote { .. }
            | Self::PreVoteReply { .. }
            | Self::Vote { .. }
            | Self::VoteReply { .. }
            | Self::Heartbeat { .. }
            | Self::HeartbeatReply { .. }
            | Self::TimeoutNow
            | Self::ReadIndex { .. }
            | Self::ReadIndexReply { .. }
            | Self::ReadIndexRefused { .. } => Lane::Pulse,
        }
    }
}
