//! Leases on their shard: renewals, and the revocation of those whose time is over.

use plinth_base::Mark;
use plinth_env::{Env, TaskQueue};
use plinth_kv::{ByTtl, Command, granted_ttl};

use super::{Completion, Shard, send_answer};
use crate::message::{Refusal, Reply, ReplyTo};

/// Leases that one command revokes: the root is published between two commands, so a long one would hold up everybody's answers.
const LEASES_PER_COMMAND_MAX: usize = 256;

/// Such commands in one tick. A hundred thousand leases that expire at once are gone within a second.
const COMMANDS_PER_TICK_MAX: usize = 48;

impl<E: Env> Shard<E> {
    /// Proposes to revoke what has expired.
    pub(super) fn expire_leases(&mut self, at: usize) {
        // What is proposed now would only wait.
        if self.stall.is_stalled() || self.stopping.is_some() {
            return;
        }
        let now = self.env.now();
        for _ in 0..COMMANDS_PER_TICK_MAX {
            let Some((lessor, store)) = self.groups[at].lessor(now) else { return };
            let due = lessor.due(store.view(), now, LEASES_PER_COMMAND_MAX);
            if !due.ids.is_empty() {
                self.metrics.leases_expired.add(due.ids.len() as u64);
                self.propose_own(at, Command::LeasesExpire { ids: due.ids });
            }
            if let Some(missing) = due.missing {
                return self.load_for_leases(at, missing);
            }
            if !due.has_more {
                return;
            }
        }
    }

    /// The next tick goes on.
    fn load_for_leases(&self, at: usize, missing: plinth_tree::Missing) {
        let load = self.env.load_pages(self.groups[at].store.pages(), missing.wants);
        self.env.spawn(TaskQueue::Background, async move {
            if let Err(error) = load.await {
                plinth_base::log_error!(
                    "a page of the leases can't be read: none that was granted before the start expires",
                    "error" => plinth_base::log::Value::display(&error)
                );
            }
        });
    }

    /// Gives a lease its whole TTL again. Of one whose time is over, the answer comes when it is gone.
    pub(super) fn renew_lease(&mut self, at: usize, lease: ByTtl, reply: ReplyTo) {
        let now = self.env.now();
        let Some((lessor, store)) = self.groups[at].lessor(now) else { return self.refuse(reply, Refusal::NoLeader) };
        if !lessor.knows(lease.id) {
            // From before the start, or gone since the sender saw it.
            match granted_ttl(store.view(), lease.id) {
                Ok(Some(_)) => {}
                Ok(None) => return self.answer_when_gone(at, reply),
                Err(missing) => return self.load_for_renewal(at, lease, reply, missing),
            }
        }
        if lessor.renew(lease, now) {
            let remaining = lessor.remaining(lease, now);
            self.metrics.leases_renewed.inc();
            self.metrics.lease_ttl.observe(lease.ttl.unsigned_abs());
            return self.answer(reply, Reply::Leases(vec![remaining]));
        }
        Mark::LeaseRenewedLate.hit();
        if self.stopping.is_some() {
            return self.refuse(reply, Refusal::Stopping);
        }
        // The tick would do so too, but perhaps not for long: it waits while the log's device does.
        if lessor.expire_now(lease.id, now) {
            self.metrics.leases_expired.inc();
            self.propose_own(at, Command::LeasesExpire { ids: vec![lease.id] });
        }
        self.answer_when_gone(at, reply);
    }

    /// The revocation is logged: the answer comes when everything is applied that is.
    fn answer_when_gone(&mut self, at: usize, reply: ReplyTo) {
        let group = &mut self.groups[at];
        group.wait_for_read(group.raft.last().index, reply);
    }

    fn load_for_renewal(&self, at: usize, lease: ByTtl, reply: ReplyTo, missing: plinth_tree::Missing) {
        let load = self.env.load_pages(self.groups[at].store.pages(), missing.wants);
        let completions = self.completions.clone();
        self.env.spawn(TaskQueue::Consensus, async move {
            match load.await {
                Ok(()) => completions.push(Completion::LoadedForRenewal(at, lease, reply)),
                // Its sender gives up in the end.
                Err(error) => plinth_base::log_error!(
                    "a page of the leases can't be read: one that was granted before the start isn't renewed",
                    "error" => plinth_base::log::Value::display(&error)
                ),
            }
        });
    }

    /// How long leases still live.
    pub(super) fn tell_leases(&mut self, at: usize, leases: &[ByTtl], reply: ReplyTo) {
        let now = self.env.now();
        match self.groups[at].lessor(now) {
            Some((lessor, _)) => {
                let remaining = leases.iter().map(|lease| lessor.remaining(*lease, now)).collect();
                self.answer(reply, Reply::Leases(remaining));
            }
            None => self.refuse(reply, Refusal::NoLeader),
        }
    }

    pub(super) fn answer(&mut self, to: ReplyTo, reply: Reply) {
        send_answer(&self.replies, &mut self.touched, to, reply);
    }
}
