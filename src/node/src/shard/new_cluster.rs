//! A new cluster out of one member's data, when the others are gone for ever (`--force-new-cluster`).
//!
//! Everything in the own log counts, also what may never have been committed: nobody else is left who could know more, and what was acknowledged must not be
//! lost. This member votes alone from the start. When all of its log is applied it writes itself as the only member into the tree, beside the log, where no other
//! member could ever take it for an entry, and takes part in nothing until both checkpoints hold that: no later start may find the old cluster. After a crash
//! before that the start has to be repeated with the flag.

use plinth_base::MemberId;
use plinth_env::Env;
use plinth_kv::State;
use plinth_raft::{Configuration, Role};

use super::Shard;

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Forcing {
    /// Configurations in the log are those of a cluster that is no more.
    Replaying,
    /// The tree has the new one, but not durably.
    Writing,
    /// It was never asked for, or is done.
    Done,
}

/// Who votes in the new cluster.
pub(crate) fn alone(member: MemberId) -> Configuration {
    Configuration::of_voters([member])
}

impl<E: Env> Shard<E> {
    /// The end of a turn: takes the next step when it is time.
    pub(super) fn force_new_cluster(&mut self) {
        for at in 0..self.groups.len() {
            match self.forcing[at] {
                Forcing::Replaying => self.become_alone(at),
                Forcing::Writing => self.write_alone(at),
                Forcing::Done => {}
            }
        }
    }

    fn become_alone(&mut self, at: usize) {
        let own = MemberId(self.member);
        let group = &mut self.groups[at];
        let is_due = group.raft.role() == Role::Leader
            && group.applied() == group.raft.last().index
            && !group.machine.is_applying()
            && !group.is_fetching;
        if !is_due {
            return;
        }
        if let Err(missing) = group.machine.become_alone(&mut group.store, own) {
            return self.load_pages(at, missing);
        }
        plinth_base::log_warn!("a new cluster is forced out of this member: the others are removed for ever");
        self.forcing[at] = Forcing::Writing;
    }

    fn write_alone(&mut self, at: usize) {
        let own = crate::group::electorate(&alone(MemberId(self.member)));
        let group = &mut self.groups[at];
        if group.work.checkpoint_began.is_some() || !group.work.is_quiet() {
            return;
        }
        let older = State::decode(&group.store.checkpoints().older);
        if older.is_ok_and(|state| state.electorate == own) {
            self.forcing[at] = Forcing::Done;
            group.note_members();
            plinth_base::log_info!("the new cluster is durable");
        } else {
            // Also if nothing was changed since the last one.
            group.publish_root();
            self.start_checkpoint(at);
        }
    }

    /// Whether a member is being made a cluster of its own: then it takes no proposals, and knows nobody.
    pub(super) fn is_forcing(&self) -> bool {
        self.forcing.iter().any(|forcing| *forcing != Forcing::Done)
    }
}
