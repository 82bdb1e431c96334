//! What disks do: they are slow, or don't come back at all, fail, are full, or have forgotten a bit.

use std::time::Duration;

use plinth_sim_env::OpKind;

use super::Run;
use crate::{
    scenario::Violation,
    scenarios::node::machine::{DATA_DIR, WAL_DIR, tree_path},
};

/// Longer than any seed.
const STUCK: Duration = Duration::from_secs(24 * 3600);

impl Run {
    pub(super) fn slow_disk(&mut self, host: usize) {
        self.observed.note("disk slow");
        for _ in 0..3 {
            let kind = [OpKind::Write, OpKind::Sync, OpKind::Sync, OpKind::Load][self.prng.index(4)];
            let path = [WAL_DIR, WAL_DIR, DATA_DIR][self.prng.index(3)];
            let delay = self.millis([100, 1_500, 6_000]);
            self.sim.host(host).delay_op(kind, path, self.prng.below(20), delay);
        }
    }

    /// A flush, or a write, that never ends. Only with the process, or the machine, it is over.
    pub(super) fn stick_disk(&mut self, host: usize) {
        if !self.members[host].is_up() {
            // Nobody would wait for the end of such a start.
            return;
        }
        self.observed.note("disk stuck");
        let kind = [OpKind::Write, OpKind::Sync, OpKind::Sync][self.prng.index(3)];
        let path = [WAL_DIR, WAL_DIR, DATA_DIR][self.prng.index(3)];
        self.members[host].is_stuck = true;
        self.sim.host(host).delay_op(kind, path, self.prng.below(10), STUCK);
    }

    pub(super) fn fail_disk(&mut self, host: usize) {
        if !self.may_tear_log(host) {
            return;
        }
        self.observed.note("disk failed");
        let kind =
            [OpKind::Write, OpKind::Write, OpKind::Sync, OpKind::Sync, OpKind::Read, OpKind::Load][self.prng.index(6)];
        let path = [WAL_DIR, DATA_DIR][self.prng.index(2)];
        self.members[host].tell_to_fail();
        self.sim.host(host).fail_op(kind, path, self.prng.below(10));
    }

    /// Log and trees have only a little room left, until somebody makes more.
    pub(super) fn fill_disk(&mut self, host: usize) {
        self.observed.note("disk full");
        let used_bytes: u64 = self.sim.host(host).files().iter().map(|(_, bytes)| bytes).sum();
        self.members[host].is_full = true;
        self.sim.host(host).set_capacity(used_bytes + self.prng.below(1 << 20));
    }

    /// One bit of a file is wrong from now on, where the cluster can do without the member.
    pub(super) fn flip_bit(&mut self, host: usize) -> Result<(), Violation> {
        if self.members[host].rotten.is_some() || !self.can_do_without(host) {
            return Ok(());
        }
        if self.prng.chance(1, 3) {
            // A log that is sealed has no end that could pass for one which a power cut has torn.
            self.stop(host)?;
        }
        // There is one tree, and there are several segments.
        let is_tree = self.prng.chance(1, 2);
        let is_rottable = |path: &std::path::Path| {
            if is_tree { path == tree_path(super::GROUP) } else { path.starts_with(WAL_DIR) }
        };
        let mut files = self.sim.host(host).files();
        files.retain(|(path, bytes)| *bytes > 0 && is_rottable(path));
        if files.is_empty() {
            return Ok(());
        }
        let (path, bytes) = files.swap_remove(self.prng.index(files.len()));
        // Beginnings are used more than ends.
        let part_bytes = bytes >> (2 * self.prng.below(4));
        let offset = self.prng.below(part_bytes.max(1));
        if self.sim.host(host).flip_bit(&path, offset) {
            self.observed.note(if path.starts_with(WAL_DIR) {
                "bit of a log flipped"
            } else {
                "bit of a tree flipped"
            });
            self.members[host].rotten = Some(path);
        }
        Ok(())
    }

    /// Draws whether the machine loses its power; else the process is killed.
    pub(super) fn draw_power_cut(&mut self, host: usize, chance: (u64, u64)) -> bool {
        self.prng.chance(chance.0, chance.1) && self.may_tear_log(host)
    }

    /// A power cut, or a write that fails, can tear the end of the log, and then nobody knows what was there: as long as another disk is rotten, that may be one
    /// member too many.
    fn may_tear_log(&self, host: usize) -> bool {
        self.members.iter().all(|member| member.rotten.is_none()) || self.can_do_without(host)
    }
}
