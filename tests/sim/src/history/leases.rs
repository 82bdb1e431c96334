//! Leases as their clients see them: what is known of each, held against the clock after every life of the node.
//!
//! A lease ends at a moment that nobody sees. What is seen are calls that found it alive or gone, and revisions without its keys. The rules:
//!
//! - **Never early.** Whoever finds a lease gone that nobody may have revoked does so at the earliest its TTL after the beginning of its grant and of
//!   every renewal that was acknowledged. One that lived when the node started has its TTL and one election timeout from the beginning of that start, unless
//!   it was renewed since: then its TTL counts from there.
//! - **Never late.** 2 s after the last moment to which the server can have prolonged it, nobody finds it alive: neither a call nor a read of its keys.
//!   That moment is its TTL after the *answer* to a grant or renewal, and the TTL with the election timeout after the node led again. A renewal without an answer can have come
//!   at any time, and so can a grant. The rule holds as long as the device is well.
//! - **Gone is gone.** No call that begins when its end is known finds it alive, and no key of it is there.

use std::{collections::BTreeMap, time::Duration};

use plinth_base::Instant;

use super::life::Life;

/// A lease may live so much longer than its TTL.
pub const LATE_MAX: Duration = Duration::from_secs(2);

/// The shortest TTL that is granted, in seconds.
pub const TTL_MIN: i64 = 2;

/// All leases that are or may be.
#[derive(Clone, Default, Debug)]
pub struct Leases(BTreeMap<i64, Lease>);

