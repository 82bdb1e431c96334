//! What kube-apiservers ask of their store, in the shapes of their requests.
//!
//! A cluster of pods and nodes in a steady state: most requests renew the nodes' leases (objects of Kubernetes, not of etcd), then come updates of
//! pods, events (each attached to a lease of etcd), pods that come and go, reads, lists by pages at a pinned revision, and counts. Whatever
//! changes an object compares its revision first; who loses reads it in the same transaction and has it right the next time. Watchers on all three
//! prefixes ask for progress as the watch cache does.
//!
//! Sizes are typical ones, not measured on a cluster: 4 KiB a pod, 400 bytes a node's lease, 800 bytes an event.

mod objects;
mod watch;

use std::{
    collections::VecDeque,
    rc::Rc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use plinth_base::Prng;
use plinth_rpc::etcdserverpb::{PutRequest, RangeRequest, RangeResponse};
use prost::Message;

use self::objects::Objects;
pub use self::watch::Follower;
use super::{
    super::{Plan, watch::EventTimes},
    Ask, Fate, Leases, STAMP_BYTES, Work, path,
    plain::value,
    transaction::{delete_if, outcome, put_if},
};

const POD_BYTES: usize = 4096;
const NODE_BYTES: usize = 400;
const EVENT_BYTES: usize = 800;
/// Objects of a page of a list.
const PAGE: i64 = 500;
/// Pods on a node.
const NODE_PODS: u64 = 30;

/// The kinds, in the order of their numbers, and the share of each in thousandths.
const KINDS: [(&str, u64); 8] = [
    ("renew a node's lease", 500),
    ("update a pod", 200),
    ("create an event", 150),
    ("create a pod", 40),
    ("delete a pod", 40),
    ("get a pod", 50),
    ("list a page of pods", 5),
    ("count pods", 15),
];
const RENEW: usize = 0;
const UPDATE: usize = 1;
const EVENT: usize = 2;
const CREATE: usize = 3;
const DELETE: usize = 4;
const GET: usize = 5;
const LIST: usize = 6;
const COUNT: usize = 7;

/// A page of a list that is to be read: from which key, at which revision.
type Page = (Bytes, i64);

/// The requests of a cluster.
pub struct Kubernetes {
    prng: Prng,
    /// No other run has these prefixes.
    run: String,
    pods: Objects,
    pods_wanted: usize,
    nodes: Objects,
    events: u64,
    leases: Leases,
    /// Values begin with the time since then.
    epoch: Instant,
    /// One value, of which shorter ones are a part.
    value: Vec<u8>,
    pages: VecDeque<Page>,
}

impl Kubernetes {
    /// As many pods as the plan has keys.
    pub fn new(plan: &Plan, prng: Prng, leases: Leases, epoch: Instant) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut nodes = Objects::default();
        for number in 0..plan.shape.keys.div_ceil(NODE_PODS) {
            nodes.set(number, 0);
        }
        Self {
            prng,
            run: format!("{:x}", now.as_micros()),
            pods: Objects::default(),
            pods_wanted: usize::try_from(plan.shape.keys).expect("objects are kept in memory"),
            nodes,
            events: 0,
            leases,
            epoch,
            value: value(POD_BYTES, plan.seed).to_vec(),
            pages: VecDeque::new(),
        }
    }

    /// The watchers of a watch cache, one for each resource.
    pub fn followers(&self, times: &Rc<EventTimes>) -> Vec<Follower> {
        ["pods", "leases", "events"].map(|resource| Follower::new(&self.prefix(resource), times)).into()
    }

    fn prefix(&self, resource: &str) -> String {
        format!("/registry/{resource}/bench-{}/", self.run)
    }

    fn key(&self, resource: &str, number: u64) -> Bytes {
        format!("{}{number:08}", self.prefix(resource)).into()
    }

    fn put(&mut self, key: &Bytes, bytes: usize, began: Instant) -> PutRequest {
        let ns = began.saturating_duration_since(self.epoch).as_nanos();
        let ns = u64::try_from(ns).expect("a run is shorter than 500 years");
        self.value[..STAMP_BYTES].copy_from_slice(&ns.to_le_bytes());
        PutRequest { key: key.clone(), value: Bytes::copy_from_slice(&self.value[..bytes]), ..Default::default() }
    }

    /// Whose turn it is. First all pods have to be there.
    fn kind(&mut self) -> usize {
        if self.pods.count() < self.pods_wanted / 2 {
            return CREATE;
        }
        let mut place = self.prng.below(KINDS.iter().map(|(_, share)| share).sum());
        let kind = KINDS.iter().position(|(_, share)| {
            let is_here = place < *share;
            place = place.saturating_sub(*share);
            is_here
        });
        match kind.expect("the shares add up to their sum") {
            // As many come as go.
            CREATE | DELETE if self.pods.count() < self.pods_wanted => CREATE,
            CREATE | DELETE => DELETE,
            // All nodes have theirs under way.
            RENEW if self.nodes.count() == 0 => UPDATE,
            other => other,
        }
    }

    fn range(&self, key: Bytes, revision: i64) -> RangeRequest {
        let mut range_end = self.prefix("pods").into_bytes();
        if let Some(last) = range_end.last_mut() {
            *last += 1;
        }
        RangeRequest { key, range_end: range_end.into(), revision, ..Default::default() }
    }
}

