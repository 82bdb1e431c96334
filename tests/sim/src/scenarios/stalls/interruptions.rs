//! What happens to a snapshot on its way: to the connection, to whoever receives it, to whoever sends it.

use std::time::Duration;

use plinth_env::PeerLane;

use super::{Run, disks::MARGIN};
use crate::scenario::Violation;

/// Nothing limits how often leadership changes.
const ANY: usize = 100;

/// How long an interruption lasts, in milliseconds.
const MILLIS: [u64; 3] = [100, 1_000, 4_000];

impl Run {
    /// Something interrupts what a member is being sent. What it was; and how often leadership may change because of it.
    pub(super) fn interrupt(&mut self, host: usize) -> Result<(String, usize), Violation> {
        let Some(sender) = self.cluster.leader().filter(|leader| *leader != host) else {
            return Ok(("nobody leads".to_owned(), 0));
        };
        let lasts = self.cluster.millis(MILLIS);
        let (name, changes) = match self.cluster.prng.below(12) {
            0 | 1 => self.reset_bulk_lane(sender, host),
            2 => self.stall_bulk_lane(sender, host, lasts),
            3 => self.cut_pair(sender, host, lasts)?,
            4 | 5 => self.crash_receiver(host, lasts)?,
            6 => self.crash_sender(sender, lasts)?,
            7 => self.depose_sender(sender, host),
            8 => self.stick_sender(sender)?,
            9 => self.stick_receiver(host, lasts)?,
            10 => self.slow_sender(sender, lasts)?,
            _ => self.slow_receiver(host, lasts)?,
        };
        self.note(name);
        Ok((format!("{name}, sender m{sender}, {lasts:?}"), changes))
    }

    fn reset_bulk_lane(&mut self, sender: usize, host: usize) -> (&'static str, usize) {
        self.cluster.sim.reset_lane(sender, host, PeerLane::Bulk);
        ("bulk lane reset", 0)
    }

    fn stall_bulk_lane(&mut self, sender: usize, host: usize, lasts: Duration) -> (&'static str, usize) {
        let (from, to) = if self.cluster.prng.chance(1, 2) { (sender, host) } else { (host, sender) };
        self.cluster.sim.stall_lane(from, to, PeerLane::Bulk, lasts);
        ("bulk lane stalled", 0)
    }

    /// Neither hears the other; the rest goes on.
    fn cut_pair(&mut self, sender: usize, host: usize, lasts: Duration) -> Result<(&'static str, usize), Violation> {
        self.cluster.sim.cut(sender, host);
        self.cluster.sim.cut(host, sender);
        self.go_on(lasts)?;
        self.cluster.sim.heal_all();
        Ok(("pair cut", 0))
    }

    fn crash_receiver(&mut self, host: usize, lasts: Duration) -> Result<(&'static str, usize), Violation> {
        let power_cut = self.cluster.prng.chance(1, 2);
        self.cluster.members[host].crash(&self.cluster.sim, power_cut);
        self.go_on(lasts)?;
        self.start(host)?;
        Ok((if power_cut { "receiver without power" } else { "receiver killed" }, 0))
    }

    fn crash_sender(&mut self, sender: usize, lasts: Duration) -> Result<(&'static str, usize), Violation> {
        let power_cut = self.cluster.prng.chance(1, 2);
        self.cluster.members[sender].crash(&self.cluster.sim, power_cut);
        self.go_on(lasts)?;
        self.start(sender)?;
        Ok((if power_cut { "sender without power" } else { "sender killed" }, ANY))
    }

    /// Another one is asked to lead; not who is far behind, for then nothing can be written meanwhile.
    fn depose_sender(&mut self, sender: usize, host: usize) -> (&'static str, usize) {
        let to = self.cluster.draw(|run, other| ![sender, host].contains(&other) && run.members[other].is_voter);
        if let Some(to) = to {
            self.cluster.move_leader_to(to);
        }
        ("sender leads no more", 1)
    }

    /// For a moment, or so long that it had better not lead.
    fn stick_sender(&mut self, sender: usize) -> Result<(&'static str, usize), Violation> {
        let hard = self.limits.hard;
        let is_brief = self.cluster.prng.chance(1, 2);
        let stuck =
            if is_brief { self.between(MARGIN, hard - MARGIN) } else { self.between(hard, Duration::from_secs(4)) };
        self.stick(sender, stuck);
        self.go_on(stuck)?;
        self.free(sender);
        Ok(if is_brief { ("sender stuck for a moment", 0) } else { ("sender stuck beyond the hard limit", 1) })
    }

    fn stick_receiver(&mut self, host: usize, lasts: Duration) -> Result<(&'static str, usize), Violation> {
        self.stick(host, lasts);
        self.go_on(lasts)?;
        self.free(host);
        Ok(("receiver stuck", 0))
    }

    fn slow_sender(&mut self, sender: usize, lasts: Duration) -> Result<(&'static str, usize), Violation> {
        let most = self.slow_most();
        self.slow(sender, most);
        self.go_on(lasts)?;
        self.free(sender);
        Ok(("sender slow", 0))
    }

    fn slow_receiver(&mut self, host: usize, lasts: Duration) -> Result<(&'static str, usize), Violation> {
        self.slow(host, Duration::from_millis(200));
        self.go_on(lasts)?;
        self.free(host);
        Ok(("receiver slow", 0))
    }
}
