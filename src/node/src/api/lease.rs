//! The Lease service.

use std::time::Duration;

use bytes::Bytes;
use plinth_env::Env;
use plinth_kv::{ByTtl, Command, KvError, OpOutcome, attached_keys, granted_ttl, leases_by_ttl};
use plinth_rpc::{Frame, Replies, Requests, Status, errors, etcdserverpb as pb};

use super::{Api, convert::status, decode, refused};
use crate::message::{Message, Reply as ShardReply, ReplyTo};

/// The longest TTL that may be asked for, in seconds.
const TTL_MAX: i64 = 9_000_000_000;

/// What the space quota counts for a lease.
const LEASE_COST_BYTES: u64 = 64;

/// Leases whose time is asked for at once: the shard looks them up in one turn.
const LEASES_ASKED_MAX: usize = 1024;

/// Ids that are tried when the server chooses.
const IDS_TRIED_MAX: usize = 16;

impl<E: Env> Api<E> {
    /// Grants a lease.
    ///
    /// # Errors
    /// etcd's status for whatever is wrong.
    pub async fn lease_grant(&self, request: pb::LeaseGrantRequest) -> Result<pb::LeaseGrantResponse, Status> {
        if request.ttl > TTL_MAX {
            return Err(errors::LEASE_TTL_TOO_LARGE);
        }
        self.check_quota(LEASE_COST_BYTES).await?;
        let ttl = request.ttl.max(self.options.lease_ttl_min);
        for _ in 0..IDS_TRIED_MAX {
            let id = if request.id == 0 { self.some_lease_id() } else { request.id };
            let outcome = self.propose(Command::LeaseGrant { id, ttl }, LEASE_COST_BYTES).await?;
            match outcome.result {
                Ok(OpOutcome::LeaseGranted { id, ttl }) => {
                    let header = Some(self.header(outcome.revision));
                    return Ok(pb::LeaseGrantResponse { header, id, ttl, error: String::new() });
                }
                Ok(other) => unreachable!("a grant ended as {other:?}"),
                Err(KvError::LeaseExists) if request.id == 0 => {}
                Err(error) => return Err(status(error)),
            }
        }
        Err(errors::LEASE_EXISTS)
    }

    /// A positive number that is most likely not in use.
    fn some_lease_id(&self) -> i64 {
        i64::from_le_bytes((self.executor.env().random_u64() >> 1).max(1).to_le_bytes())
    }

    /// Deletes a lease with its keys.
    ///
    /// # Errors
    /// If there is no such lease, or the server can't.
    pub async fn lease_revoke(&self, request: pb::LeaseRevokeRequest) -> Result<pb::LeaseRevokeResponse, Status> {
        let outcome = self.propose(Command::LeaseRevoke { id: request.id }, 0).await?;
        outcome.result.map_err(status)?;
        Ok(pb::LeaseRevokeResponse { header: Some(self.header(outcome.revision)) })
    }

    /// Renews leases, one after the other, until the client ends its side.
    ///
    /// # Errors
    /// What ends the stream.
    pub async fn lease_keep_alive(&self, mut requests: impl Requests, mut replies: impl Replies) -> Result<(), Status> {
        while let Some(request) = requests.next().await {
            let request: pb::LeaseKeepAliveRequest = decode(request?)?;
            let response = self.lease_renew(request.id).await?;
            replies.send(Frame::encode(&response)).await?;
        }
        Ok(())
    }

    /// Gives a lease its whole TTL again; the answer's TTL is 0 if there is no such lease any more.
    ///
    /// # Errors
    /// If the server can't.
    pub async fn lease_renew(&self, id: i64) -> Result<pb::LeaseKeepAliveResponse, Status> {
        // As it was before: a client that watches from there on misses nothing.
        let header = Some(self.header(self.root().state.revision));
        let Some(granted) = self.granted_ttl(id).await? else {
            return Ok(pb::LeaseKeepAliveResponse { header, id, ttl: 0 });
        };
        let (group, lease) = (self.group().group, ByTtl { ttl: granted, id });
        let renewed = self.ask_lessor(|reply| Message::LeaseRenew { group, lease, reply }).await?;
        Ok(pb::LeaseKeepAliveResponse { header, id, ttl: if renewed.is_empty() { 0 } else { granted } })
    }