impl Work for Kubernetes {
    fn kinds(&self) -> Vec<&'static str> {
        KINDS.map(|(name, _)| name).into()
    }

    fn ask(&mut self, began: Instant, body: &mut Vec<u8>) -> Ask {
        let kind = self.kind();
        let (mut path, mut object) = (path::TXN, 0);
        let mut write = |message: &dyn ErasedMessage| message.write(body);
        match kind {
            RENEW => {
                let revision;
                // A node renews its own, one time after the other.
                (object, revision) = self.nodes.take_any(&mut self.prng);
                let key = self.key("leases", object);
                let put = self.put(&key, NODE_BYTES, began);
                write(&put_if(&key, revision, put, true));
            }
            UPDATE => {
                let revision;
                (object, revision) = self.pods.any(&mut self.prng);
                let key = self.key("pods", object);
                let put = self.put(&key, POD_BYTES, began);
                write(&put_if(&key, revision, put, true));
            }
            GET => {
                path = path::RANGE;
                (object, _) = self.pods.any(&mut self.prng);
                write(&RangeRequest { key: self.key("pods", object), limit: 1, ..Default::default() });
            }
            EVENT => {
                self.events += 1;
                let key = self.key("events", self.events);
                let lease = self.leases.id(usize::try_from(self.events).expect("numbers of 64 bits"));
                let put = PutRequest { lease, ..self.put(&key, EVENT_BYTES, began) };
                write(&put_if(&key, 0, put, false));
            }
            CREATE => {
                object = self.pods.fresh();
                let key = self.key("pods", object);
                let put = self.put(&key, POD_BYTES, began);
                write(&put_if(&key, 0, put, false));
            }
            DELETE => {
                let revision;
                // Nobody else meets it from now on.
                (object, revision) = self.pods.take_any(&mut self.prng);
                write(&delete_if(&self.key("pods", object), revision));
            }
            LIST => {
                path = path::RANGE;
                let (key, revision) = self.pages.pop_front().unwrap_or_else(|| (self.prefix("pods").into(), 0));
                write(&RangeRequest { limit: PAGE, ..self.range(key, revision) });
            }
            _ => {
                path = path::RANGE;
                write(&RangeRequest { count_only: true, ..self.range(self.prefix("pods").into(), 0) });
            }
        }
        Ask { kind, path, object, wants_answer: !matches!(kind, GET | COUNT) }
    }

    fn answered(&mut self, ask: &Ask, message: &[u8]) -> Result<Fate, String> {
        let object = ask.object;
        match ask.kind {
            LIST => {
                let answer =
                    RangeResponse::decode(message).map_err(|error| format!("an answer that is none: {error}"))?;
                // As the apiserver tells that there is more.
                if let Some(last) = answer.kvs.last().filter(|_| (answer.kvs.len() as i64) < answer.count) {
                    let revision = answer.header.as_ref().map_or(0, |header| header.revision);
                    self.pages.push_back(([&last.key[..], &[0]].concat().into(), revision));
                }
                Ok(Fate::Done)
            }
            GET | COUNT => Ok(Fate::Done),
            kind => {
                let (fate, revision) = outcome(message)?;
                match (kind, fate) {
                    (RENEW, _) => self.nodes.set(object, revision),
                    (UPDATE, _) => self.pods.learn(object, revision),
                    (CREATE, Fate::Done) => self.pods.set(object, revision),
                    // It was updated meanwhile, and is still there.
                    (DELETE, Fate::Conflict) if revision > 0 => self.pods.set(object, revision),
                    _ => {}
                }
                Ok(fate)
            }
        }
    }

    fn failed(&mut self, ask: &Ask) {
        match ask.kind {
            // Whether it was done or not, the next one learns what it is.
            RENEW => self.nodes.set(ask.object, 0),
            DELETE => self.pods.set(ask.object, 0),
            _ => {}
        }
    }
}

/// Any message, to be encoded.
trait ErasedMessage {
    fn write(&self, body: &mut Vec<u8>);
}

impl<M: Message> ErasedMessage for M {
    fn write(&self, body: &mut Vec<u8>) {
        self.encode(body).expect("a vector takes everything");
    }
}

#[cfg(test)]
mod tests;
