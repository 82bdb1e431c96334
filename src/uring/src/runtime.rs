//! One pinned executor per core, and what each carries: task queues, ring, helper threads.
//!
//! Invariants: tasks are always queued, never polled where they are spawned; either all executors run their main future or none does;
//! on glommio every executor has timers that never stop, because it can park with runnable tasks until an unrelated event
//! arrives (`heartbeat`).

use std::{
    cell::{Cell, OnceCell, RefCell},
    future::{Future, poll_fn},
    io,
    rc::{Rc, Weak},
    sync::{Arc, mpsc},
    task::{Poll, Waker},
    thread::JoinHandle,
    time::Duration,
};

use plinth_base::mailbox;
use plinth_env::TaskQueue;

use crate::{
    counters::ExecutorCounters,
    env::UringEnv,
    exec::Exec,
    heartbeat::{self, Heartbeat},
    helpers::Pool,
    pages::Sweeper,
    probe::{self, Features, StartError},
    ring::Ring,
    scheduler::{self, Runtime, Scheduler, run_on_glommio},
    thread::{self, Class},
};

/// How often an ending executor looks whether its operations are over.
const DRAIN_POLL: Duration = Duration::from_millis(1);

/// Threads that open, rename, remove and sync.
const FILE_THREADS: usize = 2;

/// Threads that load pages.
const PAGE_THREADS: usize = 4;

/// How often the thread's resource usage is read.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// What all executors of the process share.
pub(crate) struct Process {
    pub(crate) features: Features,
    pub(crate) cores: Vec<usize>,
    pub(crate) files: Pool,
    pub(crate) pages: Pool,
    pub(crate) sweeper: Sweeper,
    counters: Arc<[Arc<ExecutorCounters>]>,
}

/// One executor.
pub(crate) struct Executor {
    pub(crate) process: Arc<Process>,
    pub(crate) ring: Ring,
    pub(crate) counters: Arc<ExecutorCounters>,
    scheduler: Scheduler,
    sync_thread: OnceCell<Rc<Pool>>,
    pub(crate) heartbeat: Rc<Heartbeat>,
}

/// What `main` gets on each executor.
#[derive(Clone)]
pub struct ExecutorContext {
    /// Its number, from 0.
    pub index: usize,
    /// How many there are.
    pub executors: usize,
    /// The core it is pinned to.
    pub core: usize,
    /// Its environment.
    pub env: UringEnv,
    /// The counters of all executors, by number.
    pub counters: Arc<[Arc<ExecutorCounters>]>,
}

/// Runs `main` on one executor per core of `cores` until all of them have returned. Checks first what the machine offers.
///
/// A panic on any executor aborts the process: half a node is worse than none.
pub fn run<F, Fut>(cores: &[usize], main: F) -> Result<(), StartError>
where
    F: Fn(ExecutorContext) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    run_on(Runtime::chosen()?, cores, main)
}

/// The same on the given kind of executors.
pub fn run_on<F, Fut>(runtime: Runtime, cores: &[usize], main: F) -> Result<(), StartError>
where
    F: Fn(ExecutorContext) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    assert!(!cores.is_empty(), "an executor needs a core");
    let process = Arc::new(Process::start(cores)?);
    let (report, reports) = mpsc::channel();
    let mut gates = Vec::new();
    let mut threads = Vec::new();
    for index in 0..cores.len() {
        let (gate, opened) = mailbox::mailbox(1);
        let birth = Birth { process: Arc::clone(&process), index, report: report.clone(), gate: opened };
        let main = main.clone();
        let thread =
            std::thread::Builder::new().name(format!("plinth-{index}")).spawn(move || live(runtime, birth, main));
        gates.push(gate);
        threads.push(thread.map_err(|error| StartError::io("starting a thread", error))?);
    }
    drop(report);
    let started = collect_reports(&reports, cores.len());
    for gate in &gates {
        // A full mailbox is impossible and a dead executor needs no word.
        let _ = gate.send(started.is_ok());
    }
    let joined = join(threads);
    started.and(joined)
}

