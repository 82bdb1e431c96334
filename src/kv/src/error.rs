//! Why a request has no effect. The API maps each to etcd's code and text.

use std::fmt;

/// A request that can't be carried out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KvError {
    /// A key is empty.
    EmptyKey,
    /// `ignore_value` or `ignore_lease` on a key that isn't there, or an operation without content.
    KeyNotFound,
    /// `ignore_value` with a value.
    ValueProvided,
    /// `ignore_lease` with a lease.
    LeaseProvided,
    /// More operations than a transaction may have.
    TooManyOps,
    /// A key is written twice by one transaction.
    DuplicateKey,
    /// An unknown sort order or target.
    InvalidSort,
    /// The revision was compacted.
    Compacted,
    /// The revision doesn't exist yet.
    FutureRevision,
    /// The lease doesn't exist.
    LeaseNotFound,
    /// The lease exists already.
    LeaseExists,
    /// A member with this id is there, or was once.
    MemberExists,
    /// No such member, or it was removed.
    MemberNotFound,
    /// It votes already.
    MemberNotLearner,
    /// Another member has that URL.
    PeerUrlExists,
    /// The space quota is used up.
    NoSpace,
    /// The CORRUPT alarm is raised.
    Corrupt,
}

impl fmt::Display for KvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for KvError {}
