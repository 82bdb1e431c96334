//! Members that have installed a snapshot, and still lack what came after it.
//!
//! What they lack stays in the log, beyond what members that are behind may claim: if it went now, the next snapshot would be needed at once, and under load
//! that goes on for ever. A member has recovered when it is no further behind than a moment.

use std::{collections::BTreeMap, time::Duration};

use plinth_base::{Instant, LogIndex, MemberId};
use plinth_env::Env;
use plinth_raft::Replication;

use super::{super::Shard, name};
use crate::metrics::{CatchUp, CatchUpState};

/// Who has within this what its leader had at the beginning of it has caught up.
const MOMENT: Duration = Duration::from_millis(1500);

/// Who gets nothing durable for so long isn't waited for.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// A member that catches up from the log.
pub(in crate::shard) struct Recovering {
    pub(super) at: usize,
    pub(super) peer: MemberId,
    began: Instant,
    /// It has this.
    has: LogIndex,
    /// Since when.
    since: Instant,
    /// The leader's last entry at that time.
    goal: (LogIndex, Instant),
}

impl<E: Env> Shard<E> {
    pub(super) fn await_recovery(&mut self, at: usize, peer: MemberId, has: LogIndex) {
        let now = self.now;
        plinth_base::log_info!("a member has installed its snapshot", "peer" => name(peer).as_str(), "entry" => has.0);
        let goal = (self.groups[at].raft.last().index, now);
        self.recovering.push(Recovering { at, peer, began: now, has, since: now, goal });
    }

    /// Which members have caught up, or are gone.
    pub(in crate::shard) fn look_after_recovering(&mut self) {
        let now = self.now;
        let Self { recovering, groups, .. } = self;
        recovering.retain_mut(|recovering| {
            let raft = &groups[recovering.at].raft;
            let Some(matched) = raft.matched(recovering.peer) else { return false };
            if matched > recovering.has {
                (recovering.has, recovering.since) = (matched, now);
            }
            if recovering.has >= recovering.goal.0 {
                if now.since(recovering.goal.1) <= MOMENT {
                    plinth_base::log_info!(
                        "a member has caught up",
                        "peer" => name(recovering.peer).as_str(),
                        "took" => now.since(recovering.began)
                    );
                    return false;
                }
                recovering.goal = (raft.last().index, now);
            }
            now.since(recovering.since) < SILENCE_MAX
        });
    }

    /// All that are behind a snapshot, under way or installed, have entries up to this one, or will.
    pub(in crate::shard) fn entries_in_snapshots(&self, at: usize) -> Option<LogIndex> {
        let recovering = self.recovering.iter().filter(|recovering| recovering.at == at);
        recovering.map(|recovering| recovering.has).chain(self.entries_in_outgoing(at)).min()
    }

    /// Tells scrapes how far the peers are behind, where this member leads: each by the group that it is furthest behind in.
    pub(in crate::shard) fn note_catch_ups(&self) {
        let mut peers: BTreeMap<MemberId, CatchUp> = BTreeMap::new();
        for (at, group) in self.groups.iter().enumerate() {
            let last = group.raft.last().index;
            for (peer, replication, matched) in group.raft.followers() {
                let is_meant = |recovering: &Recovering| (recovering.at, recovering.peer) == (at, peer);
                let state = match replication {
                    Replication::Snapshot => CatchUpState::Snapshot,
                    _ if self.recovering.iter().any(is_meant) => CatchUpState::Recovering,
                    Replication::Probing => CatchUpState::Probing,
                    Replication::Streaming => CatchUpState::Streaming,
                };
                let one = CatchUp { peer, state, behind: last.0.saturating_sub(matched.0) };
                let known = peers.entry(peer).or_insert(one);
                if one.behind > known.behind {
                    *known = one;
                }
            }
        }
        self.metrics.catch_ups.set(peers.into_values().collect());
    }
}