/// The outcome of all starts; the first failure counts.
fn collect_reports(reports: &mpsc::Receiver<Result<(), StartError>>, executors: usize) -> Result<(), StartError> {
    let mut outcome = Ok(());
    for _ in 0..executors {
        // A thread that died without a word is found when it is joined.
        outcome = outcome.and(reports.recv().unwrap_or(Ok(())));
    }
    outcome
}

fn join(threads: Vec<JoinHandle<()>>) -> Result<(), StartError> {
    let mut outcome = Ok(());
    for thread in threads {
        let ended = thread.join().map_err(|_| StartError::io("running an executor", io::Error::other("it panicked")));
        outcome = outcome.and(ended);
    }
    outcome
}

/// What an executor's thread begins with.
struct Birth {
    process: Arc<Process>,
    index: usize,
    /// Where it says how its start went.
    report: mpsc::Sender<Result<(), StartError>>,
    /// Whether all have started.
    gate: mailbox::Receiver<bool>,
}

/// The life of one executor's thread.
fn live<F, Fut>(runtime: Runtime, birth: Birth, main: F)
where
    F: Fn(ExecutorContext) -> Fut + 'static,
    Fut: Future<Output = ()> + 'static,
{
    LIFE.with(|life| life.alive.set(true));
    let report = birth.report.clone();
    let ran = match runtime {
        Runtime::Own => live_on_own(birth, main),
        Runtime::Glommio => live_on_glommio(birth, main),
    };
    if let Err(error) = ran {
        // Nobody listens any more if it had started.
        let _ = report.send(Err(error));
    }
    LIFE.with(|life| life.alive.set(false));
}

fn live_on_own<F, Fut>(birth: Birth, main: F) -> Result<(), StartError>
where
    F: Fn(ExecutorContext) -> Fut + 'static,
    Fut: Future<Output = ()> + 'static,
{
    thread::enter(Class::Executor, &birth.process.cores[birth.index..=birth.index]);
    let exec = Exec::new().map_err(|e| StartError::io("making an eventfd", e))?;
    let executor = Executor::start(&birth, Scheduler::Own(Rc::clone(&exec)))?;
    let ring = executor.ring.clone();
    exec.run(&ring, run_main(executor, birth, main));
    Ok(())
}

fn live_on_glommio<F, Fut>(birth: Birth, main: F) -> Result<(), StartError>
where
    F: Fn(ExecutorContext) -> Fut + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let (index, core) = (birth.index, birth.process.cores[birth.index]);
    let started = Rc::new(Cell::new(Ok(())));
    let outcome = Rc::clone(&started);
    let life = async move {
        match Executor::start_on_glommio(&birth) {
            Ok(executor) => run_main(executor, birth, main).await,
            Err(error) => outcome.set(Err(error)),
        }
    };
    run_on_glommio(index, core, life)
        .map_err(|error| StartError::io(format!("starting the executor of core {core}"), error))?;
    started.replace(Ok(()))
}

async fn run_main<F, Fut>(executor: Rc<Executor>, birth: Birth, main: F)
where
    F: Fn(ExecutorContext) -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    let Birth { process, index, report, mut gate } = birth;
    let _ = report.send(Ok(()));
    drop(report);
    gate.ready().await;
    if gate.take() == Some(true) {
        let context = ExecutorContext {
            index,
            executors: process.cores.len(),
            core: process.cores[index],
            env: UringEnv(Rc::clone(&executor)),
            counters: Arc::clone(&process.counters),
        };
        // In a queue of its own: glommio's default one would compete with all three.
        let is_over = Rc::new(Over::default());
        let over = Rc::clone(&is_over);
        let life = main(context);
        executor.spawn(TaskQueue::Serve, async move {
            life.await;
            over.set();
        });
        is_over.wait().await;
        executor.drain().await;
    }
}

