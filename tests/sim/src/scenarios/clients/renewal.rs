//! Renewals of a lease through a stream, as clients send them: a few on each, with pauses between.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use plinth_base::Prng;
use plinth_env::Env;
use plinth_node::api::Api;
use plinth_rpc::{ChunkSource, Frame, Gone, Replies, Requests, Status, etcdserverpb as pb};
use prost::Message as _;

use super::{Sent, Shared};
use crate::{call::Call, history::OpId, wire};

/// Renewals of one stream.
const RENEWALS_MAX: u64 = 3;

/// Those that were sent and not answered.
type UnderWay = Rc<RefCell<VecDeque<OpId>>>;

struct Renewals<E: Env> {
    api: Api<E>,
    clients: Shared,
    lease: i64,
    pauses: VecDeque<Duration>,
    under_way: UnderWay,
}

struct Answers<E: Env> {
    api: Api<E>,
    clients: Shared,
    under_way: UnderWay,
    /// What the last one said, in seconds.
    ttl: Rc<Cell<Option<i64>>>,
}

impl<E: Env> Requests for Renewals<E> {
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        let pause = self.pauses.pop_front()?;
        if !pause.is_zero() {
            self.api.executor().env().sleep(pause).await;
        }
        let id = super::begin(&self.clients, Call::LeaseKeepAlive { lease: self.lease });
        self.under_way.borrow_mut().push_back(id);
        Some(Ok(pb::LeaseKeepAliveRequest { id: self.lease }.encode_to_vec().into()))
    }
}

impl<E: Env> Replies for Answers<E> {
    async fn send(&mut self, frame: Frame) -> Result<(), Gone> {
        let id = self.under_way.borrow_mut().pop_front().expect("each answer has a request");
        let answer = pb::LeaseKeepAliveResponse::decode(frame.message()).expect("the node encoded it");
        self.ttl.set(Some(answer.ttl));
        super::finish(&self.api, &self.clients, id, Ok(wire::kept_alive(answer)));
        Ok(())
    }

    async fn send_chunked(&mut self, message_len: u64, _: &mut dyn ChunkSource) -> Result<(), Status> {
        unreachable!("an answer to a renewal takes no {message_len} bytes")
    }
}

/// Renews a lease a few times on a stream of its own.
pub(in crate::scenarios) async fn renew<E: Env>(api: &Api<E>, clients: &Shared, lease: i64, prng: &mut Prng) -> Sent {
    let mut pauses = VecDeque::from([Duration::ZERO]);
    for _ in 0..prng.below(RENEWALS_MAX) {
        // Many leases have a TTL of 2 s: some renewals come just when its time is over.
        let pause_ms = if prng.chance(1, 4) { 1_950 + prng.below(200) } else { prng.below(1_500) };
        pauses.push_back(Duration::from_millis(pause_ms));
    }
    renew_after(api, clients, lease, pauses).await.0
}

/// Renews a lease once. What it has then, in seconds: nothing if it is gone; none if nobody says so.
pub(in crate::scenarios) async fn renew_once<E: Env>(api: &Api<E>, clients: &Shared, lease: i64) -> Option<i64> {
    renew_after(api, clients, lease, VecDeque::from([Duration::ZERO])).await.1
}

/// On one stream, after each of these pauses. What became of it, and what the last answer said.
async fn renew_after<E: Env>(
    api: &Api<E>,
    clients: &Shared,
    lease: i64,
    pauses: VecDeque<Duration>,
) -> (Sent, Option<i64>) {
    let (under_way, ttl) = (UnderWay::default(), Rc::new(Cell::new(None)));
    let (requests, replies) = (
        Renewals { api: api.clone(), clients: Rc::clone(clients), lease, pauses, under_way: Rc::clone(&under_way) },
        Answers {
            api: api.clone(),
            clients: Rc::clone(clients),
            under_way: Rc::clone(&under_way),
            ttl: Rc::clone(&ttl),
        },
    );
    let ended = api.lease_keep_alive(requests, replies).await;
    let unanswered = under_way.borrow_mut().pop_front();
    let sent = match (ended, unanswered) {
        (Ok(()), _) => Sent::Answered,
        (Err(status), Some(id)) => super::finish(api, clients, id, Err(status)),
        (Err(status), None) => panic!("a stream without an open request ended with {}", status.message),
    };
    (sent, ttl.get())
}