    /// What is left of a lease, and which keys hang on it.
    ///
    /// # Errors
    /// If the server can't.
    pub async fn lease_time_to_live(
        &self,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, Status> {
        let id = request.id;
        let Some(granted_ttl) = self.granted_ttl(id).await? else {
            let header = Some(self.header(self.root().state.revision));
            return Ok(pb::LeaseTimeToLiveResponse { header, id, ttl: -1, granted_ttl: 0, keys: Vec::new() });
        };
        let remaining = self.remaining(vec![ByTtl { ttl: granted_ttl, id }]).await?[0];
        if remaining.is_none() {
            // Its time is over, but it is there until its keys are gone; or it is gone, and this member hadn't heard of it.
            self.read_index().await?;
            if self.granted_ttl(id).await?.is_none() {
                let header = Some(self.header(self.root().state.revision));
                return Ok(pb::LeaseTimeToLiveResponse { header, id, ttl: -1, granted_ttl: 0, keys: Vec::new() });
            }
        }
        let remaining = remaining.unwrap_or_default();
        let keys = if request.keys { self.lease_keys(id).await? } else { Vec::new() };
        let header = Some(self.header(self.root().state.revision));
        let ttl = i64::try_from(remaining.as_secs()).unwrap_or(i64::MAX);
        Ok(pb::LeaseTimeToLiveResponse { header, id, ttl, granted_ttl, keys })
    }

    /// All leases, those that expire first before the others.
    ///
    /// # Errors
    /// If the server can't.
    pub async fn lease_leases(&self) -> Result<pb::LeaseLeasesResponse, Status> {
        let mut leases = Vec::new();
        let mut root = self.root();
        while !self.slice(&root, |view, budget| leases_by_ttl(view, None, i64::MAX, &mut leases, budget)).await? {
            self.pause().await;
            root = self.root();
        }
        let mut remaining = Vec::with_capacity(leases.len());
        for some in leases.chunks(LEASES_ASKED_MAX) {
            remaining.extend(self.remaining(some.to_vec()).await?);
        }
        let mut leases: Vec<_> = remaining.into_iter().zip(leases).collect();
        leases.sort_unstable();
        let leases = leases.into_iter().map(|(_, lease)| pb::LeaseStatus { id: lease.id }).collect();
        Ok(pb::LeaseLeasesResponse { header: Some(self.header(root.state.revision)), leases })
    }

    /// A lease that isn't here may have been granted through another member just now: only what is up to date says that there is none.
    async fn granted_ttl(&self, id: i64) -> Result<Option<i64>, Status> {
        let root = self.root();
        if let Some(ttl) = self.slice(&root, |view, _| granted_ttl(view, id)).await? {
            return Ok(Some(ttl));
        }
        self.read_index().await?;
        let root = self.root();
        self.slice(&root, |view, _| granted_ttl(view, id)).await
    }

    async fn lease_keys(&self, id: i64) -> Result<Vec<Bytes>, Status> {
        let mut keys = Vec::new();
        let mut root = self.root();
        while !self.slice(&root, |view, budget| attached_keys(view, id, &mut keys, budget)).await? {
            self.pause().await;
            root = self.root();
        }
        Ok(keys)
    }

    /// How long leases still live; `None` for one whose time is over.
    async fn remaining(&self, leases: Vec<ByTtl>) -> Result<Vec<Option<Duration>>, Status> {
        let group = self.group().group;
        self.ask_lessor(|reply| Message::LeasesRemaining { group, leases, reply }).await
    }

    /// Nothing if the lease that was to be renewed is gone.
    async fn ask_lessor(&self, message: impl FnOnce(ReplyTo) -> Message) -> Result<Vec<Option<Duration>>, Status> {
        let ticket = self.executor.ticket();
        self.shard.inbox.send(message(ticket.reply_to())).map_err(|_| errors::TOO_MANY_REQUESTS)?;
        match ticket.await {
            ShardReply::Leases(remaining) => Ok(remaining),
            ShardReply::ReadReady => Ok(Vec::new()),
            ShardReply::Refused(refusal) => Err(refused(refusal)),
            ShardReply::Applied(_) | ShardReply::News | ShardReply::Stopped => {
                unreachable!("a question about a lease is answered as one")
            }
        }
    }
}
