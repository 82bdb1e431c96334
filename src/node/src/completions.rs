//! Completions of a shard's own tasks, on its executor: flushes, page loads, checkpoints, ticks.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    task::{Context, Poll, Waker},
};

struct Inner<T> {
    queue: VecDeque<T>,
    receiver: Option<Waker>,
}

/// A queue between tasks of one executor. What goes in is bounded by the tasks that the shard itself has started.
pub(crate) struct Completions<T>(Rc<RefCell<Inner<T>>>);

impl<T> Clone for Completions<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> Completions<T> {
    pub(crate) fn new() -> Self {
        Self(Rc::new(RefCell::new(Inner { queue: VecDeque::new(), receiver: None })))
    }

    /// Hands `completion` in and wakes the shard.
    pub(crate) fn push(&self, completion: T) {
        let mut inner = self.0.borrow_mut();
        inner.queue.push_back(completion);
        let receiver = inner.receiver.take();
        drop(inner);
        if let Some(waker) = receiver {
            waker.wake();
        }
    }

    pub(crate) fn take(&self) -> Option<T> {
        self.0.borrow_mut().queue.pop_front()
    }

    /// Ready when there is something; else the task of `cx` is woken by the next push.
    pub(crate) fn poll_ready(&self, cx: &Context<'_>) -> Poll<()> {
        let mut inner = self.0.borrow_mut();
        if inner.queue.is_empty() {
            inner.receiver = Some(cx.waker().clone());
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }
}
