//! Disks that stall: of the leader, of a follower, of all.

use std::time::Duration;

use plinth_sim_env::Latency;

use super::{Run, STEP};
use crate::{scenario::Violation, scenarios::node::machine::WAL_DIR};

/// Everything on a disk, with the log.
const ALL: &str = "/data";

/// How much longer a batch may be under way than its flush is stuck: what the disk does before, at its slowest, and a message or two until somebody sees it.
pub(super) const MARGIN: Duration = Duration::from_millis(40);

/// A batch that begins a segment flushes so often, at most: a segment that isn't ready is made first.
const FLUSHES_PER_BATCH_MAX: u32 = 6;

/// A write is never longer on its way than this when nothing is wrong.
const PROGRESS_WITHIN: Duration = Duration::from_secs(2);

impl Run {
    /// The log alone, or all that is on the disk.
    pub(super) fn draw_path(&mut self) -> &'static str {
        [WAL_DIR, ALL][self.cluster.prng.index(2)]
    }

    pub(super) fn stick(&mut self, host: usize, duration: Duration) {
        let path = self.draw_path();
        self.cluster.sim.host(host).stick_flushes(path, duration);
    }

    /// Every flush takes a while, or up to that.
    pub(super) fn slow(&mut self, host: usize, most: Duration) {
        let path = self.draw_path();
        let jitters = self.cluster.prng.chance(1, 2);
        let latency = Latency::fixed(if jitters { Duration::ZERO } else { most });
        let jitter = if jitters { most } else { Duration::ZERO };
        self.cluster.sim.host(host).slow_flushes(path, Latency { jitter, ..latency });
    }

    pub(super) fn free(&self, host: usize) {
        self.cluster.sim.host(host).free_flushes();
    }

    /// The leader's disk answers again before the hard limit: it goes on leading.
    pub(super) fn stick_leader_for_a_moment(&mut self) -> Result<(), Violation> {
        let leader = self.await_calm()?;
        let (before, limits) = (self.leadership(), self.limits);
        let stuck = self.between(MARGIN, limits.hard - MARGIN);
        let stalls = self.stalls(leader);
        self.stick(leader, stuck);
        self.go_on(stuck + 2 * self.cluster.settings.election_timeout)?;
        self.free(leader);
        let was_late = self.stalls(leader) > stalls;
        self.note(if was_late { "leader stuck between the limits" } else { "leader stuck below the soft limit" });
        self.expect_same(before, &format!("the leader m{leader} was stuck for {stuck:?}"))
    }

    /// The leader's disk answers when it is too late: another member leads before an election timeout is over, in the next term, and the old leader follows it and is
    /// there again by itself.
    pub(super) fn stick_leader(&mut self) -> Result<(), Violation> {
        let leader = self.await_calm()?;
        let (before, handovers) = (self.leadership(), self.handovers(leader));
        let timeout = self.cluster.settings.election_timeout;
        let most = [2 * timeout, 4 * timeout, Duration::from_secs(8)][self.cluster.prng.index(3)];
        let stuck = self.between(timeout + PROGRESS_WITHIN, timeout + PROGRESS_WITHIN + most);
        let what = format!("the leader m{leader} was stuck for {stuck:?}");
        self.stick(leader, stuck);
        let end = self.cluster.now() + stuck;
        let is_stuck = self.go_on_until(PROGRESS_WITHIN, |run| run.cluster.sim.host(leader).stuck_since().is_some())?;
        let since = self.cluster.sim.host(leader).stuck_since().filter(|_| is_stuck);
        let Some(since) = since else { return Err(Violation(format!("{what}: nothing was written meanwhile"))) };
        // Somebody looks every so often.
        let left = (since + timeout + STEP).since(self.cluster.now());
        let another_leads =
            |run: &Self| run.cluster.leader().is_some_and(|now| now != leader && run.cluster.members[now].leads());
        if !self.go_on_until(left, another_leads)? {
            let told = self.cluster.describe();
            return Err(Violation(format!("{what}: nobody else led within {timeout:?}, {:?}: {told}", self.limits)));
        }
        let after = self.leadership();
        if after.term != before.term + 1 || self.handovers(leader) != handovers + 1 {
            let told = self.cluster.describe();
            return Err(Violation(format!("{what}: {before:x?} became {after:x?}, not by one hand-over: {told}")));
        }
        self.note("leader stuck beyond the hard limit");
        self.note("hand-over before the election timeout");
        self.expect_progress(&what)?;
        self.go_on(end.since(self.cluster.now()))?;
        let follows = self.cluster.node_of(leader).handle.groups[0].status.leader();
        if Some(follows) != after.leader.map(|id| id.0) {
            return Err(Violation(format!("{what}: it follows {follows:x}, not {after:x?}")));
        }
        self.free(leader);
        self.await_near(leader, &what)?;
        self.go_on(2 * timeout)?;
        self.expect_same(after, &format!("{what}, and it is there again"))
    }

    /// Storage that all share: nobody does better, so nobody else should lead.
    pub(super) fn stick_everybody(&mut self) -> Result<(), Violation> {
        self.await_calm()?;
        let (before, limits, timeout) = (self.leadership(), self.limits, self.cluster.settings.election_timeout);
        let most = [limits.hard - MARGIN, 3 * timeout, Duration::from_secs(8)][self.cluster.prng.index(3)];
        let stuck = self.between(limits.hard / 4, most);
        // Not all disks of a storage answer in the same moment.
        let apart = [Duration::ZERO, Duration::ZERO, timeout / 8][self.cluster.prng.index(3)];
        let path = self.draw_path();
        let hosts = self.present();
        for host in &hosts {
            let late = self.below(apart);
            self.cluster.sim.host(*host).stick_flushes(path, stuck + late);
        }
        let what = format!("all were stuck for {stuck:?}, up to {apart:?} longer");
        self.go_on(stuck + apart)?;
        hosts.iter().for_each(|host| self.free(*host));
        self.expect_progress(&what)?;
        self.go_on(3 * timeout)?;
        let is_brief = stuck + apart <= limits.hard - MARGIN;
        self.note(if is_brief { "all stuck for a moment" } else { "all stuck beyond the hard limit" });
        if is_brief || apart.is_zero() {
            return self.expect_same(before, &what);
        }
        self.expect_changes(before, 1, &what)
    }

    /// A follower's disk is stuck, for as long as it likes: nobody else notices.
    pub(super) fn stick_follower(&mut self) -> Result<(), Violation> {
        let leader = self.await_calm()?;
        let (before, follower) = (self.leadership(), self.follower(leader));
        let most = Duration::from_secs([2, 8][self.cluster.prng.index(2)]);
        let stuck = self.between(MARGIN, most);
        let what = format!("the follower m{follower} was stuck for {stuck:?}");
        self.note("follower stuck");
        self.stick(follower, stuck);
        self.expect_progress(&what)?;
        self.go_on(stuck)?;
        self.free(follower);
        self.await_near(follower, &what)?;
        self.expect_same(before, &what)
    }

    /// A follower whose flushes take long, each of them.
    pub(super) fn slow_follower(&mut self) -> Result<(), Violation> {
        let leader = self.await_calm()?;
        let (before, follower) = (self.leadership(), self.follower(leader));
        let most = Duration::from_millis([20, 200, 300][self.cluster.prng.index(3)]);
        let what = format!("the follower m{follower} took up to {most:?} for a flush");
        self.note("follower slow");
        self.slow(follower, most);
        for _ in 0..2 + self.cluster.prng.below(3) {
            self.expect_progress(&what)?;
            self.go_on(Duration::from_secs(1))?;
        }
        self.free(follower);
        self.await_near(follower, &what)?;
        self.expect_same(before, &what)
    }

    /// Flushes that are slow, but never so that a batch takes as long as the soft limit.
    pub(super) fn slow_all_or_leader(&mut self) -> Result<(), Violation> {
        let leader = self.await_calm()?;
        let before = self.leadership();
        let most = self.slow_most();
        let is_all = self.cluster.prng.chance(1, 2);
        let hosts = if is_all { self.present() } else { vec![leader] };
        let what = format!("{hosts:?} took up to {most:?} for a flush, m{leader} led");
        self.note(if is_all { "all slow" } else { "leader slow" });
        hosts.iter().for_each(|host| self.slow(*host, most));
        for _ in 0..2 + self.cluster.prng.below(3) {
            self.expect_progress(&what)?;
            self.go_on(Duration::from_secs(1))?;
        }
        hosts.iter().for_each(|host| self.free(*host));
        self.expect_same(before, &what)
    }

    /// So much longer a flush may take without a stall.
    pub(super) fn slow_most(&mut self) -> Duration {
        let most = (self.limits.soft - MARGIN) / FLUSHES_PER_BATCH_MAX;
        self.between(Duration::from_millis(1), most)
    }

    /// Writes go on.
    pub(super) fn expect_progress(&mut self, what: &str) -> Result<(), Violation> {
        let commit = self.commit();
        let within = PROGRESS_WITHIN + self.cluster.settings.election_timeout;
        if !self.go_on_until(within, |run| run.commit() > commit)? {
            let told = self.cluster.describe();
            return Err(Violation(format!("{what}: nothing was written within {within:?}: {told}")));
        }
        Ok(())
    }

    pub(super) fn present(&self) -> Vec<usize> {
        (0..self.cluster.members.len()).filter(|host| self.cluster.members[*host].is_up()).collect()
    }

    /// How often its disk was later than the soft limit.
    fn stalls(&self, host: usize) -> u64 {
        self.cluster.node_of(host).handle.metrics.wal_stalls.get()
    }
}
