//! One call at a time on one connection. The kinds take turns in short slices, so that whatever changes meanwhile meets all of them alike.
//!
//! What is written lies below one random prefix and has a lease: when this process is killed, the server removes it within a minute.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use plinth_client::{Call, Client, Code, Status};
use plinth_rpc::etcdserverpb::{
    DeleteRangeRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, MemberListRequest,
    MemberListResponse, PutRequest, RangeRequest, RangeResponse, StatusRequest, StatusResponse, WatchCreateRequest,
    WatchRequest, WatchResponse, watch_request::RequestUnion,
};
use prost::Message;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

use super::findings::{CallFacts, Calls};
use crate::{failure::Failure, histogram::Latencies};

/// One call may take so long.
const CALL_MAX: Duration = Duration::from_secs(5);
/// How often each kind has its turn.
const ROUNDS: u32 = 4;
/// empty, serializable, linearizable, put, event.
const KINDS: u32 = 5;
const LEASE_SECONDS: i64 = 60;
const VALUE_BYTES: usize = 256;
const MEMBER_LIST: &str = "/etcdserverpb.Cluster/MemberList";
const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";

/// Whoever calls.
pub struct Caller {
    client: Client,
    address: SocketAddr,
    members: usize,
    /// What all its keys begin with.
    prefix: String,
    lease: Option<i64>,
}

/// What was measured so far of each kind.
struct Tally {
    empty: Latencies,
    serializable: Latencies,
    linearizable: Latencies,
    put: Latencies,
    event: Latencies,
}

/// A watch of one key; its events are timed by a task of their own, whatever the caller waits for.
struct Watch {
    arrivals: UnboundedReceiver<Result<Instant, Status>>,
}

impl Caller {
    /// Finds out who else is there.
    pub async fn new(client: Client, address: SocketAddr) -> Result<Self, Failure> {
        let random = RandomState::new().build_hasher().finish();
        let prefix = format!("plinth-bench/probe/{random:016x}");
        let mut caller = Self { client, address, members: 0, prefix, lease: None };
        let list: MemberListResponse =
            caller.decoded("the list of members", MEMBER_LIST, &MemberListRequest::default()).await?;
        caller.members = list.members.len();
        Ok(caller)
    }

    /// Members of its cluster.
    pub fn members(&self) -> usize {
        self.members
    }

    /// What the server says of itself now.
    pub async fn status(&self) -> Result<StatusResponse, Failure> {
        self.decoded("Status", "/etcdserverpb.Maintenance/Status", &StatusRequest::default()).await
    }

    /// Measures for `total`. Without a leader only what needs none; a server that takes no writes is read.
    pub async fn measure(&mut self, has_leader: bool, total: Duration) -> Result<Calls, Failure> {
        let refused = if has_leader { self.grant().await? } else { Some("the cluster has no leader".to_owned()) };
        let mut watch = match self.lease {
            Some(_) => Some(self.watch().await?),
            None => None,
        };
        let slice = total / (ROUNDS * KINDS);
        let mut tally = Tally::new();
        for _ in 0..ROUNDS {
            self.slice(slice, &mut tally.empty, "an empty call", MEMBER_LIST, &MemberListRequest::default()).await?;
            let range = |serializable| RangeRequest { key: self.key("put"), serializable, ..Default::default() };
            self.slice(slice, &mut tally.serializable, "a serializable read", RANGE, &range(true)).await?;
            if has_leader {
                self.slice(slice, &mut tally.linearizable, "a linearizable read", RANGE, &range(false)).await?;
            }
            if let Some(watch) = &mut watch {
                self.slice(slice, &mut tally.put, "a put", PUT, &self.put("put")).await?;
                let end = Instant::now() + slice;
                while Instant::now() < end || tally.event.count() == 0 {
                    let sent = Instant::now();
                    self.answer("a put", PUT, &self.put("watched")).await?;
                    tally.event.record(self.arrival(watch).await?.saturating_duration_since(sent));
                }
            }
        }
        Ok(tally.facts(refused))
    }

    /// Removes what was written, and looks whether it is gone.
    pub async fn clean_up(&mut self) -> Result<(), Failure> {
        let Some(id) = self.lease.take() else { return Ok(()) };
        let (key, range_end) = (self.key(""), self.key("~"));
        let delete = DeleteRangeRequest { key: key.clone(), range_end: range_end.clone(), ..Default::default() };
        self.answer("a deletion", "/etcdserverpb.KV/DeleteRange", &delete).await?;
        self.answer("a revocation", "/etcdserverpb.Lease/LeaseRevoke", &LeaseRevokeRequest { id }).await?;
        let left = RangeRequest { key, range_end, count_only: true, ..Default::default() };
        let left: RangeResponse = self.decoded("a count", RANGE, &left).await?;
        match left.count {
            0 => Ok(()),
            count => Err(self.trouble("a deletion", &format!("{count} keys below {} are left", self.prefix))),
        }
    }

