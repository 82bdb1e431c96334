//! The hub of one executor and one group: the watchers with the tasks that serve them.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
};

use plinth_base::mailbox::Sender;
use plinth_env::{Env, TaskQueue};

use super::{
    Item, StreamKey, WatchLimits,
    catch_up::catch_up,
    follow::follow,
    watchers::{Create, Watchers},
};
use crate::{
    message::Message,
    published::{Published, Root},
    waiters::Executor,
};

/// Clones share everything.
pub(crate) struct Hub<E: Env>(Rc<Inner<E>>);

impl<E: Env> Clone for Hub<E> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

struct Inner<E: Env> {
    executor: Executor<E>,
    inbox: Sender<Message>,
    published: Arc<Published<E::Pages>>,
    watchers: RefCell<Watchers>,
    is_running: Cell<bool>,
    /// There is a watcher.
    watched: Bell,
    /// A watcher lags.
    lagging: Bell,
}

impl<E: Env> Hub<E> {
    pub(crate) fn new(
        executor: Executor<E>,
        inbox: Sender<Message>,
        published: Arc<Published<E::Pages>>,
        limits: WatchLimits,
    ) -> Self {
        let watchers = RefCell::new(Watchers::new(limits, Arc::clone(&published.watches)));
        let (watched, lagging) = (Bell::default(), Bell::default());
        Self(Rc::new(Inner { executor, inbox, published, watchers, is_running: Cell::new(false), watched, lagging }))
    }

    /// Opens a stream, which ends when the guard is dropped.
    pub(crate) fn open(&self) -> StreamGuard<E> {
        // Most nodes have watchers on few executors: the others have no tasks for them.
        if !self.0.is_running.replace(true) {
            let env = self.env();
            env.spawn(TaskQueue::Serve, follow(self.clone()));
            env.spawn(TaskQueue::Serve, catch_up(self.clone()));
        }
        let key = self.with(Watchers::open);
        StreamGuard { hub: self.clone(), key }
    }

    pub(super) fn env(&self) -> &E {
        self.0.executor.env()
    }

    pub(super) fn executor(&self) -> &Executor<E> {
        &self.0.executor
    }

    pub(super) fn inbox(&self) -> &Sender<Message> {
        &self.0.inbox
    }

    pub(super) fn published(&self) -> &Published<E::Pages> {
        &self.0.published
    }

    pub(super) fn root(&self) -> Arc<Root<E::Pages>> {
        self.0.published.root()
    }

    /// Does something with the watchers, and tells the tasks what there is to do for them.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut Watchers) -> T) -> T {
        let mut watchers = self.0.watchers.borrow_mut();
        let done = f(&mut watchers);
        if !watchers.is_empty() {
            self.0.watched.ring();
        }
        if watchers.has_lagging() {
            self.0.lagging.ring();
        }
        done
    }

    /// Waits until there may be a watcher.
    pub(super) async fn watched(&self) {
        self.0.watched.rung().await;
    }

    /// Waits until there may be a watcher that lags.
    pub(super) async fn lagging(&self) {
        self.0.lagging.rung().await;
    }
}

/// An open stream.
pub(crate) struct StreamGuard<E: Env> {
    hub: Hub<E>,
    key: StreamKey,
}

impl<E: Env> Drop for StreamGuard<E> {
    fn drop(&mut self) {
        self.hub.with(|watchers| watchers.close(self.key));
    }
}

impl<E: Env> StreamGuard<E> {
    /// The newest published revision.
    fn revision(&self) -> i64 {
        self.hub.root().state.revision
    }

    /// Makes a watcher; the stream's items say what became of it.
    pub(crate) fn create(&self, create: Create) {
        let revision = self.revision();
        self.hub.with(|watchers| watchers.create(self.key, create, revision));
    }

    /// Ends a watcher.
    pub(crate) fn cancel(&self, watch_id: i64) {
        let revision = self.revision();
        self.hub.with(|watchers| watchers.cancel(self.key, watch_id, revision));
    }

    /// Asks to be told when everything has been sent.
    pub(crate) fn request_progress(&self) {
        let revision = self.revision();
        self.hub.with(|watchers| watchers.request_progress(self.key, revision));
    }

    /// Tells quiet watchers of progress, those that want it.
    pub(crate) fn notify_progress(&self) {
        self.hub.with(|watchers| watchers.notify_progress(self.key));
    }

    /// What is to be sent next.
    pub(crate) async fn next(&self) -> Item {
        poll_fn(|cx| self.hub.with(|watchers| watchers.poll_take(self.key, cx))).await
    }

    /// Waits until another request may be looked at: a client that sends requests and reads no answers has to wait.
    pub(crate) async fn room(&self) {
        poll_fn(|cx| self.hub.with(|watchers| watchers.poll_room(self.key, cx))).await;
    }
}

/// Wakes one task of the same executor.
#[derive(Default)]
struct Bell {
    is_rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Bell {
    fn ring(&self) {
        self.is_rung.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    async fn rung(&self) {
        poll_fn(|cx| {
            if self.is_rung.take() {
                return Poll::Ready(());
            }
            self.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}
