//! Leases on their shard: renewals, and the revocation of those whose time is over.
//!
//! Only the leader of the group decides about them. It answers a renewal when it has proven, with a round of heartbeats that began after the question came,
//! that it still leads: then whoever leads next begins after that, and gives every lease at least its whole TTL from there on.

use plinth_base::{Mark, MemberId};
use plinth_env::{Env, TaskQueue};
use plinth_kv::{ByTtl, Command, granted_ttl};
use plinth_raft::Role;

use super::{Completion, Shard, send_answer};
use crate::{
    group::{Asked, Asker, LeaseQuestion},
    message::{Refusal, Reply, ReplyTo},
    peers::{LeaseAnswer, LeaseFrame},
};

/// Leases that one command revokes: the root is published between two commands, so a long one would hold up everybody's answers.
const LEASES_PER_COMMAND_MAX: usize = 256;

/// Such commands in one tick. A hundred thousand leases that expire at once are gone within a second.
const COMMANDS_PER_TICK_MAX: usize = 48;

impl<E: Env> Shard<E> {
    /// Proposes to revoke what has expired.
    pub(super) fn expire_leases(&mut self, at: usize) {
        // What is proposed now would only wait.
        if self.stall.is_stalled() || self.stopping.is_some() || !self.groups[at].raft.may_propose() {
            return;
        }
        let now = self.env.now();
        for _ in 0..COMMANDS_PER_TICK_MAX {
            let Some((lessor, store)) = self.groups[at].lessor(now) else { return };
            let due = lessor.due(store.view(), now, LEASES_PER_COMMAND_MAX);
            if !due.ids.is_empty() {
                self.metrics.leases_expired.add(due.ids.len() as u64);
                self.propose_expiry(at, due.ids);
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

    /// A client of this member asks. Only the leader knows, so the question goes there.
    pub(super) fn ask_about_leases(&mut self, at: usize, question: LeaseQuestion, reply: ReplyTo) {
        let group = &mut self.groups[at];
        match group.raft.leader() {
            Some(leader) if leader.0 != self.member => {
                let number = group.begin_lease_question(reply, self.now);
                let frame = match question {
                    LeaseQuestion::Renew(lease) => LeaseFrame::Renew(number, lease),
                    LeaseQuestion::Remaining(leases) => LeaseFrame::Remaining(number, leases),
                };
                if self.send_lease_frame(at, leader, &frame).is_err() {
                    self.groups[at].end_lease_question(number);
                    self.refuse(reply, Refusal::NoLeader);
                }
            }
            _ => self.ask(at, Asked::Leases(question, Asker::Here(reply))),
        }
    }

    /// A peer asks, or answers.
    pub(super) fn handle_lease_frame(&mut self, at: usize, peer: MemberId, frame: LeaseFrame) {
        let (number, question) = match frame {
            LeaseFrame::Renew(number, lease) => (number, LeaseQuestion::Renew(lease)),
            LeaseFrame::Remaining(number, leases) => (number, LeaseQuestion::Remaining(leases)),
            LeaseFrame::Told(number, answer) => {
                if let Some(reply) = self.groups[at].end_lease_question(number) {
                    self.tell(at, Asker::Here(reply), answer);
                }
                return;
            }
        };
        let asker = Asker::There(peer, number);
        if self.groups[at].raft.role() == Role::Leader {
            self.ask(at, Asked::Leases(question, asker));
        } else {
            self.tell(at, asker, LeaseAnswer::Refused);
        }
    }

    /// The end of a turn: what may be said about leases now.
    pub(super) fn answer_about_leases(&mut self) {
        for at in 0..self.groups.len() {
            while let Some((question, asker)) = self.groups[at].take_answerable() {
                self.answer_question(at, question, asker);
            }
            let (told, lost) = self.groups[at].take_farewells();
            told.into_iter().for_each(|asker| self.tell(at, asker, LeaseAnswer::Gone));
            lost.into_iter().for_each(|asker| self.tell(at, asker, LeaseAnswer::Refused));
        }
    }

    fn tell(&mut self, at: usize, asker: Asker, answer: LeaseAnswer) {
        match (asker, answer) {
            (Asker::There(peer, number), answer) => {
                // If it can't be reached, its client gives up in the end.
                let _ = self.send_lease_frame(at, peer, &LeaseFrame::Told(number, answer));
            }
            (Asker::Here(reply), LeaseAnswer::Remaining(remaining)) => self.answer(reply, Reply::Leases(remaining)),
            (Asker::Here(reply), LeaseAnswer::Gone) => self.answer(reply, Reply::ReadReady),
            (Asker::Here(reply), LeaseAnswer::Refused) => self.refuse(reply, Refusal::LeaderChanged),
        }
    }

    /// What can't be answered any more.
    pub(super) fn refuse_asked(&mut self, at: usize, asked: &Asked, refusal: Refusal) {
        match asked {
            Asked::Read(reply) | Asked::Leases(_, Asker::Here(reply)) => self.refuse(*reply, refusal),
            Asked::Leases(_, asker) => self.tell(at, *asker, LeaseAnswer::Refused),
        }
    }

    /// Gives a lease its whole TTL again. Of one whose time is over, the answer comes when it is gone.
    fn renew_lease(&mut self, at: usize, lease: ByTtl, asker: Asker) {
        let now = self.env.now();
        let may_propose = self.groups[at].raft.may_propose();
        let Some((lessor, store)) = self.groups[at].lessor(now) else {
            return self.tell(at, asker, LeaseAnswer::Refused);
        };
        if !lessor.knows(lease.id) {
            // From before this member led, or gone since the sender saw it.
            match granted_ttl(store.view(), lease.id) {
                Ok(Some(_)) => {}
                Ok(None) => return self.groups[at].say_gone(asker),
                Err(missing) => return self.load_for_answer(at, LeaseQuestion::Renew(lease), asker, missing),
            }
        }
        if lessor.renew(lease, now) {
            let remaining = lessor.remaining(lease, now);
            self.metrics.leases_renewed.inc();
            self.metrics.lease_ttl.observe(lease.ttl.unsigned_abs());
            return self.tell(at, asker, LeaseAnswer::Remaining(vec![remaining]));
        }
        Mark::LeaseRenewedLate.hit();
        // Who is about to lead no longer can't end it.
        if self.stopping.is_some() || !may_propose {
            return self.tell(at, asker, LeaseAnswer::Refused);
        }
        // The tick would do so too, but perhaps not for long: it waits while the log's device does.
        if lessor.expire_now(lease.id, now) {
            self.metrics.leases_expired.inc();
            self.propose_expiry(at, vec![lease.id]);
        }
        // The revocation is logged: the answer comes when everything is applied that is.
        self.groups[at].say_gone(asker);
    }

    fn propose_expiry(&mut self, at: usize, ids: Vec<i64>) {
        let term = self.groups[at].raft.term();
        self.propose_own(at, Command::LeasesExpire { ids, term });
    }

    /// The question is answered when these pages are there.
    fn load_for_answer(&self, at: usize, question: LeaseQuestion, asker: Asker, missing: plinth_tree::Missing) {
        let load = self.env.load_pages(self.groups[at].store.pages(), missing.wants);
        let completions = self.completions.clone();
        self.env.spawn(TaskQueue::Consensus, async move {
            match load.await {
                Ok(()) => completions.push(Completion::LoadedForLeases(at, question, asker)),
                // Its sender gives up in the end.
                Err(error) => plinth_base::log_error!(
                    "a page of the leases can't be read: nobody can say how long one lives that was granted before the start",
                    "error" => plinth_base::log::Value::display(&error)
                ),
            }
        });
    }

    pub(super) fn answer_question(&mut self, at: usize, question: LeaseQuestion, asker: Asker) {
        match question {
            LeaseQuestion::Renew(lease) => self.renew_lease(at, lease, asker),
            LeaseQuestion::Remaining(leases) => self.tell_remaining(at, leases, asker),
        }
    }

    fn tell_remaining(&mut self, at: usize, leases: Vec<ByTtl>, asker: Asker) {
        let now = self.env.now();
        let Some((lessor, store)) = self.groups[at].lessor(now) else {
            return self.tell(at, asker, LeaseAnswer::Refused);
        };
        let mut remaining = Vec::with_capacity(leases.len());
        for lease in &leases {
            // The member that asks may be behind, and not know that it is gone.
            let is_there = lessor.knows(lease.id)
                || match granted_ttl(store.view(), lease.id) {
                    Ok(granted) => granted.is_some(),
                    Err(missing) => {
                        return self.load_for_answer(at, LeaseQuestion::Remaining(leases), asker, missing);
                    }
                };
            remaining.push(lessor.remaining(*lease, now).filter(|_| is_there));
        }
        self.tell(at, asker, LeaseAnswer::Remaining(remaining));
    }

    pub(super) fn answer(&mut self, to: ReplyTo, reply: Reply) {
        send_answer(&self.replies, &mut self.touched, to, reply);
    }
}
