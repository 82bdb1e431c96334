//! Who leads, and who may.

use plinth_base::MemberId;

use super::Run;
use crate::{scenario::Violation, scenarios::cluster};

/// Who led when something began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Leadership {
    /// The newest term that anybody was in.
    pub(super) term: u64,
    pub(super) leader: Option<MemberId>,
}

impl Leadership {
    pub(super) fn of(cluster: &cluster::Run) -> Self {
        Self { term: cluster.observed.newest_term(), leader: cluster.observed.newest_leader() }
    }
}

impl Run {
    /// Nobody else leads, and nobody has asked for votes.
    pub(super) fn expect_same(&self, before: Leadership, what: &str) -> Result<(), Violation> {
        let now = self.leadership();
        if now != before {
            let (limits, told) = (self.limits, self.cluster.describe());
            return Err(Violation(format!(
                "{what}: there was no need for an election, yet {before:x?} became {now:x?} ({limits:?}): {told}"
            )));
        }
        Ok(())
    }

    /// Leadership has changed so often at most.
    pub(super) fn expect_changes(&self, before: Leadership, most: usize, what: &str) -> Result<(), Violation> {
        let changes = self.cluster.observed.leaders_after(before.term);
        if changes > most {
            let (now, told) = (self.leadership(), self.cluster.describe());
            return Err(Violation(format!(
                "{what}: leadership may change {most} times, yet {changes} others led between {before:x?} and {now:x?}: {told}"
            )));
        }
        Ok(())
    }

    /// Hand-overs of a member because its disk was stuck, since it started.
    pub(super) fn handovers(&self, host: usize) -> u64 {
        let handovers = &self.cluster.node_of(host).handle.metrics.handovers;
        handovers.by_name().find(|(why, _)| *why == "stall").map_or(0, |(_, count)| count)
    }

    /// The newest entry that anybody who is up knows to be committed.
    pub(super) fn commit(&self) -> u64 {
        let up = self.cluster.members.iter().filter(|member| member.is_up());
        up.map(|member| member.node().handle.groups[0].status.commit()).max().unwrap_or_default()
    }
}
