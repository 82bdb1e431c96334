//! The Election service.

use bytes::Bytes;
use plinth_env::Env;
use plinth_rpc::{
    Frame, Replies, Requests, Status, errors, etcdserverpb as pb, mvccpb,
    v3electionpb::{self as election, LeaderKey},
};

use super::{GivesUp, Place, Request, SortOrder, by_age, created_at, found, get, inner, op, prefix_range, revision_of};
use crate::api::{Api, decode};

impl<E: Env> Api<E> {
    /// Waits until the caller leads.
    ///
    /// # Errors
    /// What its steps say.
    pub async fn campaign(&self, request: election::CampaignRequest) -> Result<election::CampaignResponse, Status> {
        let election::CampaignRequest { name, lease, value } = request;
        let Place { prefix, key, lease } = self.place(&name, lease).await?;
        let put = pb::PutRequest { key: key.clone(), value: value.clone(), lease, ..pb::PutRequest::default() };
        let enter = pb::TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![op(Request::RequestPut(put))],
            failure: vec![op(Request::RequestRange(get(&key)))],
        };
        let entered = self.txn(enter).await.map_err(inner)?;
        let mut leader = LeaderKey { name, key, rev: revision_of(entered.header.as_ref()), lease };
        let is_new = entered.succeeded;
        let before = found(entered.responses.into_iter().next()).filter(|_| !is_new);
        if let Some(before) = &before {
            leader.rev = before.create_revision;
        }
        let gives_up = GivesUp::new(self, vec![created_at(&leader.key, leader.rev)], &leader.key);
        if before.is_some_and(|before| before.value != value) {
            self.put_as_leader(&leader, value).await?;
        }
        self.await_turn(&prefix, leader.rev).await?;
        gives_up.keep();
        Ok(election::CampaignResponse { header: entered.header, leader: Some(leader) })
    }

    /// Gives the leader's key another value.
    ///
    /// # Errors
    /// If the caller doesn't lead any more, and what its steps say.
    pub async fn proclaim(&self, request: election::ProclaimRequest) -> Result<election::ProclaimResponse, Status> {
        let mut leader = request.leader.ok_or(errors::ELECTION_MISSING_LEADER_KEY)?;
        if leader.lease == 0 {
            leader.lease = self.session().await?;
        }
        let header = self.put_as_leader(&leader, request.value).await?;
        Ok(election::ProclaimResponse { header })
    }

    async fn put_as_leader(&self, leader: &LeaderKey, value: Bytes) -> Result<Option<pb::ResponseHeader>, Status> {
        let LeaderKey { key, rev, lease, .. } = leader;
        let put = pb::PutRequest { key: key.clone(), value, lease: *lease, ..pb::PutRequest::default() };
        let proclaim = pb::TxnRequest {
            compare: vec![created_at(key, *rev)],
            success: vec![op(Request::RequestPut(put))],
            failure: Vec::new(),
        };
        let done = self.txn(proclaim).await.map_err(inner)?;
        if done.succeeded { Ok(done.header) } else { Err(errors::ELECTION_NOT_LEADER) }
    }

    /// Who leads.
    ///
    /// # Errors
    /// If nobody does, and what the read says.
    pub async fn leader(&self, request: election::LeaderRequest) -> Result<election::LeaderResponse, Status> {
        let prefix = [&request.name[..], b"/"].concat().into();
        let oldest = self.range(by_age(&prefix, SortOrder::Ascend)).await.map_err(inner)?;
        let kv = oldest.kvs.into_iter().next().ok_or(errors::ELECTION_NO_LEADER)?;
        Ok(election::LeaderResponse { header: oldest.header, kv: Some(kv) })
    }

    /// Gives leadership up. No error if somebody else leads.
    ///
    /// # Errors
    /// What the deletion says.
    pub async fn resign(&self, request: election::ResignRequest) -> Result<election::ResignResponse, Status> {
        let leader = request.leader.ok_or(errors::ELECTION_MISSING_LEADER_KEY)?;
        let delete = pb::DeleteRangeRequest { key: leader.key.clone(), ..pb::DeleteRangeRequest::default() };
        let resign = pb::TxnRequest {
            compare: vec![created_at(&leader.key, leader.rev)],
            success: vec![op(Request::RequestDeleteRange(delete))],
            failure: Vec::new(),
        };
        let done = self.txn(resign).await.map_err(inner)?;
        Ok(election::ResignResponse { header: done.header })
    }

    /// Tells who leads, and each value that a leader proclaims, until the client goes away.
    ///
    /// # Errors
    /// What its steps say.
    pub async fn observe(&self, mut requests: impl Requests, mut replies: impl Replies) -> Result<(), Status> {
        let request: election::LeaderRequest = decode(requests.next().await.ok_or(errors::NO_REQUEST)??)?;
        let prefix: Bytes = [&request.name[..], b"/"].concat().into();
        loop {
            let mut leader = self.first_leader(&prefix).await?;
            let key = leader.kv.as_ref().map_or_else(Bytes::new, |kv| kv.key.clone());
            let from = revision_of(leader.header.as_ref()) + 1;
            let mut changes = self.changes(plinth_kv::KeyRange::one(key), from);
            loop {
                replies.send(Frame::encode(&leader)).await?;
                let change = changes.next().await?;
                if !change.is_put {
                    break;
                }
                leader = self.leader_response(change.kv);
            }
        }
    }

    /// The oldest key of the queue, once there is one.
    async fn first_leader(&self, prefix: &Bytes) -> Result<election::LeaderResponse, Status> {
        let oldest = self.range(by_age(prefix, SortOrder::Ascend)).await.map_err(inner)?;
        if let Some(kv) = oldest.kvs.into_iter().next() {
            return Ok(election::LeaderResponse { header: oldest.header, kv: Some(kv) });
        }
        let mut changes = self.changes(prefix_range(prefix), revision_of(oldest.header.as_ref()));
        loop {
            let change = changes.next().await?;
            if change.is_put {
                return Ok(self.leader_response(change.kv));
            }
        }
    }

    fn leader_response(&self, kv: mvccpb::KeyValue) -> election::LeaderResponse {
        election::LeaderResponse { header: Some(self.header(kv.mod_revision)), kv: Some(kv) }
    }
}
