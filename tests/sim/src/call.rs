//! Calls of clients: the model's requests, and what etcd has beside them that makes no revision of its own.

use crate::model::{Request, Response, Txn};

/// What a client asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call {
    /// Reads or writes keys.
    Kv(Request),
    /// Makes what is older than a revision unreadable; if `physical`, it is answered when that is removed.
    Compact {
        /// The oldest one that stays readable.
        revision: i64,
        /// Waits for the removal.
        physical: bool,
    },
    /// Grants a lease. An id is granted once in a history.
    LeaseGrant {
        /// Its id.
        lease: i64,
        /// What is asked for, in seconds.
        ttl: i64,
    },
    /// Ends a lease.
    LeaseRevoke {
        /// Its id.
        lease: i64,
    },
    /// Gives a lease its whole TTL again.
    LeaseKeepAlive {
        /// Its id.
        lease: i64,
    },
    /// Asks what is left of a lease.
    LeaseTimeToLive {
        /// Its id.
        lease: i64,
        /// And for its keys.
        keys: bool,
    },
}

impl Call {
    /// Whether a member of a cluster may answer it from what it has, without asking anybody if that is the newest; a range only if it is
    /// `serializable`.
    #[must_use]
    pub fn may_be_stale(&self, serializable: bool) -> bool {
        match self {
            Self::Kv(Request::Range(_)) => serializable,
            Self::LeaseKeepAlive { .. } | Self::LeaseTimeToLive { .. } => true,
            // Nothing in it asks for the newest state.
            Self::Kv(Request::Txn(txn)) => is_empty(txn),
            _ => false,
        }
    }
}

fn is_empty(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| matches!(op, Request::Txn(nested) if is_empty(nested)))
}

/// The answer to a [`Call`]. Revisions are those of the response's header, TTLs are in seconds.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are etcd's, and contract and proto describe them")]
pub enum Answer {
    Kv(Response),
    Compacted { revision: i64 },
    Granted { revision: i64, ttl: i64 },
    Revoked { revision: i64 },
    KeptAlive { revision: i64, ttl: i64 },
    TimeToLive { revision: i64, ttl: i64, granted_ttl: i64, keys: Vec<Vec<u8>> },
}

impl Answer {
    /// The revision in its header.
    #[must_use]
    pub fn revision(&self) -> i64 {
        match self {
            Self::Kv(response) => response.revision(),
            Self::Compacted { revision }
            | Self::Granted { revision, .. }
            | Self::Revoked { revision }
            | Self::KeptAlive { revision, .. }
            | Self::TimeToLive { revision, .. } => *revision,
        }
    }
}

impl From<Request> for Call {
    fn from(request: Request) -> Self {
        Self::Kv(request)
    }
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::Kv(response)
    }
}
