//! When leases expire, on the member that decides it.
//!
//! The trees hold TTLs, not deadlines: a renewal changes nothing that is stored. Here is what was granted or renewed since this member began to
//! decide; every other lease has its whole TTL from then on, so that the order of TTLs in the tree is the order in which those
//! expire. Nothing is read at the start, and as much of that order as time has passed.
//!
//! No clock: `now` is an argument. Whoever calls [`Lessor::due`] proposes what it gives, and tells with [`Lessor::revoked`] when a lease is
//! gone. One that is still there a while later is given again.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use plinth_base::{Instant, Mark, bug};
use plinth_tree::{Missing, PageSource, View};

use crate::{Budget, ByTtl, leases_by_ttl};

/// A revocation that was proposed and hasn't happened is proposed again after this.
const RETRY: Duration = Duration::from_secs(1);

/// Deadlines of leases.
#[derive(Debug)]
pub struct Lessor {
    /// When a lease of no TTL at all would expire that wasn't touched since.
    base: Instant,
    touched: HashMap<i64, Touched>,
    /// Those by deadline.
    queue: BTreeSet<(Instant, i64)>,
    /// Untouched leases up to here are dealt with.
    walked: Option<ByTtl>,
}

#[derive(Clone, Copy, Debug)]
struct Touched {
    deadline: Instant,
    /// Its revocation is proposed.
    is_expiring: bool,
}

/// What a call of [`Lessor::due`] found.
#[derive(Debug, Default)]
pub struct Due {
    /// Leases whose time is over.
    pub ids: Vec<i64>,
    /// There may be more: call again.
    pub has_more: bool,
    /// Load these pages before that.
    pub missing: Option<Missing>,
}

fn seconds(ttl: i64) -> Duration {
    let ttl = if bug!(LeaseExpiresEarly) { ttl - 1 } else { ttl };
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

impl Lessor {
    /// Of a member that begins to decide now. Leases from before get `grace` beside their TTL: whoever decided before may have renewed them just then.
    #[must_use]
    pub fn new(now: Instant, grace: Duration) -> Self {
        Self { base: now + grace, touched: HashMap::new(), queue: BTreeSet::new(), walked: None }
    }

    /// A lease was granted whose TTL counts from `now`.
    pub fn granted(&mut self, id: i64, ttl: i64, now: Instant) {
        self.touch(id, now + seconds(ttl));
    }

    /// Gives a lease its whole TTL again; false if its time was over already. The caller has seen it in the trees.
    pub fn renew(&mut self, lease: ByTtl, now: Instant) -> bool {
        if self.remaining(lease, now).is_none() {
            return false;
        }
        self.touch(lease.id, now + seconds(lease.ttl));
        true
    }

    /// Whether a lease was granted or renewed, or has expired, since this member began to decide, and is there.
    #[must_use]
    pub fn knows(&self, id: i64) -> bool {
        self.touched.contains_key(&id)
    }

    /// The revocation of a lease whose time is over is proposed out of turn; false if it is proposed already.
    #[must_use]
    pub fn expire_now(&mut self, id: i64, now: Instant) -> bool {
        if self.touched.get(&id).is_some_and(|touched| touched.is_expiring) {
            return false;
        }
        self.set(id, Touched { deadline: now + RETRY, is_expiring: true });
        true
    }

    /// How long a lease that the caller has seen in the trees still lives; `None` if its time is over.
    #[must_use]
    pub fn remaining(&self, lease: ByTtl, now: Instant) -> Option<Duration> {
        let deadline = match self.touched.get(&lease.id) {
            Some(touched) if touched.is_expiring => return None,
            Some(touched) => touched.deadline,
            None => self.base + seconds(lease.ttl),
        };
        (deadline > now).then(|| deadline.since(now))
    }

    /// A lease is gone.
    pub fn revoked(&mut self, id: i64) {
        if let Some(touched) = self.touched.remove(&id) {
            self.queue.remove(&(touched.deadline, id));
        }
    }

    fn touch(&mut self, id: i64, deadline: Instant) {
        self.set(id, Touched { deadline, is_expiring: false });
    }

    fn set(&mut self, id: i64, touched: Touched) {
        if let Some(before) = self.touched.insert(id, touched) {
            self.queue.remove(&(before.deadline, id));
        }
        self.queue.insert((touched.deadline, id));
    }

    /// Leases whose time is over, at most `ids_max`. `view` shows the trees as they are applied.
    pub fn due<P: PageSource>(&mut self, view: View<'_, P>, now: Instant, ids_max: usize) -> Due {
        let mut due = Due::default();
        while due.ids.len() < ids_max
            && let Some(&(at, id)) = self.queue.first()
            && at <= now
        {
            self.expire(id, now, &mut due);
        }
        due.has_more = due.ids.len() == ids_max;
        self.walk(view, now, ids_max, &mut due);
        due
    }

    /// Goes on through the leases that nobody touched.
    fn walk<P: PageSource>(&mut self, view: View<'_, P>, now: Instant, ids_max: usize, due: &mut Due) {
        let Some(elapsed) = now.0.checked_sub(self.base.0) else { return };
        let ttl_max = i64::try_from(Duration::from_nanos(elapsed).as_secs()).unwrap_or(i64::MAX);
        let room = ids_max.saturating_sub(due.ids.len());
        let mut budget = Budget::new(u32::try_from(room).unwrap_or(u32::MAX));
        let mut found = Vec::new();
        match leases_by_ttl(view, self.walked, ttl_max, &mut found, &mut budget) {
            Ok(is_all) => due.has_more |= !is_all,
            Err(missing) => (due.has_more, due.missing) = (true, Some(missing)),
        }
        for lease in found {
            self.walked = Some(lease);
            if !self.touched.contains_key(&lease.id) {
                Mark::LeaseExpiredUntouched.hit();
                self.expire(lease.id, now, due);
            }
        }
    }

    fn expire(&mut self, id: i64, now: Instant, due: &mut Due) {
        self.set(id, Touched { deadline: now + RETRY, is_expiring: true });
        due.ids.push(id);
    }
}
