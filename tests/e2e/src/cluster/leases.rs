//! Owners of leases: each has one with a short TTL, and renews it through whichever member answers. No lease may be lost, whatever happens to a
//! member.
//!
//! The leases have no keys: what is written stays the load's business, so that the history knows all of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    caller::Caller,
    members::{Cluster, POLL, WAIT_MAX},
    net::Namespace,
};
use crate::outcome::{Ended, ensure};

/// TTLs in seconds; 2 is the least that the server grants with its usual election timeout.
const TTLS: [i64; 6] = [2, 3, 2, 3, 2, 3];
/// So many renewals fit into a TTL, as in etcd's own client.
const RENEWALS_PER_TTL: u32 = 3;
/// A member that hasn't answered within this is left for the next one.
const PATIENCE: Duration = Duration::from_millis(500);

/// Owners at work; they end when this is dropped.
pub(crate) struct Owners {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Kept, String>>>,
}

/// What an owner has seen.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Kept {
    /// Leases that were gone before their owners gave them up.
    pub(crate) lost: usize,
    pub(crate) renewals: usize,
    /// The longest time between two renewals of a lease.
    pub(crate) longest_gap: Duration,
}

/// One owner.
struct Owner {
    is_over: Arc<AtomicBool>,
    members: Vec<Namespace>,
    /// The place of the one that it asks now.
    at: usize,
    caller: Option<Caller>,
}

impl Owners {
    /// Owners that begin with each of the members in turn.
    pub(crate) fn start(cluster: &Cluster<'_>) -> Result<Self, Ended> {
        let members: Vec<Namespace> =
            cluster.all().into_iter().map(|member| cluster.member(member).namespace().clone()).collect();
        let is_over = Arc::new(AtomicBool::new(false));
        let mut owners = Self { is_over: Arc::clone(&is_over), threads: Vec::new() };
        for (number, ttl) in TTLS.into_iter().enumerate() {
            let (is_over, members, at) = (Arc::clone(&is_over), members.clone(), number % members.len());
            let owner = Owner { is_over, members, at, caller: None };
            let thread = thread::Builder::new().name(format!("owner {number}"));
            owners.threads.push(thread.spawn(move || owner.run(ttl))?);
        }
        Ok(owners)
    }

    /// Ends them, and says what they saw.
    pub(crate) fn stop(mut self) -> Result<Kept, Ended> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Kept::default();
        for thread in self.threads.drain(..) {
            let kept = thread.join().map_err(|_| Ended::Failed("an owner of leases panicked".to_owned()))??;
            all.lost += kept.lost;
            all.renewals += kept.renewals;
            all.longest_gap = all.longest_gap.max(kept.longest_gap);
        }
        ensure(all.renewals > 0, || "no lease was ever renewed".to_owned())?;
        Ok(all)
    }
}

impl Drop for Owners {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // A case that failed has its own reason.
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

impl Owner {
    fn run(mut self, ttl: i64) -> Result<Kept, String> {
        let mut kept = Kept::default();
        let every = Duration::from_secs(ttl.unsigned_abs()) / RENEWALS_PER_TTL;
        while !self.is_over() {
            let lease = self.grant(ttl)?;
            let mut renewed = Instant::now();
            self.pause(every);
            while let Some(left) = self.renew(lease)? {
                kept.longest_gap = kept.longest_gap.max(renewed.elapsed());
                if left <= 0 {
                    eprintln!("a lease of {ttl} s was lost, {:.1?} after its last renewal", renewed.elapsed());
                    kept.lost += 1;
                    break;
                }
                kept.renewals += 1;
                renewed = Instant::now();
                self.pause(every);
            }
        }
        Ok(kept)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// A new lease; an answer that was lost leaves one that nobody owns.
    fn grant(&mut self, ttl: i64) -> Result<i64, String> {
        let since = Instant::now();
        loop {
            let granted = self.caller().and_then(|caller| caller.lease_grant(ttl).ok());
            match granted {
                Some(lease) => return Ok(lease),
                None if since.elapsed() > WAIT_MAX => return Err(format!("no lease was granted within {WAIT_MAX:?}")),
                None => self.go_on(),
            }
        }
    }

    /// Seconds that a lease has after its renewal; none if the owner's work is over before.
    fn renew(&mut self, lease: i64) -> Result<Option<i64>, String> {
        let since = Instant::now();
        while !self.is_over() {
            if let Some(left) = self.caller().and_then(|caller| caller.lease_keep_alive(lease).ok()) {
                return Ok(Some(left));
            }
            if since.elapsed() > WAIT_MAX {
                return Err(format!("nobody renews a lease within {WAIT_MAX:?}"));
            }
            self.go_on();
        }
        Ok(None)
    }

    /// The connection to the member that is asked now.
    fn caller(&mut self) -> Option<&Caller> {
        if self.caller.is_none() {
            self.caller = Caller::connect(&self.members[self.at], PATIENCE).ok();
        }
        self.caller.as_ref()
    }

    /// The next member is asked from now on.
    fn go_on(&mut self) {
        self.caller = None;
        self.at = (self.at + 1) % self.members.len();
        thread::sleep(POLL);
    }

    /// Lets time pass, in short steps, while the connection lives on.
    fn pause(&self, pause: Duration) {
        let end = Instant::now() + pause;
        while !self.is_over() && Instant::now() < end {
            match &self.caller {
                Some(caller) => caller.pause(POLL),
                None => thread::sleep(POLL),
            }
        }
    }
}
