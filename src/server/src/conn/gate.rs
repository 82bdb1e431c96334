//! What the calls of one connection share: how many there are, how many bytes they hold, and whether new ones may begin.
//!
//! A client that doesn't read its answers can open calls as long as it likes: they wait at the gate, before their handlers run,
//! until the socket takes bytes again. What was started before that holds one answer each.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    future::Future,
    ops::Deref,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use super::lane::Lane;

/// Bytes of incomplete requests that one connection may hold. Above it, the call that wants more fails.
pub const REQUEST_BYTES_MAX: usize = 256 << 20;

/// Bytes of answers waiting for the client's windows above which the next calls wait at the gate.
pub const REPLY_BYTES_MAX: usize = 16 << 20;

/// Calls that pass whenever the gate opens, however soon it closes again.
const ADMITTED_MAX: usize = 16;

/// Shared by a connection and its calls.
#[derive(Default)]
pub struct Gate {
    calls: Cell<usize>,
    request_bytes: Cell<usize>,
    reply_bytes: Cell<usize>,
    socket_full: Cell<bool>,
    /// By order of arrival. A call that goes away takes its waker with it: one left behind would keep the whole task's memory.
    waiting: RefCell<BTreeMap<u64, Waker>>,
    tickets: Cell<u64>,
    /// Who may pass although the gate has closed again before they could: behind much that others receive it is open for a moment at a time.
    admitted: RefCell<BTreeSet<u64>>,
    /// The way of what is not small.
    pub lane: Rc<Lane>,
}

impl Gate {
    /// Of a connection whose bulk data goes through `lane`.
    pub fn new(lane: Rc<Lane>) -> Self {
        Self { lane, ..Self::default() }
    }

    /// Calls under way.
    pub fn calls(&self) -> usize {
        self.calls.get()
    }

    /// A call begins; it ends when the guard is dropped.
    pub fn enter(self: &Rc<Self>) -> CallGuard {
        self.calls.set(self.calls.get() + 1);
        CallGuard(Rc::clone(self))
    }

    /// Completes when a call may start its handler.
    pub fn pass(&self) -> Pass<'_> {
        Pass { gate: self, ticket: None }
    }

    /// Whether the socket still holds back bytes after a pass.
    pub fn set_socket_full(&self, full: bool) {
        self.socket_full.set(full);
        self.wake_if_open();
    }

    fn is_open(&self) -> bool {
        !self.socket_full.get() && self.reply_bytes.get() < REPLY_BYTES_MAX
    }

    fn wake_if_open(&self) {
        if self.is_open() && !self.waiting.borrow().is_empty() {
            // Taken out first: a waker may run code that comes back here.
            let waiting = self.waiting.take();
            let mut admitted = self.admitted.borrow_mut();
            let more = ADMITTED_MAX.saturating_sub(admitted.len());
            admitted.extend(waiting.keys().take(more));
            drop(admitted);
            waiting.into_values().for_each(Waker::wake);
        }
    }

    /// Counts bytes of an incomplete request.
    pub fn hold_request(&self) -> RequestBytes<'_> {
        RequestBytes { gate: self, held: 0 }
    }

    /// Counts bytes of an answer that waits for the client's windows.
    pub fn hold_reply(&self, bytes: usize) -> ReplyBytes<'_> {
        self.reply_bytes.set(self.reply_bytes.get() + bytes);
        ReplyBytes { gate: self, held: bytes }
    }
}

/// A call that waits until it may start its handler.
pub struct Pass<'a> {
    gate: &'a Gate,
    ticket: Option<u64>,
}

impl Future for Pass<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let gate = self.gate;
        let is_admitted = self.ticket.is_some_and(|ticket| gate.admitted.borrow().contains(&ticket));
        if is_admitted || gate.is_open() {
            return Poll::Ready(());
        }
        let ticket = *self.ticket.get_or_insert_with(|| {
            gate.tickets.set(gate.tickets.get() + 1);
            gate.tickets.get()
        });
        gate.waiting.borrow_mut().insert(ticket, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            // The waker is dropped after the borrow ends: that may drop a task, which may come back here.
            let _waker = self.gate.waiting.borrow_mut().remove(&ticket);
            self.gate.admitted.borrow_mut().remove(&ticket);
        }
    }
}

