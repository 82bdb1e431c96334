//! Pings: how often a client may send them, and when the server sends its own. Pure: time is an argument.
//!
//! Both follow grpc-go, because its clients are tuned to it: a client may ping once per `keepalive_min_time`, without a call under
//! way practically never; three strikes end the connection; whatever the server sends for a call clears them.

use std::time::Duration;

use plinth_base::Instant;

/// Strikes that are tolerated.
const STRIKES_MAX: u32 = 2;

/// How far apart pings of a client without calls must be.
const IDLE_PING_MIN: Duration = Duration::from_secs(2 * 3600);

/// Judges the pings of one client.
#[derive(Debug)]
pub struct PingPolicy {
    min_time: Duration,
    last: Option<Instant>,
    strikes: u32,
    /// Something was sent for a call since the last ping.
    answered: bool,
}

impl PingPolicy {
    /// `min_time` is what must lie between two pings while calls are under way.
    #[must_use]
    pub fn new(min_time: Duration) -> Self {
        Self { min_time, last: None, strikes: 0, answered: false }
    }

    /// Headers or data of a call went to the client.
    pub fn note_answered(&mut self) {
        self.answered = true;
    }

    /// A ping came while `calls` were under way. False: the client must go.
    pub fn allow(&mut self, now: Instant, calls: usize) -> bool {
        let last = self.last.replace(now);
        if std::mem::take(&mut self.answered) {
            self.strikes = 0;
            return true;
        }
        let wait = if calls == 0 { IDLE_PING_MIN } else { self.min_time };
        if last.is_some_and(|last| last + wait > now) {
            self.strikes += 1;
        }
        self.strikes <= STRIKES_MAX
    }
}

/// What the server does about a silent client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeepaliveStep {
    /// Nothing before this time.
    WaitUntil(Instant),
    /// Send a ping, then ask again.
    Ping,
    /// The client is gone.
    Close,
}

/// Watches one client for silence.
#[derive(Debug)]
pub struct Keepalive {
    interval: Duration,
    timeout: Duration,
    last_read: Instant,
    pinged: Option<Instant>,
}

impl Keepalive {
    /// Pings after `interval` of silence, gives up after `timeout` more.
    #[must_use]
    pub fn new(interval: Duration, timeout: Duration, now: Instant) -> Self {
        Self { interval, timeout, last_read: now, pinged: None }
    }

    /// Something came from the client: it lives.
    pub fn note_read(&mut self, now: Instant) {
        self.last_read = now;
        self.pinged = None;
    }

    /// What is to be done now.
    pub fn step(&mut self, now: Instant) -> KeepaliveStep {
        let (due, then) = match self.pinged {
            None => (self.last_read + self.interval, KeepaliveStep::Ping),
            Some(pinged) => (pinged + self.timeout, KeepaliveStep::Close),
        };
        if now < due {
            return KeepaliveStep::WaitUntil(due);
        }
        self.pinged.get_or_insert(now);
        then
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant(secs * 1_000_000_000)
    }

    #[test]
    fn the_third_early_ping_ends_the_connection() {
        let mut policy = PingPolicy::new(Duration::from_secs(5));
        assert!(policy.allow(at(100), 1));
        assert!(policy.allow(at(101), 1));
        assert!(policy.allow(at(102), 1));
        assert!(!policy.allow(at(103), 1));
    }

    #[test]
    fn pings_at_the_allowed_pace_never_end_it() {
        let mut policy = PingPolicy::new(Duration::from_secs(5));
        assert!((0..100).all(|ping| policy.allow(at(ping * 5), 3)));
    }

    #[test]
    fn answers_clear_the_strikes() {
        let mut policy = PingPolicy::new(Duration::from_secs(5));
        for _ in 0..100 {
            policy.note_answered();
            assert!((0..3).all(|_| policy.allow(at(100), 1)));
        }
    }

    #[test]
    fn pings_without_a_call_are_early_for_hours() {
        let mut policy = PingPolicy::new(Duration::from_secs(5));
        assert!((0..3).all(|ping| policy.allow(at(ping * 60), 0)));
        assert!(!policy.allow(at(180), 0));
    }

    #[test]
    fn silence_leads_to_a_ping_and_then_to_the_end() {
        let mut keepalive = Keepalive::new(Duration::from_secs(60), Duration::from_secs(20), at(0));
        assert_eq!(keepalive.step(at(10)), KeepaliveStep::WaitUntil(at(60)));
        keepalive.note_read(at(30));
        assert_eq!(keepalive.step(at(60)), KeepaliveStep::WaitUntil(at(90)));
        assert_eq!(keepalive.step(at(91)), KeepaliveStep::Ping);
        assert_eq!(keepalive.step(at(91)), KeepaliveStep::WaitUntil(at(111)));
        keepalive.note_read(at(92));
        assert_eq!(keepalive.step(at(93)), KeepaliveStep::WaitUntil(at(152)));
        assert_eq!(keepalive.step(at(152)), KeepaliveStep::Ping);
        assert_eq!(keepalive.step(at(172)), KeepaliveStep::Close);
    }
}
