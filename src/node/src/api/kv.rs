//! Put, DeleteRange, Txn, Compact.

use plinth_env::Env;
use plinth_kv::{AlarmAction, AlarmKind, Command, OpOutcome, Outcome};
use plinth_rpc::{Status, errors, etcdserverpb as pb};
use prost::Message as _;

use super::{
    Api,
    convert::{self, status},
    refused,
};
use crate::message::{Message, Reply as ShardReply};

/// What etcd adds to a request before it replicates it: field numbers, lengths and the id in its header.
const REPLICATED_OVERHEAD_BYTES: usize = 16;

impl<E: Env> Api<E> {
    /// Makes everything below a revision unreadable, and waits until it is removed if the request says so.
    ///
    /// # Errors
    /// If the revision was compacted before, or is in the future; of the server.
    pub async fn compact(&self, request: pb::CompactionRequest) -> Result<pb::CompactionResponse, Status> {
        let revision = request.revision;
        let outcome = self.propose(Command::Compact { revision }, 0).await?;
        outcome.result.map_err(status)?;
        if request.physical {
            let ticket = self.executor.patient_ticket();
            let message = Message::AwaitSweep { group: self.group().group, revision, reply: ticket.reply_to() };
            self.shard.inbox.send(message).map_err(|_| errors::TOO_MANY_REQUESTS)?;
            if let ShardReply::Refused(refusal) = ticket.await {
                return Err(refused(refusal));
            }
        }
        Ok(pb::CompactionResponse { header: Some(self.header(outcome.revision)) })
    }

    /// Writes one key.
    ///
    /// # Errors
    /// etcd's status for whatever is wrong.
    pub async fn put(&self, request: pb::PutRequest) -> Result<pb::PutResponse, Status> {
        let bytes = request.encoded_len();
        let put = convert::put(request);
        let cost = convert::put_cost(&put);
        self.check_quota(cost).await?;
        put.validate().map_err(status)?;
        self.check_size(bytes)?;
        let Outcome { revision, result } = self.propose(Command::Put(put), cost).await?;
        match result.map_err(status)? {
            OpOutcome::Put { prev_kv } => {
                let prev_kv = prev_kv.map(convert::key_value);
                Ok(pb::PutResponse { header: Some(self.header(revision)), prev_kv })
            }
            other => unreachable!("a put ended as {other:?}"),
        }
    }

    /// Deletes the keys of a range.
    ///
    /// # Errors
    /// etcd's status for whatever is wrong.
    pub async fn delete_range(&self, request: pb::DeleteRangeRequest) -> Result<pb::DeleteRangeResponse, Status> {
        let bytes = request.encoded_len();
        let delete = convert::delete_range(request);
        delete.validate().map_err(status)?;
        self.check_size(bytes)?;
        let Outcome { revision, result } = self.propose(Command::DeleteRange(delete), 0).await?;
        match result.map_err(status)? {
            OpOutcome::Deleted { count, prev_kvs } => Ok(pb::DeleteRangeResponse {
                header: Some(self.header(revision)),
                deleted: count,
                prev_kvs: prev_kvs.into_iter().map(convert::key_value).collect(),
            }),
            other => unreachable!("a deletion ended as {other:?}"),
        }
    }

    /// A transaction. One that only reads never enters the log.
    ///
    /// # Errors
    /// etcd's status for whatever is wrong.
    pub async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Status> {
        let bytes = request.encoded_len();
        let serializable = all_serializable(&request);
        let cost = convert::txn_cost(&request);
        self.check_quota(cost).await?;
        let txn = convert::txn(request, self.options.txn_ops_max).map_err(status)?;
        let Outcome { revision, result } = if convert::is_read_only(&txn) {
            if !serializable {
                self.read_index().await?;
            }
            self.read_txn(txn).await?
        } else {
            self.check_size(bytes)?;
            self.propose(Command::Txn(txn), cost).await?
        };
        match result.map_err(status)? {
            OpOutcome::Txn(outcome) => Ok(convert::txn_response(Some(self.header(revision)), outcome)),
            other => unreachable!("a transaction ended as {other:?}"),
        }
    }

    /// Carries out a transaction that only reads, at one root.
    async fn read_txn(&self, txn: plinth_kv::Txn) -> Result<Outcome, Status> {
        let root = self.root();
        let mut run = plinth_kv::ReadTxn::new(txn);
        loop {
            if let Some(outcome) = self.slice(&root, |view, budget| run.step(view, &root.state, budget)).await? {
                return Ok(outcome);
            }
            self.pause().await;
        }
    }

    /// The space quota comes before every other check. What costs nothing always passes, so that deletions can make room. Going over it raises the
    /// alarm for the whole cluster, through the log.
    pub(super) async fn check_quota(&self, cost_bytes: u64) -> Result<(), Status> {
        if cost_bytes == 0 {
            return Ok(());
        }
        if self.root().state.alarms.iter().any(|(_, kind)| *kind == AlarmKind::NoSpace) {
            return Err(errors::NO_SPACE);
        }
        let held_bytes = u64::try_from(self.group().status.total_bytes()).unwrap_or(0);
        if self.options.quota_bytes.is_none_or(|quota| held_bytes + cost_bytes < quota) {
            return Ok(());
        }
        plinth_base::log_warn!("the space quota is used up: raising the alarm NOSPACE", "held_bytes" => held_bytes);
        let member = self.options.member_id;
        self.propose(Command::Alarm { action: AlarmAction::Activate, member, alarm: AlarmKind::NoSpace }, 0).await?;
        Err(errors::NO_SPACE)
    }

    pub(super) fn check_size(&self, bytes: usize) -> Result<(), Status> {
        if bytes + REPLICATED_OVERHEAD_BYTES > self.options.request_bytes_max {
            return Err(errors::REQUEST_TOO_LARGE);
        }
        Ok(())
    }
}

/// A transaction without any range counts as serializable.
fn all_serializable(request: &pb::TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|op| match &op.request {
        Some(pb::request_op::Request::RequestRange(range)) => range.serializable,
        _ => true,
    })
}
