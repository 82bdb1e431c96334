//! Clusters whose disks stall and whose members catch up, under load that doesn't end, while nothing else is wrong.
//!
//! One thing happens at a time, so what must be so can be said exactly: who may lead, in which term and since when, that no lease is lost which its owner renews, and
//! within which time a member is there again. In the end everything is judged as in the scenario `cluster`, whose machinery this is.

mod catch_up;
mod disks;
mod interruptions;
mod leadership;
mod load;
mod owners;
mod settings;

use std::time::Duration;

use plinth_base::{Mark, Prng};
use plinth_sim_env::{Chance, Latency, NetOptions};

use super::cluster::{self, Member, Plan, Standing};
use crate::{
    scenario::{Outcome, Scenario, Violation},
    workload::Workload,
};
use leadership::Leadership;
use load::Load;
use owners::Owner;
use settings::Limits;

/// How often somebody looks what the members say of themselves.
const STEP: Duration = Duration::from_millis(5);

/// A seed goes on until it has so much of everything.
const EPISODES_MIN: u32 = 6;
const VIRTUAL_TIME_MIN: Duration = Duration::from_secs(42);

/// A member that is no further behind than this is there: what is on its way under load is less.
const NEAR_ENTRIES: u64 = 20;

/// When nothing goes wrong any more, all is well after this.
const CALM_WITHIN: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug, Default)]
pub struct StallsScenario;

impl Scenario for StallsScenario {
    fn name(&self) -> &'static str {
        "stalls"
    }

    fn marks(&self) -> &'static [Mark] {
        MARKS
    }

    fn faults(&self) -> &'static [&'static str] {
        FAULTS
    }

    fn run(&self, seed: u64) -> Result<Outcome, Violation> {
        Run::new(seed).run()
    }
}

/// Branches that are about stalls and catching up.
const MARKS: &[Mark] = &[
    Mark::CheckpointWaitedForLog,
    Mark::LogReplayed,
    Mark::SegmentRecycled,
    Mark::SnapshotOffered,
    Mark::SnapshotCopied,
    Mark::SnapshotBuilt,
    Mark::SnapshotInstalled,
    Mark::LeaderFled,
];

/// What goes wrong.
const FAULTS: &[&str] = &[
    "flush slow",
    "flush stuck",
    "all stuck for a moment",
    "all stuck beyond the hard limit",
    "all slow",
    "follower slow",
    "follower stuck",
    "follower cut off",
    "follower killed",
    "follower without power",
    "leader slow",
    "leader stuck below the soft limit",
    "leader stuck between the limits",
    "leader stuck beyond the hard limit",
    "hand-over before the election timeout",
    "caught up from the log",
    "caught up by a snapshot",
    "learner begins empty",
    "voter begins empty",
    "bulk lane reset",
    "bulk lane stalled",
    "pair cut",
    "receiver killed",
    "receiver slow",
    "receiver stuck",
    "receiver without power",
    "sender killed",
    "sender leads no more",
    "sender slow",
    "sender stuck beyond the hard limit",
    "sender stuck for a moment",
    "sender without power",
    "interrupted at the offer",
    "interrupted at chunk 1",
    "interrupted at chunk 2",
    "interrupted at chunk 3",
    "interrupted at chunk 4",
    "interrupted at chunk 5",
    "interrupted at chunk 6",
    "interrupted at chunk 7",
    "interrupted at chunk 8",
    "interrupted at a later chunk",
];

/// The last of them tell where a transfer was when it was interrupted, by the parts that had gone.
const AT_CHUNK: &[&str] = FAULTS.split_at(FAULTS.len() - 10).1;

