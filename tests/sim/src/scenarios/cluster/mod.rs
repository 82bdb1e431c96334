//! A whole cluster of one, three or five members: real nodes on machines of their own, under random clients, while machines, disks and the network misbehave.
//!
//! First everything may go wrong. Then everything heals, and the cluster has to make progress within a bounded time. At the end all that clients were told
//! must be one history, every member must hold it, and what the members said of terms and contents on the way must fit together.

mod checks;
mod clocks;
mod disks;
mod machine;
mod membership;
mod operator;
mod settings;
mod trouble;

use std::{cell::RefCell, rc::Rc, time::Duration};

use plinth_base::{GroupId, Instant, Mark, Prng};
use plinth_env::{Env, TaskQueue};
use plinth_sim_env::{Chance, Faults, Limit, Sim, SimEnv, SimOptions};

use super::{
    clients::{self, Clients, Shared, watching},
    node::machine::Node,
};
use crate::{
    history::{History, life::Life},
    model::{Model, Put, Request},
    scenario::{Outcome, Scenario, Violation},
    workload::Workload,
};
pub(super) use checks::Observed;
pub(super) use machine::{Member, Standing};
pub(super) use settings::Settings;

/// The group that all members have.
const GROUP: GroupId = GroupId(0);

/// A seed goes on until it has so much of everything.
const OPERATIONS_MIN: u64 = 520;
const FAULTS_MIN: u64 = 12;
const VIRTUAL_TIME_MIN: Duration = Duration::from_secs(36);

/// How often somebody looks what the members say of themselves.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// No stall of a disk or lane is longer: none of those that had begun is left.
const LAST_STALL_OVER_AFTER: Duration = Duration::from_secs(6);

/// Tasks go on some thousand times in a second of virtual time. One that is always awake alone could do it two million times.
const POLLS_PER_SECOND_MAX: u64 = 20_000;

/// So long after the clients were told to end no lease of a few seconds lives: some renew one for a while, then it has its TTL, and may be a little late.
const LEASES_GONE_AFTER: Duration = Duration::from_secs(7 + 7 + 3);

/// See the module.
#[derive(Debug, Default)]
pub struct ClusterScenario;

