//! Timers of one executor, in the order in which they are due. One that is dropped is gone at once.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use plinth_base::Instant;

use super::Exec;
use crate::env::now;

/// When a timer is due, and which one it is.
type Key = (Instant, u64);

#[derive(Default)]
pub(super) struct Timers {
    armed: BTreeMap<Key, Waker>,
    made: u64,
}

impl Timers {
    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.armed.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes one that is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Waker> {
        let first = self.armed.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }
}

/// Completes when its time has come.
pub(crate) struct Sleep {
    exec: Rc<Exec>,
    at: Instant,
    key: Option<Key>,
}

impl Sleep {
    pub(super) fn new(exec: Rc<Exec>, at: Instant) -> Self {
        Self { exec, at, key: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if now() >= self.at {
            return Poll::Ready(());
        }
        let exec = Rc::clone(&self.exec);
        let mut timers = exec.timers.borrow_mut();
        let key = self.key.unwrap_or_else(|| {
            timers.made += 1;
            (self.at, timers.made)
        });
        self.key = Some(key);
        let old = timers.armed.insert(key, cx.waker().clone());
        // A waker goes after the borrow: it may hold the last reference to a task with timers of its own.
        drop((timers, old).1);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = self.exec.timers.borrow_mut().armed.remove(&key);
            drop(waker);
        }
    }
}
