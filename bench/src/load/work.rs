//! What is asked of the server: makers of requests.
//!
//! | module | job |
//! |---|---|
//! | `template` | requests that differ in their key alone: one is encoded, the others are copies of it |
//! | `plain` | puts, ranges, lists, counts, empty calls |
//! | `transaction` | create and compare-and-swap |
//! | `mixed` | several of them in proportion |
//! | `lease` | keepalives on streams |
//! | `kubernetes` | what kube-apiservers ask of their store |

mod kubernetes;
mod lease;
mod mixed;
mod plain;
mod template;
mod transaction;

use std::{rc::Rc, time::Instant};

use plinth_base::Prng;

pub use self::template::{STAMP_BYTES, key};
use self::{
    kubernetes::Kubernetes,
    lease::{KeepAlives, Leases},
    mixed::Mixed,
    plain::Plain,
    transaction::{Create, Swap},
};
use super::{Op, Plan, engine::LongCall, keys::Keys, watch::EventTimes};
use crate::failure::Failure;

/// Methods of the API.
pub mod path {
    pub const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
    pub const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
    pub const LEASE_REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
    pub const MEMBER_LIST: &str = "/etcdserverpb.Cluster/MemberList";
    pub const PUT: &str = "/etcdserverpb.KV/Put";
    pub const RANGE: &str = "/etcdserverpb.KV/Range";
    pub const TXN: &str = "/etcdserverpb.KV/Txn";
    pub const WATCH: &str = "/etcdserverpb.Watch/Watch";
}

/// One request that was made.
#[derive(Clone, Copy, Default, Debug)]
pub struct Ask {
    /// Its place in [`Work::kinds`].
    pub kind: usize,
    /// The method.
    pub path: &'static str,
    /// What it is about, as its maker knows it; of a put: its key's number.
    pub object: u64,
    /// Whether the maker looks at the answer.
    pub wants_answer: bool,
}

/// How an answer without an error is to be counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It did what was asked.
    Done,
    /// A compare didn't hold.
    Conflict,
}

/// Makes requests.
pub trait Work {
    /// What kinds of requests it makes.
    fn kinds(&self) -> Vec<&'static str>;

    /// Writes the message of the next request, which begins at `began`, behind what `body` holds.
    fn ask(&mut self, began: Instant, body: &mut Vec<u8>) -> Ask;

    /// A request was answered without an error; `message` is empty unless it was wanted.
    ///
    /// # Errors
    /// What is wrong with the answer.
    fn answered(&mut self, ask: &Ask, message: &[u8]) -> Result<Fate, String>;

    /// A request ended with an error.
    fn failed(&mut self, _ask: &Ask) {}

    /// The method, if requests go on a stream that each client keeps, each answered by a message there.
    fn stream(&self) -> Option<&'static str> {
        None
    }
}

/// Streams that watch beside the requests.
type Watches = Vec<Box<dyn LongCall>>;

/// The requests of a plan, and the watches that belong to them. Where somebody watches, values begin with the time as `times` counts it.
pub fn of_plan(plan: &Plan, times: &Rc<EventTimes>) -> Result<(Box<dyn Work>, Watches), Failure> {
    let mut prng = Prng::new(plan.seed);
    if plan.op == Op::Kubernetes && plan.mix.is_empty() {
        let work = Kubernetes::new(plan, prng, Leases::grant(plan)?, times.epoch());
        let followers = work.followers(times).into_iter().map(|follower| Box::new(follower) as Box<dyn LongCall>);
        let followers = followers.collect();
        return Ok((Box::new(work), followers));
    }
    let stamps_from = plan.watchers.map(|_| times.epoch());
    if plan.mix.is_empty() {
        return Ok((of_op(plan, plan.op, &mut prng, stamps_from)?, Vec::new()));
    }
    let mut parts = Vec::new();
    for (op, weight) in &plan.mix {
        parts.push((*weight, of_op(plan, *op, &mut prng, stamps_from)?));
    }
    Ok((Box::new(Mixed::new(prng.fork(), parts)), Vec::new()))
}

fn of_op(plan: &Plan, op: Op, prng: &mut Prng, stamps_from: Option<Instant>) -> Result<Box<dyn Work>, Failure> {
    let (count, stride) = plan.keys_and_stride();
    let keys = Keys::new(prng.fork(), plan.distribution, count, stride);
    Ok(match op {
        Op::Create => Box::new(Create::new(plan.shape, plan.seed)),
        Op::Swap => Box::new(Swap::new(plan.shape, plan.seed, keys)),
        Op::KeepAlive => Box::new(KeepAlives::new(Leases::grant(plan)?)),
        Op::Kubernetes => return Err(Failure::Usage("kubernetes is a mix of its own".to_owned())),
        Op::Put | Op::Range { .. } | Op::Prefix { .. } | Op::List { .. } | Op::Empty => {
            Box::new(Plain::new(op, plan, keys, stamps_from))
        }
    })
}
