//! What the Lock and Election services have in common: a queue of keys under one prefix, the oldest of which holds the lock or leads.
//!
//! They are recipes over the other services, and fail in their own way: whatever goes wrong inside is of code Unknown, with its text.

mod election;
mod lock;

use bytes::Bytes;
use plinth_env::{Env, TaskQueue};
use plinth_kv::KeyRange;
use plinth_rpc::{Code, Status, errors, etcdserverpb as pb, mvccpb};

use super::Api;
use crate::watch::{Create, Item, Occurrence, StreamGuard};
use pb::{
    compare::{CompareResult, CompareTarget, TargetUnion},
    range_request::{SortOrder, SortTarget},
    request_op::Request,
    response_op::Response,
};

/// The TTL of a lease that a caller doesn't bring, in seconds. Nobody renews it.
const SESSION_TTL: i64 = 60;

/// A status as it looks when a recipe has met it.
fn inner(status: Status) -> Status {
    Status { code: Code::Unknown, message: status.message }
}

/// `key` is what it was when `create_revision` was its revision; 0 if it was not there.
fn created_at(key: &Bytes, create_revision: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(create_revision)),
        ..pb::Compare::default()
    }
}

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn get(key: &Bytes) -> pb::RangeRequest {
    pb::RangeRequest { key: key.clone(), ..pb::RangeRequest::default() }
}

/// The keys that begin with `prefix`, which ends with a slash.
fn prefix_range(prefix: &Bytes) -> KeyRange {
    let mut end = prefix.to_vec();
    *end.last_mut().expect("a prefix ends with a slash") += 1;
    KeyRange { key: prefix.clone(), end: end.into() }
}

/// The first or the last key of a queue by its age.
fn by_age(prefix: &Bytes, order: SortOrder) -> pb::RangeRequest {
    let KeyRange { key, end: range_end } = prefix_range(prefix);
    pb::RangeRequest {
        key,
        range_end,
        limit: 1,
        sort_order: order as i32,
        sort_target: SortTarget::Create as i32,
        ..pb::RangeRequest::default()
    }
}

fn found(response: Option<pb::ResponseOp>) -> Option<mvccpb::KeyValue> {
    match response?.response? {
        Response::ResponseRange(range) => range.kvs.into_iter().next(),
        _ => None,
    }
}

fn revision_of(header: Option<&pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

/// The place in a queue of whoever has this lease.
struct Place {
    prefix: Bytes,
    key: Bytes,
    lease: i64,
}

impl<E: Env> Api<E> {
    /// The place under `name`; a lease of 0 is replaced by a new one.
    async fn place(&self, name: &[u8], lease: i64) -> Result<Place, Status> {
        let lease = match lease {
            0 => self.session().await?,
            lease => lease,
        };
        let prefix = [name, b"/"].concat();
        // As Go prints it: a negative number has a sign.
        let sign = if lease < 0 { "-" } else { "" };
        let key = [&prefix[..], format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat();
        Ok(Place { prefix: prefix.into(), key: key.into(), lease })
    }

    async fn session(&self) -> Result<i64, Status> {
        let request = pb::LeaseGrantRequest { ttl: SESSION_TTL, id: 0 };
        self.lease_grant(request).await.map(|granted| granted.id).map_err(inner)
    }

    /// Waits until no key of the queue is older than `create_revision`. Gives the header of the read that has shown it.
    async fn await_turn(&self, prefix: &Bytes, create_revision: i64) -> Result<Option<pb::ResponseHeader>, Status> {
        loop {
            let mut request = by_age(prefix, SortOrder::Descend);
            request.max_create_revision = create_revision - 1;
            let response = self.range(request).await.map_err(inner)?;
            let Some(last) = response.kvs.into_iter().next() else { return Ok(response.header) };
            self.await_deletion(last.key, revision_of(response.header.as_ref())).await?;
        }
    }

    async fn await_deletion(&self, key: Bytes, from: i64) -> Result<(), Status> {
        let mut changes = self.changes(KeyRange::one(key), from);
        while changes.next().await?.is_put {}
        Ok(())
    }

    /// The changes of `range` from a revision on.
    fn changes(&self, range: KeyRange, start: i64) -> Changes<E> {
        let stream = self.hub.open();
        stream.create(Create {
            watch_id: 0,
            range,
            start,
            without_puts: false,
            without_deletes: false,
            with_prev: false,
            may_split: false,
            wants_progress: false,
        });
        Changes { stream, waiting: Vec::new().into_iter() }
    }
}

/// Changes of keys, one after the other.
struct Changes<E: Env> {
    stream: StreamGuard<E>,
    waiting: std::vec::IntoIter<std::rc::Rc<Occurrence>>,
}

/// One change.
struct Change {
    is_put: bool,
    kv: mvccpb::KeyValue,
}

impl<E: Env> Changes<E> {
    async fn next(&mut self) -> Result<Change, Status> {
        loop {
            if let Some(occurrence) = self.waiting.next() {
                let event = &occurrence.event;
                return Ok(Change { is_put: event.is_put, kv: super::convert::key_value(event.kv.clone()) });
            }
            match self.stream.next().await {
                Item::Events(delivery) => self.waiting = delivery.events.into_iter(),
                Item::Compacted { .. } => return Err(inner(errors::COMPACTED)),
                Item::Refused { .. } => return Err(errors::LOCK_LOST_WATCHER),
                Item::Created { .. } | Item::Canceled { .. } | Item::Progress { .. } => {}
            }
        }
    }
}

/// Gives a place in a queue up if its call ends before it was its turn: the client went away, or ran out of time.
struct GivesUp<E: Env> {
    api: Api<E>,
    request: Option<pb::TxnRequest>,
}

impl<E: Env> GivesUp<E> {
    fn new(api: &Api<E>, compare: Vec<pb::Compare>, key: &Bytes) -> Self {
        let delete = pb::DeleteRangeRequest { key: key.clone(), ..pb::DeleteRangeRequest::default() };
        let success = vec![op(Request::RequestDeleteRange(delete))];
        Self { api: api.clone(), request: Some(pb::TxnRequest { compare, success, failure: Vec::new() }) }
    }

    /// The place is kept.
    fn keep(mut self) {
        self.request = None;
    }
}

impl<E: Env> Drop for GivesUp<E> {
    fn drop(&mut self) {
        let Some(request) = self.request.take() else { return };
        let api = self.api.clone();
        self.api.executor.env().spawn(TaskQueue::Serve, async move {
            // If it can't, the lease takes the key along.
            drop(api.txn(request).await);
        });
    }
}
