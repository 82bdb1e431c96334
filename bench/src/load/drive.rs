//! A run from connecting to its end.
//!
//! The load has a thread and a runtime of its own, so that pinning it pins nothing else. Ending the runtime ends all calls where they are.

use std::{
    cell::Cell,
    io::Write,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::client::SendRequest;
use plinth_base::Prng;
use rustix::{
    thread::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
};
use tokio::{
    runtime::Builder,
    task::{LocalSet, spawn_local},
    time::{sleep, timeout},
};

use super::{
    DiskUse, Op, Outcome, Plan, ServerUse, Watched,
    connection::{self, Connection},
    placement,
    request::Requests,
    tally::Tally,
};
use crate::{
    failure::Failure,
    procfs::{CpuSample, Disk, DiskSample, ProcessSample},
};

/// A server that answers nothing for so long while it is being filled is stuck.
const FILL_STALL_MAX: Duration = Duration::from_secs(30);

/// Runs a plan.
///
/// # Errors
/// One line: the server isn't there, went away, or never answered.
pub fn run(plan: &Plan) -> Result<Outcome, Failure> {
    on_own_thread(plan, |plan| async move { run_here(&plan).await })
}

/// Writes each key of a plan's shape once; gives how long it took.
///
/// # Errors
/// As [`run`], and if a put fails.
pub fn fill(plan: &Plan) -> Result<Duration, Failure> {
    let plan = Plan { op: Op::Put, ..plan.clone() };
    on_own_thread(&plan, |plan| async move { fill_here(&plan).await })
}

fn on_own_thread<T: Send, F: Future<Output = Result<T, Failure>>>(
    plan: &Plan,
    work: impl FnOnce(Plan) -> F + Send,
) -> Result<T, Failure> {
    let plan = plan.clone();
    let body = move || {
        if let Some(core) = plan.core {
            pin(core)?;
        }
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|error| Failure::Trouble(format!("starting the load: {error}")))?;
        LocalSet::new().block_on(&runtime, work(plan))
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("load".to_owned()).spawn_scoped(scope, body);
        let thread = thread.map_err(|error| Failure::Trouble(format!("starting the load: {error}")))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Restricts the calling thread, and what it starts, to a core.
pub fn pin(core: usize) -> Result<(), Failure> {
    let refused = |text: String| Failure::Trouble(format!("cannot pin to core {core}: {text}"));
    if core >= CpuSet::MAX_CPU {
        return Err(refused("there is no such core".to_owned()));
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|error| refused(error.to_string()))
}

async fn run_here(plan: &Plan) -> Result<Outcome, Failure> {
    let tally = Rc::new(Tally::new());
    let connections = connect_all(plan, &tally).await?;
    let prng = &mut Prng::new(plan.seed);
    start_streams(plan, &tally, &connections, || {
        let (mut prng, keys) = (prng.fork(), plan.shape.keys);
        move || Some(prng.below(keys))
    });
    if plan.live {
        spawn_local(tell_live(Rc::clone(&tally)));
    }
    wait(&tally, plan.warmup).await?;
    let before = Look::now(plan)?;
    tally.begin(Instant::now());
    wait(&tally, plan.measured).await?;
    let (latencies, series, elapsed) = tally.end(Instant::now());
    let after = Look::now(plan)?;
    if plan.live {
        eprint!("\r\x1b[K");
    }
    if tally.answers() == 0 {
        return Err(Failure::Trouble(format!("{} accepts connections and answers nothing", plan.endpoint)));
    }
    Ok(Outcome {
        plan: plan.clone(),
        elapsed,
        latencies,
        series,
        errors: tally.errors(),
        own_cpu: after.own_cpu.saturating_sub(before.own_cpu),
        server: after.server_since(&before),
        disturbance: after.cpu.since(&before.cpu, &taking_part(plan)),
    })
}

async fn fill_here(plan: &Plan) -> Result<Duration, Failure> {
    let tally = Rc::new(Tally::new());
    let connections = connect_all(plan, &tally).await?;
    let start = Instant::now();
    let next = Rc::new(Cell::new(0));
    start_streams(plan, &tally, &connections, || {
        let (next, keys) = (Rc::clone(&next), plan.shape.keys);
        move || {
            let key = next.get();
            next.set(key + 1);
            (key < keys).then_some(key)
        }
    });
    let mut answers = 0;
    let mut answered = Instant::now();
    while tally.answers() < plan.shape.keys {
        wait(&tally, Duration::from_millis(20)).await?;
        if let Some(errors) = tally.errors().first() {
            return Err(Failure::Trouble(format!("filling {}: a put failed: {:?}", plan.endpoint, errors.message)));
        }
        if tally.answers() > answers {
            (answers, answered) = (tally.answers(), Instant::now());
        } else if answered.elapsed() > FILL_STALL_MAX {
            return Err(Failure::Trouble(format!("filling {}: no answer for {FILL_STALL_MAX:?}", plan.endpoint)));
        }
    }
    Ok(start.elapsed())
}

async fn connect_all(plan: &Plan, tally: &Rc<Tally>) -> Result<Vec<SendRequest<Bytes>>, Failure> {
    let mut all = Vec::with_capacity(plan.clients.connections);
    for _ in 0..plan.clients.connections {
        let Connection { send, end } = match plan.executor {
            None => connection::connect(plan.endpoint).await.map_err(Failure::Trouble)?,
            Some(executor) => placement::connect_to(plan.endpoint, executor).await?,
        };
        let (tally, endpoint) = (Rc::clone(tally), plan.endpoint);
        spawn_local(async move {
            let why = end.await.unwrap_or_else(|error| error.to_string());
            tally.lost(format!("{endpoint} went away after {} answers: {why}", tally.answers()));
        });
        all.push(send);
    }
    Ok(all)
}

fn start_streams<K: FnMut() -> Option<u64> + 'static>(
    plan: &Plan,
    tally: &Rc<Tally>,
    connections: &[SendRequest<Bytes>],
    mut keys: impl FnMut() -> K,
) {
    let requests = Rc::new(Requests::new(plan.op, plan.shape, plan.seed, &plan.endpoint.to_string()));
    // Stream by stream over all connections, so that all of them begin at once.
    for _ in 0..plan.clients.streams {
        for send in connections {
            spawn_local(connection::stream(send.clone(), Rc::clone(&requests), Rc::clone(tally), keys()));
        }
    }
}

/// Waits; fails as soon as a connection is lost.
async fn wait(tally: &Tally, duration: Duration) -> Result<(), Failure> {
    // Whether it is notified or not: what counts is what the tally says.
    timeout(duration, tally.changed.notified()).await.ok();
    tally.why_lost().map_or(Ok(()), |why| Err(Failure::Trouble(why)))
}

async fn tell_live(tally: Rc<Tally>) {
    let mut answers = tally.answers();
    loop {
        sleep(Duration::from_secs(1)).await;
        let now = tally.answers();
        let (p50, p99) = tally.glance();
        let us = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |us| format!("{us:.0}"));
        let failed: u64 = tally.errors().iter().map(|errors| errors.count).sum();
        eprint!("\r\x1b[K{}/s, p50 {} µs, p99 {} µs, {failed} failed", now - answers, us(p50), us(p99));
        std::io::stderr().flush().ok();
        answers = now;
    }
}