/// One call under way, and its way to the gate.
pub struct CallGuard(Rc<Gate>);

impl Deref for CallGuard {
    type Target = Gate;

    fn deref(&self) -> &Gate {
        &self.0
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.0.calls.set(self.0.calls.get() - 1);
    }
}

/// Bytes of one incomplete request.
pub struct RequestBytes<'a> {
    gate: &'a Gate,
    held: usize,
}

impl RequestBytes<'_> {
    /// Holds `bytes` from now on; false if the connection then holds too much.
    pub fn set(&mut self, bytes: usize) -> bool {
        let total = self.gate.request_bytes.get() - self.held + bytes;
        self.gate.request_bytes.set(total);
        self.held = bytes;
        total <= REQUEST_BYTES_MAX
    }
}

impl Drop for RequestBytes<'_> {
    fn drop(&mut self) {
        self.gate.request_bytes.set(self.gate.request_bytes.get() - self.held);
    }
}

/// Bytes of one answer.
pub struct ReplyBytes<'a> {
    gate: &'a Gate,
    held: usize,
}

impl ReplyBytes<'_> {
    /// Holds `bytes` from now on.
    pub fn set(&mut self, bytes: usize) {
        self.gate.reply_bytes.set(self.gate.reply_bytes.get() - self.held + bytes);
        self.held = bytes;
        self.gate.wake_if_open();
    }
}

impl Drop for ReplyBytes<'_> {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[test]
    fn the_gate_closes_on_a_full_socket_and_on_too_many_reply_bytes() {
        let gate = Gate::default();
        let mut cx = Context::from_waker(Waker::noop());
        let mut may_pass = || pin!(gate.pass()).poll(&mut cx).is_ready();
        assert!(may_pass());
        gate.set_socket_full(true);
        assert!(!may_pass());
        gate.set_socket_full(false);
        assert!(may_pass());
        let mut reply = gate.hold_reply(REPLY_BYTES_MAX);
        assert!(!may_pass());
        reply.set(1);
        assert!(may_pass());
        drop(reply);
        assert_eq!(gate.reply_bytes.get(), 0);
    }

    #[test]
    fn who_waited_longest_passes_a_gate_that_was_open_for_a_moment() {
        let gate = Gate::default();
        gate.set_socket_full(true);
        let mut cx = Context::from_waker(Waker::noop());
        let mut waiting: Vec<_> = (0..ADMITTED_MAX + 1).map(|_| Box::pin(gate.pass())).collect();
        assert!(waiting.iter_mut().all(|pass| pass.as_mut().poll(&mut cx).is_pending()));
        gate.set_socket_full(false);
        gate.set_socket_full(true);
        let passed = waiting.iter_mut().map(|pass| pass.as_mut().poll(&mut cx).is_ready());
        assert!(passed.eq((0..=ADMITTED_MAX).map(|at| at < ADMITTED_MAX)));
        drop(waiting);
        assert!(gate.admitted.borrow().is_empty() && gate.waiting.borrow().is_empty());
    }

    #[test]
    fn a_call_that_goes_away_leaves_nothing_at_the_gate() {
        let gate = Gate::default();
        gate.set_socket_full(true);
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..10 {
            let mut pass = pin!(gate.pass());
            assert!(pass.as_mut().poll(&mut cx).is_pending());
            assert!(pass.as_mut().poll(&mut cx).is_pending());
            assert_eq!(gate.waiting.borrow().len(), 1);
        }
        assert!(gate.waiting.borrow().is_empty());
    }

    #[test]
    fn requests_over_the_limit_are_told_and_give_back_what_they_held() {
        let gate = Gate::default();
        let mut first = gate.hold_request();
        assert!(first.set(REQUEST_BYTES_MAX));
        let mut second = gate.hold_request();
        assert!(!second.set(1));
        drop(first);
        assert!(second.set(1));
        drop(second);
        assert_eq!(gate.request_bytes.get(), 0);
    }
}
