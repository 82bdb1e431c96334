//! A bounded lock-free queue into one task, from any thread.
//!
//! Invariant: a message that was accepted is seen by the receiver's next `drain`, or its task is woken. The wake
//! costs something only if the receiver went to sleep since the last one.

use std::{future::poll_fn, sync::Arc, task::Poll};

use atomic_waker::AtomicWaker;
use crossbeam_queue::ArrayQueue;

struct Shared<T> {
    queue: ArrayQueue<T>,
    receiver: AtomicWaker,
    keeper: AtomicWaker,
}

/// The sending end; clone it for every sender.
pub struct Sender<T>(Arc<Shared<T>>);

/// The one receiving end.
pub struct Receiver<T>(Arc<Shared<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// A mailbox for at most `messages_max` messages.
#[must_use]
pub fn mailbox<T>(messages_max: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(messages_max),
        receiver: AtomicWaker::new(),
        keeper: AtomicWaker::new(),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Sender<T> {
    /// Puts `message` at the end and wakes the receiver, or gives it back if the mailbox is full.
    pub fn send(&self, message: T) -> Result<(), T> {
        self.0.queue.push(message)?;
        self.0.receiver.wake();
        Ok(())
    }

    /// Puts `message` at the end without waking anyone: for a sender that calls [`Sender::wake`] once after many.
    pub fn send_quietly(&self, message: T) -> Result<(), T> {
        self.0.queue.push(message)
    }

    /// Wakes the receiver if it waits.
    pub fn wake(&self) {
        self.0.receiver.wake();
    }

    /// Wakes the [`Keeper`]: for a sender whose message is not taken although it woke the receiver.
    pub fn kick(&self) {
        self.0.keeper.wake();
    }

    /// Messages that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.queue.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.queue.is_empty()
    }
}

/// A task beside the receiver, on the same executor. An executor that has parked although the receiver was woken runs both once this one is.
pub struct Keeper<T>(Arc<Shared<T>>);

impl<T> Keeper<T> {
    /// Returns at the next [`Sender::kick`].
    pub async fn kicked(&mut self) {
        let mut is_registered = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut is_registered, true) {
                return Poll::Ready(());
            }
            self.0.keeper.register(cx.waker());
            Poll::Pending
        })
        .await;
    }
}

impl<T> Receiver<T> {
    /// For the one task that is woken by kicks.
    #[must_use]
    pub fn keeper(&self) -> Keeper<T> {
        Keeper(Arc::clone(&self.0))
    }

    /// Takes the oldest message.
    pub fn take(&mut self) -> Option<T> {
        self.0.queue.pop()
    }

    /// Moves at most `max` messages, oldest first, to the end of `into`.
    pub fn drain(&mut self, max: usize, into: &mut Vec<T>) {
        into.extend(std::iter::from_fn(|| self.0.queue.pop()).take(max));
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.queue.is_empty()
    }

    /// Returns when there is at least one message.
    pub async fn ready(&mut self) {
        poll_fn(|cx| self.poll_ready(cx)).await;
    }

    /// Ready when there is at least one message; else the task of `cx` is woken by the next one.
    pub fn poll_ready(&mut self, cx: &std::task::Context<'_>) -> Poll<()> {
        if !self.is_empty() {
            return Poll::Ready(());
        }
        self.0.receiver.register(cx.waker());
        // A message that came between the look and the registration woke nobody.
        if self.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts its wakes.
    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicUsize);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[test]
    fn a_kick_wakes_the_keeper_also_if_the_receiver_was_woken_before() {
        let (tx, mut rx) = mailbox(2);
        let (receiver, keeper) = (Arc::<Woken>::default(), Arc::<Woken>::default());
        let woken = |woken: &Woken| woken.0.load(std::sync::atomic::Ordering::Relaxed);
        let (receiver_waker, keeper_waker) = (Arc::clone(&receiver).into(), Arc::clone(&keeper).into());
        assert!(rx.poll_ready(&std::task::Context::from_waker(&receiver_waker)).is_pending());
        let mut kept = rx.keeper();
        let mut kicked = std::pin::pin!(kept.kicked());
        let mut cx = std::task::Context::from_waker(&keeper_waker);
        assert!(kicked.as_mut().poll(&mut cx).is_pending());
        assert_eq!(tx.send(1), Ok(()));
        tx.wake();
        assert_eq!((woken(&receiver), woken(&keeper)), (1, 0));
        tx.kick();
        assert_eq!((woken(&receiver), woken(&keeper)), (1, 1));
        assert!(kicked.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn a_full_mailbox_gives_the_message_back_and_order_is_kept() {
        let (tx, mut rx) = mailbox(2);
        assert_eq!(tx.send(1), Ok(()));
        assert_eq!(tx.clone().send(2), Ok(()));
        assert_eq!(tx.send(3), Err(3));
        let mut out = Vec::new();
        rx.drain(8, &mut out);
        assert_eq!(out, [1, 2]);
        assert!(rx.is_empty());
    }
}
