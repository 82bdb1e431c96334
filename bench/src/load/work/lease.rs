//! Leases, and keeping them alive.

use std::{net::SocketAddr, time::Instant};

use plinth_rpc::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest,
};
use prost::Message;

use super::{
    super::{Plan, client::Client},
    Ask, Fate, Work, path,
};
use crate::failure::Failure;

/// Should this process be killed, they are gone after so many seconds.
const TTL_SECONDS: i64 = 120;

/// Leases that live as long as this does.
#[derive(Debug)]
pub struct Leases {
    endpoint: SocketAddr,
    ids: Vec<i64>,
}

impl Leases {
    /// As many as the plan says.
    ///
    /// # Errors
    /// The server isn't there, or grants none.
    pub fn grant(plan: &Plan) -> Result<Self, Failure> {
        let endpoint = plan.endpoints[0];
        let mut leases = Self { endpoint, ids: Vec::new() };
        let mut client = Client::connect(endpoint)?;
        for _ in 0..plan.leases {
            let request = LeaseGrantRequest { ttl: TTL_SECONDS, id: 0 };
            let answer: LeaseGrantResponse = client.call(path::LEASE_GRANT, &request)?;
            leases.ids.push(answer.id);
        }
        Ok(leases)
    }

    /// Of a server that isn't there.
    #[cfg(test)]
    pub fn made_up(ids: Vec<i64>) -> Self {
        Self { endpoint: SocketAddr::from(([127, 0, 0, 1], 1)), ids }
    }

    /// One of them, again from the first behind the last.
    pub fn id(&self, number: usize) -> i64 {
        self.ids[number % self.ids.len()]
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        // If the server is gone, or doesn't want to: they expire.
        let Ok(mut client) = Client::connect(self.endpoint) else { return };
        for id in &self.ids {
            if client.count(path::LEASE_REVOKE, &LeaseRevokeRequest { id: *id }).is_err() {
                return;
            }
        }
    }
}

/// Keeps one lease after the other alive.
#[derive(Debug)]
pub struct KeepAlives {
    leases: Leases,
    next: usize,
}

impl KeepAlives {
    /// Of these.
    pub fn new(leases: Leases) -> Self {
        Self { leases, next: 0 }
    }
}

impl Work for KeepAlives {
    fn kinds(&self) -> Vec<&'static str> {
        vec!["keepalive"]
    }

    fn ask(&mut self, _began: Instant, body: &mut Vec<u8>) -> Ask {
        let id = self.leases.id(self.next);
        self.next = self.next.wrapping_add(1);
        LeaseKeepAliveRequest { id }.encode(body).expect("a vector takes everything");
        Ask { path: path::KEEP_ALIVE, wants_answer: true, ..Ask::default() }
    }

    fn answered(&mut self, _ask: &Ask, message: &[u8]) -> Result<Fate, String> {
        let answer =
            LeaseKeepAliveResponse::decode(message).map_err(|error| format!("an answer that is none: {error}"))?;
        if answer.ttl > 0 { Ok(Fate::Done) } else { Err(format!("lease {:x} is gone", answer.id)) }
    }

    fn stream(&self) -> Option<&'static str> {
        Some(path::KEEP_ALIVE)
    }
}
