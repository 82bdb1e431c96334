//! An executor of our own: one thread, one ring, three queues of tasks.
//!
//! A pass runs what is ready, hands the ring what was started, and takes what has completed; the thread sleeps in io_uring_enter,
//! until an operation or a timer is due or another thread wakes one of its tasks. So a request costs a few system calls, not the
//! five and more of each pass of a general runtime.
//!
//! Invariants: a task runs only on the thread that spawned it; a task that was woken while the thread goes to sleep is seen, because the
//! thread says that it sleeps before it looks a last time (`remote`); consensus is looked at before every batch of other tasks, and they
//! after every batch of its.

pub(crate) mod queues;
mod remote;
mod timers;

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use plinth_base::Instant;
use plinth_env::TaskQueue;

pub(crate) use self::timers::Sleep;
use self::{
    queues::{Queues, Runnable},
    remote::Remote,
    timers::Timers,
};
use crate::{env::now, ring::Ring};

/// How long batches of one pass may take together before the ring is looked at.
const PASS: Duration = Duration::from_micros(500);

/// The longest sleep, should the eventfd ever fail.
const SLEEP_MAX: Duration = Duration::from_secs(1);

thread_local! {
    /// The executor of this thread, while it runs.
    static CURRENT: RefCell<Option<Rc<Exec>>> = const { RefCell::new(None) };
}

/// An executor, shared by everything on its thread.
pub(crate) struct Exec {
    queues: RefCell<Queues>,
    timers: RefCell<Timers>,
    remote: Arc<Remote>,
}

/// Makes the executor of this thread the current one, until it is dropped.
struct Entered;

impl Drop for Entered {
    fn drop(&mut self) {
        // Tasks that are still waiting hold it too; what they spawn or wake from now on goes nowhere.
        CURRENT.take();
    }
}

impl Exec {
    pub(crate) fn new() -> io::Result<Rc<Self>> {
        let remote = Arc::new(Remote::new()?);
        Ok(Rc::new(Self { queues: RefCell::default(), timers: RefCell::default(), remote }))
    }

    /// The executor of the calling thread, if it has one of this kind.
    pub(crate) fn current() -> Option<Rc<Self>> {
        CURRENT.with(|current| current.borrow().clone())
    }

    /// Queues a task; it is never polled where it is spawned.
    pub(crate) fn spawn(&self, queue: TaskQueue, task: impl Future<Output = ()> + 'static) {
        let remote = Arc::clone(&self.remote);
        let schedule = move |runnable| schedule(&remote, runnable);
        let (runnable, task) = async_task::Builder::new().metadata(queue).spawn_local(|_| task, schedule);
        task.detach();
        runnable.schedule();
    }

    /// Completes at `at`.
    pub(crate) fn sleep_until(self: &Rc<Self>, at: Instant) -> Sleep {
        Sleep::new(Rc::clone(self), at)
    }

    /// Runs `main` and all that it spawns, until `main` ends.
    pub(crate) fn run(self: &Rc<Self>, ring: &Ring, main: impl Future<Output = ()> + 'static) {
        CURRENT.replace(Some(Rc::clone(self)));
        let _entered = Entered;
        let is_done = Rc::new(Cell::new(false));
        let done = Rc::clone(&is_done);
        self.spawn(TaskQueue::Consensus, listen(ring.clone(), Arc::clone(&self.remote)));
        self.spawn(TaskQueue::Serve, async move {
            main.await;
            done.set(true);
        });
        loop {
            let is_busy = self.pass();
            if is_done.get() {
                return;
            }
            if is_busy {
                ring.turn();
            } else {
                self.sleep(ring);
            }
        }
    }

    /// Runs batches of ready tasks. True if more are ready.
    fn pass(&self) -> bool {
        let mut at = now();
        let end = at + PASS;
        self.fire_timers(at);
        loop {
            self.take_remote();
            let Some((queue, batch)) = self.queues.borrow_mut().next_batch() else { return false };
            for _ in 0..batch {
                let runnable = self.queues.borrow_mut().pop(queue);
                let Some(runnable) = runnable else { break };
                runnable.run();
            }
            let began = std::mem::replace(&mut at, now());
            self.queues.borrow_mut().charge(queue, at.since(began));
            if at >= end {
                return true;
            }
        }
    }

    fn fire_timers(&self, now: Instant) {
        loop {
            let due = self.timers.borrow_mut().take_due(now);
            let Some(waker) = due else { return };
            waker.wake();
        }
    }

    fn take_remote(&self) {
        while let Some(runnable) = self.remote.take() {
            self.queues.borrow_mut().push(runnable);
        }
    }

    /// Sleeps until the ring, a timer or another thread has something.
    fn sleep(&self, ring: &Ring) {
        let due = self.timers.borrow().next();
        let left = due.map_or(SLEEP_MAX, |due| due.since(now()).min(SLEEP_MAX));
        if self.remote.begin_sleep() {
            ring.wait(left);
        }
        self.remote.end_sleep();
    }
}

/// Puts a woken task where its thread finds it.
fn schedule(remote: &Arc<Remote>, runnable: Runnable) {
    // At the end of a thread its locals are gone; then nobody runs the task any more.
    let left = CURRENT.try_with(|current| match &*current.borrow() {
        Some(exec) if Arc::ptr_eq(&exec.remote, remote) => {
            exec.queues.borrow_mut().push(runnable);
            None
        }
        _ => Some(runnable),
    });
    if let Ok(Some(runnable)) = left {
        remote.send(runnable);
    }
}

/// The task that other threads wake the executor by: it always has a read of the eventfd in the ring.
async fn listen(ring: Ring, remote: Arc<Remote>) {
    while ring.read_event(remote.event()).await.is_ok() {}
}

/// Goes to the end of the queue once.
pub(crate) async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