impl Scenario for ClusterScenario {
    fn name(&self) -> &'static str {
        "cluster"
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

/// Branches that only a member that has others reaches.
pub(super) const MARKS_OF_CLUSTERS: &[Mark] = &[
    Mark::CheckpointWaitedForLog,
    Mark::SnapshotOffered,
    Mark::SnapshotCopied,
    Mark::CopyResumed,
    Mark::SnapshotMoved,
    Mark::SnapshotRenewed,
    Mark::SnapshotBuilt,
    Mark::SnapshotInstalled,
    Mark::LeaderFled,
    Mark::RotFoundByScrub,
];

/// Branches that many clusters under faults reach. The rarer ones are for the scenario `node`, which runs through more lives.
const MARKS: &[Mark] = &[
    Mark::TornTailCut,
    Mark::SegmentRecycled,
    Mark::PageReused,
    Mark::CheckpointLost,
    Mark::RecordSplit,
    Mark::PageMissing,
    Mark::LogReplayed,
    Mark::ApplyWaited,
    Mark::WatchStalled,
    Mark::LeaseExpiredUntouched,
    Mark::CheckpointWaitedForLog,
    Mark::SnapshotOffered,
    Mark::SnapshotCopied,
    Mark::CopyResumed,
    Mark::SnapshotMoved,
    Mark::SnapshotRenewed,
    Mark::SnapshotBuilt,
    Mark::SnapshotInstalled,
    Mark::LeaderFled,
    Mark::RotFoundByScrub,
];

/// What goes wrong: the first ones are caused, the others come of them.
const FAULTS: &[&str] = &[
    "alarm cleared",
    "all crashed",
    "bit of a log flipped",
    "bit of a tree flipped",
    "clock drifts",
    "clock set",
    "connection reset",
    "disk failed",
    "disk full",
    "disk slow",
    "disk stuck",
    "lane stalled",
    "leaders silenced",
    "leadership moved",
    "learner promoted",
    "machine crashed",
    "member added",
    "member removed",
    "network changed",
    "network cut",
    "process killed",
    "process paused",
    "process stopped",
    "voters crashed",
    "direction cut",
    "member let in that was added meanwhile",
    "lane reset",
    "page evicted",
    "rotten member given up",
    "power cut",
    "stall",
    "storage full",
    "sync error",
    "unsynced write lost",
    "unsynced write torn",
    "write error",
];

/// A seed under way.
pub(super) struct Run {
    pub(super) sim: Sim,
    pub(super) prng: Prng,
    pub(super) settings: Settings,
    pub(super) members: Vec<Member>,
    /// Machines that may become members.
    pub(super) spares: usize,
    /// Up to which entry it is known who the members are.
    members_at: u64,
    pub(super) clients: Shared,
    pub(super) observed: Observed,
    /// The longest pause of a client.
    pause_max: Duration,
}

/// What a seed's cluster is made of, beside its settings.
pub(super) struct Plan {
    /// Members at the beginning.
    pub(super) size: usize,
    /// Machines that may become members.
    pub(super) spares: usize,
    /// How often pages are missing.
    pub(super) page_miss: Chance,
    /// The longest pause of a client.
    pub(super) pause_max: Duration,
    /// What clients ask.
    pub(super) workload: Workload,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut prng = Prng::new(!seed);
        let size = [1, 3, 3, 3, 5][prng.index(5)];
        let page_miss = [Chance::NEVER, Chance::one_in(100), Chance::one_in(20)][prng.index(3)];
        let spares = [0, 2][prng.index(2)];
        let settings = Settings::draw(&mut prng);
        let pause_max = Duration::from_millis([30, 300, 1_500][prng.index(3)]);
        let compact_one_in = [30, 150, 1_000_000][prng.index(3)];
        let workload = Workload {
            keys: 30,
            value_bytes: vec![16, 16, 64, 64, 200, 1000, 3000, 20_000],
            compact_one_in,
            ..Workload::default()
        };
        Self::with(seed, prng, settings, Plan { size, spares, page_miss, pause_max, workload })
    }

    pub(super) fn with(seed: u64, mut prng: Prng, settings: Settings, plan: Plan) -> Self {
        let Plan { size, spares, page_miss, pause_max, workload } = plan;
        let faults = Faults { page_miss, ..Faults::default() };
        let hosts = size + spares;
        let sim = Sim::with_hosts(seed, SimOptions { faults, ..SimOptions::default() }, hosts);
        let members = (0..hosts).map(|host| Member::new(host, size, &settings, &mut prng)).collect();
        let clients = Rc::new(RefCell::new(Clients {
            history: History::new(Model::default()),
            workload,
            leases: Vec::new(),
            operations: 0,
            clock: sim.clock(),
            unreadable: Vec::new(),
            strange: Vec::new(),
            has_members: true,
            is_over: false,
            watched: Vec::new(),
        }));
        Self { sim, prng, settings, members, spares, members_at: 0, clients, observed: Observed::default(), pause_max }
    }

    fn run(mut self) -> Result<Outcome, Violation> {
        self.begin_life();
        for host in 0..self.members.len() {
            self.drift(host);
            self.start(host)?;
        }
        while !self.has_done_enough() {
            let calm = self.millis([50, 500, 4_000]);
            self.go_on(calm)?;
            self.cause_trouble()?;
        }
        self.heal()?;
        self.miss_a_follower()?;
        self.settle()?;
        self.conclude()?;
        self.check_idle()?;
        Ok(self.outcome())
    }

    /// From now on clients may be told something.
    pub(super) fn begin_life(&mut self) {
        let now = self.now();
        let mut life = Life::new(now, now, self.settings.election_timeout, 1);
        (life.is_stale, life.drift_millionths) = (true, self.settings.drift_millionths);
        self.clients.borrow_mut().history.begin_life(life);
    }

    pub(super) fn outcome(&self) -> Outcome {
        Outcome {
            operations: self.clients.borrow().operations,
            faults: self.sim.faults().into_iter().chain(self.observed.counts()).collect(),
            virtual_time: self.sim.elapsed(),
            trace_hash: self.sim.trace_hash(),
        }
    }

