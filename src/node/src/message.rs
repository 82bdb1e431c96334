//! What executors and shards say to each other.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use plinth_base::{GroupId, MemberId, limits::MAILBOX_MESSAGES_MAX};
use plinth_kv::{ByTtl, MembersChange, Outcome, ProposalId};

use crate::watch::Subscription;

/// From any executor to a shard.
#[derive(Debug)]
pub enum Message {
    /// Log and apply a command.
    Propose {
        /// The group it is for.
        group: GroupId,
        /// Its name, which the encoded command has too.
        proposal: ProposalId,
        /// The encoded command.
        payload: Bytes,
        /// Bytes that the space quota counts for it; 0 for what only frees space.
        cost_bytes: u64,
        /// Where the answer goes.
        reply: ReplyTo,
    },
    /// Answer as soon as a read of the published root sees everything that was committed before now.
    ReadIndex {
        /// The group it is for.
        group: GroupId,
        /// Where the answer goes.
        reply: ReplyTo,
    },
    /// Give a lease its whole TTL again.
    LeaseRenew {
        /// The group it is for.
        group: GroupId,
        /// The lease, which its sender has seen in a published root.
        lease: ByTtl,
        /// Where the answer goes.
        reply: ReplyTo,
    },
    /// Say how long leases still live.
    LeasesRemaining {
        /// The group it is for.
        group: GroupId,
        /// The leases, which its sender has seen in a published root. Few: they are all looked up in one turn.
        leases: Vec<ByTtl>,
        /// Where the answer goes.
        reply: ReplyTo,
    },
    /// Answer when everything is removed that a compaction made unreachable.
    AwaitSweep {
        /// The group it is for.
        group: GroupId,
        /// To which it was compacted.
        revision: i64,
        /// Where the answer goes.
        reply: ReplyTo,
    },
    /// Tell this hub of what is applied from now on.
    Subscribe {
        /// The group it is about.
        group: GroupId,
        /// The hub's place at the feed.
        subscription: Arc<Subscription>,
    },
    /// Give back what is free of the group's file, and answer when that is done.
    Defragment {
        /// The group it is for.
        group: GroupId,
        /// Where the answer goes.
        reply: ReplyTo,
    },
    /// Log and apply a change of the members.
    ChangeMembers {
        /// The group it is for.
        group: GroupId,
        /// Its name.
        proposal: ProposalId,
        /// What is to happen. Who votes afterwards the leader finds out.
        change: MembersChange,
        /// Refuse it unless so many members have been connected for a while that it can't cost the quorum.
        is_strict: bool,
        /// Where the answer goes.
        reply: ReplyTo,
    },
    /// Let another member lead, and answer when it does.
    MoveLeader {
        /// The group it is about.
        group: GroupId,
        /// Who shall lead.
        to: MemberId,
        /// Where the answer goes.
        reply: ReplyTo,
    },
    /// Finish what was accepted, write a last checkpoint, seal the log and end.
    Stop {
        /// Where the answer goes.
        reply: ReplyTo,
    },
}

/// The place where an executor waits for an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplyTo {
    /// The executor.
    pub executor: u16,
    /// Its ticket.
    pub ticket: u64,
}

/// From a shard to an executor.
#[derive(Debug)]
pub struct Answer {
    /// The ticket of the question.
    pub ticket: u64,
    /// The answer.
    pub reply: Reply,
}

/// What became of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The command was applied and its root is published. Boxed: mailboxes hold many answers, and most of their places are empty.
    Applied(Box<Outcome>),
    /// The published root may be read.
    ReadReady,
    /// How long the leases live; `None` for one whose time is over.
    Leases(Vec<Option<Duration>>),
    /// There is something new to look at.
    News,
    /// The shard has stopped.
    Stopped,
    /// It was not carried out, and never will be.
    Refused(Refusal),
}

/// Why a message was not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// The group has no leader that this member can reach.
    NoLeader,
    /// The leader changed meanwhile.
    LeaderChanged,
    /// Another change of the members isn't done yet.
    ChangeUnderWay,
    /// Too few members have been connected for a while.
    Unhealthy,
    /// Too few members would be left that have ever started.
    NotEnoughStarted,
    /// A learner lacks too much to vote.
    LearnerNotReady,
    /// There are as many learners as there may be.
    TooManyLearners,
    /// There are as many members as there may be.
    TooManyMembers,
    /// A member of another cluster answers at a new member's URL.
    OtherCluster,
    /// Another member answers at a new member's URL.
    OtherMember,
    /// A queue is full.
    TooManyRequests,
    /// The space quota is used up, or the disk is full.
    NoSpace,
    /// The CORRUPT alarm is raised.
    Corrupt,
    /// The node is going down.
    Stopping,
    /// No answer within the request timeout. The command may still be carried out.
    TimedOut,
    /// The leader that had it leads no more. The command may still be carried out.
    LeaderLost,
}

/// Proposals that may wait in a shard for room in memory or on the disk; more are refused.
pub(crate) const HELD_PROPOSALS_MAX: usize = MAILBOX_MESSAGES_MAX;
