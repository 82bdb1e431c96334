//! Clients that write as fast as they get answers, and remember every one.

use std::{cell::RefCell, net::SocketAddr, rc::Rc};

use bytes::Bytes;
use plinth_base::Prng;
use plinth_client::{Client, Status};
use plinth_rpc::{etcdserverpb as pb, mvccpb};

use crate::{
    history::{History, Snapshot},
    model::{Change, Op, Outcome, Record, State},
    steward::Ledger,
    witness::Witness,
};

/// Connections that write at the same time, one request each at a time.
pub const CLIENTS: usize = 8;
/// Few enough that keys are overwritten, deleted and created again many times in a run.
const KEYS: u64 = 400;
/// Keys of one transaction lie in parts of the key space of their own: etcd refuses to touch one key twice.
const TXN_CHANGES_MAX: u64 = 4;

/// What the clients of a run share.
pub struct Shared {
    /// Everything that was asked and answered.
    pub history: History,
    /// Leases and compactions, which make no revisions of their own.
    pub ledger: Ledger,
    /// What a watch was told.
    pub witness: Witness,
    /// Acknowledged changes since the start of the load.
    pub acknowledged: usize,
    /// Why clients ended; expected once the server is gone, and only then.
    pub ended: Vec<Status>,
}

/// Writes on a connection of its own until something fails.
pub async fn write_until_failure(addr: SocketAddr, name: String, seed: u64, shared: Rc<RefCell<Shared>>) {
    let status = match Client::connect(addr).await {
        Ok(client) => write_all(&client, &name, seed, &shared).await,
        Err(status) => status,
    };
    shared.borrow_mut().ended.push(status);
}

async fn write_all(client: &Client, name: &str, seed: u64, shared: &RefCell<Shared>) -> Status {
    let mut prng = Prng::new(seed);
    for number in 0u64.. {
        let op = random_op(&mut prng, &format!("{name}-{number}"));
        if let Err(status) = perform(client, op, shared).await {
            return status;
        }
    }
    unreachable!("a client writes until something fails")
}

/// Sends a request and notes what became of it.
pub(crate) async fn perform(client: &Client, op: Op, shared: &RefCell<Shared>) -> Result<(), Status> {
    // Every failure leaves the request in doubt: some are certain refusals, but none is expected before the crash.
    match send(client, &op, shared).await {
        Ok((outcome, revision)) => {
            let mut shared = shared.borrow_mut();
            shared.acknowledged += usize::from(outcome.changed());
            shared.history.acknowledge(op, outcome, revision);
            Ok(())
        }
        Err(status) => {
            shared.borrow_mut().history.doubt(op);
            Err(status)
        }
    }
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("crash/{number:05}"))
}

/// A value that no other request has: its name, and then noise.
fn value(prng: &mut Prng, name: &str) -> Bytes {
    let bytes = match prng.below(256) {
        0 => prng.below(256 << 10),
        1..16 => prng.below(8 << 10),
        _ => prng.below(400),
    };
    let mut value = format!("{name} ").into_bytes();
    let start = value.len();
    value.resize(start + bytes as usize, 0);
    prng.fill(&mut value[start..]);
    Bytes::from(value)
}

fn random_change(prng: &mut Prng, name: &str, keys: std::ops::Range<u64>) -> Change {
    let first = keys.start + prng.below(keys.end - keys.start);
    match prng.below(16) {
        0..12 => Change::Put { key: key(first), value: value(prng, name) },
        12..15 => Change::Delete { key: key(first), end: Bytes::new() },
        _ => Change::Delete { key: key(first), end: key(keys.end.min(first + 1 + prng.below(8))) },
    }
}

fn random_changes(prng: &mut Prng, name: &str) -> Vec<Change> {
    let part = KEYS / TXN_CHANGES_MAX;
    let count = prng.below(TXN_CHANGES_MAX + 1);
    (0..count).map(|i| random_change(prng, &format!("{name}-{i}"), i * part..(i + 1) * part)).collect()
}

fn random_op(prng: &mut Prng, name: &str) -> Op {
    if prng.chance(3, 4) {
        return Op::One(random_change(prng, name, 0..KEYS));
    }
    let guard = key(prng.below(KEYS));
    Op::Txn { guard, present: random_changes(prng, name), absent: random_changes(prng, name) }
}

fn put_request(key: &Bytes, value: &Bytes) -> pb::PutRequest {
    pb::PutRequest { key: key.clone(), value: value.clone(), ..Default::default() }
}

fn delete_request(key: &Bytes, end: &Bytes) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.clone(), range_end: end.clone(), ..Default::default() }
}