/// A seed under way.
struct Run {
    cluster: cluster::Run,
    limits: Limits,
    load: Load,
    owners: Vec<Owner>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut prng = Prng::new(seed ^ 0x5741_1157_4115_7411);
        let (settings, limits) = settings::draw(&mut prng);
        let plan = Plan {
            size: [3, 3, 5][prng.index(3)],
            spares: [0, 1, 1][prng.index(3)],
            page_miss: [Chance::NEVER, Chance::one_in(100)][prng.index(2)],
            pause_max: Duration::from_millis(1_500),
            workload: Workload {
                keys: 12,
                key_bytes_max: 300,
                value_bytes: vec![16, 64, 200, 1000],
                compact_one_in: [20, 60][prng.index(2)],
                ..Workload::default()
            },
        };
        let mut cluster = cluster::Run::with(seed, prng, settings, plan);
        let load = Load::draw(&mut cluster.prng, cluster.members.len());
        let chosen = settings::Sizes::draw(&mut cluster.prng, load.bytes_per_second);
        cluster.members.iter_mut().for_each(|member| chosen.apply(member.options_mut(), limits));
        // Late, but far from so late that anybody would miss a heartbeat.
        let (quick, late) = (Duration::from_micros(200), settings.heartbeat_interval / 10);
        let jitter = [quick, late][cluster.prng.index(2)];
        let slow = settings.heartbeat_interval / 4;
        let usual = NetOptions::default().latency;
        cluster.sim.change_net(|net| net.latency = Latency { jitter, slow, ..usual });
        Self { cluster, limits, load, owners: Vec::new() }
    }

    fn run(mut self) -> Result<Outcome, Violation> {
        self.cluster.begin_life();
        for host in 0..self.cluster.members.len() {
            self.start(host)?;
        }
        self.await_calm()?;
        self.begin_leases();
        self.fill()?;
        let mut episodes = 0;
        while episodes < EPISODES_MIN || self.cluster.sim.elapsed() < VIRTUAL_TIME_MIN {
            self.await_calm()?;
            // Whoever has just taken over in a stall keeps leadership for so long, whatever its disk does.
            let pause = self.cluster.settings.election_timeout + self.below(Duration::from_secs(1));
            self.go_on(pause)?;
            self.cause_trouble()?;
            episodes += 1;
        }
        self.await_calm()?;
        self.cluster.heal()?;
        self.cluster.settle()?;
        self.cluster.conclude()?;
        Ok(self.cluster.outcome())
    }

    fn cause_trouble(&mut self) -> Result<(), Violation> {
        match self.cluster.prng.below(12) {
            0 => self.stick_leader_for_a_moment(),
            1 | 2 => self.stick_leader(),
            3 => self.stick_everybody(),
            4 => self.stick_follower(),
            5 => self.slow_follower(),
            6 => self.slow_all_or_leader(),
            7 => self.add_member(),
            _ => self.lose_follower(),
        }
    }

    /// Starts a member, with its share of the load.
    fn start(&mut self, host: usize) -> Result<(), Violation> {
        self.cluster.start(host)?;
        if self.cluster.members[host].is_up() {
            self.load.begin(&mut self.cluster, host);
        }
        Ok(())
    }

    /// Lets so much time pass, and looks at everybody all the while.
    fn go_on(&mut self, duration: Duration) -> Result<(), Violation> {
        self.go_on_until(duration, |_| false).map(drop)
    }

    /// Lets time pass until something is so; false if it isn't within `max`.
    fn go_on_until(&mut self, max: Duration, is_so: impl Fn(&Self) -> bool) -> Result<bool, Violation> {
        let end = self.cluster.sim.elapsed() + max;
        loop {
            if is_so(self) {
                return Ok(true);
            }
            let left = end.saturating_sub(self.cluster.sim.elapsed());
            if left.is_zero() {
                return Ok(false);
            }
            self.cluster.sim.run_for(left.min(STEP));
            self.look()?;
        }
    }

    fn look(&mut self) -> Result<(), Violation> {
        self.cluster.look()?;
        self.tend_leases()
    }

    /// Goes on until all members are up, follow one of them and have what it has. Where it runs.
    fn await_calm(&mut self) -> Result<usize, Violation> {
        if !self.go_on_until(CALM_WITHIN, Self::is_calm)? {
            let told = self.cluster.describe();
            return Err(Violation(format!("nothing was wrong for {CALM_WITHIN:?}, and all isn't well: {told}")));
        }
        Ok(self.cluster.leader().expect("somebody leads where all is well"))
    }

    fn is_calm(&self) -> bool {
        let members = self.cluster.members.iter().filter(|member| member.standing == Standing::Present);
        members.clone().all(Member::is_up) && members.clone().all(|member| self.is_near(member.host))
    }

    /// Whether a member follows whoever leads, or leads, and has what it has.
    fn is_near(&self, host: usize) -> bool {
        let (Some(leader), member) = (self.cluster.leader(), &self.cluster.members[host]) else { return false };
        if !member.is_up() || !self.cluster.members[leader].is_up() {
            return false;
        }
        let [leads, follows] = [leader, host].map(|host| &self.cluster.node_of(host).handle.groups[0].status);
        let id = self.cluster.members[leader].id.0;
        (leads.leader(), follows.leader()) == (id, id)
            && leads.term() == follows.term()
            && follows.applied() + NEAR_ENTRIES >= leads.commit()
            && !follows.is_doubtful()
    }

    fn below(&mut self, most: Duration) -> Duration {
        let nanos = u64::try_from(most.as_nanos()).expect("much less than 500 years");
        Duration::from_nanos(self.cluster.prng.below(nanos.max(1)))
    }

    fn between(&mut self, least: Duration, most: Duration) -> Duration {
        least + self.below(most.saturating_sub(least))
    }

    fn follower(&mut self, leader: usize) -> usize {
        self.cluster.draw(|run, host| host != leader && run.members[host].is_up()).expect("nobody is alone")
    }

    fn note(&mut self, what: &'static str) {
        self.cluster.observed.note(what);
    }

    fn leadership(&self) -> Leadership {
        Leadership::of(&self.cluster)
    }
}
