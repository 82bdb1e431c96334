//! What goes wrong, one thing after the other and over each other.

use std::time::Duration;

use plinth_env::{Env, PeerLane, TaskQueue};
use plinth_rpc::etcdserverpb as pb;
use plinth_sim_env::{Chance, Latency, Limit, NetOptions};

use super::{LOOK_INTERVAL, Run, machine::Member};
use crate::scenario::Violation;

/// How much longer a frame may take than another one, in a network that is quick, slow, or very slow.
const JITTERS: [Duration; 3] = [Duration::from_micros(100), Duration::from_millis(2), Duration::from_millis(60)];

impl Run {
    /// Something happens to somebody.
    pub(in crate::scenarios) fn cause_trouble(&mut self) -> Result<(), Violation> {
        self.note_members()?;
        let host = self.prng.index(self.members.len());
        match self.prng.below(36) {
            0..=3 => self.crash(host)?,
            4 => self.crash_all()?,
            5 | 6 => self.pause(host),
            7..=9 => self.cut(host),
            10 => self.sim.heal_all(),
            11 | 12 => self.disturb_lane(host),
            13 => {
                let jitter = JITTERS[self.prng.index(3)];
                self.change_net(jitter);
            }
            14..=16 => self.slow_disk(host),
            17 => self.fail_disk(host),
            18..=20 => self.silence_leaders()?,
            21 => self.move_leader(),
            22 => self.stick_disk(host),
            23 => self.fill_disk(host),
            24 | 25 => self.flip_bit(host)?,
            26 | 27 => self.disturb_clock(host),
            28..=31 => self.change_members(),
            32 | 33 => self.crash_voters()?,
            _ => self.stop(host)?,
        }
        self.look_after_room();
        self.look_after_rot();
        // Whoever is down comes back, but not always at once.
        for host in 0..self.members.len() {
            if !self.members[host].is_up() && self.prng.chance(1, 2) {
                self.start(host)?;
            }
        }
        Ok(())
    }

    fn crash(&mut self, host: usize) -> Result<(), Violation> {
        let power_cut = self.draw_power_cut(host, (2, 3));
        self.observed.note(if power_cut { "machine crashed" } else { "process killed" });
        self.members[host].crash(&self.sim, power_cut);
        if self.prng.chance(1, 2) {
            self.start(host)?;
            if self.prng.chance(1, 3) {
                // In the middle of what a start leaves to do.
                let replaying = Duration::from_micros(self.prng.below(20_000));
                self.go_on(replaying)?;
                self.members[host].crash(&self.sim, power_cut);
            }
        }
        Ok(())
    }

    /// All at once, as when a whole rack loses its power.
    fn crash_all(&mut self) -> Result<(), Violation> {
        self.observed.note("all crashed");
        let chance = [(0, 1), (1, 1), (1, 1)][self.prng.index(3)];
        for host in 0..self.members.len() {
            let power_cut = self.draw_power_cut(host, chance);
            self.members[host].crash(&self.sim, power_cut);
        }
        for host in 0..self.members.len() {
            self.start(host)?;
        }
        Ok(())
    }

    fn pause(&mut self, host: usize) {
        self.observed.note("process paused");
        let pause = self.millis([300, 3_000, 12_000]);
        self.sim.host(host).pause(pause);
    }

    /// One direction, both, or a member from all others; two sides; or a ring in which each hears one neighbour.
    fn cut(&mut self, host: usize) {
        self.observed.note("network cut");
        let size = self.members.len();
        let other = self.prng.index(size);
        match self.prng.below(5) {
            0 => self.sim.cut(host, other),
            1 => {
                self.sim.cut(host, other);
                self.sim.cut(other, host);
            }
            2 => self.isolate(host),
            3 => {
                let side: Vec<bool> = (0..size).map(|_| self.prng.chance(1, 2)).collect();
                for (a, b) in pairs(size).filter(|(a, b)| side[*a] != side[*b]) {
                    self.sim.cut(a, b);
                }
            }
            _ => {
                for (a, b) in pairs(size).filter(|(a, b)| (a + 1) % size != *b && (b + 1) % size != *a) {
                    self.sim.cut(a, b);
                }
            }
        }
    }

    pub(in crate::scenarios) fn isolate(&self, host: usize) {
        for other in 0..self.members.len() {
            self.sim.cut(host, other);
            self.sim.cut(other, host);
        }
    }

    /// One leader after the other falls silent before it has told the others much (Raft, figure 8).
    fn silence_leaders(&mut self) -> Result<(), Violation> {
        self.observed.note("leaders silenced");
        if self.prng.chance(2, 3) {
            // What a leader tells takes so long that some of it comes too late.
            self.change_net(JITTERS[2]);
        }
        for _ in 0..4 + self.prng.below(5) {
            if self.prng.chance(1, 2) {
                self.stall_logs();
            }
            if self.prng.chance(1, 2) {
                let host = self.prng.index(self.members.len());
                self.slow_disk(host);
            }
            self.await_election()?;
            let soon = self.millis([20, 200, 1_000]);
            self.go_on(soon)?;
            // Whoever was silent before is there again.
            self.sim.heal_all();
            for host in 0..self.members.len() {
                if !self.members[host].is_up() {
                    self.start(host)?;
                }
            }
            let Some(leader) = self.leader() else { continue };
            match self.prng.below(4) {
                0 | 1 => {
                    let power_cut = self.draw_power_cut(leader, (1, 1));
                    self.members[leader].crash(&self.sim, power_cut);
                }
                2 => self.isolate(leader),
                _ => self.mute(leader),
            }
        }
        Ok(())
    }