fn request_op(change: &Change) -> pb::RequestOp {
    let request = match change {
        Change::Put { key, value } => pb::request_op::Request::RequestPut(put_request(key, value)),
        Change::Delete { key, end } => pb::request_op::Request::RequestDeleteRange(delete_request(key, end)),
    };
    pb::RequestOp { request: Some(request) }
}

fn txn_request(guard: &Bytes, present: &[Change], absent: &[Change]) -> pb::TxnRequest {
    let exists = pb::Compare {
        result: pb::compare::CompareResult::Greater.into(),
        target: pb::compare::CompareTarget::Version.into(),
        key: guard.clone(),
        target_union: Some(pb::compare::TargetUnion::Version(0)),
        ..Default::default()
    };
    pb::TxnRequest {
        compare: vec![exists],
        success: present.iter().map(request_op).collect(),
        failure: absent.iter().map(request_op).collect(),
    }
}

fn revision_of(header: Option<pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

async fn send(client: &Client, op: &Op, shared: &RefCell<Shared>) -> Result<(Outcome, i64), Status> {
    match op {
        Op::One(Change::Put { key, value }) => {
            let answer: pb::PutResponse = client.unary("/etcdserverpb.KV/Put", &put_request(key, value)).await?;
            Ok((Outcome { puts: 1, ..Outcome::default() }, revision_of(answer.header)))
        }
        Op::One(Change::Delete { key, end }) => {
            let request = delete_request(key, end);
            let answer: pb::DeleteRangeResponse = client.unary("/etcdserverpb.KV/DeleteRange", &request).await?;
            Ok((Outcome { deleted: vec![answer.deleted], ..Outcome::default() }, revision_of(answer.header)))
        }
        Op::Txn { guard, present, absent } => {
            let request = txn_request(guard, present, absent);
            let answer: pb::TxnResponse = client.unary("/etcdserverpb.KV/Txn", &request).await?;
            let revision = revision_of(answer.header);
            Ok((txn_outcome(answer), revision))
        }
        Op::Leased { key, value, lease } => {
            let request = pb::PutRequest { lease: *lease, ..put_request(key, value) };
            let answer: pb::PutResponse = client.unary("/etcdserverpb.KV/Put", &request).await?;
            Ok((Outcome { puts: 1, ..Outcome::default() }, revision_of(answer.header)))
        }
        Op::Revoke { lease } => {
            // The answer doesn't say; whoever revokes is the only one who attaches keys.
            let attached = shared.borrow().history.attached(*lease);
            let request = pb::LeaseRevokeRequest { id: *lease };
            let answer: pb::LeaseRevokeResponse = client.unary("/etcdserverpb.Lease/LeaseRevoke", &request).await?;
            Ok((Outcome { deleted: vec![attached], ..Outcome::default() }, revision_of(answer.header)))
        }
    }
}

fn txn_outcome(answer: pb::TxnResponse) -> Outcome {
    use pb::response_op::Response;
    let mut outcome = Outcome { present: answer.succeeded, ..Outcome::default() };
    for response in answer.responses.into_iter().filter_map(|op| op.response) {
        match response {
            Response::ResponsePut(_) => outcome.puts += 1,
            Response::ResponseDeleteRange(deleted) => outcome.deleted.push(deleted.deleted),
            _ => {}
        }
    }
    outcome
}

/// Ranges over every key at `revision`, 0 for the newest.
pub async fn fetch(client: &Client, revision: i64) -> Result<Snapshot, Status> {
    let all = Bytes::from_static(b"\0");
    let request = pb::RangeRequest { key: all.clone(), range_end: all, revision, ..Default::default() };
    let answer: pb::RangeResponse = client.unary("/etcdserverpb.KV/Range", &request).await?;
    let state = State(answer.kvs.into_iter().map(record).collect());
    Ok(Snapshot { newest_revision: revision_of(answer.header), state })
}

pub(crate) fn record(kv: mvccpb::KeyValue) -> (Bytes, Record) {
    let mvccpb::KeyValue { key, create_revision, mod_revision, version, value, lease } = kv;
    let record = Record { value, created: create_revision, modified: mod_revision, version, lease };
    (key, record)
}

/// A linearizable read of nothing much.
pub async fn ping(client: &Client) -> Result<(), Status> {
    let request = pb::RangeRequest { key: Bytes::from_static(b"ping"), ..Default::default() };
    client.unary::<pb::RangeResponse>("/etcdserverpb.KV/Range", &request).await.map(drop)
}
