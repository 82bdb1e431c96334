//! Threads for what a ring can't do or needn't: opening, renaming, unlinking, populating mappings.
//!
//! A pool has a bounded queue and few threads. The executor never blocks: when the queue is full, the future tries again after
//! `FULL_RETRY`. A job that was accepted runs to its end, whether or not anyone still waits for it.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    thread::JoinHandle,
    time::Duration,
};

use crate::thread::{Class, enter};

/// Jobs that may wait for a thread of one pool.
const JOBS_MAX: usize = 1024;

/// When a future tries again that found the queue full.
const FULL_RETRY: Duration = Duration::from_millis(1);

type Job = Box<dyn FnOnce() + Send>;

struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A job never runs under the lock, so a panic can't leave the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) -> Result<(), Job> {
        let mut queue = self.lock();
        if queue.jobs.len() >= JOBS_MAX {
            return Err(job);
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.filled.notify_one();
        Ok(())
    }

    fn run(&self) {
        loop {
            let mut queue = self.lock();
            let job = loop {
                if let Some(job) = queue.jobs.pop_front() {
                    break job;
                }
                if queue.closed {
                    return;
                }
                queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            };
            drop(queue);
            job();
        }
    }
}

/// A few threads with one queue. Dropping the last handle runs what was accepted and joins the threads.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts `threads` threads named `name`, which may run on `cores` only (anywhere if that is empty).
    pub(crate) fn start(name: &str, threads: usize, class: Class, cores: &[usize]) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { jobs: VecDeque::new(), closed: false }),
            filled: Condvar::new(),
        });
        let mut pool = Self { shared, threads: Vec::with_capacity(threads) };
        for index in 0..threads {
            let (shared, cores) = (Arc::clone(&pool.shared), cores.to_vec());
            let thread = std::thread::Builder::new().name(format!("{name}-{index}")).spawn(move || {
                enter(class, &cores);
                shared.run();
            })?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Runs `job` on a thread of the pool. It is handed over at once if there is room, else when the future is polled.
    pub(crate) fn call<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Call<T> {
        let reply = Arc::new(Reply { slot: Mutex::new(Slot { value: None, waker: None }) });
        let to = Arc::clone(&reply);
        let rejected = self.shared.push(Box::new(move || to.put(job()))).err();
        Call { shared: Arc::clone(&self.shared), rejected, retry: None, reply }
    }

    /// Runs `job` if there is room and nobody waits for it; gives it back otherwise.
    pub(crate) fn try_detached(&self, job: impl FnOnce() + Send + 'static) -> Result<(), Job> {
        self.shared.push(Box::new(job))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.filled.notify_all();
        for thread in self.threads.drain(..) {
            // A job of this pool may hold the last handle to it; a thread can't join itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

struct Slot<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

struct Reply<T> {
    slot: Mutex<Slot<T>>,
}

impl<T> Reply<T> {
    fn lock(&self) -> MutexGuard<'_, Slot<T>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, value: T) {
        let mut slot = self.lock();
        slot.value = Some(value);
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The result of a job, when it is done.
pub(crate) struct Call<T> {
    shared: Arc<Shared>,
    /// The job, while the queue has been full.
    rejected: Option<Job>,
    retry: Option<Pin<Box<dyn Future<Output = ()>>>>,
    reply: Arc<Reply<T>>,
}

impl<T> Future for Call<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Registered before the job can be handed over: its end is never missed.
        {
            let mut slot = self.reply.lock();
            if let Some(value) = slot.value.take() {
                return Poll::Ready(value);
            }
            slot.waker = Some(cx.waker().clone());
        }
        while let Some(job) = self.rejected.take() {
            match self.shared.push(job) {
                Ok(()) => self.retry = None,
                Err(job) => {
                    self.rejected = Some(job);
                    let retry = self.retry.get_or_insert_with(|| {
                        Box::pin(async {
                            crate::scheduler::sleep(FULL_RETRY).await;
                        })
                    });
                    if retry.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    self.retry = None;
                }
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn accepted_jobs_run_even_if_nobody_waits_and_a_full_queue_gives_them_back() {
        let count = Arc::new(AtomicUsize::new(0));
        let pool = Pool::start("test", 1, Class::Prompt, &[]).expect("a thread starts");
        let (hold, held) = std::sync::mpsc::channel::<()>();
        drop(pool.call(move || held.recv()));
        let mut accepted = 0;
        for _ in 0..JOBS_MAX + 10 {
            let count = Arc::clone(&count);
            let job = move || {
                count.fetch_add(1, Ordering::Relaxed);
            };
            accepted += usize::from(pool.try_detached(job).is_ok());
        }
        // The first job waits in the queue or already in the thread.
        assert!((JOBS_MAX - 1..=JOBS_MAX).contains(&accepted), "{accepted} accepted");
        hold.send(()).expect("the job waits");
        drop(pool);
        assert_eq!(count.load(Ordering::Relaxed), accepted);
    }
}