    /// Nobody was busy with nothing: members that only wait do so in their sleep.
    fn check_idle(&self) -> Result<(), Violation> {
        let polls_per_second = self.sim.polls() / self.sim.elapsed().as_secs().max(1);
        if polls_per_second > POLLS_PER_SECOND_MAX {
            return Err(Violation(format!(
                "tasks went on {polls_per_second} times in a second: somebody waits without sleeping"
            )));
        }
        Ok(())
    }

    fn has_done_enough(&self) -> bool {
        self.clients.borrow().operations >= OPERATIONS_MIN
            && self.sim.elapsed() >= VIRTUAL_TIME_MIN
            && self.observed.troubles() >= FAULTS_MIN
    }

    /// Virtual time, whatever the members' clocks show.
    pub(super) fn now(&self) -> Instant {
        self.sim.clock().now()
    }

    /// Lets so much time pass, and looks at everybody all the while.
    pub(super) fn go_on(&mut self, duration: Duration) -> Result<(), Violation> {
        let end = self.sim.elapsed() + duration;
        loop {
            let left = end.saturating_sub(self.sim.elapsed());
            self.sim.run_for(left.min(LOOK_INTERVAL));
            self.look()?;
            if left <= LOOK_INTERVAL {
                return Ok(());
            }
        }
    }

    pub(super) fn look(&mut self) -> Result<(), Violation> {
        let now = self.now();
        let mut newest = 0;
        for member in &mut self.members {
            if let Some(node) = &member.node {
                newest = self.observed.look(member.id, node)?.max(newest);
                member.check_end(&self.sim)?;
                member.note_doubt();
            }
        }
        self.check_alarms()?;
        let clients = &mut *self.clients.borrow_mut();
        clients.history.life_mut().look(newest, now);
        let may_say_so =
            |from: u64| self.members.iter().any(|member| member.id.0 == from && member.may_be_unreadable());
        clients.unreadable.retain(|(from, _)| !may_say_so(*from));
        let unreadable = clients.unreadable.first().map(|(_, status)| status);
        if let Some(status) = clients.strange.first().or(unreadable) {
            return Err(Violation(format!("a client was told {:?}: {}", status.code, status.message)));
        }
        Ok(())
    }

    /// Starts a member, and clients that talk to it. It may be that its disk fails meanwhile; then it is down again.
    pub(super) fn start(&mut self, host: usize) -> Result<(), Violation> {
        if !self.members[host].start(&self.sim)? {
            return Ok(());
        }
        let api = self.members[host].node().apis[0].clone();
        let env = self.sim.host(host).env();
        let clients = if self.present().len() == 1 { 3 } else { 2 };
        for _ in 0..clients {
            let client =
                clients::run(env.clone(), api.clone(), Rc::clone(&self.clients), self.prng.fork(), self.pause_max);
            env.spawn(TaskQueue::Serve, client);
        }
        let before = self.clients.borrow().watched.len();
        watching::begin(&env, &api, &self.clients, &mut self.prng, self.pause_max);
        self.members[host].watched = self.clients.borrow().watched[before..].to_vec();
        Ok(())
    }

    /// Nothing goes wrong any more: everybody is up, and soon writes go through wherever they are sent.
    pub(super) fn heal(&mut self) -> Result<(), Violation> {
        self.sim.heal_all();
        self.sim.change_net(|net| *net = plinth_sim_env::NetOptions::default());
        // Whoever can't trust its disk stays away.
        let sim = &self.sim;
        self.members.iter_mut().filter(|member| member.rotten.is_some()).for_each(|member| member.lose(sim));
        for host in 0..self.members.len() {
            self.sim
                .host(host)
                .change_faults(|faults| *faults = Faults { page_miss: faults.page_miss, ..Faults::default() });
            self.sim.host(host).cancel_plans();
            self.sim.host(host).resume();
            self.make_room(host);
            let power_cut = self.draw_power_cut(host, (1, 1));
            let member = &mut self.members[host];
            // One whose disk has failed ends soon, if it hasn't yet. A quota that is used up lets nobody write.
            if member.lift_quota() || !member.is_up() || member.may_end || member.is_stuck {
                member.crash(&self.sim, power_cut);
                self.start(host)?;
            }
        }
        if self.spares > 0 {
            self.complete_members()?;
        }
        let begun = self.sim.elapsed();
        for host in self.present() {
            self.await_progress(host, begun)?;
        }
        Ok(())
    }

