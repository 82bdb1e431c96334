//! Time and tasks, as the connection loop needs them.

use std::{future::Future, time::Duration};

use plinth_base::Instant;
use plinth_env::{Env, TaskQueue};

/// The executor that a connection lives on.
pub trait Runtime: Clone + 'static {
    /// The monotonic clock.
    fn now(&self) -> Instant;

    /// Completes after `duration`. Costs little until it is polled: most are dropped unpolled.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static;

    /// Starts a task on this executor. It must be queued behind the tasks that are ready, never polled inline: answers that
    /// become ready together could not be batched otherwise.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);
}

/// Any [`Env`]; tasks go to its queue for clients.
#[derive(Clone, Debug)]
pub struct EnvRuntime<E>(pub E);

impl<E: Env> Runtime for EnvRuntime<E> {
    fn now(&self) -> Instant {
        self.0.now()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        self.0.sleep(duration)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.spawn(TaskQueue::Serve, task);
    }
}
