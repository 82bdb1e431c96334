//! A run from connecting to its end, or the filling of a server.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use plinth_base::Prng;
use prost::Message;

use super::{
    Op, Outcome, Plan,
    connection::call_once,
    keys::{EachOnce, Uniform},
    session::Session,
    thread::on_own_thread,
};
use crate::failure::Failure;

/// A server that answers nothing for so long while it is being filled is stuck.
const FILL_STALL_MAX: Duration = Duration::from_secs(30);

/// Runs a plan.
///
/// # Errors
/// One line: the server isn't there, went away, or never answered.
pub fn run(plan: &Plan) -> Result<Outcome, Failure> {
    on_own_thread(plan.core, || async {
        let session = started(plan).await?;
        Ok(session.measure(session.wait(plan.measured)).await?.0)
    })
}

/// Runs a plan; what is measured is the time of `work`, which shares the load's thread, and not the plan's.
///
/// # Errors
/// As [`run`], and those of `work`.
pub fn run_during<T: Send, F: Future<Output = Result<T, Failure>>>(
    plan: &Plan,
    work: impl FnOnce() -> F + Send,
) -> Result<(Outcome, T), Failure> {
    on_own_thread(plan.core, || async {
        let session = started(plan).await?;
        session.measure(work()).await
    })
}

/// One call on a connection of its own from a thread on `core`, its answer read as fast as it comes: its length, and how long it took.
///
/// # Errors
/// One line: the server isn't there, or the call failed.
pub fn call_timed(
    endpoint: SocketAddr,
    core: usize,
    path: &str,
    message: &impl Message,
) -> Result<(u64, Duration), Failure> {
    on_own_thread(Some(core), || async {
        let start = Instant::now();
        let bytes = call_once(endpoint, path, message).await?;
        Ok((bytes, start.elapsed()))
    })
}

/// Writes each key of a plan's shape once; gives how long it took.
///
/// # Errors
/// As [`run`], and if a put fails.
pub fn fill(plan: &Plan) -> Result<Duration, Failure> {
    let plan = Plan { op: Op::Put, ..plan.clone() };
    on_own_thread(plan.core, || fill_here(plan))
}

/// Warmed up.
async fn started(plan: &Plan) -> Result<Session, Failure> {
    let session = Session::connect(plan.clone()).await?;
    let mut prng = Prng::new(plan.seed);
    session.start(session.requests(), || Uniform::new(prng.fork(), plan.shape.keys, 1, plan.pause));
    session.tell_live();
    session.wait(plan.warmup).await?;
    Ok(session)
}

async fn fill_here(plan: Plan) -> Result<Duration, Failure> {
    let (endpoint, all) = (plan.endpoint, plan.shape.keys);
    let session = Session::connect(plan).await?;
    let start = Instant::now();
    let keys = EachOnce::new(all);
    session.start(session.requests(), || keys.clone());
    let tally = &session.tally;
    let (mut answers, mut answered) = (0, Instant::now());
    while tally.answers() < all {
        session.wait(Duration::from_millis(20)).await?;
        if let Some(errors) = tally.errors().first() {
            return Err(Failure::Trouble(format!("filling {endpoint}: a put failed: {:?}", errors.message)));
        }
        if tally.answers() > answers {
            (answers, answered) = (tally.answers(), Instant::now());
        } else if answered.elapsed() > FILL_STALL_MAX {
            return Err(Failure::Trouble(format!("filling {endpoint}: no answer for {FILL_STALL_MAX:?}")));
        }
    }
    Ok(start.elapsed())
}
