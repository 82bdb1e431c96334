//! What must be so: while the cluster runs, from what members say of themselves; and at the end, of everything.

use std::{collections::BTreeMap, path::PathBuf};

use plinth_base::MemberId;
use plinth_kv::AlarmKind;
use plinth_rpc::Status;
use plinth_sim_env::SimEnv;

use super::{GROUP, Run};
use crate::{
    history::History,
    model::{self, Model},
    scenario::Violation,
    scenarios::{
        clients::watching,
        node::{
            checks,
            machine::{Node, tree_path},
        },
    },
};

/// What members said of themselves so far.
#[derive(Default)]
pub(in crate::scenarios) struct Observed {
    /// Who led in which term.
    leaders: BTreeMap<u64, MemberId>,
    newest_term: u64,
    /// The newest term in which each member led.
    led: BTreeMap<MemberId, u64>,
    /// Revision and content's hash by what was applied.
    contents: BTreeMap<u64, (i64, u64)>,
    counts: BTreeMap<&'static str, u64>,
}

impl Observed {
    pub(in crate::scenarios) fn note(&mut self, trouble: &'static str) {
        *self.counts.entry(trouble).or_default() += 1;
    }

    pub(in crate::scenarios) fn troubles(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(in crate::scenarios) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.counts.iter().map(|(name, count)| (*name, *count))
    }

    pub(in crate::scenarios) fn newest_term(&self) -> u64 {
        self.newest_term
    }

    /// Who led in the newest term in which somebody did.
    pub(in crate::scenarios) fn newest_leader(&self) -> Option<MemberId> {
        self.leaders.last_key_value().map(|(_, leader)| *leader)
    }

    /// In how many terms beyond this one somebody led.
    pub(in crate::scenarios) fn leaders_after(&self, term: u64) -> usize {
        self.leaders.range(term + 1..).count()
    }

    /// At most one leader for each term, no leader that forgets its term, and equal contents at equal applied indexes. The revision it is at.
    pub(in crate::scenarios) fn look(&mut self, member: MemberId, node: &Node<SimEnv>) -> Result<i64, Violation> {
        let published = &node.handle.groups[0];
        let (term, leader) = (published.status.term(), published.status.leader());
        self.newest_term = self.newest_term.max(term);
        let led = self.led.get(&member).copied().unwrap_or_default();
        // A member that has just started says 0.
        if term != 0 && term < led {
            return Err(Violation(format!("{:x} led in term {led}, and is in term {term} now", member.0)));
        }
        if leader == member.0 {
            self.led.insert(member, term);
        }
        if leader != 0 {
            let known = *self.leaders.entry(term).or_insert(MemberId(leader));
            if known.0 != leader {
                return Err(Violation(format!("{:x} and {leader:x} led in term {term}, says {:x}", known.0, member.0)));
            }
        }
        let root = published.root();
        let state = &root.state;
        // A sweep goes its own way at each member.
        if state.is_swept() {
            let content = (state.revision, state.content_hash);
            let known = *self.contents.entry(state.applied.0).or_insert(content);
            if known != content {
                return Err(Violation(format!(
                    "at entry {} member {:x} has (revision, hash) {content:x?}, another had {known:x?}",
                    state.applied, member.0
                )));
            }
        }
        Ok(state.revision)
    }
}

impl Run {
    /// Everything that clients were told is one history, and every member holds what it ends with.
    pub(in crate::scenarios) fn conclude(&mut self) -> Result<(), Violation> {
        let unreadable = |status: Status| Violation(format!("{} at the end", status.message));
        for host in 0..self.members.len() {
            self.sim.host(host).change_faults(|faults| faults.page_miss = plinth_sim_env::Chance::NEVER);
        }
        let present = self.present();
        let first = present[self.prng.index(present.len())];
        let (found, state) = self.sim.block_on(checks::found(self.node_of(first), 0)).map_err(unreadable)?;
        let mut failed = None;
        let observe = |revision| match self.sim.block_on(checks::everything(self.node_of(first), 0, revision)) {
            Ok((_, state)) => state,
            Err(status) => {
                failed = Some(status);
                model::State::new()
            }
        };
        // Watchers are still there, and look into it.
        let mut history = std::mem::replace(&mut self.clients.borrow_mut().history, History::new(Model::default()));
        let watched = std::mem::take(&mut self.clients.borrow_mut().watched);
        let root = self.node_of(first).handle.groups[0].root();
        // The order of changes in a revision shows in events and in the content's hash, so these have a say in how it was made.
        let judge = |history: &History| {
            watching::check(&watched, history)?;
            checks::content(&root.state, history)
        };
        let checked = history.check_with(&found, observe, |history| judge(history).map_err(Violation));
        self.clients.borrow_mut().history = history;
        if let Some(status) = failed {
            return Err(unreadable(status));
        }
        checked?;
        if *self.clients.borrow().history.model().state() != state {
            return Err(Violation(format!("revision {} read as the latest is not what the model has", found.revision)));
        }
        if let Some(lease) = found.leases.keys().find(|lease| self.is_short(**lease)) {
            return Err(Violation(format!("lease {lease} of a few seconds lives, and nobody renews it")));
        }
        for host in present {
            self.check_member(host, &found, &state)?;
        }
        Ok(())
    }

    /// Nobody is said to be rotten whose disk forgot nothing.
    pub(in crate::scenarios) fn check_alarms(&self) -> Result<(), Violation> {
        let is_rotten = |id: u64| {
            let rotten = |path: &PathBuf| *path == tree_path(GROUP);
            self.members.iter().any(|member| member.id.0 == id && member.rotten.as_ref().is_some_and(rotten))
        };
        for node in self.members.iter().filter_map(|member| member.node.as_ref()) {
            for (member, kind) in &node.handle.groups[0].root().state.alarms {
                if *kind == AlarmKind::Corrupt && !is_rotten(*member) {
                    return Err(Violation(format!("{member:x} is said to be rotten, and its trees are sound")));
                }
            }
        }
        Ok(())
    }

    fn check_member(&self, host: usize, found: &crate::history::Found, state: &model::State) -> Result<(), Violation> {
        let wrong = |what: String| Violation(format!("member {host}: {what}"));
        let node = self.node_of(host);
        let all = self.sim.block_on(checks::everything(node, 0, 0));
        let (revision, own) = all.map_err(|status| wrong(status.message.to_string()))?;
        if (revision, &own) != (found.revision, state) {
            return Err(wrong(format!("it is at revision {revision}, or holds something else than the others")));
        }
        self.sim.block_on(checks::audit(&self.env_of(host), node, 0)).map_err(wrong)?;
        checks::content(&node.handle.groups[0].root().state, &self.clients.borrow().history).map_err(wrong)
    }

    fn is_short(&self, lease: i64) -> bool {
        self.clients.borrow().history.lease_ttl(lease).is_some_and(|ttl| ttl.as_secs() < 60)
    }
}
