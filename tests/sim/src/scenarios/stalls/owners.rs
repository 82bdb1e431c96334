//! Owners of leases: each keeps one of a few seconds alive, through whichever member answers, and may never be told that it is gone.
//!
//! An owner is no machine's: whatever goes down, it goes on asking.

use std::{cell::Cell, rc::Rc, time::Duration};

use plinth_base::Instant;
use plinth_env::{Env, TaskQueue};

use super::Run;
use crate::{
    call::Call,
    scenario::Violation,
    scenarios::clients::{self, Sent, renewal},
};

const OWNERS: i64 = 3;

/// No other client has leases with such ids, or touches them.
const FIRST_LEASE: i64 = 1 << 40;

/// What was answered.
#[derive(Clone, Copy, Debug)]
enum Told {
    /// It is granted, and whoever has applied this entry knows of it.
    Granted(u64),
    /// What is left, in seconds: all of it, or nothing.
    Renewed(i64),
    /// Nothing that helps.
    Nothing,
}

#[derive(Debug)]
enum State {
    /// The next renewal is due then.
    Content(Instant),
    /// Since then somebody has been asked: on which machine, and what that member had applied.
    Asking { since: Instant, via: usize, applied: u64, told: Rc<Cell<Option<Told>>> },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Owner {
    lease: i64,
    ttl: i64,
    /// Whoever has applied this knows of it; none as long as it isn't granted.
    granted: Option<u64>,
    via: usize,
    state: State,
}

impl Owner {
    fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl.unsigned_abs())
    }
}

impl Run {
    pub(super) fn begin_leases(&mut self) {
        for number in 0..OWNERS {
            let ttl = [2, 3, 5][self.cluster.prng.index(3)];
            let via = self.cluster.prng.index(self.cluster.members.len());
            let state = State::Content(self.cluster.now());
            self.owners.push(Owner { lease: FIRST_LEASE + number, ttl, granted: None, via, state });
        }
    }

    pub(super) fn tend_leases(&mut self) -> Result<(), Violation> {
        let mut owners = std::mem::take(&mut self.owners);
        let tended = owners.iter_mut().try_for_each(|owner| self.tend(owner));
        self.owners = owners;
        tended
    }

    fn tend(&self, owner: &mut Owner) -> Result<(), Violation> {
        let now = self.cluster.now();
        let State::Asking { since, via, applied, ref told } = owner.state else {
            if matches!(owner.state, State::Content(until) if now >= until) {
                self.ask(owner, now);
            }
            return Ok(());
        };
        match told.get() {
            Some(Told::Granted(entry)) => owner.granted = Some(entry),
            Some(Told::Renewed(1..)) => {}
            // A member that hasn't heard of it yet can't know better.
            Some(Told::Renewed(_)) if owner.granted.is_some_and(|granted| applied >= granted) => {
                let (lease, ttl, told) = (owner.lease, owner.ttl, self.cluster.describe());
                return Err(Violation(format!(
                    "lease {lease} of {ttl} s was lost although it was renewed, says m{via}: {told}"
                )));
            }
            None if now.since(since) < owner.ttl() / 6 && self.cluster.members[via].is_up() => return Ok(()),
            _ => {
                // The next one, at once. What this one still says nobody hears.
                owner.via = via + 1;
                self.ask(owner, now);
                return Ok(());
            }
        }
        owner.state = State::Content(since + owner.ttl() / 3);
        Ok(())
    }

    fn ask(&self, owner: &mut Owner, now: Instant) {
        let hosts = self.cluster.members.len();
        let via = (0..hosts).map(|offset| (owner.via + offset) % hosts).find(|via| self.cluster.members[*via].is_up());
        let Some(via) = via else { return };
        let told = Rc::new(Cell::new(None));
        let (api, env, clients) =
            (self.cluster.node_of(via).apis[0].clone(), self.cluster.env_of(via), Rc::clone(&self.cluster.clients));
        let applied = self.cluster.node_of(via).handle.groups[0].root().state.applied.0;
        owner.state = State::Asking { since: now, via, applied, told: Rc::clone(&told) };
        if owner.granted.is_some() {
            let lease = owner.lease;
            env.spawn(TaskQueue::Serve, async move {
                let ttl = renewal::renew_once(&api, &clients, lease).await;
                told.set(Some(ttl.map_or(Told::Nothing, Told::Renewed)));
            });
        } else {
            // Whatever becomes of one that isn't answered: an id is granted once.
            owner.lease += OWNERS;
            let grant = Call::LeaseGrant { lease: owner.lease, ttl: owner.ttl };
            env.spawn(TaskQueue::Serve, async move {
                let sent = clients::send(&api, &clients, grant, false).await;
                let applied = api.published().root().state.applied.0;
                told.set(Some(if sent == Sent::Answered { Told::Granted(applied) } else { Told::Nothing }));
            });
        }
    }
}