    /// Asks for the lease of all keys; gives why a server that works takes no writes.
    async fn grant(&mut self) -> Result<Option<String>, Failure> {
        let request = LeaseGrantRequest { ttl: LEASE_SECONDS, ..Default::default() };
        match self.call("/etcdserverpb.Lease/LeaseGrant", &request).await {
            Ok(answer) => {
                let granted =
                    LeaseGrantResponse::decode(answer).map_err(|error| self.trouble("a lease", &error.to_string()))?;
                self.lease = Some(granted.id);
                Ok(None)
            }
            // No space.
            Err(status) if status.code == Code(8) => Ok(Some(status.message)),
            Err(status) => Err(self.failed("a lease", &status)),
        }
    }

    /// A watch that is there when this returns.
    async fn watch(&self) -> Result<Watch, Failure> {
        let failed = |status: Status| self.failed("a watch", &status);
        let mut stream = self.client.stream("/etcdserverpb.Watch/Watch", Call::raw(&[])).await.map_err(failed)?;
        let create = WatchCreateRequest { key: self.key("watched"), ..Default::default() };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        stream.send(&request.encode_to_vec()).map_err(failed)?;
        let (sender, arrivals) = unbounded_channel();
        let mut watch = Watch { arrivals };
        tokio::spawn(async move {
            loop {
                let arrived = stream.next().await.map(|message| (Instant::now(), message));
                let told = arrived.and_then(|(at, message)| Ok((at, told_events(message)?)));
                match told {
                    // The first one says that the watch is there.
                    Ok((at, count)) => (0..count).for_each(|_| drop(sender.send(Ok(at)))),
                    Err(status) => return drop(sender.send(Err(status))),
                }
            }
        });
        self.arrival(&mut watch).await?;
        Ok(watch)
    }

    async fn arrival(&self, watch: &mut Watch) -> Result<Instant, Failure> {
        match timeout(CALL_MAX, watch.arrivals.recv()).await {
            Ok(Some(Ok(at))) => Ok(at),
            Ok(Some(Err(status))) => Err(self.failed("a watch", &status)),
            Ok(None) | Err(_) => Err(self.trouble("a watch", &format!("no event within {} s", CALL_MAX.as_secs()))),
        }
    }

    /// The same call again and again for a while, at least once.
    async fn slice(
        &self,
        duration: Duration,
        latencies: &mut Latencies,
        what: &str,
        path: &str,
        request: &impl Message,
    ) -> Result<(), Failure> {
        let start = Instant::now();
        loop {
            let began = Instant::now();
            self.answer(what, path, request).await?;
            latencies.record(began.elapsed());
            if start.elapsed() >= duration {
                return Ok(());
            }
        }
    }

    fn put(&self, name: &str) -> PutRequest {
        let (key, lease) = (self.key(name), self.lease.unwrap_or(0));
        PutRequest { key, value: Bytes::from(vec![b'p'; VALUE_BYTES]), lease, ..Default::default() }
    }

    fn key(&self, name: &str) -> Bytes {
        Bytes::from(format!("{}/{name}", self.prefix))
    }

    async fn decoded<T: Message + Default>(
        &self,
        what: &str,
        path: &str,
        request: &impl Message,
    ) -> Result<T, Failure> {
        let answer = self.answer(what, path, request).await?;
        T::decode(answer).map_err(|error| self.trouble(what, &error.to_string()))
    }

    async fn answer(&self, what: &str, path: &str, request: &impl Message) -> Result<Bytes, Failure> {
        self.call(path, request).await.map_err(|status| self.failed(what, &status))
    }

    async fn call(&self, path: &str, request: &impl Message) -> Result<Bytes, Status> {
        self.client.call(path, Call::message(request).with_deadline(CALL_MAX)).await
    }

    fn failed(&self, what: &str, status: &Status) -> Failure {
        match status.code {
            Code::DEADLINE_EXCEEDED => self.trouble(what, &format!("no answer within {} s", CALL_MAX.as_secs())),
            Code::UNAVAILABLE => self.trouble(what, &format!("it went away ({})", status.message)),
            _ => self.trouble(what, &status.to_string()),
        }
    }

    fn trouble(&self, what: &str, why: &str) -> Failure {
        Failure::Trouble(format!("{}: {what}: {why}", self.address))
    }
}

/// Events of a response; that a watch was made counts as one.
fn told_events(message: Bytes) -> Result<usize, Status> {
    let response = WatchResponse::decode(message).map_err(|error| Status::new(Code::INTERNAL, error.to_string()))?;
    if response.canceled {
        return Err(Status::new(Code::INTERNAL, format!("it was cancelled: {}", response.cancel_reason)));
    }
    Ok(response.events.len() + usize::from(response.created))
}

impl Tally {
    fn new() -> Self {
        let [empty, serializable, linearizable, put, event] = std::array::from_fn(|_| Latencies::new());
        Self { empty, serializable, linearizable, put, event }
    }

    fn facts(&self, refused: Option<String>) -> Calls {
        let some = |latencies: &Latencies| (latencies.count() > 0).then(|| CallFacts::of(latencies));
        Calls {
            empty: CallFacts::of(&self.empty),
            serializable: CallFacts::of(&self.serializable),
            linearizable: some(&self.linearizable),
            put: some(&self.put),
            event: some(&self.event),
            refused,
        }
    }
}
