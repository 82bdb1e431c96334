//! One pinned glommio executor per core, and what each carries: task queues, storage ring, permanent timer.
//!
//! Invariants: every executor has timers that never stop, because glommio can park with runnable tasks until an
//! unrelated event arrives (`heartbeat`); tasks are always queued, never polled where they are spawned;
//! either all executors run their main future or none does.

use std::{
    cell::{Cell, OnceCell},
    future::Future,
    io,
    rc::Rc,
    sync::{Arc, mpsc},
    time::Duration,
};

use glommio::{ExecutorJoinHandle, Latency, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle};
use plinth_base::mailbox;
use plinth_env::TaskQueue;

use crate::{
    counters::ExecutorCounters,
    env::UringEnv,
    heartbeat::{self, Heartbeat},
    helpers::Pool,
    pages::Sweeper,
    probe::{self, Features, StartError},
    ring::Ring,
    thread::Class,
};

/// When a queue that doesn't yield is interrupted at its next look.
const PREEMPT: Duration = Duration::from_millis(1);

/// How often an ending executor looks whether its operations are over.
const DRAIN_POLL: Duration = Duration::from_millis(1);

/// glommio's own buffers for direct I/O, which nothing here uses: the least it takes.
const GLOMMIO_IO_BYTES: usize = 64 << 10;

/// Threads that open, rename, remove and sync.
const FILE_THREADS: usize = 2;

/// Threads that load pages.
const PAGE_THREADS: usize = 4;

/// Shares of the queues: under contention each gets its part of the time.
const SHARES_CONSENSUS: usize = 1000;
const SHARES_SERVE: usize = 600;
const SHARES_BACKGROUND: usize = 50;

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
    queues: [TaskQueueHandle; 3],
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
    assert!(!cores.is_empty(), "an executor needs a core");
    let process = Arc::new(Process::start(cores)?);
    let (report, reports) = mpsc::channel();
    let mut gates = Vec::new();
    let mut threads = Vec::new();
    for (index, core) in cores.iter().copied().enumerate() {
        let (gate, opened) = mailbox::mailbox(1);
        let (process, report, main) = (Arc::clone(&process), report.clone(), main.clone());
        let thread =
            builder(index, core).spawn(move || run_executor(process, index, report, opened, main)).map_err(|error| {
                StartError::io(format!("starting the executor of core {core}"), io::Error::other(error.to_string()))
            });
        gates.push(gate);
        threads.push(thread?);
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

fn join(threads: Vec<ExecutorJoinHandle<()>>) -> Result<(), StartError> {
    let mut outcome = Ok(());
    for thread in threads {
        let ended =
            thread.join().map_err(|error| StartError::io("running an executor", io::Error::other(error.to_string())));
        outcome = outcome.and(ended);
    }
    outcome
}

fn builder(index: usize, core: usize) -> LocalExecutorBuilder {
    LocalExecutorBuilder::new(Placement::Fixed(core))
        .name(&format!("plinth-{index}"))
        .io_memory(GLOMMIO_IO_BYTES)
        .preempt_timer(PREEMPT)
}

/// The life of one executor's thread.
async fn run_executor<F, Fut>(
    process: Arc<Process>,
    index: usize,
    report: mpsc::Sender<Result<(), StartError>>,
    gate: mailbox::Receiver<bool>,
    main: F,
) where
    F: Fn(ExecutorContext) -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    LIFE.with(|life| life.alive.set(true));
    run_main(process, index, report, gate, main).await;
    LIFE.with(|life| life.alive.set(false));
}

async fn run_main<F, Fut>(
    process: Arc<Process>,
    index: usize,
    report: mpsc::Sender<Result<(), StartError>>,
    mut gate: mailbox::Receiver<bool>,
    main: F,
) where
    F: Fn(ExecutorContext) -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    let executor = match Executor::start(&process, index) {
        Ok(executor) => executor,
        Err(error) => {
            let _ = report.send(Err(error));
            return;
        }
    };
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
        // In a queue of its own: the default one would compete with all three.
        let task = glommio::spawn_local_into(main(context), executor.queue(TaskQueue::Serve));
        task.expect("the queue exists").await;
        executor.drain().await;
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
    fn start(process: &Arc<Process>, index: usize) -> Result<Rc<Self>, StartError> {
        let counters = Arc::clone(&process.counters[index]);
        let ring = Ring::new(&process.features, &process.cores, Arc::clone(&counters))
            .map_err(|e| StartError::io("setting up the storage ring", e))?;
        let queue =
            |shares, latency, name| glommio::executor().create_task_queue(Shares::Static(shares), latency, name);
        let executor = Rc::new(Self {
            process: Arc::clone(process),
            ring,
            counters,
            queues: [
                queue(SHARES_CONSENSUS, Latency::Matters(PREEMPT), "consensus"),
                queue(SHARES_SERVE, Latency::NotImportant, "serve"),
                queue(SHARES_BACKGROUND, Latency::NotImportant, "background"),
            ],
            sync_thread: OnceCell::new(),
            heartbeat: Rc::default(),
        });
        let reaper = executor.ring.reaper().map_err(|e| StartError::io("watching the storage ring", e))?;
        executor.spawn(TaskQueue::Consensus, reaper);
        executor.spawn(TaskQueue::Consensus, executor.ring.submitter());
        executor.spawn(TaskQueue::Consensus, heartbeat::beat(Rc::downgrade(&executor), Rc::clone(&executor.heartbeat)));
        Ok(executor)
    }

    fn queue(&self, queue: TaskQueue) -> TaskQueueHandle {
        self.queues[queue as usize]
    }

    pub(crate) fn spawn(&self, queue: TaskQueue, task: impl Future<Output = ()> + 'static) {
        // Into the queue, never inline: a spawned answer would cost a system call of its own.
        let task = glommio::spawn_local_into(task, self.queue(queue)).expect("queues live as long as the executor");
        drop(task.detach());
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
            glommio::timer::sleep(DRAIN_POLL).await;
        }
    }
}
