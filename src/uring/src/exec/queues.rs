//! Which task runs next.
//!
//! Consensus goes before every batch of the others, but never twice in a row while they have something: a long command makes the shard ready
//! again after each of its slices, and clients are served between them. Serving and background work share what is left by weight: each
//! queue is charged for the time that its tasks take, and the one that has had less for its weight goes next.

use std::{collections::VecDeque, time::Duration};

use plinth_env::TaskQueue;

/// A task that was woken.
pub(crate) type Runnable = async_task::Runnable<TaskQueue>;

/// Tasks of one queue that run before the others are looked at again: a connection's pass wakes hundreds.
const BATCHES: [usize; 3] = [64, 256, 1];

/// Parts of the time that serving and background work get when both have enough to do.
pub(crate) const WEIGHT_SERVE: u64 = 3;
pub(crate) const WEIGHT_BACKGROUND: u64 = 1;

#[derive(Default)]
pub(super) struct Queues {
    ready: [VecDeque<Runnable>; 3],
    /// Time had, by weight, of serving and background work.
    serve: u64,
    background: u64,
    /// The last batch was one of consensus.
    was_consensus: bool,
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
        let order = if self.was_consensus { [other[0], other[1], consensus] } else { [consensus, other[0], other[1]] };
        order.into_iter().find(|(_, tasks)| *tasks > 0)
    }

    pub(super) fn pop(&mut self, queue: TaskQueue) -> Option<Runnable> {
        self.ready[queue as usize].pop_front()
    }

    /// Notes what a batch took.
    pub(super) fn charge(&mut self, queue: TaskQueue, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.was_consensus = queue == TaskQueue::Consensus;
        match queue {
            TaskQueue::Consensus => {}
            TaskQueue::Serve => self.serve += took_ns / WEIGHT_SERVE,
            TaskQueue::Background => self.background += took_ns / WEIGHT_BACKGROUND,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use TaskQueue::{Background, Consensus, Serve};

    use super::*;

    /// Adds a task that notes its queue, as often as asked.
    fn push(queues: &mut Queues, queue: TaskQueue, tasks: usize, ran: &Rc<RefCell<Vec<TaskQueue>>>) {
        for _ in 0..tasks {
            let ran = Rc::clone(ran);
            let note = async move { ran.borrow_mut().push(queue) };
            let (runnable, task) = async_task::Builder::new().metadata(queue).spawn_local(move |_| note, |_| {});
            task.detach();
            queues.push(runnable);
        }
    }

    /// Runs all, each task taking `took`, and tells in which order.
    fn run_all(queues: &mut Queues, took: Duration, ran: &Rc<RefCell<Vec<TaskQueue>>>) -> Vec<TaskQueue> {
        while let Some((queue, batch)) = queues.next_batch() {
            for _ in 0..batch {
                queues.pop(queue).expect("as many as the batch says").run();
                queues.charge(queue, took);
            }
        }
        ran.take()
    }

    #[test]
    fn consensus_goes_first_whenever_it_has_something() {
        let (mut queues, ran) = (Queues::default(), Rc::default());
        push(&mut queues, Serve, 1, &ran);
        push(&mut queues, Background, 1, &ran);
        push(&mut queues, Consensus, 2, &ran);
        assert_eq!(queues.next_batch(), Some((Consensus, 2)));
        assert_eq!(run_all(&mut queues, Duration::from_micros(1), &ran)[..2], [Consensus, Consensus]);
        assert_eq!(queues.next_batch(), None);
    }

    #[test]
    fn consensus_that_is_always_ready_lets_the_others_through() {
        let (mut queues, ran) = (Queues::default(), Rc::default());
        push(&mut queues, Serve, 1, &ran);
        push(&mut queues, Background, 1, &ran);
        let mut order = Vec::new();
        for _ in 0..5 {
            push(&mut queues, Consensus, 1, &ran);
            let (queue, _) = queues.next_batch().expect("there is always something");
            queues.pop(queue).expect("the batch says so").run();
            queues.charge(queue, Duration::from_micros(1));
            order.push(queue);
        }
        assert_eq!(order, [Consensus, Serve, Consensus, Background, Consensus]);
    }

    #[test]
    fn background_work_gets_its_part_of_a_busy_executor_and_no_more() {
        let (mut queues, ran) = (Queues::default(), Rc::default());
        let serve_tasks = 20 * BATCHES[Serve as usize];
        push(&mut queues, Serve, serve_tasks, &ran);
        push(&mut queues, Background, serve_tasks, &ran);
        let order = run_all(&mut queues, Duration::from_micros(1), &ran);
        let last_serve = order.iter().rposition(|queue| *queue == Serve).expect("they ran");
        let background = last_serve + 1 - serve_tasks;
        let part = serve_tasks / (WEIGHT_SERVE / WEIGHT_BACKGROUND) as usize;
        assert!(background.abs_diff(part) <= BATCHES[Serve as usize], "{background} of {part}");
    }

    #[test]
    fn time_that_a_queue_had_nothing_for_is_not_saved_up() {
        let (mut queues, ran) = (Queues::default(), Rc::default());
        push(&mut queues, Serve, 1000, &ran);
        run_all(&mut queues, Duration::from_millis(1), &ran);
        push(&mut queues, Background, 100, &ran);
        push(&mut queues, Serve, 100, &ran);
        let order = run_all(&mut queues, Duration::from_micros(1), &ran);
        let last_serve = order.iter().rposition(|queue| *queue == Serve).expect("they ran");
        assert!(last_serve < 200, "background work ran all its 100 tasks first");
        let first_serve = order.iter().position(|queue| *queue == Serve).expect("they ran");
        assert!(first_serve <= 2, "serving waited for {first_serve} tasks of the background");
    }
}
