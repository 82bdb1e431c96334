//! The model's requests as commands, and outcomes as the model's responses.

use plinth_kv::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, KeyValue, KvError, Op, OpOutcome, Put,
    Query, SortOrder, SortTarget, Txn, TxnNode,
};
use plinth_sim::model;

/// A request as a command; one that its own content makes invalid is refused, as by the API. Reads alone are no commands.
pub(crate) fn command(request: &model::Request) -> Result<Command, KvError> {
    match request {
        model::Request::Put(request) => Ok(Command::Put(put(request)?)),
        model::Request::DeleteRange(request) => Ok(Command::DeleteRange(delete_range(request)?)),
        model::Request::Txn(request) => txn(request).map(Command::Txn),
        model::Request::Range(_) | model::Request::Empty => panic!("{request:?} is no command"),
    }
}

/// A transaction as the API hands it on.
pub(crate) fn txn(request: &model::Txn) -> Result<Txn, KvError> {
    let mut txn = Txn::default();
    txn_node(request, &mut txn.nodes)?;
    txn.validate_writes()?;
    Ok(txn)
}

/// A read.
pub(crate) fn query(range: &model::Range) -> Query {
    Query {
        range: key_range(&range.key, &range.range_end),
        limit: range.limit,
        revision: range.revision,
        order: match range.sort_order {
            model::SortOrder::None => SortOrder::None,
            model::SortOrder::Ascend => SortOrder::Ascend,
            model::SortOrder::Descend => SortOrder::Descend,
        },
        target: match range.sort_target {
            model::SortTarget::Key => SortTarget::Key,
            model::SortTarget::Version => SortTarget::Version,
            model::SortTarget::Create => SortTarget::Create,
            model::SortTarget::Mod => SortTarget::Mod,
            model::SortTarget::Value => SortTarget::Value,
        },
        keys_only: range.keys_only,
        count_only: range.count_only,
        min_mod: range.min_mod_revision,
        max_mod: range.max_mod_revision,
        min_create: range.min_create_revision,
        max_create: range.max_create_revision,
    }
}

fn key_range(key: &[u8], end: &[u8]) -> KeyRange {
    KeyRange { key: key.to_vec().into(), end: end.to_vec().into() }
}

fn put(request: &model::Put) -> Result<Put, KvError> {
    let put = Put {
        key: request.key.clone().into(),
        value: request.value.clone().into(),
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    };
    put.validate()?;
    Ok(put)
}

fn delete_range(request: &model::DeleteRange) -> Result<DeleteRange, KvError> {
    let delete = DeleteRange { range: key_range(&request.key, &request.range_end), prev_kv: request.prev_kv };
    delete.validate()?;
    Ok(delete)
}

fn txn_node(request: &model::Txn, nodes: &mut Vec<TxnNode>) -> Result<u32, KvError> {
    let at = nodes.len();
    nodes.push(TxnNode::default());
    let compares = request.compare.iter().map(compare).collect();
    let mut branch = |requests: &[model::Request]| -> Result<Vec<Op>, KvError> {
        requests.iter().map(|request| op(request, nodes)).collect()
    };
    let (success, failure) = (branch(&request.success)?, branch(&request.failure)?);
    nodes[at] = TxnNode { compares, success, failure };
    Ok(u32::try_from(at).expect("few levels"))
}

fn op(request: &model::Request, nodes: &mut Vec<TxnNode>) -> Result<Op, KvError> {
    Ok(match request {
        model::Request::Range(request) => Op::Range(query(request)),
        model::Request::Put(request) => Op::Put(put(request)?),
        model::Request::DeleteRange(request) => Op::DeleteRange(delete_range(request)?),
        model::Request::Txn(nested) => Op::Txn(txn_node(nested, nodes)?),
        model::Request::Empty => return Err(KvError::KeyNotFound),
    })
}

fn compare(compare: &model::Compare) -> Compare {
    Compare {
        range: key_range(&compare.key, &compare.range_end),
        result: match compare.relation {
            model::Relation::Equal => CompareResult::Equal,
            model::Relation::Greater => CompareResult::Greater,
            model::Relation::Less => CompareResult::Less,
            model::Relation::NotEqual => CompareResult::NotEqual,
            model::Relation::Unknown => CompareResult::Unknown,
        },
        target: match &compare.target {
            model::Target::Version(given) => CompareTarget::Version(*given),
            model::Target::Create(given) => CompareTarget::Create(*given),
            model::Target::Mod(given) => CompareTarget::Mod(*given),
            model::Target::Value(given) => CompareTarget::Value(given.clone().into()),
            model::Target::Lease(given) => CompareTarget::Lease(*given),
        },
    }
}

/// What was done, as the model's response.
pub(crate) fn response(revision: i64, outcome: OpOutcome) -> model::Response {
    match outcome {
        OpOutcome::Put { prev_kv } => model::Response::Put { revision, prev_kv: prev_kv.map(key_value) },
        OpOutcome::Deleted { count, prev_kvs } => {
            model::Response::DeleteRange { revision, deleted: count, prev_kvs: key_values(prev_kvs) }
        }
        OpOutcome::Range { kvs, result } => {
            model::Response::Range { revision, kvs: key_values(kvs), more: result.more, count: result.count }
        }
        OpOutcome::Txn(txn) => model::Response::Txn {
            revision,
            succeeded: txn.succeeded,
            responses: txn.responses.into_iter().map(|(revision, outcome)| response(revision, outcome)).collect(),
        },
        OpOutcome::LeaseGranted { .. }
        | OpOutcome::LeasesRevoked { .. }
        | OpOutcome::Compacted
        | OpOutcome::Alarms(_)
        | OpOutcome::MembersChanged
        | OpOutcome::Nothing => panic!("{outcome:?} answers no request of the model"),
    }
}

fn key_values(kvs: Vec<KeyValue>) -> Vec<model::KeyValue> {
    kvs.into_iter().map(key_value).collect()
}

fn key_value(kv: KeyValue) -> model::KeyValue {
    model::KeyValue {
        key: kv.key.into(),
        value: kv.value.into(),
        create_revision: kv.meta.create,
        mod_revision: kv.meta.modified.main,
        version: kv.meta.version,
        lease: kv.meta.lease,
    }
}

/// The model's name for an error.
pub(crate) fn refused(error: KvError) -> model::Refused {
    match error {
        KvError::EmptyKey => model::Refused::KeyNotProvided,
        KvError::KeyNotFound => model::Refused::KeyNotFound,
        KvError::ValueProvided => model::Refused::ValueProvided,
        KvError::LeaseProvided => model::Refused::LeaseProvided,
        KvError::TooManyOps => model::Refused::TooManyOps,
        KvError::DuplicateKey => model::Refused::DuplicateKey,
        KvError::Compacted => model::Refused::Compacted,
        KvError::FutureRevision => model::Refused::FutureRevision,
        KvError::LeaseNotFound => model::Refused::LeaseNotFound,
        KvError::LeaseExists
        | KvError::InvalidSort
        | KvError::MemberExists
        | KvError::MemberNotFound
        | KvError::MemberNotLearner
        | KvError::PeerUrlExists
        | KvError::NoSpace
        | KvError::Corrupt => {
            panic!("the model doesn't know {error}")
        }
    }
}
