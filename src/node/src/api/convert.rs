//! Requests as commands, and outcomes as responses.

use bytes::Bytes;
use plinth_kv::{
    AlarmAction, AlarmKind, Command, Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, KeyValue, KvError,
    Op, OpOutcome, Put, Query, SortOrder, SortTarget, Txn, TxnNode, TxnOutcome,
};
use plinth_rpc::{Status, errors, etcdserverpb as pb, mvccpb};

/// The status that etcd answers for an error of the state machine.
pub(crate) fn status(error: KvError) -> Status {
    match error {
        KvError::EmptyKey => errors::EMPTY_KEY,
        KvError::KeyNotFound => errors::KEY_NOT_FOUND,
        KvError::ValueProvided => errors::VALUE_PROVIDED,
        KvError::LeaseProvided => errors::LEASE_PROVIDED,
        KvError::TooManyOps => errors::TOO_MANY_OPS,
        KvError::DuplicateKey => errors::DUPLICATE_KEY,
        KvError::InvalidSort => errors::INVALID_SORT_OPTION,
        KvError::Compacted => errors::COMPACTED,
        KvError::FutureRevision => errors::FUTURE_REVISION,
        KvError::LeaseNotFound => errors::LEASE_NOT_FOUND,
        KvError::LeaseExists => errors::LEASE_EXISTS,
        KvError::MemberExists => errors::MEMBER_EXISTS,
        KvError::MemberNotFound => errors::MEMBER_NOT_FOUND,
        KvError::MemberNotLearner => errors::MEMBER_NOT_LEARNER,
        KvError::PeerUrlExists => errors::PEER_URL_EXISTS,
        KvError::NoSpace => errors::NO_SPACE,
        KvError::Corrupt => errors::CORRUPT,
    }
}

pub(crate) fn query(request: pb::RangeRequest) -> Result<Query, KvError> {
    if request.key.is_empty() {
        return Err(KvError::EmptyKey);
    }
    Ok(Query {
        range: KeyRange { key: request.key, end: request.range_end },
        limit: request.limit,
        revision: request.revision,
        order: SortOrder::from_number(request.sort_order).ok_or(KvError::InvalidSort)?,
        target: SortTarget::from_number(request.sort_target).ok_or(KvError::InvalidSort)?,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod: request.min_mod_revision,
        max_mod: request.max_mod_revision,
        min_create: request.min_create_revision,
        max_create: request.max_create_revision,
    })
}