/// Everything that is read before and after.
struct Look {
    own_cpu: Duration,
    cpu: CpuSample,
    server: Option<(ProcessSample, Option<DiskSample>)>,
}

impl Look {
    fn now(plan: &Plan) -> Result<Self, Failure> {
        let trouble = |error: std::io::Error| Failure::Trouble(format!("reading what the kernel counts: {error}"));
        let server = plan.watched.as_ref().map(look_at_server).transpose()?;
        Ok(Self { own_cpu: thread_cpu(), cpu: CpuSample::read().map_err(trouble)?, server })
    }

    fn server_since(&self, before: &Self) -> Option<ServerUse> {
        let ((now, disk), (then, disk_then)) = (self.server?, before.server?);
        let disk = disk.zip(disk_then).map(|(now, then)| DiskUse {
            flushes: now.flushes - then.flushes,
            writes: now.writes - then.writes,
            written_bytes: now.written_bytes - then.written_bytes,
        });
        Some(ServerUse {
            cpu: now.cpu.saturating_sub(then.cpu),
            memory_bytes: now.memory_bytes,
            switches: now.switches.saturating_sub(then.switches),
            disk,
        })
    }
}

fn look_at_server(watched: &Watched) -> Result<(ProcessSample, Option<DiskSample>), Failure> {
    let process = ProcessSample::read(watched.pid);
    let process = process.map_err(|error| Failure::Trouble(format!("looking at process {}: {error}", watched.pid)))?;
    let disk = watched.data_dir.as_ref().map(|dir| {
        let sample = Disk::below(dir).and_then(|disk| disk.sample());
        sample.map_err(|error| Failure::Trouble(format!("looking at the disk of {}: {error}", dir.display())))
    });
    Ok((process, disk.transpose()?))
}

/// CPU time of the calling thread.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn taking_part(plan: &Plan) -> Vec<u32> {
    let server = plan.watched.as_ref().map(|watched| watched.pid);
    server.into_iter().chain([std::process::id()]).collect()
}
