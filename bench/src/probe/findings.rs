//! What was seen of an endpoint.

use std::net::SocketAddr;

use plinth_rpc::etcdserverpb::StatusResponse;
use serde::{Deserialize, Serialize};

use crate::{
    histogram::Latencies,
    metrics::{Metrics, Spread},
};

/// All of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Findings {
    /// Who is asked.
    pub server: Server,
    /// How long it takes for an answer.
    pub calls: Calls,
    /// What its metrics say; not if it has none here.
    pub metered: Option<Metered>,
}

/// What a server says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Server {
    /// plinth or etcd.
    pub name: String,
    /// Of the API, as its status tells it.
    pub version: String,
    /// Where it was asked.
    pub endpoint: String,
    /// The member's id.
    pub member: u64,
    /// The leader's, 0 if there is none.
    pub leader: u64,
    /// Whether it has no vote.
    pub is_learner: bool,
    /// Members of its cluster.
    pub members: usize,
    /// Bytes of its database.
    pub db_bytes: u64,
    /// The same without what is free.
    pub db_in_use_bytes: u64,
    /// Its limit, if its status tells it; etcd does so from 3.6 on.
    pub quota_bytes: Option<u64>,
    /// Alarms and troubles.
    pub errors: Vec<String>,
}

/// Each kind of call, one at a time.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Calls {
    /// Answered from memory.
    pub empty: CallFacts,
    /// From the member's own data.
    pub serializable: CallFacts,
    /// With a question whether the leader still leads; not without one.
    pub linearizable: Option<CallFacts>,
    /// Not if the server takes no writes.
    pub put: Option<CallFacts>,
    /// From sending a put until its event is there.
    pub event: Option<CallFacts>,
    /// Why there were no puts.
    pub refused: Option<String>,
}

/// Latencies of one kind, in µs.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct CallFacts {
    /// How many.
    pub calls: u64,
    /// Means can be added and subtracted.
    pub mean_us: f64,
    /// The middle one.
    pub p50_us: Option<f64>,
    /// Not with fewer than ten beyond it.
    pub p99_us: Option<f64>,
    /// The longest.
    pub max_us: f64,
}

/// Metrics before and after the calls.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Metered {
    /// Whether it has plinth's own.
    pub is_plinth: bool,
    /// Flushes of the log.
    pub flush: Option<Spread>,
    /// Commits of the database.
    pub commit: Option<Spread>,
    /// Its limit.
    pub quota_bytes: Option<u64>,
    /// Since the server's start.
    pub leader_changes: u64,
    /// Meanwhile.
    pub leader_changes_meanwhile: u64,
}

impl Server {
    /// As `status` tells it.
    pub fn of(address: SocketAddr, status: &StatusResponse, members: usize, is_plinth: bool) -> Self {
        let bytes = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
        Self {
            name: if is_plinth { "plinth" } else { "etcd" }.to_owned(),
            version: status.version.clone(),
            endpoint: address.to_string(),
            member: status.header.map_or(0, |header| header.member_id),
            leader: status.leader,
            is_learner: status.is_learner,
            members,
            db_bytes: bytes(status.db_size),
            db_in_use_bytes: bytes(status.db_size_in_use),
            quota_bytes: Some(bytes(status.db_size_quota)).filter(|quota| *quota > 0),
            errors: status.errors.iter().map(|error| error.trim().to_owned()).collect(),
        }
    }
}

impl Findings {
    /// The limit of the database, from wherever it is told.
    #[must_use]
    pub fn quota_bytes(&self) -> Option<u64> {
        self.server.quota_bytes.or(self.metered.as_ref()?.quota_bytes)
    }
}

impl CallFacts {
    /// Of what was measured.
    pub fn of(latencies: &Latencies) -> Self {
        Self {
            calls: latencies.count(),
            mean_us: latencies.mean_us(),
            p50_us: latencies.quantile_us(0.5),
            p99_us: latencies.quantile_us(0.99),
            max_us: latencies.max_us(),
        }
    }
}

impl Metered {
    /// What came between two scrapes.
    pub fn between(before: &Metrics, after: &Metrics) -> Self {
        const LEADER_CHANGES: &str = "etcd_server_leader_changes_seen_total";
        // Counters and sizes are whole numbers below 2^53.
        let whole = |value: f64| value.max(0.0) as u64;
        Self {
            is_plinth: after.has("plinth_wal_flushes_total"),
            flush: after.spread_since(before, "etcd_disk_wal_fsync_duration_seconds"),
            commit: after.spread_since(before, "etcd_disk_backend_commit_duration_seconds"),
            quota_bytes: Some(whole(after.value("etcd_server_quota_backend_bytes"))).filter(|quota| *quota > 0),
            leader_changes: whole(after.value(LEADER_CHANGES)),
            leader_changes_meanwhile: whole(after.since(before, LEADER_CHANGES)),
        }
    }
}
