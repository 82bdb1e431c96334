//! Leadership that is given away: because somebody asks for it, or because this member stops.

use plinth_base::{Instant, Mark, MemberId};
use plinth_env::Env;
use plinth_raft::{Fled, Input, Role};

use super::Shard;
use crate::{
    message::{Refusal, Reply, ReplyTo},
    metrics::Handover,
};

/// Transfers that were asked for.
#[derive(Default)]
pub(super) struct Transfers {
    /// By their numbers.
    under_way: Vec<(u64, ReplyTo)>,
    count: u64,
    /// Until then a stop waits for somebody else to lead.
    stop_waits_until: Option<Instant>,
}

impl<E: Env> Shard<E> {
    pub(super) fn move_leader(&mut self, at: usize, to: MemberId, reply: ReplyTo) {
        if self.groups[at].raft.role() != Role::Leader {
            return self.refuse(reply, Refusal::LeaderChanged);
        }
        self.transfers.count += 1;
        let ticket = self.transfers.count;
        self.transfers.under_way.push((ticket, reply));
        self.step(at, Input::Transfer { ticket, to });
    }

    pub(super) fn handle_transferred(&mut self, ticket: u64, has_come_about: bool) {
        let at = self.transfers.under_way.iter().position(|(number, _)| *number == ticket);
        if has_come_about {
            // Nobody waits for those that a stop asks for.
            self.metrics.handovers.of(if at.is_some() { Handover::Asked } else { Handover::Stop }).inc();
        }
        let Some(at) = at else { return };
        let (_, reply) = self.transfers.under_way.swap_remove(at);
        if has_come_about {
            self.answer(reply, Reply::ReadReady);
        } else {
            self.refuse(reply, Refusal::TimedOut);
        }
    }

    /// This member leads no more, because it thought that better.
    pub(super) fn note_fled(&self, to: MemberId, why: Fled) {
        let (why, message) = match why {
            Fled::Stall => {
                (Handover::Stall, "the disk of the log is stuck, and others do better: one of them leads now")
            }
            Fled::Removed => (Handover::Removed, "this member was removed while it led: another one leads now"),
        };
        if why == Handover::Stall {
            Mark::LeaderFled.hit();
        }
        self.metrics.handovers.of(why).inc();
        plinth_base::log_warn!(message, "leader" => format!("{:x}", to.0).as_str());
    }

    /// Whoever leads and is about to stop lets another member lead first: then nobody has to notice that it is gone.
    pub(super) fn begin_stop(&mut self, reply: ReplyTo) {
        self.stopping = Some(reply);
        for at in 0..self.groups.len() {
            if let Some(to) = self.groups[at].raft.best_successor() {
                self.transfers.stop_waits_until = Some(self.now + self.options.election_timeout);
                self.transfers.count += 1;
                let ticket = self.transfers.count;
                self.step(at, Input::Transfer { ticket, to });
            }
        }
    }

    /// This member is on its way down, and nobody counts on it any more.
    pub(super) fn is_leaving(&self) -> bool {
        self.stopping.is_some() && !self.stop_waits_for_leader()
    }

    /// Whether a stop still waits for another member to lead.
    pub(super) fn stop_waits_for_leader(&self) -> bool {
        let leads = self.groups.iter().any(|group| group.raft.role() == Role::Leader);
        leads && self.transfers.stop_waits_until.is_some_and(|until| self.env.now() < until)
    }
}
