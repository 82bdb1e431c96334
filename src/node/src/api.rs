//! etcd's API on one executor: messages in, messages out. It alone turns protos into commands and outcomes into protos.
//!
//! The server calls [`Api::unary`] with bytes from the wire; the simulator calls the typed methods, above gRPC.
//!
//! Invariants: reads look at published roots only and never wait for a disk but through `Env::load_pages`; a write is proposed once and never
//! retried; requests that can't be valid never reach a shard.

mod backend;
mod cluster;
mod convert;
mod hash;
mod health;
mod kv;
mod lease;
mod maintenance;
mod range;
mod recipes;
mod slice;
mod snapshot;
mod version;
mod watch;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use plinth_base::GroupId;
use plinth_env::Env;
use plinth_kv::{Command, Envelope, Outcome, ProposalId};
use plinth_rpc::{Method, Replies, Reply, RequestMeta, Requests, Status, errors, etcdserverpb as pb};

use crate::{
    message::{Message, Refusal, Reply as ShardReply},
    metrics::Times,
    published::{Published, Root},
    shard::ShardHandle,
    waiters::Executor,
    watch::{Hub, WatchLimits},
};
pub use cluster::member_id;
pub use watch::WATCH_PROGRESS_INTERVAL_MIN;

/// What requests are held to.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// The cluster's id.
    pub cluster_id: u64,
    /// This member's id.
    pub member_id: u64,
    /// The etcd version that this server claims, `X.Y.Z`.
    pub version: &'static str,
    /// The largest replicated request in bytes.
    pub request_bytes_max: usize,
    /// Operations in one list of a transaction.
    pub txn_ops_max: usize,
    /// The shortest TTL of a lease in seconds: what is asked for below it is raised.
    pub lease_ttl_min: i64,
    /// Changes of the members that could cost the quorum are refused.
    pub strict_reconfig_check: bool,
    /// The space quota in bytes; `None` is no limit.
    pub quota_bytes: Option<u64>,
    /// What may wait for the clients of watch streams.
    pub watch_limits: WatchLimits,
    /// How often quiet watchers that want it are told of progress.
    pub watch_progress_interval: Duration,
    /// How long there must have been no leader before streams that need one end.
    pub leader_loss_timeout: Duration,
    /// A range reply that is longer, in bytes, is made in chunks while it is sent: [`REPLY_BUFFER_BYTES`], except in tests.
    pub reply_buffer_bytes: usize,
}

/// Range replies up to this length are made in one piece, which is fastest. Each may wait in memory for its client.
pub const REPLY_BUFFER_BYTES: usize = 256 << 10;

/// The API of one executor. Clones share everything.
pub struct Api<E: Env> {
    executor: Executor<E>,
    shard: ShardHandle<E>,
    /// The group that it serves: its place among the shard's.
    group: usize,
    hub: Hub<E>,
    ranges: Arc<Times>,
    options: Arc<ApiOptions>,
}

impl<E: Env> Clone for Api<E> {
    fn clone(&self) -> Self {
        let Self { executor, shard, group, hub, ranges, options } = self;
        Self {
            executor: executor.clone(),
            shard: shard.clone(),
            group: *group,
            hub: hub.clone(),
            ranges: Arc::clone(ranges),
            options: Arc::clone(options),
        }
    }
}

/// How long a request waits for the log or for a leader: 5 s and twice the election timeout, as etcd does.
#[must_use]
pub fn request_timeout(election_timeout: Duration) -> Duration {
    Duration::from_secs(5) + 2 * election_timeout
}

