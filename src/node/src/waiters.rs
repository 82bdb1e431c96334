//! The requests of one executor that wait for an answer from a shard.
//!
//! A ticket names a slot and the slot's generation, so an answer that comes after its request gave up finds nobody and is dropped.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use plinth_base::{
    Instant,
    mailbox::{Receiver, Sender},
};
use plinth_env::{Env, TaskQueue};

use crate::message::{Answer, Message, Refusal, Reply, ReplyTo};

/// The end at which an executor receives answers.
pub type ReplyPort = Receiver<Answer>;

/// Answers taken from the mailbox at once.
const ANSWERS_PER_PASS_MAX: usize = 1024;

/// Messages that a shard has not taken for so long are announced again.
const KICK_AFTER: Duration = Duration::from_millis(1);

/// One executor's proposals are numbered in so many bits, more than it can ever make. The highest bit of all stays free.
const PROPOSAL_BITS: u32 = 47;

/// How often waiting requests are looked at for their timeout.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

/// An executor's side of all conversations with shards.
pub struct Executor<E: Env> {
    env: E,
    index: u16,
    slots: Rc<RefCell<Slots>>,
    timeout: Duration,
}

impl<E: Env> Clone for Executor<E> {
    fn clone(&self) -> Self {
        Self { env: self.env.clone(), index: self.index, slots: Rc::clone(&self.slots), timeout: self.timeout }
    }
}

#[derive(Default)]
struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    waiting: usize,
    /// Proposals so far.
    proposals: u64,
    /// Who wants to know of the first request that waits.
    on_first: Option<Waker>,
    /// The inbox of the shard is looked after.
    is_watched: bool,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Free,
    Waiting {
        waker: Option<Waker>,
        deadline: Instant,
    },
    Answered(Reply),
    /// For whoever wants to be told again and again.
    Signal {
        is_set: bool,
        waker: Option<Waker>,
    },
}

impl<E: Env> Executor<E> {
    /// The executor `index`, whose answers come through `port`. Requests give up after `timeout`.
    pub fn start(env: &E, index: u16, port: ReplyPort, timeout: Duration) -> Self {
        let slots = Rc::new(RefCell::new(Slots::default()));
        env.spawn(TaskQueue::Consensus, deliver(port, Rc::clone(&slots)));
        env.spawn(TaskQueue::Serve, sweep(env.clone(), Rc::clone(&slots)));
        Self { env: env.clone(), index, slots, timeout }
    }

    /// Looks after `inbox` while requests wait: what nobody takes is kicked.
    pub(crate) fn look_after(&self, inbox: Sender<Message>) {
        if std::mem::replace(&mut self.slots.borrow_mut().is_watched, true) {
            return;
        }
        self.env.spawn(TaskQueue::Consensus, kick(self.env.clone(), Rc::clone(&self.slots), inbox));
    }

    /// Its environment.
    #[must_use]
    pub fn env(&self) -> &E {
        &self.env
    }

    /// A place for one answer, which gives up after the request timeout. `Ticket::reply_to` goes with the question; awaiting the ticket
    /// gives the answer.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.ticket_until(self.env.now() + self.timeout)
    }

    /// How long a request may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// A number that no other proposal of this process has.
    #[must_use]
    pub(crate) fn next_proposal(&self) -> u64 {
        let mut slots = self.slots.borrow_mut();
        slots.proposals += 1;
        u64::from(self.index) << PROPOSAL_BITS | slots.proposals
    }

    /// The same without a timeout: for a stop, which takes as long as its last checkpoint.
    #[must_use]
    pub(crate) fn patient_ticket(&self) -> Ticket {
        self.ticket_until(Instant(u64::MAX))
    }

    /// A place for any number of answers, of which only that there are some counts.
    #[must_use]
    pub(crate) fn signal(&self) -> Signal {
        let ticket = self.slots.borrow_mut().open_signal();
        Signal(Ticket { slots: Rc::clone(&self.slots), reply_to: ReplyTo { executor: self.index, ticket } })
    }

    fn ticket_until(&self, deadline: Instant) -> Ticket {
        let ticket = self.slots.borrow_mut().open(deadline);
        Ticket { slots: Rc::clone(&self.slots), reply_to: ReplyTo { executor: self.index, ticket } }
    }
}

impl Slots {
    fn open(&mut self, deadline: Instant) -> u64 {
        self.waiting += 1;
        if let Some(waker) = self.on_first.take() {
            waker.wake();
        }
        self.occupy(State::Waiting { waker: None, deadline })
    }

    /// Nobody counts on an answer to it, so it isn't looked after like a request.
    fn open_signal(&mut self) -> u64 {
        self.occupy(State::Signal { is_set: false, waker: None })
    }

