//! A client: one call after the other, everything noted in the group's history.

pub(in crate::scenarios) mod renewal;
pub(in crate::scenarios) mod watching;

use std::{cell::RefCell, rc::Rc, time::Duration};

use plinth_base::Prng;
use plinth_env::Env;
use plinth_node::api::Api;
use plinth_rpc::{Code, Status, errors};
use plinth_sim_env::SimClock;

use self::watching::Recordings;
use crate::{
    call::{Answer, Call},
    history::{History, OpId},
    model::{Range, Request, Response, state_of},
    wire,
    workload::{Known, Workload},
};

/// What clients of one group know; it outlives crashes.
pub(in crate::scenarios) struct Clients {
    pub(in crate::scenarios) history: History,
    pub(in crate::scenarios) workload: Workload,
    /// Leases that somebody asked for.
    pub(in crate::scenarios) leases: Vec<i64>,
    /// Requests sent.
    pub(in crate::scenarios) operations: u64,
    /// Virtual time, whatever the members' clocks show.
    pub(in crate::scenarios) clock: SimClock,
    /// Answers that nothing explains but a page that can't be read, and which member they came from.
    pub(in crate::scenarios) unreadable: Vec<(u64, Status)>,
    /// Answers that nothing explains.
    pub(in crate::scenarios) strange: Vec<Status>,
    /// There are several members: what isn't linearizable may be answered by one that is behind.
    pub(in crate::scenarios) has_members: bool,
    /// No client begins anything more.
    pub(in crate::scenarios) is_over: bool,
    /// What the watchers of the life under way, or of the last one, were sent.
    pub(in crate::scenarios) watched: Vec<Recordings>,
}

pub(in crate::scenarios) type Shared = Rc<RefCell<Clients>>;

/// Runs for ever: it ends with the machine, or when the node says that it stops.
pub(in crate::scenarios) async fn run<E: Env>(
    env: E,
    api: Api<E>,
    clients: Shared,
    mut prng: Prng,
    pause_max: Duration,
) {
    while !clients.borrow().is_over {
        let call = {
            let clients = &mut *clients.borrow_mut();
            let new_lease = 1 + clients.leases.len() as i64;
            let (revision, compacted) = (clients.history.known_revision(), clients.history.known_compacted());
            let known = Known { revision, compacted, leases: &clients.leases, new_lease };
            let call = clients.workload.call(&mut prng, known);
            if matches!(call, Call::LeaseGrant { .. }) {
                clients.leases.push(new_lease);
            }
            call
        };
        let sent = match call {
            Call::LeaseKeepAlive { lease } => renewal::renew(&api, &clients, lease, &mut prng).await,
            Call::Compact { .. } => compact(&api, &clients, call).await,
            call => send(&api, &clients, call, prng.chance(1, 3)).await,
        };
        if sent == Sent::Stopped {
            return;
        }
        let pause_us = prng.below(u64::try_from(pause_max.as_micros()).unwrap_or(u64::MAX).max(1));
        env.sleep(Duration::from_micros(pause_us)).await;
    }
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::scenarios) enum Sent {
    /// It was answered, perhaps with an error of its own.
    Answered,
    /// The node wouldn't take it: nothing came or will come of it.
    Declined,
    /// Nobody knows.
    Unknown,
    /// The node stops and takes nothing more.
    Stopped,
}

/// Notes that a call begins.
pub(in crate::scenarios) fn begin(clients: &Shared, call: Call) -> OpId {
    begin_as(clients, call, false)
}

fn begin_as(clients: &Shared, call: Call, serializable: bool) -> OpId {
    let mut clients = clients.borrow_mut();
    let now = clients.clock.now();
    clients.operations += 1;
    if clients.has_members && call.may_be_stale(serializable) {
        clients.history.begin_stale(call, now)
    } else {
        clients.history.begin(call, now)
    }
}

/// Sends a call and notes its answer.
pub(in crate::scenarios) async fn send<E: Env>(api: &Api<E>, clients: &Shared, call: Call, serializable: bool) -> Sent {
    let id = begin_as(clients, call.clone(), serializable);
    let answer = answer(api, &call, serializable).await;
    finish(api, clients, id, answer)
}