#[derive(Clone, Debug)]
struct Lease {
    ttl: Duration,
    origin: Origin,
    /// Renewals with a TTL in their answer, or without an answer.
    renewals: Vec<(Instant, Option<Instant>)>,
    /// The latest beginning of a call that found it alive.
    alive: Option<Instant>,
    /// The earliest end of a call that found it gone.
    gone: Option<Instant>,
    /// The earliest beginning of a revocation that may have been carried out.
    revoked: Option<Instant>,
    /// The revision that deleted its keys.
    ended: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
enum Origin {
    /// Granted in this life: begin and end of the call.
    Granted(Instant, Option<Instant>),
    /// It was there when this life began.
    Inherited,
}

/// The TTL that is granted to who asks for `ttl` seconds.
#[must_use]
pub fn granted_ttl(ttl: i64) -> i64 {
    ttl.max(TTL_MIN)
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

impl Leases {
    /// A grant that may have been carried out.
    pub fn granted(&mut self, lease: i64, ttl: i64, begin: Instant, end: Option<Instant>) {
        let (ttl, origin) = (seconds(granted_ttl(ttl)), Origin::Granted(begin, end));
        let new = Lease { ttl, origin, renewals: Vec::new(), alive: None, gone: None, revoked: None, ended: None };
        self.0.insert(lease, new);
    }

    /// A renewal that was answered with a TTL at `end`, or that got no answer.
    pub fn renewed(&mut self, lease: i64, begin: Instant, end: Option<Instant>) {
        if let Some(known) = self.0.get_mut(&lease) {
            known.renewals.push((begin, end));
        }
        if end.is_some() {
            self.found(lease, begin);
        }
    }

    /// A revocation that may have been carried out.
    pub fn revoked(&mut self, lease: i64, begin: Instant) {
        if let Some(known) = self.0.get_mut(&lease) {
            known.revoked = Some(known.revoked.map_or(begin, |before| before.min(begin)));
        }
    }

    /// A call that began then found it alive.
    pub fn found(&mut self, lease: i64, begin: Instant) {
        if let Some(known) = self.0.get_mut(&lease) {
            known.alive = known.alive.max(Some(begin));
        }
    }

    /// A call found it gone.
    pub fn missed(&mut self, lease: i64, begin: Instant, end: Instant) {
        let Some(known) = self.0.get_mut(&lease) else { return };
        // One that came before the grant was carried out says nothing.
        let was_there = match known.origin {
            Origin::Granted(_, granted) => granted.is_some_and(|granted| begin >= granted),
            Origin::Inherited => true,
        };
        if was_there {
            known.gone = Some(known.gone.map_or(end, |before| before.min(end)));
        }
    }

    /// This revision deleted its keys, and with them the lease.
    pub fn ended(&mut self, lease: i64, revision: i64) {
        if let Some(known) = self.0.get_mut(&lease) {
            known.ended = Some(revision);
        }
    }

    /// Whether the end of the lease can have made `revision`, as far as its time and revocations go.
    #[must_use]
    pub fn may_have_ended(&self, lease: i64, revision: i64, life: &Life) -> bool {
        let (after, by) = life.looked(revision);
        self.0.get(&lease).is_some_and(|known| {
            let was_gone = known.gone.is_some_and(|gone| gone < after);
            let lived_on = known.alive.is_some_and(|alive| alive > by);
            !lived_on && !was_gone && (known.earliest(life) <= by || known.revoked.is_some_and(|revoked| revoked <= by))
        })
    }

    /// The leases that are or may be.
    pub fn ids(&self) -> impl Iterator<Item = i64> {
        self.0.keys().copied()
    }

    /// The granted TTL of a lease that is or may be.
    #[must_use]
    pub fn ttl(&self, lease: i64) -> Option<Duration> {
        self.0.get(&lease).map(|known| known.ttl)
    }

    /// A life has ended, and at the next start `is_there` says which leases are there. The rules are proven, and what is gone is forgotten.
    pub fn close(&mut self, life: &Life, is_there: impl Fn(i64) -> bool) -> Result<(), String> {
        for (id, lease) in &self.0 {
            lease.check(life, is_there(*id)).map_err(|what| format!("lease {id} {what}; {lease:?}, {life:?}"))?;
        }
        self.0.retain(|id, _| is_there(*id));
        for lease in self.0.values_mut() {
            let ttl = lease.ttl;
            *lease = Lease {
                ttl,
                origin: Origin::Inherited,
                renewals: Vec::new(),
                alive: None,
                gone: None,
                revoked: None,
                ended: None,
            };
        }
        Ok(())
    }
}

impl Lease {
    fn check(&self, life: &Life, is_there: bool) -> Result<(), String> {
        let arrival = self.ended.map(|revision| life.arrival(revision));
        if let (Some((after, _)), Some(gone)) = (arrival, self.gone)
            && gone < after
        {
            return Err(format!("was found gone at {gone:?}, and its keys were there at {after:?}"));
        }
        if is_there && (self.ended.is_some() || self.gone.is_some()) {
            return Err(format!(
                "had ended (revision {:?}, found gone at {:?}), and is there after a start",
                self.ended, self.gone
            ));
        }
        let seen = [arrival.map(|(_, by)| by), self.gone].into_iter().flatten().min();
        let never_came = matches!(self.origin, Origin::Granted(_, None)) && self.alive.is_none();
        let known_gone = seen.or((!is_there && !never_came).then_some(life.ended));
        if let Some(at) = known_gone {
            let earliest = self.earliest(life);
            if at < earliest && self.revoked.is_none_or(|revoked| revoked > at) {
                return Err(format!("was gone at {at:?}, it had to live until {earliest:?}"));
            }
            if let Some(alive) = self.alive.filter(|alive| *alive > at) {
                return Err(format!("was gone at {at:?}, and a call that began at {alive:?} found it alive"));
            }
        }
        let lived = [self.alive, arrival.map(|(after, _)| after), is_there.then_some(life.ended)];
        // Whatever lived later lived then, too.
        let lived = lived.into_iter().flatten().max().map(|at| at.min(life.well_until));
        if let (Some(latest), Some(lived)) = (self.latest(life), lived)
            && lived > latest + LATE_MAX
        {
            return Err(format!("lived at {lived:?}, its time was over at {latest:?} at the latest"));
        }
        Ok(())
    }

    /// Before this moment it can't end by itself.
    fn earliest(&self, life: &Life) -> Instant {
        let (ttl, grace) = (life.at_least(self.ttl), life.at_least(life.grace));
        let acknowledged = self.renewals.iter().filter(|(_, end)| end.is_some()).map(|(begin, _)| *begin).max();
        match (self.origin, acknowledged) {
            (Origin::Granted(begin, _), renewed) => renewed.map_or(begin, |renewed| renewed.max(begin)) + ttl,
            (Origin::Inherited, Some(renewed)) => renewed + ttl,
            (Origin::Inherited, None) => {
                let whole = life.began + ttl + grace;
                self.renewals.iter().map(|(begin, _)| *begin + ttl).fold(whole, Instant::min)
            }
        }
    }

    /// The last moment to which the server can have prolonged it, unless it can be any.
    fn latest(&self, life: &Life) -> Option<Instant> {
        let (ttl, grace) = (life.at_most(self.ttl), life.at_most(life.grace));
        let origin = match self.origin {
            // Since then another member may have begun to lead.
            Origin::Granted(begin, end) if life.leads > begin => (end? + ttl).max(life.leads + ttl + grace),
            Origin::Granted(_, end) => end? + ttl,
            Origin::Inherited => life.leads + ttl + grace,
        };
        self.renewals.iter().try_fold(origin, |latest, (_, end)| Some(latest.max((*end)? + ttl)))
    }
}

#[cfg(test)]
mod tests;
