//! The model's requests as etcd's messages, and answers back.

use plinth_rpc::{Status, errors, etcdserverpb as pb, mvccpb};

use crate::{
    call::Answer,
    model::{
        Compare, DeleteRange, KeyValue, Put, Range, Refused, Relation, Request, Response, SortOrder, SortTarget,
        Target, Txn,
    },
};

/// A range read.
pub fn range(range: &Range, serializable: bool) -> pb::RangeRequest {
    pb::RangeRequest {
        key: range.key.clone().into(),
        range_end: range.range_end.clone().into(),
        limit: range.limit,
        revision: range.revision,
        sort_order: match range.sort_order {
            SortOrder::None => 0,
            SortOrder::Ascend => 1,
            SortOrder::Descend => 2,
        },
        sort_target: match range.sort_target {
            SortTarget::Key => 0,
            SortTarget::Version => 1,
            SortTarget::Create => 2,
            SortTarget::Mod => 3,
            SortTarget::Value => 4,
        },
        serializable,
        keys_only: range.keys_only,
        count_only: range.count_only,
        min_mod_revision: range.min_mod_revision,
        max_mod_revision: range.max_mod_revision,
        min_create_revision: range.min_create_revision,
        max_create_revision: range.max_create_revision,
    }
}

/// A put.
pub fn put(put: &Put) -> pb::PutRequest {
    pb::PutRequest {
        key: put.key.clone().into(),
        value: put.value.clone().into(),
        lease: put.lease,
        prev_kv: put.prev_kv,
        ignore_value: put.ignore_value,
        ignore_lease: put.ignore_lease,
    }
}

/// A deletion.
pub fn delete_range(delete: &DeleteRange) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: delete.key.clone().into(),
        range_end: delete.range_end.clone().into(),
        prev_kv: delete.prev_kv,
    }
}

/// A transaction.
pub fn txn(txn: &Txn) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: txn.compare.iter().map(compare).collect(),
        success: txn.success.iter().map(op).collect(),
        failure: txn.failure.iter().map(op).collect(),
    }
}

fn op(request: &Request) -> pb::RequestOp {
    use pb::request_op::Request as Op;
    let request = match request {
        Request::Range(request) => Some(Op::RequestRange(range(request, false))),
        Request::Put(request) => Some(Op::RequestPut(put(request))),
        Request::DeleteRange(request) => Some(Op::RequestDeleteRange(delete_range(request))),
        Request::Txn(request) => Some(Op::RequestTxn(txn(request))),
        Request::Empty => None,
    };
    pb::RequestOp { request }
}

fn compare(compare: &Compare) -> pb::Compare {
    use pb::compare::TargetUnion;
    let (target, operand) = match &compare.target {
        Target::Version(given) => (0, TargetUnion::Version(*given)),
        Target::Create(given) => (1, TargetUnion::CreateRevision(*given)),
        Target::Mod(given) => (2, TargetUnion::ModRevision(*given)),
        Target::Value(given) => (3, TargetUnion::Value(given.clone().into())),
        Target::Lease(given) => (4, TargetUnion::Lease(*given)),
    };
    pb::Compare {
        result: match compare.relation {
            Relation::Equal => 0,
            Relation::Greater => 1,
            Relation::Less => 2,
            Relation::NotEqual => 3,
            Relation::Unknown => 4,
        },
        target,
        key: compare.key.clone().into(),
        range_end: compare.range_end.clone().into(),
        target_union: Some(operand),
    }
}