/// The shortest TTL of a lease in seconds: one and a half election timeouts, rounded up.
#[must_use]
pub fn lease_ttl_min(election_timeout: Duration) -> i64 {
    i64::try_from((election_timeout * 3 / 2).as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
}

impl<E: Env> Api<E> {
    /// The API over the first group of one shard.
    #[must_use]
    pub fn new(executor: Executor<E>, shard: ShardHandle<E>, options: Arc<ApiOptions>) -> Self {
        executor.look_after(shard.inbox.clone());
        let hub = Hub::new(executor.clone(), shard.inbox.clone(), Arc::clone(&shard.groups[0]), options.watch_limits);
        let ranges = shard.groups[0].ranges.join();
        Self { executor, shard, group: 0, hub, ranges, options }
    }

    /// The same over another group of the shard.
    ///
    /// # Panics
    /// If the shard doesn't carry it.
    #[must_use]
    pub fn with_group(mut self, group: GroupId) -> Self {
        let found = self.shard.groups.iter().position(|published| published.group == group);
        self.group = found.expect("an API is made for a group that its shard carries");
        let published = Arc::clone(&self.shard.groups[self.group]);
        self.ranges = published.ranges.join();
        self.hub = Hub::new(self.executor.clone(), self.shard.inbox.clone(), published, self.options.watch_limits);
        self
    }

    /// The same, held to something else.
    #[must_use]
    pub fn with_options(self, options: ApiOptions) -> Self {
        Self { options: Arc::new(options), ..self }
    }

    /// The executor it belongs to.
    #[must_use]
    pub fn executor(&self) -> &Executor<E> {
        &self.executor
    }

    /// The shard behind it.
    #[must_use]
    pub fn shard(&self) -> &ShardHandle<E> {
        &self.shard
    }

    /// The group that holds all keys, as readers see it.
    #[must_use]
    pub fn published(&self) -> &Published<E::Pages> {
        self.group()
    }

    /// What requests are held to.
    #[must_use]
    pub fn options(&self) -> &ApiOptions {
        &self.options
    }

    /// Whether this server has the method at all.
    #[must_use]
    pub fn implements(method: Method) -> bool {
        matches!(
            method,
            Method::Range
                | Method::RangeStream
                | Method::Put
                | Method::DeleteRange
                | Method::Txn
                | Method::Compact
                | Method::Watch
                | Method::LeaseGrant
                | Method::LeaseRevoke
                | Method::LeaseKeepAlive
                | Method::LeaseTimeToLive
                | Method::LeaseLeases
                | Method::MemberList
                | Method::MemberAdd
                | Method::MemberRemove
                | Method::MemberUpdate
                | Method::MemberPromote
                | Method::Status
                | Method::Alarm
                | Method::Lock
                | Method::Unlock
                | Method::Campaign
                | Method::Proclaim
                | Method::Leader
                | Method::Observe
                | Method::Resign
                | Method::Hash
                | Method::HashKv
                | Method::Snapshot
                | Method::Defragment
                | Method::MoveLeader
                | Method::Downgrade
                | Method::HealthCheck
                | Method::HealthWatch
                | Method::HealthList
        )
    }

    /// Answers one unary call.
    ///
    /// # Errors
    /// etcd's status for whatever is wrong with the request or the server.
    pub async fn unary(&self, method: Method, request: Bytes, meta: &RequestMeta) -> Result<Reply, Status> {
        let is_learner = self.is_learner();
        if is_learner && !matches!(method, Method::Range | Method::Status) {
            return Err(errors::NOT_SUPPORTED_FOR_LEARNER);
        }
        self.check_meta(meta)?;
        match method {
            Method::Range => {
                let request: pb::RangeRequest = decode(request)?;
                if is_learner && !request.serializable {
                    return Err(errors::NOT_SUPPORTED_FOR_LEARNER);
                }
                self.range_reply(request).await
            }
            Method::Put => self.put(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::DeleteRange => self.delete_range(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::Txn => self.txn(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::Compact => self.compact(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::LeaseGrant => self.lease_grant(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::LeaseRevoke => self.lease_revoke(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::LeaseTimeToLive => self.lease_time_to_live(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::LeaseLeases => {
                let pb::LeaseLeasesRequest {} = decode(request)?;
                self.lease_leases().await.map(|m| Reply::encode(&m))
            }
            Method::MemberList => self.member_list(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::MemberAdd => self.member_add(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::MemberRemove => self.member_remove(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::MemberUpdate => self.member_update(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::MemberPromote => self.member_promote(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::Status => self.status(decode(request)?).map(|m| Reply::encode(&m)),
            Method::Alarm => self.alarm(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::Lock => self.lock(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::Unlock => self.unlock(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::Campaign => self.campaign(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::Proclaim => self.proclaim(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::Leader => self.leader(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::Resign => self.resign(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::Hash => self.hash(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::HashKv => self.hash_kv(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::Defragment => self.defragment(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::MoveLeader => self.move_leader(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::Downgrade => self.downgrade(decode(request)?).await.map(|m| Reply::encode(&m)),
            Method::HealthCheck => self.health_check(&decode(request)?).map(|m| Reply::encode(&m)),
            Method::HealthList => self.health_list(decode(request)?).map(|m| Reply::encode(&m)),
            other => Err(other.unimplemented()),
        }
    }

    /// Answers one streaming call.
    ///
    /// # Errors
    /// etcd's status for whatever ends it.
    pub async fn stream(
        &self,
        method: Method,
        meta: &RequestMeta,
        requests: impl Requests,
        replies: impl Replies,
    ) -> Result<(), Status> {
        if self.is_learner() && method != Method::Snapshot {
            return Err(errors::NOT_SUPPORTED_FOR_LEARNER);
        }
        self.check_meta(meta)?;
        match method {
            Method::Watch => self.watch(meta, requests, replies).await,
            Method::LeaseKeepAlive => self.lease_keep_alive(requests, replies).await,
            Method::Observe => self.observe(requests, replies).await,
            Method::HealthWatch => self.health_watch(requests, replies).await,
            Method::RangeStream => self.range_stream(requests, replies).await,
            Method::Snapshot => self.snapshot(requests, replies).await,
            other => {
                drop((requests, replies));
                Err(other.unimplemented())
            }
        }
    }

    fn check_meta(&self, meta: &RequestMeta) -> Result<(), Status> {
        meta.client_api_version()?;
        if meta.has_leader && self.group().status.leader() == 0 {
            return Err(errors::NO_LEADER);
        }
        Ok(())
    }

    /// Whether this member has no vote, and wasn't added to get one.
    #[must_use]
    pub fn is_learner(&self) -> bool {
        self.group().status.is_learner()
    }

    fn group(&self) -> &Published<E::Pages> {
        &self.shard.groups[self.group]
    }

    fn root(&self) -> Arc<Root<E::Pages>> {
        self.group().root()
    }

    fn header(&self, revision: i64) -> pb::ResponseHeader {
        pb::ResponseHeader {
            cluster_id: self.options.cluster_id,
            member_id: self.options.member_id,
            revision,
            raft_term: self.group().status.term(),
        }
    }

    /// Waits until a read of the published root sees everything that was committed before the call.
    async fn read_index(&self) -> Result<(), Status> {
        let ticket = self.executor.ticket();
        let message = Message::ReadIndex { group: self.group().group, reply: ticket.reply_to() };
        self.shard.inbox.send(message).map_err(|_| errors::TOO_MANY_REQUESTS)?;
        match ticket.await {
            ShardReply::ReadReady => Ok(()),
            ShardReply::Refused(refusal) => Err(refused(refusal)),
            ShardReply::Applied(_) | ShardReply::Leases(_) | ShardReply::News | ShardReply::Stopped => {
                unreachable!("a read is answered as a read")
            }
        }
    }

    /// Proposes `command` and waits until it is applied.
    ///
    /// # Errors
    /// Of the server; an error of the command itself is in the outcome. After a timeout the command may still be applied.
    pub async fn propose(&self, command: Command, cost_bytes: u64) -> Result<Outcome, Status> {
        let ticket = self.executor.ticket();
        let reply = ticket.reply_to();
        let proposal = ProposalId { origin: self.shard.origin, number: self.executor.next_proposal() };
        let payload = Envelope { proposal, command }.encode();
        let message = Message::Propose { group: self.group().group, proposal, payload, cost_bytes, reply };
        self.shard.inbox.send(message).map_err(|_| errors::TOO_MANY_REQUESTS)?;
        match ticket.await {
            ShardReply::Applied(outcome) => Ok(*outcome),
            ShardReply::Refused(refusal) => Err(refused(refusal)),
            ShardReply::ReadReady | ShardReply::Leases(_) | ShardReply::News | ShardReply::Stopped => {
                unreachable!("a proposal is answered as a proposal")
            }
        }
    }

    /// Tells the shard to stop and waits until it has.
    pub async fn stop(&self) {
        let ticket = self.executor.patient_ticket();
        if self.shard.inbox.send(Message::Stop { reply: ticket.reply_to() }).is_ok() {
            ticket.await;
        }
    }
}

fn decode<M: prost::Message + Default>(request: Bytes) -> Result<M, Status> {
    M::decode(request).map_err(|error| Status::undecodable(&error))
}

fn refused(refusal: Refusal) -> Status {
    match refusal {
        Refusal::NoLeader => errors::NO_LEADER,
        Refusal::LeaderChanged => errors::LEADER_CHANGED,
        Refusal::ChangeUnderWay | Refusal::Unhealthy => errors::UNHEALTHY,
        Refusal::NotEnoughStarted => errors::MEMBER_NOT_ENOUGH_STARTED,
        Refusal::LearnerNotReady => errors::LEARNER_NOT_READY,
        Refusal::TooManyLearners => errors::TOO_MANY_LEARNERS,
        Refusal::TooManyMembers => cluster::TOO_MANY_MEMBERS,
        Refusal::OtherCluster => errors::CLUSTER_ID_MISMATCH,
        Refusal::OtherMember => errors::PEER_URL_EXISTS,
        Refusal::TooManyRequests => errors::TOO_MANY_REQUESTS,
        Refusal::NoSpace => errors::NO_SPACE,
        Refusal::Corrupt => errors::CORRUPT,
        Refusal::Stopping => errors::STOPPED,
        Refusal::TimedOut => errors::TIMEOUT,
        Refusal::LeaderLost => errors::TIMEOUT_LEADER_FAILURE,
    }
}
