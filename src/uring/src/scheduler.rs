//! Which executor runs the tasks of a thread: our own, or glommio, kept to be compared with.

use std::{future::Future, rc::Rc, time::Duration};

use glommio::{Latency, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle};
use plinth_env::TaskQueue;

use crate::{
    env::now,
    exec::{
        self, Exec,
        queues::{WEIGHT_BACKGROUND, WEIGHT_SERVE},
    },
    probe::StartError,
};

/// Names the runtime.
pub(crate) const RUNTIME_VAR: &str = "PLINTH_RUNTIME";

/// When a queue that doesn't yield is interrupted at its next look.
const PREEMPT: Duration = Duration::from_millis(1);

/// glommio's own buffers for direct I/O, which nothing here uses: the least it takes.
const GLOMMIO_IO_BYTES: usize = 64 << 10;

/// Shares of glommio's queues: under contention each gets its part of the time.
const SHARES_CONSENSUS: usize = 1000;
const SHARES_SERVE: usize = 600;
const SHARES_BACKGROUND: usize = SHARES_SERVE * WEIGHT_BACKGROUND as usize / WEIGHT_SERVE as usize;

/// What executors are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Runtime {
    /// Our own loop on io_uring.
    Own,
    /// glommio.
    Glommio,
}

impl Runtime {
    /// What the variable `PLINTH_RUNTIME` asks for: `glommio`, or our own without it.
    pub fn chosen() -> Result<Self, StartError> {
        match std::env::var_os(RUNTIME_VAR) {
            None => Ok(Self::Own),
            Some(name) => Self::named(&name.to_string_lossy()),
        }
    }

    fn named(name: &str) -> Result<Self, StartError> {
        match name {
            "" | "own" => Ok(Self::Own),
            "glommio" => Ok(Self::Glommio),
            other => Err(StartError::UnknownRuntime(other.to_owned())),
        }
    }
}

/// Where tasks go.
pub(crate) enum Scheduler {
    Own(Rc<Exec>),
    Glommio([TaskQueueHandle; 3]),
}

impl Scheduler {
    /// The queues of the glommio executor of this thread.
    pub(crate) fn glommio() -> Self {
        let queue =
            |shares, latency, name| glommio::executor().create_task_queue(Shares::Static(shares), latency, name);
        Self::Glommio([
            queue(SHARES_CONSENSUS, Latency::Matters(PREEMPT), "consensus"),
            queue(SHARES_SERVE, Latency::NotImportant, "serve"),
            queue(SHARES_BACKGROUND, Latency::NotImportant, "background"),
        ])
    }

    /// Queues a task; it is never polled where it is spawned: an answer would cost a system call of its own.
    pub(crate) fn spawn(&self, queue: TaskQueue, task: impl Future<Output = ()> + 'static) {
        match self {
            Self::Own(exec) => exec.spawn(queue, task),
            Self::Glommio(queues) => {
                let task = glommio::spawn_local_into(task, queues[queue as usize]);
                drop(task.expect("queues live as long as the executor").detach());
            }
        }
    }
}

/// Runs `main` on glommio, pinned to `core`.
pub(crate) fn run_on_glommio(index: usize, core: usize, main: impl Future<Output = ()>) -> std::io::Result<()> {
    let executor = LocalExecutorBuilder::new(Placement::Fixed(core))
        .name(&format!("plinth-{index}"))
        .io_memory(GLOMMIO_IO_BYTES)
        .preempt_timer(PREEMPT)
        .make()
        .map_err(|error| std::io::Error::other(error.to_string()))?;
    executor.run(main);
    Ok(())
}

/// Completes after `duration`, on whichever executor the thread has.
pub(crate) async fn sleep(duration: Duration) {
    match Exec::current() {
        Some(exec) => exec.sleep_until(now() + duration).await,
        None => glommio::timer::sleep(duration).await,
    }
}

/// Lets other tasks run.
pub(crate) async fn yield_now() {
    if Exec::current().is_some() {
        exec::yield_now().await;
    } else {
        glommio::executor().yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_chosen_by_name_and_an_unknown_name_is_refused() {
        assert!(matches!((Runtime::named(""), Runtime::named("own")), (Ok(Runtime::Own), Ok(Runtime::Own))));
        assert!(matches!(Runtime::named("glommio"), Ok(Runtime::Glommio)));
        let error = Runtime::named("tokio").expect_err("there is no such runtime").to_string();
        assert!(error.contains("\"tokio\"") && error.contains("glommio"), "{error}");
    }
}
