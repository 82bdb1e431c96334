//! Leadership that is given away: because somebody asked for it, because the leader was removed, or because its disk doesn't answer (Raft thesis, section 3.10).
//!
//! `TimeoutNow` needs nothing from the own disk, so a leader whose log is stuck can make another one lead, and writes go on long before anybody's patience ends.
//! Whether the others do any better nobody knows who doesn't ask: storage may be shared. So as soon as its own disk is late a leader sends them an empty entry;
//! only if a quorum without it makes that durable is there reason to go. If not it keeps leading: when the disks answer again no election is needed.

use std::{cmp::Reverse, time::Duration};

use bytes::Bytes;
use plinth_base::{Instant, LogIndex, MemberId, Term, bug};

use super::{Raft, Role, Stall};
use crate::{Body, Effects, Fled};

/// Others whose disks take longer than this part of an election timeout do no better.
const QUICK_DIVISOR: u32 = 4;

/// A transfer that was asked for.
#[derive(Debug)]
pub(super) struct Transfer {
    ticket: u64,
    to: MemberId,
    pub(super) until: Instant,
    is_sent: bool,
}

/// The leader's wish that this member campaigns, which has to wait for a change of the members to be applied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    term: Term,
    until: Instant,
}

/// What a leader whose disk is late gives the others to make durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct StallProbe {
    index: LogIndex,
    sent: Instant,
    /// How long they took.
    took: Option<Duration>,
}

impl Raft {
    pub(super) fn begin_transfer(&mut self, now: Instant, ticket: u64, to: MemberId, effects: &mut Effects) {
        if let Some(earlier) = self.transfer.take() {
            effects.transferred.push((earlier.ticket, false));
        }
        if self.role != Role::Leader || to == self.options.id || !self.configuration.voters.contains(&to) {
            return effects.transferred.push((ticket, self.leader == Some(to)));
        }
        let until = now + self.options.election_timeout;
        self.transfer = Some(Transfer { ticket, to, until, is_sent: false });
    }

    /// A leader is known again: it was the one that was wanted, or another.
    pub(super) fn settle_transfer(&mut self, effects: &mut Effects) {
        if let (Some(leader), Some(transfer)) = (self.leader, &self.transfer) {
            effects.transferred.push((transfer.ticket, leader == transfer.to));
            self.transfer = None;
        }
    }

    pub(super) fn expire_transfer(&mut self, now: Instant, effects: &mut Effects) {
        if let Some(transfer) = self.transfer.take_if(|transfer| now >= transfer.until) {
            effects.transferred.push((transfer.ticket, false));
        }
    }

    /// Nothing new is proposed: this member will not lead for long.
    pub(super) fn is_handing_over(&self) -> bool {
        self.transfer.is_some() || !self.configuration.is_voter(self.options.id)
    }

    /// Tells a follower to campaign, if there is reason to and one that has everything.
    pub(super) fn hand_over(&mut self, now: Instant, effects: &mut Effects) {
        let last = self.log.last().index;
        if let Some(Transfer { to, is_sent: false, .. }) = self.transfer {
            if self.peers.get(&to).is_some_and(|peer| peer.matched == last) {
                self.transfer.as_mut().expect("looked at above").is_sent = true;
                self.send(to, Body::TimeoutNow, effects);
            }
            return;
        }
        if !self.configuration.is_voter(self.options.id) {
            self.hand_over_to_best(now, Fled::Removed, effects);
        } else if self.transfer.is_none() && self.may_flee(now) && self.is_stuck() {
            self.hand_over_to_best(now, Fled::Stall, effects);
        }
    }

    pub(super) fn note_stall(&mut self, stall: Stall) {
        self.stall = stall;
        if stall == Stall::None {
            self.stall_probe = None;
        }
    }

    /// The log's device is late.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.stall != Stall::None
    }

    /// The log's device has been silent for so long that nothing should depend on it.
    pub(super) fn is_stuck(&self) -> bool {
        self.stall == Stall::Hard || bug!(StallFleesEarly) && self.stall == Stall::Soft
    }

    /// Gives the others something to make durable while the own disk doesn't, unless they were given it not long ago.
    pub(super) fn probe_others(&mut self, now: Instant, effects: &mut Effects) {
        let is_recent = self.stall_probe.is_some_and(|probe| now.since(probe.sent) < self.options.election_timeout);
        if self.stall != Stall::None && !is_recent && !self.peers.is_empty() && !self.is_handing_over() {
            let index = self.append(Bytes::new(), false, effects);
            self.stall_probe = Some(StallProbe { index, sent: now, took: None });
        }
    }

    /// Who could lead at once, if this member does and isn't the only one: the voter that was heard last of those with the whole log, else the one with
    /// most of it.
    #[must_use]
    pub fn best_successor(&self) -> Option<MemberId> {
        let own = self.options.id;
        let others = self.configuration.voters.iter().copied().filter(|id| *id != own);
        others
            .filter_map(|id| Some((self.peers.get(&id)?, id)))
            .max_by_key(|(peer, id)| (peer.matched, peer.heard, Reverse(*id)))
            .map(|(_, id)| id)
    }

    /// The others have shown that they do better than this disk (the probe was committed soon, and it isn't durable here), and leadership didn't just come
    /// here from another one that stalled: where disks are bad in turns it moves once per election timeout at most.
    fn may_flee(&mut self, now: Instant) -> bool {
        let timeout = self.options.election_timeout;
        let Some(probe) = self.stall_probe.as_mut().filter(|probe| probe.index <= self.hard_state.commit) else {
            return false;
        };
        // Not all disks of a shared storage that was stuck answer in the same moment.
        let is_quick = *probe.took.get_or_insert(now.since(probe.sent)) <= timeout / QUICK_DIVISOR;
        is_quick && self.handed_over.is_none_or(|then| now.since(then) >= timeout)
    }

    /// To the voter that was heard last of those which have the whole log. Then this member leads no more, though its term hasn't ended.
    fn hand_over_to_best(&mut self, now: Instant, why: Fled, effects: &mut Effects) {
        let last = self.log.last().index;
        let has_all =
            |id: &MemberId| self.peers.get(id).is_some_and(|peer| peer.matched == last) && self.is_active(*id, now);
        let best = self.configuration.voters.iter().copied().filter(has_all);
        let best = best.max_by_key(|id| (self.peers.get(id).and_then(|peer| peer.heard), Reverse(*id)));
        if let Some(to) = best {
            self.send(to, Body::TimeoutNow, effects);
            self.handed_over = Some(now);
            effects.fled = Some((to, why));
            self.follow(now, self.hard_state.term, None, effects);
        }
    }

    pub(super) fn handle_timeout_now(&mut self, now: Instant, from: MemberId, effects: &mut Effects) {
        if self.leader == Some(from) && self.role == Role::Follower {
            let until = now + self.options.election_timeout;
            self.wish = Some(Wish { term: self.hard_state.term, until });
            self.resume_handover(now, effects);
        }
    }

    /// A change of the members is applied now, perhaps: then the leader's wish can be followed.
    pub(super) fn resume_handover(&mut self, now: Instant, effects: &mut Effects) {
        let Some(wish) = self.wish else { return };
        if wish.term != self.hard_state.term || now >= wish.until || self.role == Role::Leader {
            self.wish = None;
        } else if self.may_campaign() {
            self.wish = None;
            self.campaign(now, true, effects);
        }
    }
}