fn revision(header: Option<pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

fn pairs(kvs: &[mvccpb::KeyValue]) -> Vec<KeyValue> {
    kvs.iter().map(pair).collect()
}

/// A pair.
pub fn pair(kv: &mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key.to_vec(),
        value: kv.value.to_vec(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

/// The answer to a range read.
pub fn ranged(response: pb::RangeResponse) -> Response {
    let pb::RangeResponse { header, kvs, more, count } = response;
    Response::Range { revision: revision(header), kvs: pairs(&kvs), more, count }
}

/// The answer to a put.
pub fn written(response: pb::PutResponse) -> Response {
    Response::Put { revision: revision(response.header), prev_kv: response.prev_kv.map(|kv| pair(&kv)) }
}

/// The answer to a deletion.
pub fn deleted(response: pb::DeleteRangeResponse) -> Response {
    let pb::DeleteRangeResponse { header, deleted, prev_kvs } = response;
    Response::DeleteRange { revision: revision(header), deleted, prev_kvs: pairs(&prev_kvs) }
}

/// The answer to a transaction.
pub fn executed(response: pb::TxnResponse) -> Response {
    use pb::response_op::Response as Op;
    let responses = response.responses.into_iter().map(|op| match op.response.expect("each operation has an answer") {
        Op::ResponseRange(response) => ranged(response),
        Op::ResponsePut(response) => written(response),
        Op::ResponseDeleteRange(response) => deleted(response),
        Op::ResponseTxn(response) => executed(response),
    });
    let responses = responses.collect();
    Response::Txn { revision: revision(response.header), succeeded: response.succeeded, responses }
}

/// A compaction.
pub fn compaction(revision: i64, physical: bool) -> pb::CompactionRequest {
    pb::CompactionRequest { revision, physical }
}

/// The answer to a compaction.
pub fn compacted(response: pb::CompactionResponse) -> Answer {
    Answer::Compacted { revision: revision(response.header) }
}

/// The grant of a lease.
pub fn grant(id: i64, ttl: i64) -> pb::LeaseGrantRequest {
    pb::LeaseGrantRequest { ttl, id }
}

/// The answer to a grant.
pub fn granted(response: &pb::LeaseGrantResponse) -> Answer {
    Answer::Granted { revision: revision(response.header), ttl: response.ttl }
}

/// The end of a lease.
pub fn revoke(id: i64) -> pb::LeaseRevokeRequest {
    pb::LeaseRevokeRequest { id }
}

/// The answer to it.
pub fn revoked(response: pb::LeaseRevokeResponse) -> Answer {
    Answer::Revoked { revision: revision(response.header) }
}

/// The answer to a renewal.
pub fn kept_alive(response: pb::LeaseKeepAliveResponse) -> Answer {
    Answer::KeptAlive { revision: revision(response.header), ttl: response.ttl }
}

/// The question what is left of a lease.
pub fn time_to_live(id: i64, keys: bool) -> pb::LeaseTimeToLiveRequest {
    pb::LeaseTimeToLiveRequest { id, keys }
}

/// The answer to it.
pub fn told(response: pb::LeaseTimeToLiveResponse) -> Answer {
    let pb::LeaseTimeToLiveResponse { header, ttl, granted_ttl, keys, .. } = response;
    let mut keys: Vec<Vec<u8>> = keys.iter().map(|key| key.to_vec()).collect();
    // In no order.
    keys.sort_unstable();
    Answer::TimeToLive { revision: revision(header), ttl, granted_ttl, keys }
}

/// Whether the status says that the request was not carried out and never will be.
#[must_use]
pub fn is_declined(status: &Status) -> bool {
    let all = [
        errors::LEADER_CHANGED,
        errors::NO_SPACE,
        errors::CORRUPT,
        errors::TOO_MANY_REQUESTS,
        errors::STOPPED,
        errors::NO_LEADER,
    ];
    all.contains(status)
}

/// The refusal that a status stands for, if it is one that depends on the request and the data alone.
#[must_use]
pub fn refused(status: &Status) -> Option<Refused> {
    let all = [
        (errors::EMPTY_KEY, Refused::KeyNotProvided),
        (errors::KEY_NOT_FOUND, Refused::KeyNotFound),
        (errors::VALUE_PROVIDED, Refused::ValueProvided),
        (errors::LEASE_PROVIDED, Refused::LeaseProvided),
        (errors::TOO_MANY_OPS, Refused::TooManyOps),
        (errors::DUPLICATE_KEY, Refused::DuplicateKey),
        (errors::COMPACTED, Refused::Compacted),
        (errors::FUTURE_REVISION, Refused::FutureRevision),
        (errors::LEASE_NOT_FOUND, Refused::LeaseNotFound),
    ];
    all.into_iter().find(|(known, _)| known == status).map(|(_, refused)| refused)
}
