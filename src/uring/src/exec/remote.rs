//! Wakes from other threads.
//!
//! The sender queues the task, then looks whether the thread sleeps; the thread says that it sleeps, then looks whether anything is
//! queued. One of them sees the other, so no wake is lost.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crossbeam_queue::SegQueue;
use rustix::event::{EventfdFlags, eventfd};

use super::queues::Runnable;

pub(super) struct Remote {
    /// Tasks that other threads have woken: each at most once, so there are never more than tasks.
    woken: SegQueue<Runnable>,
    sleeps: AtomicBool,
    event: Arc<OwnedFd>,
}

impl Remote {
    pub(super) fn new() -> io::Result<Self> {
        // Blocking on purpose: a read through a ring waits then, where a non-blocking one would fail.
        let event = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        Ok(Self { woken: SegQueue::new(), sleeps: AtomicBool::new(false), event })
    }

    pub(super) fn event(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.event)
    }

    /// Hands a task over, from any thread.
    pub(super) fn send(&self, runnable: Runnable) {
        self.woken.push(runnable);
        // The first of several senders rings.
        if self.sleeps.swap(false, Ordering::SeqCst) {
            // It fails only if the counter is full, and then the thread is being woken anyway.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }

    pub(super) fn take(&self) -> Option<Runnable> {
        self.woken.pop()
    }

    /// True if the thread may sleep.
    pub(super) fn begin_sleep(&self) -> bool {
        self.sleeps.store(true, Ordering::SeqCst);
        self.woken.is_empty()
    }

    pub(super) fn end_sleep(&self) {
        self.sleeps.store(false, Ordering::SeqCst);
    }
}