/// That `main` has ended.
#[derive(Default)]
struct Over {
    is_set: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Over {
    fn set(&self) {
        self.is_set.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            if self.is_set.get() {
                return Poll::Ready(());
            }
            self.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// Reads the thread's resource usage from time to time.
async fn sample(executor: Weak<Executor>) {
    loop {
        let Some(alive) = executor.upgrade() else { return };
        thread::sample(&alive.counters);
        drop(alive);
        scheduler::sleep(SAMPLE_INTERVAL).await;
    }
}

/// Aborts the process when a thread ends while its executor is alive, that is, by a panic: what is left would be half a node
/// that still holds its ports and files. (Release builds abort at the panic already.)
#[derive(Default)]
struct Life {
    alive: Cell<bool>,
}

impl Drop for Life {
    fn drop(&mut self) {
        if self.alive.get() {
            std::process::abort();
        }
    }
}

thread_local! {
    static LIFE: Life = Life::default();
}

impl Process {
    fn start(cores: &[usize]) -> Result<Self, StartError> {
        let features = probe::check()?;
        crate::pages::install_sigbus_handler().map_err(|e| StartError::io("installing the SIGBUS handler", e))?;
        let pool = |name, threads, class| {
            Pool::start(name, threads, class, cores).map_err(|e| StartError::io(format!("starting thread {name}"), e))
        };
        Ok(Self {
            features,
            cores: cores.to_vec(),
            files: pool("plinth-file", FILE_THREADS, Class::Prompt)?,
            pages: pool("plinth-page", PAGE_THREADS, Class::Patient)?,
            sweeper: Sweeper::start(cores).map_err(|e| StartError::io("starting thread plinth-sweep", e))?,
            counters: cores.iter().map(|_| Arc::new(ExecutorCounters::default())).collect(),
        })
    }
}

impl Executor {
    fn start(birth: &Birth, scheduler: Scheduler) -> Result<Rc<Self>, StartError> {
        let process = Arc::clone(&birth.process);
        let counters = Arc::clone(&process.counters[birth.index]);
        let ring = Ring::new(&process.features, &process.cores, Arc::clone(&counters))
            .map_err(|e| StartError::io("setting up the storage ring", e))?;
        let (sync_thread, heartbeat) = (OnceCell::new(), Rc::default());
        let executor = Rc::new(Self { process, ring, counters, scheduler, sync_thread, heartbeat });
        executor.spawn(TaskQueue::Consensus, sample(Rc::downgrade(&executor)));
        Ok(executor)
    }

    /// On glommio, with the tasks that stand between its ring and ours, and the permanent timer that it needs.
    fn start_on_glommio(birth: &Birth) -> Result<Rc<Self>, StartError> {
        let executor = Self::start(birth, Scheduler::glommio())?;
        let reaper = executor.ring.reaper().map_err(|e| StartError::io("watching the storage ring", e))?;
        executor.spawn(TaskQueue::Consensus, reaper);
        executor.spawn(TaskQueue::Consensus, executor.ring.submitter());
        executor.spawn(TaskQueue::Consensus, heartbeat::beat(Rc::downgrade(&executor), Rc::clone(&executor.heartbeat)));
        Ok(executor)
    }

    pub(crate) fn spawn(&self, queue: TaskQueue, task: impl Future<Output = ()> + 'static) {
        self.scheduler.spawn(queue, task);
    }

    /// The thread that blocks in pwritev2, started when the first file wants it.
    pub(crate) fn sync_thread(&self) -> io::Result<Rc<Pool>> {
        if let Some(thread) = self.sync_thread.get() {
            return Ok(Rc::clone(thread));
        }
        let thread = Rc::new(Pool::start("plinth-sync", 1, Class::Prompt, &self.process.cores)?);
        Ok(Rc::clone(self.sync_thread.get_or_init(|| thread)))
    }

    /// Waits for operations whose futures are gone.
    async fn drain(&self) {
        while self.ring.busy() > 0 {
            scheduler::sleep(DRAIN_POLL).await;
        }
    }
}