pub(crate) fn put(request: pb::PutRequest) -> Put {
    Put {
        key: request.key,
        value: request.value,
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

pub(crate) fn delete_range(request: pb::DeleteRangeRequest) -> DeleteRange {
    DeleteRange { range: KeyRange { key: request.key, end: request.range_end }, prev_kv: request.prev_kv }
}

/// A transaction as a flat list of nodes, outermost first. All checks that need no data are done on the way, in etcd's order: per level the number of
/// operations, compares, operations with nested levels among them; after all that, keys written twice.
pub(crate) fn txn(request: pb::TxnRequest, ops_max: usize) -> Result<Txn, KvError> {
    let mut txn = Txn::default();
    txn_node(request, ops_max, &mut txn.nodes)?;
    txn.validate_writes()?;
    Ok(txn)
}

/// Recursion is bounded: the decoder of messages refuses more than 100 levels.
fn txn_node(request: pb::TxnRequest, ops_max: usize, nodes: &mut Vec<TxnNode>) -> Result<u32, KvError> {
    let ops = request.compare.len().max(request.success.len()).max(request.failure.len());
    if ops > ops_max {
        return Err(KvError::TooManyOps);
    }
    let at = nodes.len();
    nodes.push(TxnNode::default());
    let compares = request.compare.into_iter().map(compare).collect::<Result<_, _>>()?;
    let mut branch = |list: Vec<pb::RequestOp>| -> Result<Vec<Op>, KvError> {
        list.into_iter().map(|request| op(request, ops_max - ops, nodes)).collect()
    };
    let success = branch(request.success)?;
    let failure = branch(request.failure)?;
    nodes[at] = TxnNode { compares, success, failure };
    Ok(u32::try_from(at).expect("a message is too small for so many levels"))
}

fn op(request: pb::RequestOp, ops_left: usize, nodes: &mut Vec<TxnNode>) -> Result<Op, KvError> {
    use pb::request_op::Request;
    match request.request.ok_or(KvError::KeyNotFound)? {
        Request::RequestRange(request) => Ok(Op::Range(query(request)?)),
        Request::RequestPut(request) => {
            let put = put(request);
            put.validate()?;
            Ok(Op::Put(put))
        }
        Request::RequestDeleteRange(request) => {
            let delete = delete_range(request);
            delete.validate()?;
            Ok(Op::DeleteRange(delete))
        }
        Request::RequestTxn(nested) => Ok(Op::Txn(txn_node(nested, ops_left, nodes)?)),
    }
}

/// An operand that isn't the target's is ignored, as if it were 0 or empty.
fn compare(request: pb::Compare) -> Result<Compare, KvError> {
    use pb::compare::TargetUnion;
    if request.key.is_empty() {
        return Err(KvError::EmptyKey);
    }
    let result = match request.result {
        0 => CompareResult::Equal,
        1 => CompareResult::Greater,
        2 => CompareResult::Less,
        3 => CompareResult::NotEqual,
        _ => CompareResult::Unknown,
    };
    let operand = request.target_union;
    let target = match request.target {
        0 => CompareTarget::Version(if let Some(TargetUnion::Version(n)) = operand { n } else { 0 }),
        1 => CompareTarget::Create(if let Some(TargetUnion::CreateRevision(n)) = operand { n } else { 0 }),
        2 => CompareTarget::Mod(if let Some(TargetUnion::ModRevision(n)) = operand { n } else { 0 }),
        3 => CompareTarget::Value(if let Some(TargetUnion::Value(v)) = operand { v } else { Bytes::new() }),
        4 => CompareTarget::Lease(if let Some(TargetUnion::Lease(n)) = operand { n } else { 0 }),
        // etcd compares nothing for a target it doesn't know: only the result decides, on equal operands.
        _ => {
            let range = KeyRange { key: request.key, end: request.range_end };
            return Ok(Compare { range, result: unknown_target(result), target: CompareTarget::Version(0) });
        }
    };
    Ok(Compare { range: KeyRange { key: request.key, end: request.range_end }, result, target })
}

/// Operands that are taken as equal: `=` holds, and so does what etcd doesn't know; the other three can't.
fn unknown_target(result: CompareResult) -> CompareResult {
    match result {
        CompareResult::Equal | CompareResult::Unknown => CompareResult::Unknown,
        CompareResult::Greater | CompareResult::Less | CompareResult::NotEqual => CompareResult::Less,
    }
}

/// Whether a transaction only reads, so that it never enters the log. A nested one counts as writing.
pub(crate) fn is_read_only(txn: &Txn) -> bool {
    let node = &txn.nodes[0];
    node.success.iter().chain(&node.failure).all(|op| matches!(op, Op::Range(_)))
}

/// etcd's estimate of the space that a request takes: what the quota is checked against.
pub(crate) fn put_cost(put: &Put) -> u64 {
    space_cost(&put.key, &put.value)
}

fn space_cost(key: &[u8], value: &[u8]) -> u64 {
    const OVERHEAD_BYTES: u64 = 256;
    OVERHEAD_BYTES + key.len() as u64 + value.len() as u64
}

/// The dearer branch, nested transactions included. Of the request, because the quota is checked before anything else is.
pub(crate) fn txn_cost(request: &pb::TxnRequest) -> u64 {
    use pb::request_op::Request;
    let branch = |ops: &[pb::RequestOp]| -> u64 {
        ops.iter()
            .map(|op| match &op.request {
                Some(Request::RequestPut(put)) => space_cost(&put.key, &put.value),
                Some(Request::RequestTxn(nested)) => txn_cost(nested),
                _ => 0,
            })
            .sum()
    };
    branch(&request.success).max(branch(&request.failure))
}

pub(crate) fn alarm(request: &pb::AlarmRequest) -> Option<Command> {
    let action = match request.action {
        0 => AlarmAction::Get,
        1 => AlarmAction::Activate,
        2 => AlarmAction::Deactivate,
        _ => return None,
    };
    let alarm = match request.alarm {
        1 => AlarmKind::NoSpace,
        2 => AlarmKind::Corrupt,
        _ => AlarmKind::None,
    };
    Some(Command::Alarm { action, member: request.member_id, alarm })
}

pub(crate) fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.meta.create,
        mod_revision: kv.meta.modified.main,
        version: kv.meta.version,
        value: kv.value,
        lease: kv.meta.lease,
    }
}

/// The answer to a transaction. Headers inside it carry only the revision, nested ones nothing.
pub(crate) fn txn_response(header: Option<pb::ResponseHeader>, outcome: TxnOutcome) -> pb::TxnResponse {
    let responses = outcome
        .responses
        .into_iter()
        .map(|(revision, op)| {
            let header = Some(pb::ResponseHeader { revision, ..Default::default() });
            pb::ResponseOp { response: Some(op_response(header, op)) }
        })
        .collect();
    pb::TxnResponse { header, succeeded: outcome.succeeded, responses }
}

fn op_response(header: Option<pb::ResponseHeader>, outcome: OpOutcome) -> pb::response_op::Response {
    use pb::response_op::Response;
    match outcome {
        OpOutcome::Put { prev_kv } => {
            Response::ResponsePut(pb::PutResponse { header, prev_kv: prev_kv.map(key_value) })
        }
        OpOutcome::Deleted { count, prev_kvs } => Response::ResponseDeleteRange(pb::DeleteRangeResponse {
            header,
            deleted: count,
            prev_kvs: prev_kvs.into_iter().map(key_value).collect(),
        }),
        OpOutcome::Range { kvs, result } => Response::ResponseRange(pb::RangeResponse {
            header,
            kvs: kvs.into_iter().map(key_value).collect(),
            more: result.more,
            count: result.count,
        }),
        OpOutcome::Txn(nested) => Response::ResponseTxn(txn_response(header, nested)),
        OpOutcome::LeaseGranted { .. }
        | OpOutcome::LeasesRevoked { .. }
        | OpOutcome::Compacted
        | OpOutcome::Alarms(_)
        | OpOutcome::MembersChanged
        | OpOutcome::Nothing => unreachable!("no operation of a transaction ends so"),
    }
}