    fn occupy(&mut self, state: State) -> u64 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("fewer requests in flight than 2^32")
        });
        let slot = &mut self.slots[at as usize];
        slot.state = state;
        u64::from(slot.generation) << 32 | u64::from(at)
    }

    fn slot(&mut self, ticket: u64) -> Option<&mut Slot> {
        let slot = self.slots.get_mut((ticket & u64::from(u32::MAX)) as usize)?;
        (u64::from(slot.generation) == ticket >> 32).then_some(slot)
    }

    fn answer(&mut self, ticket: u64, reply: Reply) {
        let Some(slot) = self.slot(ticket) else { return };
        if let State::Signal { is_set, waker } = &mut slot.state {
            *is_set = true;
            if let Some(waker) = waker.take() {
                waker.wake();
            }
            return;
        }
        if let State::Waiting { waker, .. } = std::mem::replace(&mut slot.state, State::Answered(reply))
            && let Some(waker) = waker
        {
            waker.wake();
        }
    }

    fn close(&mut self, ticket: u64) {
        let Some(slot) = self.slot(ticket) else { return };
        let is_request = !matches!(slot.state, State::Signal { .. });
        *slot = Slot { generation: slot.generation.wrapping_add(1), state: State::Free };
        self.waiting -= usize::from(is_request);
        self.free.push((ticket & u64::from(u32::MAX)) as u32);
    }

    fn expire(&mut self, now: Instant) {
        for slot in &mut self.slots {
            if let State::Waiting { waker, deadline } = &mut slot.state
                && *deadline <= now
            {
                let waker = waker.take();
                slot.state = State::Answered(Reply::Refused(Refusal::TimedOut));
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        }
    }
}

async fn deliver(mut port: ReplyPort, slots: Rc<RefCell<Slots>>) {
    let mut answers = Vec::new();
    loop {
        port.ready().await;
        port.drain(ANSWERS_PER_PASS_MAX, &mut answers);
        let mut slots = slots.borrow_mut();
        for Answer { ticket, reply } in answers.drain(..) {
            slots.answer(ticket, reply);
        }
    }
}

/// Waits until a request waits.
async fn first(slots: &RefCell<Slots>) {
    poll_fn(|cx| {
        let mut slots = slots.borrow_mut();
        if slots.waiting > 0 {
            return Poll::Ready(());
        }
        slots.on_first = Some(cx.waker().clone());
        Poll::Pending
    })
    .await;
}

/// A wake of another executor can get lost (docs/decisions/runtime.md): messages that lie for long are announced again.
async fn kick<E: Env>(env: E, slots: Rc<RefCell<Slots>>, inbox: Sender<Message>) {
    let mut was_empty = true;
    loop {
        first(&slots).await;
        env.sleep(KICK_AFTER).await;
        let is_empty = inbox.is_empty();
        if !is_empty && !was_empty {
            inbox.kick();
        }
        was_empty = is_empty;
    }
}

async fn sweep<E: Env>(env: E, slots: Rc<RefCell<Slots>>) {
    loop {
        env.sleep(SWEEP_INTERVAL).await;
        let mut slots = slots.borrow_mut();
        if slots.waiting > 0 {
            slots.expire(env.now());
        }
    }
}

/// A question under way; dropping it gives the answer up.
pub struct Ticket {
    slots: Rc<RefCell<Slots>>,
    reply_to: ReplyTo,
}

impl Ticket {
    /// Where the answer has to go.
    #[must_use]
    pub fn reply_to(&self) -> ReplyTo {
        self.reply_to
    }
}

impl Future for Ticket {
    type Output = Reply;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reply> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.slot(self.reply_to.ticket).expect("an open ticket has its slot");
        match &mut slot.state {
            State::Answered(_) => {
                let State::Answered(reply) = std::mem::take(&mut slot.state) else { unreachable!("looked at above") };
                Poll::Ready(reply)
            }
            State::Waiting { waker, .. } => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            State::Free | State::Signal { .. } => unreachable!("a ticket is polled until it is answered, once"),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.slots.borrow_mut().close(self.reply_to.ticket);
    }
}

/// Told again and again. What came while nobody waited counts once.
pub(crate) struct Signal(Ticket);

impl Signal {
    /// Where to tell it.
    #[must_use]
    pub(crate) fn reply_to(&self) -> ReplyTo {
        self.0.reply_to
    }

    /// Waits until it was told since the last time.
    pub(crate) async fn told(&mut self) {
        poll_fn(|cx| {
            let mut slots = self.0.slots.borrow_mut();
            let slot = slots.slot(self.0.reply_to.ticket).expect("an open signal has its slot");
            let State::Signal { is_set, waker } = &mut slot.state else { unreachable!("a signal stays one") };
            if std::mem::take(is_set) {
                return Poll::Ready(());
            }
            *waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
