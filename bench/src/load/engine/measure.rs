//! The time in which calls count.

use std::time::{Duration, Instant};

use super::{
    super::{Outcome, Pace, look::Look, tally::Kind},
    Engine, STALL_MAX,
};
use crate::{failure::Failure, histogram::Latencies};

/// How long calls that count may take after the measured time. What is not answered by then has taken so long.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// When every event is there: in this time one too many would come.
const SURPLUS_WAIT: Duration = Duration::from_millis(200);
/// How often it is asked whether something else is over.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

impl Engine<'_> {
    /// Goes on for so long.
    pub fn go_on(&mut self, duration: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + duration;
        while Instant::now() < deadline {
            self.turn(deadline)?;
        }
        Ok(())
    }

    /// Everything counts until `is_over`, or for the plan's time if there is none.
    pub fn measure(&mut self, is_over: Option<&dyn Fn() -> bool>) -> Result<Outcome, Failure> {
        let before = Look::now(self.plan)?;
        let began = Instant::now();
        self.delayed = 0;
        self.tally.begin(began);
        self.times.begin();
        match is_over {
            None => self.go_on_measuring(began + self.plan.measured)?,
            Some(is_over) => {
                while !is_over() {
                    self.turn(Instant::now() + LOOK_AGAIN)?;
                }
            }
        }
        let ended = Instant::now();
        self.tally.end(ended);
        let (events, delayed) = (self.times.end(), self.delayed);
        let after = Look::now(self.plan)?;
        if self.plan.live {
            eprint!("\r\x1b[K");
        }
        let mut outcome = Outcome {
            plan: self.plan.clone(),
            elapsed: ended - began,
            latencies: Latencies::new(),
            kinds: Vec::new(),
            events,
            delayed,
            unanswered: 0,
            series: Vec::new(),
            errors: self.tally.errors(),
            answer_bytes: 0,
            own_cpu: after.own_cpu.saturating_sub(before.own_cpu),
            server: after.server_since(&before),
            disturbance: after.disturbance_since(&before, self.plan),
        };
        if matches!(self.plan.pace, Pace::Open { .. }) {
            outcome.unanswered = self.drain()?;
        }
        self.expect_answers(&outcome)?;
        outcome.latencies = self.tally.latencies();
        outcome.kinds =
            self.tally.kinds().iter().filter(|kind| kind.latencies.count() > 0).cloned().collect::<Vec<Kind>>();
        outcome.series = self.tally.series().to_vec();
        outcome.answer_bytes = self.tally.answer_bytes();
        Ok(outcome)
    }

    fn go_on_measuring(&mut self, deadline: Instant) -> Result<(), Failure> {
        let total = self.plan.total.unwrap_or(u64::MAX);
        while Instant::now() < deadline && self.tally.measured() < total {
            self.turn(deadline)?;
        }
        Ok(())
    }

    /// Waits for what was due in the measured time; gives how much of it is never answered.
    fn drain(&mut self) -> Result<u64, Failure> {
        let deadline = Instant::now() + DRAIN_MAX;
        self.schedule = None;
        // Their time has not come when the loop stops: they are due all the same.
        while (self.under_way().next().is_some() || !self.backlog.is_empty()) && Instant::now() < deadline {
            self.turn(deadline.min(Instant::now() + LOOK_AGAIN * 10))?;
        }
        let now = Instant::now();
        let late: Vec<_> = self.under_way().map(|(ask, began)| (ask.kind, *began)).collect();
        let late = late.into_iter().chain(std::mem::take(&mut self.backlog).into_iter().map(|due| (0, due)));
        Ok(late.filter(|(kind, began)| self.tally.unanswered(*kind, *began, now)).count() as u64)
    }

    fn expect_answers(&self, outcome: &Outcome) -> Result<(), Failure> {
        let endpoint = self.plan.endpoints[0];
        if self.tally.answers() == 0 {
            return Err(Failure::Trouble(format!("{endpoint} accepts connections and answers nothing")));
        }
        match outcome.errors.first() {
            Some(errors) if self.tally.measured() == 0 && errors.code == plinth_client::Code::UNIMPLEMENTED.0 => {
                Err(Failure::Trouble(format!("{endpoint} is no etcd: {}", errors.message)))
            }
            _ => Ok(()),
        }
    }

    /// Waits until all that is under way is over, and everything that is to be seen was seen.
    pub fn finish(&mut self) -> Result<(), Failure> {
        self.stop_asking();
        self.settle("answers come", |engine| engine.under_way().next().is_none())?;
        if self.board.is_none() {
            return Ok(());
        }
        self.settle("events arrive", |engine| {
            engine.board.as_ref().is_none_or(|board| {
                let (delivered, expected) = board.events();
                delivered >= expected
            })
        })?;
        self.go_on(SURPLUS_WAIT)?;
        let verified = self.board.as_ref().map_or(Ok(()), |board| board.verify());
        verified.map_err(Failure::Trouble)
    }

    /// Waits, as long as something goes on.
    pub fn settle(&mut self, what: &str, is_done: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        let (mut seen, mut changed) = (0, Instant::now());
        while !is_done(self) {
            self.turn(Instant::now() + LOOK_AGAIN * 10)?;
            let now = self.tally.answers() + self.board.as_ref().map_or(0, |board| board.events().0);
            if now > seen {
                (seen, changed) = (now, Instant::now());
            } else if changed.elapsed() > STALL_MAX {
                return Err(Failure::Trouble(format!("waiting until {what}: nothing for {STALL_MAX:?}")));
            }
        }
        Ok(())
    }
}
