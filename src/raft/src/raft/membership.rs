//! Changes of the members, one at a time, or several at once through a joint configuration.
//!
//! A configuration is in force at a member from when it has applied the entry that holds it. Two leaders of different terms must never decide by
//! majorities that have no member in common. That holds because
//!
//! 1. a leader proposes a change only when it has applied the one before, and has committed in its own term;
//! 2. so in every log all changes but the last are committed, and a member that has a later one in its log acts on that: see [`Raft::push`];
//! 3. a member doesn't campaign while it knows of a committed change that it hasn't applied;
//! 4. configurations that follow each other overlap.
//!
//! Let a change to C3 be committed, C2 before it, C1 before that, and let a member with C1 in force ask for votes. A majority of C2 has the change to
//! C3 in its logs, and any majority of C1 has one of those members. It votes only for a log that has the change to C3 too: but whoever
//! has that knows that C2 is committed, and campaigns with it (2, 3).

use bytes::Bytes;
use plinth_base::{Instant, bug};

use super::{Raft, Role};
use crate::{Configuration, Effects, Entry, Mode, Reason, progress::Progress};

impl Raft {
    pub(super) fn propose_change(&mut self, ticket: u64, payload: Bytes, effects: &mut Effects) {
        assert!(!payload.is_empty(), "an empty payload opens a term");
        if let Some(reason) = self.refuses_change() {
            return Self::reject(ticket, reason, effects);
        }
        let index = self.append(payload, true, effects);
        effects.accepted.push((ticket, index));
    }

    /// Why a change of the members would be rejected now.
    #[must_use]
    pub fn refuses_change(&self) -> Option<Reason> {
        if self.role != Role::Leader {
            Some(Reason::NoLeader)
        } else if self.is_handing_over() {
            Some(Reason::LeaderChanged)
        } else if !self.may_change() {
            Some(Reason::ChangeUnderWay)
        } else {
            None
        }
    }

    fn may_change(&self) -> bool {
        !self.log.has_changes_behind(self.applied) && self.knows_commit()
    }

    /// The entry that was just applied holds `configuration`.
    pub(super) fn configure(&mut self, now: Instant, configuration: Configuration, effects: &mut Effects) {
        if bug!(MembershipLate) && self.role != Role::Leader {
            return;
        }
        assert!(self.configuration.overlaps(&configuration), "configurations that follow each other overlap");
        self.configuration = configuration;
        if self.role != Role::Leader {
            return;
        }
        let (own, last) = (self.options.id, self.log.last().index);
        self.peers.retain(|id, _| self.configuration.is_member(*id));
        for id in self.configuration.members().filter(|id| *id != own) {
            self.peers.entry(id).or_insert_with(|| Progress::new(last, now));
        }
        self.heartbeat_at = now;
        // A smaller quorum may have what a larger one hadn't.
        self.advance_commit(effects);
        self.finish_round(effects);
    }

    /// Changes that follow of themselves: learners that were added as voters and have arrived, and the end of a joint configuration.
    pub(super) fn look_for_changes(&mut self, now: Instant, effects: &mut Effects) {
        let is_settled = self.configuration.awaited.is_empty() && !self.configuration.is_joint();
        if is_settled || self.role != Role::Leader || !self.may_change() || self.is_handing_over() {
            return;
        }
        if self.configuration.is_joint() {
            effects.leave_joint = true;
            return;
        }
        let last = self.log.last().index;
        let has_arrived =
            |peer: &Progress| peer.mode == Mode::Replicate && peer.next > last && peer.matched > self.log.start().index;
        let awaited = self.configuration.awaited.iter().copied();
        effects
            .arrived
            .extend(awaited.filter(|id| self.is_active(*id, now) && self.peers.get(id).is_some_and(has_arrived)));
    }

    /// Takes an entry into the log. If it changes the members, the change before it is committed.
    pub(super) fn push(&mut self, entry: Entry, effects: &mut Effects) {
        if entry.is_change
            && let Some(before) = self.log.newest_change()
        {
            self.commit_to(before, effects);
        }
        self.log.push(entry.clone());
        effects.entries.push(entry);
    }
}
