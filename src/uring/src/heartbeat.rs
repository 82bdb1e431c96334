//! The permanent timer of an executor.
//!
//! glommio can park although tasks are runnable, until some event arrives: its queue loop says "nothing to do" when the
//! preempt timer has fired before the first look. A timer bounds how long that lasts, but the task of a *single* timer can be the one that is
//! stranded, and then nothing is armed any more: the executor sleeps for good. (Seen after some ten thousand wakes on a
//! busy machine.) So `TIMERS` timers are armed at any time, one period apart: each that fires gives the executor another chance.
//!
//! Invariant: while the task lives, at least one timer is armed unless `TIMERS` chances in a row were missed.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use glommio::timer::Timer;
use plinth_base::Instant;

use crate::{env::now, runtime::Executor};

/// Period of an idle executor: how long a lost wake lasts.
const IDLE: Duration = Duration::from_millis(10);

/// Period while requests are in flight.
const BUSY: Duration = Duration::from_millis(1);

/// How long the timer stays fast after the last request, so that single requests don't re-arm it each time.
const BUSY_LINGER: Duration = Duration::from_millis(100);

/// Timers armed at the same time.
const TIMERS: usize = 8;

/// What the timer needs to know.
#[derive(Default)]
pub(crate) struct Heartbeat {
    in_flight: Cell<usize>,
    busy_until: Cell<Instant>,
    /// It ticks at the idle rate.
    slow: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Heartbeat {
    fn begin_request(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
        if self.slow.replace(false)
            && let Some(waker) = self.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }

    fn end_request(&self) {
        self.in_flight.set(self.in_flight.get() - 1);
    }

    /// The period from now on.
    fn choose_period(&self) -> Duration {
        let now = now();
        if self.in_flight.get() > 0 {
            self.busy_until.set(now + BUSY_LINGER);
        }
        let slow = now >= self.busy_until.get();
        self.slow.set(slow);
        if slow { IDLE } else { BUSY }
    }
}

/// Timers armed one period apart.
struct Armed {
    period: Duration,
    /// When the last one fires.
    last: Instant,
    timers: VecDeque<Pin<Box<Timer>>>,
}

impl Armed {
    /// Arms what is missing, afresh if the period changed.
    fn refill(&mut self, period: Duration) {
        let now = now();
        if self.period != period {
            self.period = period;
            self.timers.clear();
        }
        if self.timers.is_empty() {
            self.last = now;
        }
        while self.timers.len() < TIMERS {
            self.last = self.last + period;
            self.timers.push_back(Box::pin(Timer::new(self.last.since(now))));
        }
    }

    /// Takes away the timers that have fired, and registers the others. Ready if there was one.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let before = self.timers.len();
        self.timers.retain_mut(|timer| timer.as_mut().poll(cx).is_pending());
        if self.timers.len() < before { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// The task of the permanent timer; ends with the executor.
pub(crate) async fn beat(executor: Weak<Executor>, heartbeat: Rc<Heartbeat>) {
    let mut armed = Armed { period: Duration::ZERO, last: Instant(0), timers: VecDeque::new() };
    loop {
        armed.refill(heartbeat.choose_period());
        tick(&mut armed, &heartbeat).await;
        // Only a look: the task must not keep the executor's ring alive when everybody else has let go of it.
        let Some(executor) = executor.upgrade() else { return };
        executor.counters.heartbeat_ticks.add(1);
        executor.ring.reap();
    }
}

/// Waits for the next timer, or until a request wants them to be faster.
async fn tick(armed: &mut Armed, heartbeat: &Heartbeat) {
    let was_slow = heartbeat.slow.get();
    poll_fn(|cx| {
        if armed.poll(cx).is_ready() || heartbeat.slow.get() != was_slow {
            return Poll::Ready(());
        }
        *heartbeat.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    })
    .await;
}

/// A request that is being served: the timer is fast as long as there is one.
pub struct InFlight(Rc<Executor>);

impl InFlight {
    pub(crate) fn begin(executor: Rc<Executor>) -> Self {
        executor.heartbeat.begin_request();
        executor.counters.requests.add(1);
        Self(executor)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.heartbeat.end_request();
    }
}
