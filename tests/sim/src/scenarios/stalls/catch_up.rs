//! Members that lack what nobody's log holds any more, and come back while everybody writes on.

use std::time::Duration;

use plinth_env::PeerLane;

use super::{AT_CHUNK, Run, STEP};
use crate::{scenario::Violation, scenarios::cluster::Standing};

/// When nothing interrupts it any more, a member is there again after this. What takes longest is an end that nobody told the other of: a sender waits for ten seconds
/// until it takes a receiver for gone.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(25);

/// A member that comes back is sent a snapshot by then, or it doesn't need one.
const BEGINS_WITHIN: Duration = Duration::from_secs(4);

/// A transfer is interrupted so often at most.
const INTERRUPTIONS_MAX: u64 = 3;

/// Frames on the bulk lane that are longer carry a part of a snapshot.
const PART_BYTES_MIN: usize = 4 << 10;

/// About how much of a snapshot goes in one part.
const PART_BYTES: i64 = 256 << 10;

impl Run {
    /// A follower is away until what it lacks has gone.
    pub(super) fn lose_follower(&mut self) -> Result<(), Violation> {
        let leader = self.await_calm()?;
        let (before, host) = (self.leadership(), self.follower(leader));
        let is_cut = match self.cluster.prng.below(3) {
            0 => {
                self.note("follower cut off");
                self.cluster.isolate(host);
                true
            }
            power => {
                let has_power = power == 1;
                self.note(if has_power { "follower killed" } else { "follower without power" });
                self.cluster.members[host].crash(&self.cluster.sim, !has_power);
                false
            }
        };
        let gone = self.written(leader) + self.gone_after();
        self.go_on_until(Duration::from_secs(6), |run| run.written(leader) >= gone)?;
        self.expect_same(before, &format!("m{host} was away"))?;
        let snapshots = self.snapshots();
        if is_cut {
            self.cluster.sim.heal_all();
        } else {
            self.start(host)?;
        }
        self.catch_up(host, snapshots)
    }

    /// One that has nothing at all becomes a member.
    pub(super) fn add_member(&mut self) -> Result<(), Violation> {
        let Some(host) = self.cluster.draw(|run, host| run.members[host].standing == Standing::Spare) else {
            return self.lose_follower();
        };
        let (leader, snapshots) = (self.await_calm()?, self.snapshots());
        let is_learner = self.cluster.prng.chance(1, 2);
        self.note(if is_learner { "learner begins empty" } else { "voter begins empty" });
        self.cluster.ask_to_add_as(leader, host, is_learner);
        let end = self.cluster.sim.elapsed() + BEGINS_WITHIN;
        while self.cluster.members[host].standing == Standing::Spare {
            self.go_on(STEP)?;
            self.cluster.note_members()?;
            if self.cluster.sim.elapsed() > end {
                return Err(Violation(format!("m{host} isn't a member within {BEGINS_WITHIN:?}")));
            }
        }
        self.start(host)?;
        self.catch_up(host, snapshots)
    }

    /// It is back: whatever interrupts what it is sent, it catches up.
    fn catch_up(&mut self, host: usize, snapshots: u64) -> Result<(), Violation> {
        let before = self.leadership();
        let mut changes = 0;
        let mut what = format!("m{host} came back");
        for _ in 0..self.cluster.prng.below(INTERRUPTIONS_MAX + 1) {
            let Some(at) = self.await_chunk(host)? else { break };
            let name = AT_CHUNK[at.min(AT_CHUNK.len() - 1)];
            self.note(name);
            let (told, may_change) = self.interrupt(host)?;
            changes += may_change;
            what = format!("{what}, {name}: {told}");
        }
        self.await_near(host, &what)?;
        let has_changed = self.snapshots() > snapshots;
        self.note(if has_changed { "caught up by a snapshot" } else { "caught up from the log" });
        self.expect_progress(&what)?;
        if changes == 0 {
            return self.expect_same(before, &what);
        }
        self.expect_changes(before, changes, &what)
    }

    /// Goes on until a chunk that is drawn has come to a member; none if its transfer is over before, or doesn't begin.
    fn await_chunk(&mut self, host: usize) -> Result<Option<usize>, Violation> {
        let Some(leader) = self.cluster.leader() else { return Ok(None) };
        let bytes = self.cluster.node_of(leader).handle.groups[0].status.in_use_bytes();
        let parts = u64::try_from(bytes / PART_BYTES).unwrap_or_default() + 1;
        let at = usize::try_from(self.cluster.prng.below(parts + 1)).expect("few");
        let is_meant: fn(&[u8]) -> bool = if at == 0 { |_| true } else { |frame| frame.len() > PART_BYTES_MIN };
        let mut left = at.max(1);
        let mut end = self.cluster.sim.elapsed() + BEGINS_WITHIN;
        while left > 0 {
            let Some(leader) = self.cluster.leader().filter(|leader| *leader != host) else { return Ok(None) };
            if self.cluster.sim.run_until_frame((leader, host, PeerLane::Bulk), is_meant, STEP) {
                left -= 1;
                end = self.cluster.sim.elapsed() + BEGINS_WITHIN;
            }
            self.look()?;
            if self.is_near(host) || self.cluster.sim.elapsed() >= end {
                return Ok(None);
            }
        }
        Ok(Some(at))
    }

    /// A member has what the others have, while they go on.
    pub(super) fn await_near(&mut self, host: usize, what: &str) -> Result<(), Violation> {
        let is_there = |run: &Self| run.is_near(host);
        if !self.go_on_until(CAUGHT_UP_WITHIN, is_there)? {
            let told = self.cluster.describe();
            return Err(Violation(format!("{what}: it hasn't caught up within {CAUGHT_UP_WITHIN:?}: {told}")));
        }
        Ok(())
    }

    /// Bytes of its log so far.
    fn written(&self, host: usize) -> u64 {
        self.cluster.node_of(host).handle.metrics.wal_write_bytes.get()
    }

    /// When the log is so much longer, its beginning has gone at those who keep little of it.
    fn gone_after(&mut self) -> u64 {
        let options = self.cluster.members[0].options_mut();
        let kept = options.catch_up_log_bytes + options.checkpoint_log_bytes + 2 * options.segment_bytes;
        // Sometimes it is just going.
        kept * [1, 2, 3][self.cluster.prng.index(3)]
    }

    /// Snapshots that have taken the place of a tree, of all processes that run.
    fn snapshots(&self) -> u64 {
        let received = |host: usize| {
            let figures = self.cluster.node_of(host).handle.metrics.snapshots_received.figures();
            figures.iter().map(|of| of.succeeded).sum::<u64>()
        };
        self.present().into_iter().map(received).sum()
    }
}
