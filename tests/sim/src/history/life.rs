//! A life of the node as the checks of time see it: when it began and ended, how long it was well, and when which revision was there.

use std::time::Duration;

use plinth_base::Instant;

/// One life, from a start to its end.
#[derive(Clone, Default, Debug)]
pub struct Life {
    /// When the start began.
    pub began: Instant,
    /// It has led its groups since before this moment.
    pub leads: Instant,
    /// Nothing went wrong with its device until then.
    pub well_until: Instant,
    /// When it ended.
    pub ended: Instant,
    /// What a member that begins to decide gives each lease beside its TTL.
    pub grace: Duration,
    /// The clocks of members are right up to so many millionths.
    pub drift_millionths: u32,
    /// Looks go to members that may be behind: what they don't show may be there.
    pub is_stale: bool,
    sightings: Vec<Sighting>,
    last_look: Instant,
}

/// A revision was seen first.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    revision: i64,
    /// The last look that didn't show it.
    after: Instant,
    by: Instant,
}

/// What passes while a clock that is so fast, in millionths, goes on by `duration`.
fn scaled(duration: Duration, rate_millionths: u32) -> Duration {
    if rate_millionths == 1_000_000 {
        return duration;
    }
    let ns = duration.as_nanos() * 1_000_000 / u128::from(rate_millionths);
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

impl Life {
    /// A life that began at `began` and led at `leads`, with `revision` as its newest then.
    #[must_use]
    pub fn new(began: Instant, leads: Instant, grace: Duration, revision: i64) -> Self {
        let first = Sighting { revision, after: began, by: leads };
        Self {
            began,
            leads,
            well_until: leads,
            ended: leads,
            grace,
            drift_millionths: 0,
            is_stale: false,
            sightings: vec![first],
            last_look: leads,
        }
    }

    /// What has passed at least when a member's clock says that `duration` has.
    #[must_use]
    pub fn at_least(&self, duration: Duration) -> Duration {
        scaled(duration, 1_000_000 + self.drift_millionths)
    }

    /// What has passed at most when a member's clock says that `duration` has.
    #[must_use]
    pub fn at_most(&self, duration: Duration) -> Duration {
        scaled(duration, 1_000_000 - self.drift_millionths)
    }

    /// Somebody looked and saw this revision as the newest.
    pub fn look(&mut self, revision: i64, now: Instant) {
        if self.sightings.last().is_none_or(|last| last.revision < revision) {
            self.sightings.push(Sighting { revision, after: self.last_look, by: now });
        }
        self.last_look = now;
    }

    /// The newest revision that had been seen by then, 0 if none had.
    #[must_use]
    pub fn revision_at(&self, now: Instant) -> i64 {
        self.sightings.iter().take_while(|seen| seen.by <= now).last().map_or(0, |seen| seen.revision)
    }

    /// When `revision` came: it was not there at the first of these moments, and it was at the second.
    #[must_use]
    pub fn arrival(&self, revision: i64) -> (Instant, Instant) {
        let (after, by) = self.looked(revision);
        (if self.is_stale { self.began } else { after }, by)
    }

    /// Between which looks `revision` came, as far as those who were looked at knew.
    #[must_use]
    pub fn looked(&self, revision: i64) -> (Instant, Instant) {
        let seen = self.sightings.iter().find(|seen| seen.revision >= revision);
        seen.map_or((self.last_look, self.ended), |seen| (seen.after, seen.by))
    }
}
