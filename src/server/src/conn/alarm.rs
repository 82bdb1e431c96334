//! One timer for all the times a connection waits for.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use plinth_base::Instant;

use super::Runtime;

/// A timer that is set again only when an earlier time is wanted or it went off: times that move away, as a keepalive's do with every
/// read, cost nothing.
#[derive(Default)]
pub struct Alarm {
    armed: Option<Armed>,
}

struct Armed {
    at: Instant,
    sleep: Pin<Box<dyn Future<Output = ()>>>,
}

impl Alarm {
    /// Pending if the task of `cx` will be woken at `at` or before. Ready means: look at the clock and ask again.
    pub fn poll(&mut self, cx: &mut Context<'_>, runtime: &impl Runtime, now: Instant, at: Instant) -> Poll<()> {
        let armed = match &mut self.armed {
            Some(armed) if armed.at <= at => armed,
            slot => slot.insert(Armed { at, sleep: Box::pin(runtime.sleep(at.since(now))) }),
        };
        let rang = armed.sleep.as_mut().poll(cx);
        if rang.is_ready() {
            self.armed = None;
        }
        rang
    }
}
