//! Which task runs next.
//!
//! Consensus goes first whenever it has something. Serving and background work share what is left by weight: each queue is charged for
//! the time that its tasks take, and the one that has had less for its weight goes next.

use std::{collections::VecDeque, time::Duration};

use plinth_env::TaskQueue;

/// A task that was woken.
pub(crate) type Runnable = async_task::Runnable<TaskQueue>;

/// Tasks of one queue that run before the others are looked at again: a connection's pass wakes hundreds.
const BATCHES: [usize; 3] = [64, 256, 1];

/// Parts of the time that serving and background work get when both have enough to do.
const WEIGHT_SERVE: u64 = 3;
const WEIGHT_BACKGROUND: u64 = 1;

#[derive(Default)]
pub(super) struct Queues {
    ready: [VecDeque<Runnable>; 3],
    /// Time had, by weight, of serving and background work.
    serve: u64,
    background: u64,
}

impl Queues {
    pub(super) fn push(&mut self, runnable: Runnable) {
        let queue = *runnable.metadata();
        if queue != TaskQueue::Consensus && self.ready[queue as usize].is_empty() {
            // What was not used while there was nothing to do is not saved up.
            match queue {
                TaskQueue::Serve => self.serve = self.serve.max(self.background),
                _ => self.background = self.background.max(self.serve),
            }
        }
        self.ready[queue as usize].push_back(runnable);
    }

    /// The queue whose turn it is, and how many of its tasks may run. Those that are woken meanwhile wait for the next batch.
    pub(super) fn next_batch(&self) -> Option<(TaskQueue, usize)> {
        let ready = |queue: TaskQueue| self.ready[queue as usize].len().min(BATCHES[queue as usize]);
        let [consensus, serve, background] =
            [TaskQueue::Consensus, TaskQueue::Serve, TaskQueue::Background].map(|queue| (queue, ready(queue)));
        let other = if self.background < self.serve { [background, serve] } else { [serve, background] };
        [consensus, other[0], other[1]].into_iter().find(|(_, tasks)| *tasks > 0)
    }

    pub(super) fn pop(&mut self, queue: TaskQueue) -> Option<Runnable> {
        self.ready[queue as usize].pop_front()
    }

    /// Notes what a batch took.
    pub(super) fn charge(&mut self, queue: TaskQueue, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        match queue {
            TaskQueue::Consensus => {}
            TaskQueue::Serve => self.serve += took_ns / WEIGHT_SERVE,
            TaskQueue::Background => self.background += took_ns / WEIGHT_BACKGROUND,
        }
    }
}
