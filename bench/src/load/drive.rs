//! A run from connecting to its end, or the filling of a server.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use prost::Message;

use super::{Op, Outcome, Pace, Plan, client::call_once, engine::Engine, keys::Distribution, thread::on_own_thread};
use crate::failure::Failure;

const NICE_MAX: i32 = 19;

/// Runs a plan.
///
/// # Errors
/// One line: the server isn't there, went away, or never answered; with watchers also if a put fails, or if a watcher loses an event, or sees one
/// twice or out of order.
pub fn run(plan: &Plan) -> Result<Outcome, Failure> {
    plan.check()?;
    on_own_thread(plan.core, || {
        let mut engine = started(plan)?;
        let outcome = engine.measure(None)?;
        if plan.watchers.is_some() {
            outcome.expect_no_errors()?;
            engine.finish()?;
        }
        Ok(outcome)
    })
}

/// Runs a plan; what is measured is the time of `work`, which shares the load's core, and not the plan's.
///
/// # Errors
/// As [`run`], and those of `work`.
pub fn run_during<T: Send>(
    plan: &Plan,
    work: impl FnOnce() -> Result<T, Failure> + Send,
) -> Result<(Outcome, T), Failure> {
    on_own_thread(plan.core, || {
        let mut engine = started(plan)?;
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let working = scope.spawn(|| {
                // Inherits the load's core.
                let given = work();
                is_over.store(true, Ordering::Release);
                given
            });
            let outcome = engine.measure(Some(&|| is_over.load(Ordering::Acquire)));
            let given = working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok((outcome?, given?))
        })
    })
}

/// The calling thread gives way to the load on the core that they share: what the load waits for it would count as the server's.
pub fn give_way() {
    // Whoever may not do it is measured with the disadvantage.
    rustix::process::nice(NICE_MAX).ok();
}

/// One call on a connection of its own from a thread on `core`, its answer read as fast as it comes: its length, and how long it took.
///
/// # Errors
/// One line: the server isn't there, or the call failed.
pub fn call_timed(
    endpoint: SocketAddr,
    core: usize,
    path: &'static str,
    message: &impl Message,
) -> Result<(u64, Duration), Failure> {
    on_own_thread(Some(core), || {
        let start = Instant::now();
        let bytes = call_once(endpoint, path, message)?;
        Ok((bytes, start.elapsed()))
    })
}

/// Writes each key of a plan's shape once; gives how long it took.
///
/// # Errors
/// As [`run`], and if a put fails.
pub fn fill(plan: &Plan) -> Result<Duration, Failure> {
    let plan = Plan {
        op: Op::Put,
        mix: Vec::new(),
        distribution: Distribution::Sequential,
        pace: Pace::Closed,
        requests_max: Some(plan.shape.keys),
        watchers: None,
        ..plan.clone()
    };
    on_own_thread(plan.core, || {
        let mut engine = Engine::connect(&plan)?;
        let start = Instant::now();
        engine.start()?;
        let all = plan.shape.keys;
        engine.settle("puts are answered", |engine| engine.tally.answers() >= all || engine.tally.has_failed())?;
        if let Some(errors) = engine.tally.errors().first() {
            let (endpoint, message) = (plan.endpoints[0], &errors.message);
            return Err(Failure::Trouble(format!("filling {endpoint}: a put failed: {message:?}")));
        }
        Ok(start.elapsed())
    })
}

/// Warmed up.
fn started(plan: &Plan) -> Result<Engine<'_>, Failure> {
    let mut engine = Engine::connect(plan)?;
    engine.start()?;
    engine.go_on(plan.warmup)?;
    Ok(engine)
}
