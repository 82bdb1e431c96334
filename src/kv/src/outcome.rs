//! What a command did, for the answer to whoever proposed it.

use bytes::Bytes;

use crate::{KvError, QueryResult, RecordMeta, command::AlarmKind};

/// A key with one of its versions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// Revisions, version and lease.
    pub meta: RecordMeta,
    /// The value; empty if it wasn't asked for.
    pub value: Bytes,
}

/// The result of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The revision for the answer's header.
    pub revision: i64,
    /// What happened, or why nothing did.
    pub result: Result<OpOutcome, KvError>,
}

/// The result of one operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OpOutcome {
    /// A key was written.
    Put {
        /// The version before, if asked for and there.
        prev_kv: Option<KeyValue>,
    },
    /// Keys were deleted.
    Deleted {
        /// How many.
        count: i64,
        /// What they were, in key order, if asked for.
        prev_kvs: Vec<KeyValue>,
    },
    /// Keys were read.
    Range {
        /// They themselves.
        kvs: Vec<KeyValue>,
        /// Count and whether there are more.
        result: QueryResult,
    },
    /// A transaction was carried out.
    Txn(TxnOutcome),
    /// A lease was granted.
    LeaseGranted {
        /// Its id.
        id: i64,
        /// In seconds.
        ttl: i64,
    },
    /// Leases are gone, with their keys.
    LeasesRevoked {
        /// All that were named.
        ids: Vec<i64>,
        /// How many of them were there.
        found: usize,
    },
    /// The history was compacted.
    Compacted,
    /// The alarms that are raised, or the one that was dealt with: member and kind.
    Alarms(Vec<(u64, AlarmKind)>),
    /// The members are others now; [`crate::State::electorate`] says who votes.
    MembersChanged,
    /// Nothing to report.
    Nothing,
}

/// The result of a transaction.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TxnOutcome {
    /// Whether all compares held.
    pub succeeded: bool,
    /// For each operation of the branch that was taken: the revision for its header, and its result.
    pub responses: Vec<(i64, OpOutcome)>,
}