    /// As soon as somebody leads, nobody hears it any more, and those that voted for it lose their power.
    fn crash_voters(&mut self) -> Result<(), Violation> {
        self.observed.note("voters crashed");
        for _ in 0..3 + self.prng.below(4) {
            self.sim.heal_all();
            for host in 0..self.members.len() {
                if !self.members[host].is_up() {
                    self.start(host)?;
                }
                if self.prng.chance(1, 2) {
                    self.slow_disk(host);
                }
            }
            if let Some(leader) = self.leader() {
                self.lose_power_for_a_moment(leader)?;
            }
            let Some(leader) = self.await_new_leader() else { continue };
            self.isolate(leader);
            for host in (0..self.members.len()).filter(|host| *host != leader) {
                if self.prng.chance(3, 4) {
                    self.lose_power_for_a_moment(host)?;
                }
            }
            self.look()?;
            self.await_election()?;
        }
        Ok(())
    }

    /// Goes on until a member leads in a new term, and stops at once; or for two elections' time.
    fn await_new_leader(&mut self) -> Option<usize> {
        let (term, begun) = (self.members.iter().map(Member::term).max(), self.sim.elapsed());
        while self.sim.elapsed() - begun < 4 * self.settings.election_timeout {
            self.sim.run_for(Duration::from_micros(200));
            let leader = self.members.iter().position(|member| member.leads() && Some(member.term()) > term);
            if leader.is_some() {
                return leader;
            }
        }
        None
    }

    fn lose_power_for_a_moment(&mut self, host: usize) -> Result<(), Violation> {
        let power_cut = self.draw_power_cut(host, (1, 1));
        self.members[host].crash(&self.sim, power_cut);
        self.start(host)
    }

    /// Nobody hears a member any more, and what the others have sent comes to it late.
    fn mute(&mut self, host: usize) {
        for other in (0..self.members.len()).filter(|other| *other != host) {
            self.sim.cut(host, other);
            let stall = self.prng.below(3 * self.settings.election_timeout.as_millis() as u64);
            for lane in PeerLane::ALL {
                self.sim.stall_lane(other, host, lane, Duration::from_millis(stall));
            }
        }
    }

    /// Goes on until somebody leads who didn't, or for two elections' time.
    fn await_election(&mut self) -> Result<(), Violation> {
        let (leader, begun) = (self.observed.newest_leader(), self.sim.elapsed());
        while self.observed.newest_leader() == leader && self.sim.elapsed() - begun < 4 * self.settings.election_timeout
        {
            self.go_on(LOOK_INTERVAL)?;
        }
        Ok(())
    }

    /// Votes go through, entries don't.
    fn stall_logs(&mut self) {
        let stall = Duration::from_millis(self.prng.below(4_000));
        for (from, to) in pairs(self.members.len()) {
            self.sim.stall_lane(from, to, PeerLane::Log, stall);
        }
    }

    fn disturb_lane(&mut self, host: usize) {
        let other = self.prng.index(self.members.len());
        let lane = PeerLane::ALL[self.prng.index(3)];
        if host == other {
            return;
        }
        if self.prng.chance(1, 3) {
            self.observed.note("connection reset");
            self.sim.reset_lane(host, other, lane);
        } else {
            self.observed.note("lane stalled");
            self.sim.stall_lane(host, other, lane, Duration::from_millis(self.prng.below(5_000)));
        }
    }

    /// From a quick network to one that is slow, or breaks connections all the time.
    fn change_net(&mut self, jitter: Duration) {
        self.observed.note("network changed");
        let reset = [Chance::NEVER, Chance::one_in(2_000), Chance::one_in(100)][self.prng.index(3)];
        let break_after = Duration::from_millis([200, 2_000, 10_000][self.prng.index(3)]);
        let latency = Latency { jitter, ..NetOptions::default().latency };
        self.sim.change_net(|net| *net = NetOptions { latency, reset, break_after, ..NetOptions::default() });
    }

    /// Up to one of these.
    pub(in crate::scenarios) fn millis(&mut self, most: [u64; 3]) -> Duration {
        let most = most[self.prng.index(3)];
        Duration::from_millis(self.prng.below(most))
    }

    fn move_leader(&mut self) {
        let to = self.prng.index(self.members.len());
        self.move_leader_to(to);
    }

    /// Asked of whoever leads; whether it comes about depends on everything else.
    pub(in crate::scenarios) fn move_leader_to(&mut self, to: usize) {
        let to = self.members[to].id;
        let Some(leader) = self.members.iter().find(|member| member.leads()) else { return };
        self.observed.note("leadership moved");
        let (api, env) = (leader.node().apis[0].clone(), self.sim.host(leader.host).env());
        env.spawn(TaskQueue::Serve, async move {
            let _ = api.move_leader(pb::MoveLeaderRequest { target_id: to.0 }).await;
        });
    }

    /// As an operator does it. What the stop says is for the scenario `node` to check; here the others go on.
    pub(in crate::scenarios) fn stop(&mut self, host: usize) -> Result<(), Violation> {
        if !self.members[host].is_up() {
            return Ok(());
        }
        self.observed.note("process stopped");
        let api = self.members[host].node().apis[0].clone();
        self.members[host].may_end = true;
        let _ = self.sim.block_on_within(api.stop(), Limit::Time(Duration::from_secs(20)));
        let power_cut = self.draw_power_cut(host, (1, 2));
        self.members[host].crash(&self.sim, power_cut);
        Ok(())
    }
}

/// All ordered pairs of different hosts.
fn pairs(size: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..size).flat_map(move |a| (0..size).map(move |b| (a, b))).filter(|(a, b)| a != b)
}
