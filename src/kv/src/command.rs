//! What an entry of the log asks the state machine to do.

use bytes::Bytes;

use plinth_base::{MemberId, Term};

use crate::{MemberRecord, MembersChange, Query, bounds::KeyRange};

/// A command with the id by which its proposer knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// Who waits for it, if anybody does.
    pub proposal: ProposalId,
    /// The command.
    pub command: Command,
}

/// A proposal's name, never given twice: whoever proposed it, on whichever member, is answered when the entry of that name is applied there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct ProposalId {
    /// The run of a member's process that made it, a random number; 0 if nobody waits.
    pub origin: u64,
    /// Counts that run's proposals.
    pub number: u64,
}

/// A replicated command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Writes one key.
    Put(Put),
    /// Deletes the keys of a range, in one revision.
    DeleteRange(DeleteRange),
    /// Compares, then one of two lists of operations, in one revision.
    Txn(Txn),
    /// Grants a lease.
    LeaseGrant {
        /// Its id, not 0.
        id: i64,
        /// In seconds, positive.
        ttl: i64,
    },
    /// Deletes the keys of a lease, in one revision, and the lease.
    LeaseRevoke {
        /// Its id.
        id: i64,
    },
    /// The same for leases whose time is over, each in a revision of its own. One that is gone already is nothing.
    LeasesExpire {
        /// Their ids.
        ids: Vec<i64>,
        /// The term of the leader that judged them: an entry of another term revokes none.
        term: Term,
    },
    /// Makes everything below a revision unreadable, so that it can be removed.
    Compact {
        /// The oldest one that stays readable.
        revision: i64,
    },
    /// Raises, clears or lists alarms.
    Alarm {
        /// What to do.
        action: AlarmAction,
        /// Whose alarm.
        member: u64,
        /// Which one.
        alarm: AlarmKind,
    },
    /// A member tells its name and client URLs.
    PublishMember(MemberRecord),
    /// Members come, go, or begin to vote. In its entry raft has to be told: it is a change of the group's configuration.
    ChangeMembers(MembersChange),
    /// A member is found elsewhere.
    UpdateMember {
        /// Which one.
        id: MemberId,
        /// Where peers reach it from now on.
        peer_urls: Vec<String>,
    },
}

/// What a command is, for counting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommandKind {
    /// [`Command::Put`].
    Put,
    /// [`Command::DeleteRange`].
    DeleteRange,
    /// [`Command::Txn`].
    Txn,
    /// [`Command::LeaseGrant`].
    LeaseGrant,
    /// [`Command::LeaseRevoke`], and [`Command::LeasesExpire`].
    LeaseRevoke,
    /// [`Command::Compact`].
    Compaction,
    /// [`Command::Alarm`].
    Alarm,
    /// [`Command::PublishMember`].
    PublishMember,
    /// [`Command::ChangeMembers`], and [`Command::UpdateMember`].
    ChangeMembers,
}

impl CommandKind {
    /// All of them, each at its own number.
    pub const ALL: [Self; 9] = [
        Self::Put,
        Self::DeleteRange,
        Self::Txn,
        Self::LeaseGrant,
        Self::LeaseRevoke,
        Self::Compaction,
        Self::Alarm,
        Self::PublishMember,
        Self::ChangeMembers,
    ];

    /// etcd's name of the request.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "Put",
            Self::DeleteRange => "DeleteRange",
            Self::Txn => "Txn",
            Self::LeaseGrant => "LeaseGrant",
            Self::LeaseRevoke => "LeaseRevoke",
            Self::Compaction => "Compaction",
            Self::Alarm => "Alarm",
            Self::PublishMember => "ClusterMemberAttrSet",
            Self::ChangeMembers => "ConfChange",
        }
    }
}

/// Writes one key.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Put {
    /// The key, not empty.
    pub key: Bytes,
    /// The new value.
    pub value: Bytes,
    /// The lease to attach, 0 for none.
    pub lease: i64,
    /// The answer carries the version before.
    pub prev_kv: bool,
    /// Keep the value; the key must exist.
    pub ignore_value: bool,
    /// Keep the lease; the key must exist.
    pub ignore_lease: bool,
}

/// Deletes the keys of a range.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct DeleteRange {
    /// Which keys.
    pub range: KeyRange,
    /// The answer carries what was deleted.
    pub prev_kv: bool,
}

/// A transaction, nested ones included, as one flat list: node 0 is the outermost.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Txn {
    /// The transaction and all nested ones. A nested one comes after the one that holds it.
    pub nodes: Vec<TxnNode>,
}

/// One level of a transaction.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TxnNode {
    /// All must hold.
    pub compares: Vec<Compare>,
    /// Done if they do.
    pub success: Vec<Op>,
    /// Done if one doesn't.
    pub failure: Vec<Op>,
}

/// One operation of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Reads.
    Range(Query),
    /// Writes one key.
    Put(Put),
    /// Deletes a range.
    DeleteRange(DeleteRange),
    /// A nested transaction: its place in [`Txn::nodes`].
    Txn(u32),
}

/// A condition on the keys of a range, as they were before the transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compare {
    /// Which keys: all of them must satisfy it.
    pub range: KeyRange,
    /// How to compare what is stored with what is given.
    pub result: CompareResult,
    /// What to compare with.
    pub target: CompareTarget,
}

/// How a stored property relates to the given one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompareResult {
    /// Stored equals given.
    Equal,
    /// Stored is greater.
    Greater,
    /// Stored is less.
    Less,
    /// Stored differs.
    NotEqual,
    /// A number that etcd doesn't know: always holds.
    Unknown,
}

/// The compared property with the given operand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CompareTarget {
    /// Number of puts since creation.
    Version(i64),
    /// Revision of the creation.
    Create(i64),
    /// Revision of the last put.
    Mod(i64),
    /// The value.
    Value(Bytes),
    /// The attached lease.
    Lease(i64),
}

/// What to do with an alarm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AlarmAction {
    /// List them.
    Get,
    /// Raise one.
    Activate,
    /// Clear one.
    Deactivate,
}

/// Which alarm.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum AlarmKind {
    /// None, or all when listing.
    None = 0,
    /// The space quota is used up.
    NoSpace = 1,
    /// Members differ.
    Corrupt = 2,
}
