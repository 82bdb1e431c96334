//! Who belongs to the cluster, as far as the shard has to know it: where to find peers, and whether this member is one.

use plinth_base::{Instant, MemberId};
use plinth_env::{Env, PeerAddress, TaskQueue};
use plinth_kv::{MemberRecord, Standing};
use plinth_raft::{Configuration, Input};
use plinth_tree::{Missing, Snapshot};

use super::{Completion, Shard};
use crate::bootstrap::NodeError;

/// The members of a group, and those that were.
#[derive(Default)]
pub(crate) struct Members {
    present: Vec<PeerAddress>,
    removed: Vec<MemberId>,
    /// Those that were removed a moment ago, and when. They may still have something to say: a leader hands its leadership over.
    leaving: Vec<(PeerAddress, Instant)>,
}

impl Members {
    pub(crate) fn new(records: Vec<MemberRecord>) -> Self {
        let mut members = Self::default();
        for MemberRecord { id, name, peer_urls, standing, .. } in records {
            match standing {
                Standing::Removed => members.removed.push(id),
                Standing::Voter | Standing::Learner => {
                    members.present.push(PeerAddress { id, urls: peer_urls, has_started: !name.is_empty() });
                }
            }
        }
        members
    }

    /// What has become of them by `now`.
    fn change(&mut self, to: Self, now: Instant) {
        let before = std::mem::replace(self, to);
        let goes = before.present.into_iter().filter(|member| self.removed.contains(&member.id));
        self.leaving = before.leaving.into_iter().chain(goes.map(|member| (member, now))).collect();
    }

    /// Whom this member has connections to.
    fn connected(&self) -> impl Iterator<Item = &PeerAddress> {
        self.present.iter().chain(self.leaving.iter().map(|(member, _)| member))
    }

    /// Who is told to go.
    fn gone(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.removed.iter().copied().filter(|id| self.leaving.iter().all(|(member, _)| member.id != *id))
    }

    /// Forgets those that were removed before `then`; whether there were any.
    fn dismiss(&mut self, then: Instant) -> bool {
        let before = self.leaving.len();
        self.leaving.retain(|(_, since)| *since >= then);
        self.leaving.len() < before
    }
}

impl<E: Env> Shard<E> {
    /// Has connections to all members of all groups.
    pub(super) fn connect(&self) {
        let mut all: Vec<PeerAddress> = self.members.iter().flat_map(Members::connected).cloned().collect();
        all.sort_by_key(|address| address.id);
        all.dedup_by_key(|address| address.id);
        let removed = self.members.iter().flat_map(Members::gone).collect();
        if !self.is_forcing() {
            self.links.peers().set_members(all, removed);
        }
    }

    /// Whoever was removed has had its time: the connections end.
    pub(super) fn dismiss_members(&mut self) {
        let timeout = u64::try_from(self.options.election_timeout.as_nanos()).unwrap_or(u64::MAX);
        let then = Instant(self.now.0.saturating_sub(timeout));
        let dismissed = self.members.iter_mut().map(|members| members.dismiss(then)).filter(|any| *any).count();
        if dismissed > 0 {
            self.connect();
        }
    }

    /// An entry that was applied says who votes from now on.
    pub(super) fn configure(&mut self, at: usize, configuration: Configuration) {
        if self.is_forcing() {
            // One of a cluster that is no more.
            return;
        }
        let own = MemberId(self.member);
        let was_member = self.groups[at].raft.configuration().is_member(own);
        let is_member = configuration.is_member(own);
        self.step(at, Input::Configured(configuration));
        if was_member && !is_member {
            self.removed_at.get_or_insert(self.now);
        }
    }

    /// Who was removed while it was down learns that only from the others: they send it no entries any more.
    pub(super) fn note_expelled(&mut self, by: MemberId) {
        if self.removed_at.is_none() {
            let by = format!("{:x}", by.0);
            plinth_base::log_warn!("a member says that this one was removed from the cluster", "by" => by.as_str());
            self.removed_at = Some(self.now);
        }
    }

    /// A member that was removed goes, when the others have had time to learn of it, and to take over what it led.
    pub(super) fn leave_if_removed(&self) -> Result<(), NodeError> {
        match self.removed_at {
            Some(since) if self.now.since(since) >= self.options.election_timeout => {
                Err(NodeError::Removed { member: MemberId(self.member) })
            }
            _ => Ok(()),
        }
    }

    /// After a change: who the members are now is read in the published root, which is the first to tell of it.
    pub(super) fn read_members(&mut self) {
        for at in 0..self.groups.len() {
            let group = &mut self.groups[at];
            if !group.has_new_members() {
                continue;
            }
            let (env, completions) = (self.env.clone(), self.completions.clone());
            let root = group.published.root();
            self.env.spawn(TaskQueue::Consensus, async move {
                let members = loop {
                    match read(&root.snapshot) {
                        Ok(members) => break Ok(members),
                        Err(missing) => {
                            if let Err(error) = env.load_pages(root.snapshot.pages(), missing.wants).await {
                                break Err(error);
                            }
                        }
                    }
                };
                completions.push(Completion::Members(at, members));
            });
        }
    }

    pub(super) fn handle_members(&mut self, at: usize, members: Vec<MemberRecord>) {
        let now = self.now;
        self.members[at].change(Members::new(members), now);
        self.connect();
    }
}

fn read<P: plinth_env::PageSource>(root: &Snapshot<P>) -> Result<Vec<MemberRecord>, Missing> {
    plinth_kv::all_members(root.view())
}