    /// A put goes through a member.
    fn await_progress(&mut self, host: usize, begun: Duration) -> Result<(), Violation> {
        let progress_max = self.settings.progress_max();
        loop {
            if !self.members[host].is_up() {
                return Err(Violation(format!("member {host} ended although nothing was wrong any more")));
            }
            let api = self.members[host].node().apis[0].clone();
            let key = self.clients.borrow().workload.key(1);
            let put = Request::Put(Put { key, value: b"progress".to_vec(), ..Put::default() });
            let sent = async {
                operator::clear_alarms(&api).await;
                clients::send(&api, &self.clients, put.into(), false).await
            };
            let left = progress_max.saturating_sub(self.sim.elapsed() - begun);
            match self.sim.block_on_within(sent, Limit::Time(left)) {
                Ok(clients::Sent::Answered) => return Ok(()),
                Ok(_) if !left.is_zero() => self.go_on(LOOK_INTERVAL)?,
                _ => {
                    let told = self.describe();
                    return Err(Violation(format!("no put through member {host} within {progress_max:?}: {told}")));
                }
            }
        }
    }

    /// Where members are that aren't gone for good.
    fn present(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|host| !self.members[*host].is_lost).collect()
    }

    /// A follower that nobody hears for a while, and that comes back, is no reason for an election.
    fn miss_a_follower(&mut self) -> Result<(), Violation> {
        self.go_on(LAST_STALL_OVER_AFTER)?;
        let present = self.present();
        // Else nobody could lead without it.
        let voters = self.members.iter().filter(|member| member.is_voter).count();
        let is_spare = present.len() > voters / 2 + 1;
        let Some(leader) = self.leader().filter(|_| is_spare) else { return Ok(()) };
        let term = self.observed.newest_term();
        let at = present.iter().position(|host| *host == leader).expect("whoever leads is there");
        let follower = present[(at + 1 + self.prng.index(present.len() - 1)) % present.len()];
        self.isolate(follower);
        let away = Duration::from_millis(1_000 + self.prng.below(3_000));
        self.go_on(away)?;
        self.sim.heal_all();
        self.go_on(self.settings.back_within())?;
        if self.observed.newest_term() != term {
            let told = self.describe();
            return Err(Violation(format!("m{follower} was away from term {term}, and caused an election: {told}")));
        }
        Ok(())
    }

    /// Some more requests while all is well; then the clients end, and what is under way comes to its end.
    pub(super) fn settle(&mut self) -> Result<(), Violation> {
        let now = self.now();
        self.clients.borrow_mut().history.life_mut().leads = now;
        self.go_on(Duration::from_secs(2))?;
        let terms = self.observed.newest_term();
        self.clients.borrow_mut().is_over = true;
        self.go_on(self.settings.settled_after().max(LEASES_GONE_AFTER))?;
        if self.observed.newest_term() != terms {
            return Err(Violation("there was an election although nothing was wrong".to_owned()));
        }
        let now = self.now();
        let life = &mut self.clients.borrow_mut().history;
        (life.life_mut().well_until, life.life_mut().ended) = (now, now);
        Ok(())
    }

    /// Where the newest leader that was seen runs.
    pub(super) fn leader(&self) -> Option<usize> {
        let leader = self.observed.newest_leader()?;
        self.members.iter().position(|member| member.id == leader)
    }

    pub(super) fn describe(&self) -> String {
        self.members.iter().map(Member::describe).collect::<Vec<_>>().join("; ")
    }

    pub(super) fn env_of(&self, host: usize) -> SimEnv {
        self.sim.host(host).env()
    }

    pub(super) fn node_of(&self, host: usize) -> &Node<SimEnv> {
        self.members[host].node()
    }
}
