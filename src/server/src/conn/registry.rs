//! The open connections of an executor: to tell them that the server stops, and to know when the last one is gone.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// All connections of one executor.
#[derive(Default)]
pub struct Registry {
    open: RefCell<BTreeMap<u64, Waker>>,
    ids: Cell<u64>,
    stopping: Cell<bool>,
    wait_for_last: RefCell<Vec<Waker>>,
}

impl Registry {
    /// A connection opens; it is gone when the entry is dropped.
    pub fn enter(self: &Rc<Self>) -> Entry {
        self.ids.set(self.ids.get() + 1);
        let id = self.ids.get();
        self.open.borrow_mut().insert(id, Waker::noop().clone());
        Entry { registry: Rc::clone(self), id }
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.borrow().len()
    }

    /// Tells every connection, also those yet to come, to finish; returns when the last one is gone.
    pub async fn stop(&self) {
        self.stopping.set(true);
        let told: Vec<Waker> = self.open.borrow().values().cloned().collect();
        told.into_iter().for_each(Waker::wake);
        poll_fn(|cx| {
            if self.len() == 0 {
                return Poll::Ready(());
            }
            self.wait_for_last.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// One open connection.
pub struct Entry {
    registry: Rc<Registry>,
    id: u64,
}

impl Entry {
    /// Whether the connection should finish; if not yet, the task of `cx` is woken when it should.
    pub fn poll_stopping(&self, cx: &Context<'_>) -> bool {
        if self.registry.stopping.get() {
            return true;
        }
        if let Some(waker) = self.registry.open.borrow_mut().get_mut(&self.id) {
            waker.clone_from(cx.waker());
        }
        false
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let _waker = self.registry.open.borrow_mut().remove(&self.id);
        if self.registry.len() == 0 {
            self.registry.wait_for_last.take().into_iter().for_each(Waker::wake);
        }
    }
}