/// Notes an answer.
pub(in crate::scenarios) fn finish<E: Env>(
    api: &Api<E>,
    clients: &Shared,
    id: OpId,
    answer: Result<Answer, Status>,
) -> Sent {
    let clients = &mut *clients.borrow_mut();
    let now = clients.clock.now();
    let status = match answer {
        Ok(answer) => {
            clients.history.finish(id, Ok(answer), now);
            return Sent::Answered;
        }
        Err(status) => status,
    };
    if let Some(refused) = wire::refused(&status) {
        clients.history.finish(id, Err::<Answer, _>(refused), now);
        return Sent::Answered;
    }
    if wire::is_declined(&status) {
        // A compaction that waited for its sweep is done.
        if !clients.history.waits_for_more(id) {
            clients.history.forget(id);
        }
        return if status == errors::STOPPED { Sent::Stopped } else { Sent::Declined };
    }
    if status.code == Code::DataLoss {
        clients.unreadable.push((api.options().member_id, status));
    } else if status != errors::TIMEOUT && status != errors::TIMEOUT_LEADER_FAILURE {
        clients.strange.push(status);
    }
    Sent::Unknown
}

/// Compacts, after everything that this takes away was read.
pub(in crate::scenarios) async fn compact<E: Env>(api: &Api<E>, clients: &Shared, call: Call) -> Sent {
    let Call::Compact { revision, .. } = call else { unreachable!("{call:?} is no compaction") };
    match record(api, clients, revision).await {
        Sent::Answered => send(api, clients, call, false).await,
        failed => failed,
    }
}

/// Reads all revisions up to one before it is compacted, as far as nobody has: then the checks know what nobody can read afterwards.
async fn record<E: Env>(api: &Api<E>, clients: &Shared, to: i64) -> Sent {
    loop {
        let revision = clients.borrow().history.unrecorded();
        if revision > to.min(clients.borrow().history.known_revision()) {
            return Sent::Answered;
        }
        let all = Range { key: vec![0], range_end: vec![0], revision, ..Range::default() };
        let call = Call::Kv(Request::Range(all));
        let id = begin(clients, call.clone());
        let answer = answer(api, &call, false).await;
        let was_read = if let Ok(Answer::Kv(Response::Range { kvs, .. })) = &answer {
            clients.borrow_mut().history.record(revision, state_of(kvs.iter().cloned()));
            true
        } else {
            false
        };
        match finish(api, clients, id, answer) {
            // A refusal that the history will judge: asking again would bring the same.
            Sent::Answered if !was_read => return Sent::Declined,
            Sent::Answered => {}
            failed => return failed,
        }
    }
}

async fn answer<E: Env>(api: &Api<E>, call: &Call, serializable: bool) -> Result<Answer, Status> {
    match call {
        Call::Kv(request) => response(api, request, serializable).await.map(Answer::Kv),
        Call::Compact { revision, physical } => {
            api.compact(wire::compaction(*revision, *physical)).await.map(wire::compacted)
        }
        Call::LeaseGrant { lease, ttl } => {
            api.lease_grant(wire::grant(*lease, *ttl)).await.map(|granted| wire::granted(&granted))
        }
        Call::LeaseRevoke { lease } => api.lease_revoke(wire::revoke(*lease)).await.map(wire::revoked),
        Call::LeaseTimeToLive { lease, keys } => {
            api.lease_time_to_live(wire::time_to_live(*lease, *keys)).await.map(wire::told)
        }
        Call::LeaseKeepAlive { .. } => unreachable!("renewals go through a stream"),
    }
}

async fn response<E: Env>(api: &Api<E>, request: &Request, serializable: bool) -> Result<Response, Status> {
    match request {
        Request::Range(range) => api.range(wire::range(range, serializable)).await.map(wire::ranged),
        Request::Put(put) => api.put(wire::put(put)).await.map(wire::written),
        Request::DeleteRange(delete) => api.delete_range(wire::delete_range(delete)).await.map(wire::deleted),
        Request::Txn(txn) => api.txn(wire::txn(txn)).await.map(wire::executed),
        Request::Empty => unreachable!("only an operation of a transaction can be empty"),
    }
}
