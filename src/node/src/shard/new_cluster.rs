//! A new cluster out of one member's data, when the others are gone for ever (`--force-new-cluster`).
//!
//! Everything in the own log counts, also what may never have been committed: nobody else is left who could know more, and what was acknowledged must not be
//! lost. This member votes alone from the start; when all of its log is applied it proposes to remove the others, and that entry makes the new
//! configuration last. A crash before that changes nothing: the start has to be repeated with the flag.

use plinth_base::MemberId;
use plinth_env::Env;
use plinth_kv::{Command, Envelope, MemberRecord, MembersChange, ProposalId, Standing};
use plinth_raft::{Configuration, Role};

use super::Shard;

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Forcing {
    /// Configurations in the log are those of a cluster that is no more.
    Replaying,
    /// The others' removal is in the log.
    Proposed,
    /// It was never asked for, or is done.
    Done,
}

/// Who votes in the new cluster.
pub(crate) fn alone(member: MemberId) -> Configuration {
    Configuration::of_voters([member])
}

impl<E: Env> Shard<E> {
    /// The end of a turn: proposes the others' removal when it is time.
    pub(super) fn force_new_cluster(&mut self) {
        for at in 0..self.groups.len() {
            let group = &self.groups[at];
            let is_due = self.forcing[at] == Forcing::Replaying
                && group.raft.role() == Role::Leader
                && group.raft.refuses_change().is_none()
                && group.applied() == group.raft.last().index
                && !group.is_fetching;
            if is_due {
                self.propose_removal(at);
            }
        }
    }

    fn propose_removal(&mut self, at: usize) {
        let own = MemberId(self.member);
        let members = match plinth_kv::members(self.groups[at].store.view()) {
            Ok(members) => members,
            Err(missing) => return self.load_pages(at, missing),
        };
        let is_learner = |member: &&MemberRecord| member.id == own && member.standing == Standing::Learner;
        let change = MembersChange {
            added: Vec::new(),
            promoted: members.iter().filter(is_learner).map(|member| member.id).collect(),
            removed: members.iter().map(|member| member.id).filter(|id| *id != own).collect(),
            electorate: crate::group::electorate(&alone(own)),
        };
        plinth_base::log_warn!(
            "forcing a new cluster of this member alone: the others are removed for ever",
            "removed" => change.removed.len()
        );
        self.forcing[at] = Forcing::Proposed;
        let payload = Envelope { proposal: ProposalId::default(), command: Command::ChangeMembers(change) }.encode();
        self.propose_change(at, payload, None);
    }

    /// Whether a configuration that was applied is in force.
    pub(super) fn takes_configuration(&mut self, at: usize, configuration: &Configuration) -> bool {
        let is_own = *configuration == alone(MemberId(self.member));
        let forcing = &mut self.forcing[at];
        if *forcing == Forcing::Proposed && is_own {
            *forcing = Forcing::Done;
        }
        *forcing == Forcing::Done
    }

    /// Who the members are is known only when that is done.
    pub(super) fn is_forcing(&self) -> bool {
        self.forcing.iter().any(|forcing| *forcing != Forcing::Done)
    }
}
