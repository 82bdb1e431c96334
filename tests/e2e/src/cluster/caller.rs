//! Calls to one member, each with a deadline: a member may be frozen, or have nobody to agree with.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::future::{Either, select};
use plinth_client::{Call, Client, Code, HttpResponse, Status, http_request};
use plinth_rpc::etcdserverpb as pb;
use plinth_sim::{
    model::{Request, Response},
    wire,
};
use prost::Message;
use tokio::{
    runtime::{Builder, Runtime},
    time::{sleep, timeout},
};

use super::{members::POLL, net::Namespace};

/// Where members serve clients, in their own namespaces.
pub(crate) const CLIENT_PORT: u16 = 2379;
/// When nobody waits for answers any more, those that are about to come still may.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// What the member of this namespace answers to this over HTTP.
pub(crate) fn http_get(namespace: &Namespace, target: &str, deadline: Duration) -> io::Result<HttpResponse> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let _inside = namespace.enter()?;
    let answer = async { timeout(deadline, http_request(own_address(), "GET", target, &[])).await };
    runtime.block_on(answer).map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Where a member is for those in its own namespace.
fn own_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, CLIENT_PORT))
}

/// One connection.
pub(crate) struct Caller {
    runtime: Runtime,
    client: Client,
    /// What the member says of itself is wanted within this.
    deadline: Duration,
}

impl Caller {
    /// Connects to the member of this namespace.
    pub(crate) fn connect(namespace: &Namespace, deadline: Duration) -> Result<Self, Status> {
        let unavailable = |error: io::Error| Status::new(Code::UNAVAILABLE, format!("connection: {error}"));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(unavailable)?;
        let _inside = namespace.enter().map_err(unavailable)?;
        let connected = runtime.block_on(async { timeout(deadline, Client::connect(own_address())).await });
        let client = connected.map_err(|_| Status::new(Code::UNAVAILABLE, "connection: it takes too long"))??;
        Ok(Self { runtime, client, deadline })
    }

    /// Lets time pass while the connection lives on.
    pub(crate) fn pause(&self, pause: Duration) {
        self.runtime.block_on(async { sleep(pause).await });
    }

    /// Reads or writes keys.
    pub(crate) fn request(&self, request: &Request, serializable: bool) -> Result<Response, Status> {
        self.runtime.block_on(self.ask(request, serializable))
    }

    /// The same, but gives up soon once `is_over`.
    pub(crate) fn request_until(
        &self,
        is_over: &AtomicBool,
        request: &Request,
        serializable: bool,
    ) -> Result<Response, Status> {
        let over = async {
            while !is_over.load(Ordering::Relaxed) {
                sleep(POLL).await;
            }
            sleep(LAST_ANSWERS).await;
        };
        self.runtime.block_on(async {
            match select(pin!(self.ask(request, serializable)), pin!(over)).await {
                Either::Left((answer, _)) => answer,
                Either::Right(_) => Err(Status::new(Code::DEADLINE_EXCEEDED, "nobody waits for it any more")),
            }
        })
    }

    async fn ask(&self, request: &Request, serializable: bool) -> Result<Response, Status> {
        Ok(match request {
            Request::Range(range) => wire::ranged(self.send("KV/Range", &wire::range(range, serializable)).await?),
            Request::Put(put) => wire::written(self.send("KV/Put", &wire::put(put)).await?),
            Request::DeleteRange(delete) => {
                wire::deleted(self.send("KV/DeleteRange", &wire::delete_range(delete)).await?)
            }
            Request::Txn(txn) => wire::executed(self.send("KV/Txn", &wire::txn(txn)).await?),
            Request::Empty => unreachable!("only an operation of a transaction can be empty"),
        })
    }

    /// Who leads, as far as the member knows, and more.
    pub(crate) fn status(&self) -> Result<pb::StatusResponse, Status> {
        self.call("Maintenance/Status", &pb::StatusRequest::default())
    }

    /// The hash of everything up to a revision.
    pub(crate) fn hash_kv(&self, revision: i64) -> Result<u32, Status> {
        let answer: pb::HashKvResponse = self.call("Maintenance/HashKV", &pb::HashKvRequest { revision })?;
        Ok(answer.hash)
    }

    /// Hands leadership to the member with this id.
    pub(crate) fn move_leader(&self, target_id: u64) -> Result<(), Status> {
        let request = pb::MoveLeaderRequest { target_id };
        self.call::<pb::MoveLeaderResponse>("Maintenance/MoveLeader", &request).map(drop)
    }

    /// Adds a member, which has this id then.
    pub(crate) fn member_add(&self, peer_url: &str, is_learner: bool) -> Result<u64, Status> {
        let request = pb::MemberAddRequest { peer_ur_ls: vec![peer_url.to_owned()], is_learner };
        let added: pb::MemberAddResponse = self.call("Cluster/MemberAdd", &request)?;
        added.member.map(|member| member.id).ok_or_else(|| Status::new(Code::INTERNAL, "an answer without the member"))
    }

    /// Removes the member with this id.
    pub(crate) fn member_remove(&self, id: u64) -> Result<(), Status> {
        self.call::<pb::MemberRemoveResponse>("Cluster/MemberRemove", &pb::MemberRemoveRequest { id }).map(drop)
    }

    /// Makes the learner with this id a voter.
    pub(crate) fn member_promote(&self, id: u64) -> Result<(), Status> {
        self.call::<pb::MemberPromoteResponse>("Cluster/MemberPromote", &pb::MemberPromoteRequest { id }).map(drop)
    }

    /// The members, as a majority knows them.
    pub(crate) fn member_list(&self) -> Result<Vec<pb::Member>, Status> {
        let request = pb::MemberListRequest { linearizable: true };
        self.call("Cluster/MemberList", &request).map(|list: pb::MemberListResponse| list.members)
    }

    /// Grants a lease of so many seconds, which has this id then.
    pub(crate) fn lease_grant(&self, ttl: i64) -> Result<i64, Status> {
        let granted = self.call("Lease/LeaseGrant", &pb::LeaseGrantRequest { ttl, id: 0 });
        granted.map(|granted: pb::LeaseGrantResponse| granted.id)
    }

    /// Renews a lease, which has so many seconds then; none is left of one that is gone.
    pub(crate) fn lease_keep_alive(&self, id: i64) -> Result<i64, Status> {
        // The call ends behind its one message, and so the answer behind its own.
        let renewed = self.call("Lease/LeaseKeepAlive", &pb::LeaseKeepAliveRequest { id });
        renewed.map(|renewed: pb::LeaseKeepAliveResponse| renewed.ttl)
    }

    /// Calls a method, named without its package.
    pub(crate) fn call<T: Message + Default>(&self, method: &str, request: &impl Message) -> Result<T, Status> {
        self.runtime.block_on(self.send(method, request))
    }

    async fn send<T: Message + Default>(&self, method: &str, request: &impl Message) -> Result<T, Status> {
        let call = Call::message(request).with_deadline(self.deadline);
        let answer = self.client.call(&format!("/etcdserverpb.{method}"), call).await?;
        T::decode(answer).map_err(|error| Status::new(Code::INTERNAL, format!("undecodable answer: {error}")))
    }
}
