//! A client: one request after the other, everything noted in the group's history.

use std::{cell::RefCell, rc::Rc, time::Duration};

use plinth_base::Prng;
use plinth_env::Env;
use plinth_node::api::Api;
use plinth_rpc::{Code, Status, errors};

use super::wire;
use crate::{
    history::History,
    model::{Request, Response},
    workload::Workload,
};

/// What clients of one group know; it outlives crashes.
pub(super) struct Clients {
    pub(super) history: History,
    pub(super) workload: Workload,
    /// Requests sent.
    pub(super) operations: u64,
    /// Answers that nothing explains but a page that can't be read.
    pub(super) unreadable: Vec<Status>,
    /// Answers that nothing explains.
    pub(super) strange: Vec<Status>,
}

pub(super) type Shared = Rc<RefCell<Clients>>;

/// Runs for ever: it ends with the machine, or when the node says that it stops.
pub(super) async fn run<E: Env>(env: E, api: Api<E>, clients: Shared, mut prng: Prng, pause_max: Duration) {
    loop {
        let request = {
            let clients = clients.borrow();
            clients.workload.request(&mut prng, clients.history.known_revision())
        };
        if send(&api, &clients, request, prng.chance(1, 3)).await == Sent::Stopped {
            return;
        }
        let pause_us = prng.below(u64::try_from(pause_max.as_micros()).unwrap_or(u64::MAX).max(1));
        env.sleep(Duration::from_micros(pause_us)).await;
    }
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sent {
    /// It was answered, perhaps with an error of its own.
    Answered,
    /// The node wouldn't take it: nothing came or will come of it.
    Declined,
    /// Nobody knows.
    Unknown,
    /// The node stops and takes nothing more.
    Stopped,
}

/// Sends a request and notes its answer.
pub(super) async fn send<E: Env>(api: &Api<E>, clients: &Shared, request: Request, serializable: bool) -> Sent {
    let id = {
        let mut clients = clients.borrow_mut();
        clients.operations += 1;
        clients.history.begin(request.clone())
    };
    let answer = call(api, &request, serializable).await;
    let clients = &mut *clients.borrow_mut();
    let status = match answer {
        Ok(response) => {
            clients.history.finish(id, Ok(response));
            return Sent::Answered;
        }
        Err(status) => status,
    };
    if let Some(refused) = wire::refused(&status) {
        clients.history.finish(id, Err(refused));
        return Sent::Answered;
    }
    if [errors::NO_SPACE, errors::TOO_MANY_REQUESTS, errors::STOPPED, errors::NO_LEADER].contains(&status) {
        clients.history.forget(id);
        return if status == errors::STOPPED { Sent::Stopped } else { Sent::Declined };
    }
    if status.code == Code::DataLoss {
        clients.unreadable.push(status);
    } else if status != errors::TIMEOUT {
        clients.strange.push(status);
    }
    Sent::Unknown
}

async fn call<E: Env>(api: &Api<E>, request: &Request, serializable: bool) -> Result<Response, Status> {
    match request {
        Request::Range(range) => api.range(wire::range(range, serializable)).await.map(wire::ranged),
        Request::Put(put) => api.put(wire::put(put)).await.map(wire::written),
        Request::DeleteRange(delete) => api.delete_range(wire::delete_range(delete)).await.map(wire::deleted),
        Request::Txn(txn) => api.txn(wire::txn(txn)).await.map(wire::executed),
        Request::Empty => unreachable!("only an operation of a transaction can be empty"),
    }
}
