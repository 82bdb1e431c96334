//! A whole node: log, trees, state machine, raft and shard with two groups, under random clients, through lives that end in a power
//! cut, a kill, an error of the device or a clean stop.
//!
//! After each start every group must hold what it acknowledged and nothing that nobody asked for, equal to the model at every
//! revision; its trees must agree with each other; and between lives the tree's checker must find both files sound.

pub(super) mod checks;
mod flip;
pub(super) mod machine;
mod trouble;

use std::{cell::RefCell, rc::Rc, sync::LazyLock, time::Duration};

use plinth_base::{Instant, Mark, Prng};
use plinth_env::{Env, TaskQueue};
use plinth_node::{ShardOptions, api::Api};
use plinth_sim_env::{Chance, Faults, Limit, Sim, SimEnv, SimOptions};

use super::clients::{self, Clients, Shared, watching};
use crate::{
    history::{History, life::Life},
    model::Model,
    scenario::{Outcome, Scenario, Violation},
    workload::Workload,
};
use machine::{GROUPS, Node};
use trouble::Trouble;

/// Clients of each group.
const CLIENTS: usize = 3;

/// The longest pause of a client and the longest life at that pace, in milliseconds: bursts and long stretches with little to do.
const PACES: [(u64, u64); 4] = [(2, 100), (30, 1_000), (400, 8_000), (2_000, 20_000)];

/// A seed goes on until it has so much of everything.
const OPERATIONS_MIN: u64 = 600;
const LIVES_MIN: u64 = 14;
const VIRTUAL_TIME_MIN: Duration = Duration::from_secs(61);

/// The only member leads as soon as its vote is durable.
const LEAD_MAX: Duration = Duration::from_secs(5);

/// How often somebody looks which revision a group has: so exactly the ends of leases are known.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What a start finds compacted is swept within this, when nothing goes wrong. No lease expires before.
const SWEPT_MAX: Duration = Duration::from_millis(1500);

/// A clean stop may take so long: it waits for a checkpoint.
const STOP_MAX: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub struct NodeScenario;

impl Scenario for NodeScenario {
    fn name(&self) -> &'static str {
        "node"
    }

    fn marks(&self) -> &'static [Mark] {
        static MARKS: LazyLock<Vec<Mark>> = LazyLock::new(|| {
            let is_of_clusters = |mark: &Mark| super::cluster::MARKS_OF_CLUSTERS.contains(mark);
            Mark::ALL.iter().copied().filter(|mark| !is_of_clusters(mark)).collect()
        });
        &MARKS
    }

    fn run(&self, seed: u64) -> Result<Outcome, Violation> {
        run(seed, &Faults::default(), |env| env)
    }
}

/// Runs one seed. `faults` come on top of the usual ones, and `wrap` puts something between the node and the machine: tests prove with
/// them that a node that is wrong is found out.
pub fn run<E: Env>(seed: u64, faults: &Faults, wrap: impl Fn(SimEnv) -> E) -> Result<Outcome, Violation> {
    let mut prng = Prng::new(!seed);
    let faults =
        Faults { page_miss: [Chance::NEVER, Chance::one_in(100), Chance::one_in(10)][prng.index(3)], ..faults.clone() };
    let usual_page_miss = faults.page_miss;
    let sim = Sim::new(seed, SimOptions { faults, ..SimOptions::default() });
    let options = machine::options(&mut prng);
    // Small sweeps all the time, or seldom large ones, or a long history.
    let compact_one_in = [15, 40, 150, 1_000_000][prng.index(4)];
    let clients = GROUPS.map(|_| new_clients(compact_one_in, &sim)).into();
    let mut run = Run { sim, wrap, prng, options, clients, lives: 0, usual_page_miss };
    while !run.has_done_enough() {
        run.life()?;
    }
    run.conclude()
}

fn new_clients(compact_one_in: u64, sim: &Sim) -> Shared {
    let workload = Workload {
        keys: 40,
        value_bytes: vec![16, 16, 64, 64, 200, 1000, 1025, 3000, 5000, 40_000],
        compact_one_in,
        ..Workload::default()
    };
    Rc::new(RefCell::new(Clients {
        history: History::new(Model::default()),
        workload,
        leases: Vec::new(),
        operations: 0,
        clock: sim.clock(),
        unreadable: Vec::new(),
        strange: Vec::new(),
        has_members: false,
        is_over: false,
        watched: Vec::new(),
    }))
}

/// Looks at a group's revision all the time.
async fn look<E: Env>(env: E, api: Api<E>, clients: Shared) {
    loop {
        let revision = api.published().root().state.revision;
        clients.borrow_mut().history.life_mut().look(revision, env.now());
        env.sleep(LOOK_INTERVAL).await;
    }
}

/// A seed under way.
struct Run<W> {
    sim: Sim,
    wrap: W,
    prng: Prng,
    options: ShardOptions,
    clients: Vec<Shared>,
    lives: u64,
    usual_page_miss: Chance,
}

/// How a life ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    PowerCut,
    Kill,
    Stop,
}

impl<E: Env, W: Fn(SimEnv) -> E> Run<W> {
    fn has_done_enough(&self) -> bool {
        self.operations() >= OPERATIONS_MIN && self.lives >= LIVES_MIN && self.sim.elapsed() >= VIRTUAL_TIME_MIN
    }

    fn operations(&self) -> u64 {
        self.clients.iter().map(|clients| clients.borrow().operations).sum()
    }

    fn env(&self) -> E {
        (self.wrap)(self.sim.env())
    }

    /// From a start to an end, and the checks behind it.
    fn life(&mut self) -> Result<(), Violation> {
        self.lives += 1;
        let trouble = Trouble::draw(&mut self.prng);
        let before = trouble::errors(&self.sim);
        let end = match self.start(trouble)? {
            Some(node) => self.serve(&node, trouble, before)?,
            None => [End::PowerCut, End::Kill][self.prng.index(2)],
        };
        match end {
            End::PowerCut => self.sim.crash(),
            End::Kill => self.sim.kill(),
            // What is on the disk now must stay, whatever the machine does.
            End::Stop if self.prng.chance(1, 2) => self.sim.crash(),
            End::Stop => self.sim.kill(),
        }
        let now = self.sim.env().now();
        self.clients.iter().for_each(|clients| clients.borrow_mut().history.life_mut().ended = now);
        checks::files(&self.sim)?;
        if end == End::Stop && self.prng.chance(1, 3) {
            flip::trial(&self.sim, &self.options, &mut self.prng)?;
        }
        Ok(())
    }

    /// A node that has passed its checks; none if the machine died first, or the device failed.
    fn start(&mut self, trouble: Trouble) -> Result<Option<Node<E>>, Violation> {
        let (before, began) = (trouble::errors(&self.sim), self.sim.env().now());
        if trouble == Trouble::ErrorInStart {
            trouble::plan_error(&self.sim, &mut self.prng, 20);
        }
        let limit = if self.prng.chance(1, 4) { Limit::DiskEvents(self.prng.below(120)) } else { Limit::None };
        let node = match self.sim.block_on_within(machine::start(self.env(), self.options.clone()), limit) {
            Ok(Ok(node)) => node,
            Ok(Err(_)) if trouble::errors(&self.sim) > before => return Ok(None),
            Ok(Err(error)) => return Err(Violation(format!("the node doesn't start: {error}"))),
            Err(plinth_sim_env::Stopped::Limit) => return Ok(None),
            Err(stopped) => return Err(Violation(format!("the start never ends: {stopped}"))),
        };
        if trouble == Trouble::ErrorInStart {
            // It may strike later now, while the checks read.
            return Ok(None);
        }
        if self.prng.chance(1, 4) {
            // In the middle of the replay, perhaps.
            self.sim.run_for(Duration::from_micros(self.prng.below(5_000)));
            return if self.prng.chance(1, 2) { Ok(None) } else { self.checked(node, began).map(Some) };
        }
        self.checked(node, began).map(Some)
    }

    /// The checks of a node whose start began at `began`.
    fn checked(&mut self, node: Node<E>, began: Instant) -> Result<Node<E>, Violation> {
        let leads = self.sim.block_on_within(machine::lead(&self.env(), &node), Limit::Time(LEAD_MAX));
        if leads.is_err() || node.end.borrow().is_some() {
            let end = node.end.borrow();
            return Err(Violation(format!("the node doesn't lead its groups within {LEAD_MAX:?}: {end:?}")));
        }
        // The clients meet enough misses; reading every revision would take for ever with them.
        let usual = self.usual_page_miss;
        self.sim.change_faults(|faults| faults.page_miss = Chance::NEVER);
        // Such a read waits until everything is applied.
        for at in 0..GROUPS.len() {
            let read = self.sim.block_on(checks::everything(&node, at, 0));
            read.map_err(|status| Violation(format!("{} after a start", status.message)))?;
        }
        let leads = self.sim.env().now();
        if self.lives > LIVES_MIN || self.prng.chance(1, 2) {
            self.see_swept(&node)?;
        }
        checks::after_start(&self.sim, &self.env(), &node, &self.clients)?;
        self.sim.change_faults(|faults| faults.page_miss = usual);
        for clients in &self.clients {
            let history = &mut clients.borrow_mut().history;
            let life = Life::new(began, leads, self.options.lease_grace, history.known_revision());
            history.begin_life(life);
        }
        Ok(node)
    }

    /// A sweep that the last life didn't end goes on, and nobody has to ask for it.
    fn see_swept(&self, node: &Node<E>) -> Result<(), Violation> {
        let is_swept = || node.handle.groups.iter().all(|group| group.root().state.is_swept());
        if self.sim.run_until(Duration::from_millis(5), SWEPT_MAX, is_swept) {
            return Ok(());
        }
        Err(Violation(format!("what is compacted is not swept {SWEPT_MAX:?} after a start")))
    }

    /// Clients at work, with something going wrong, until the end.
    fn serve(&mut self, node: &Node<E>, trouble: Trouble, errors_before: u64) -> Result<End, Violation> {
        let pace = PACES[self.prng.index(PACES.len())];
        let (pause_max, time_max) = (Duration::from_millis(pace.0), Duration::from_millis(pace.1));
        for (api, clients) in node.apis.iter().zip(&self.clients) {
            for _ in 0..CLIENTS {
                let (env, api, clients) = (self.env(), api.clone(), Rc::clone(clients));
                let client = clients::run(env.clone(), api, clients, self.prng.fork(), pause_max);
                env.spawn(TaskQueue::Serve, client);
            }
            watching::begin(&self.env(), api, clients, &mut self.prng, pause_max);
            self.env().spawn(TaskQueue::Serve, look(self.env(), api.clone(), Rc::clone(clients)));
        }
        let (before, after) = (self.part_of(time_max / 4), self.part_of(time_max));
        self.sim.run_for(before);
        self.note_well();
        self.cause(node, trouble)?;
        self.sim.run_for(after);
        let failed = trouble::errors(&self.sim) > errors_before;
        if !failed && trouble == Trouble::None {
            self.note_well();
        }
        let mut end = [End::PowerCut, End::PowerCut, End::Kill, End::Stop][self.prng.index(4)];
        if end == End::Stop && !failed && trouble != Trouble::ErrorInLife {
            self.stop(node)?;
        } else if end == End::Stop {
            end = End::Kill;
        }
        self.check_end(node, end, trouble::errors(&self.sim) > errors_before)?;
        Ok(end)
    }

    /// Up to now nothing went wrong in this life.
    fn note_well(&self) {
        let now = self.sim.env().now();
        self.clients.iter().for_each(|clients| clients.borrow_mut().history.life_mut().well_until = now);
    }

    fn part_of(&mut self, duration: Duration) -> Duration {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.prng.below(ns.max(1)))
    }

    fn stop(&self, node: &Node<E>) -> Result<(), Violation> {
        match self.sim.block_on_within(node.apis[0].stop(), Limit::Time(STOP_MAX)) {
            Ok(()) => {}
            Err(stopped) => return Err(Violation(format!("the node doesn't stop: {stopped}"))),
        }
        // What is told only now may have been done only now.
        self.sim.run_for(Duration::from_millis(1));
        match &*node.end.borrow() {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(Violation(format!("the node stopped with an error: {error}"))),
            None => Err(Violation("the node says that it has stopped, and runs".to_owned())),
        }
    }

    /// A node ends when its device fails, and only then.
    fn check_end(&self, node: &Node<E>, end: End, failed: bool) -> Result<(), Violation> {
        match &*node.end.borrow() {
            Some(Err(error)) if !failed => return Err(Violation(format!("the node ended: {error}"))),
            Some(Ok(())) if end != End::Stop => return Err(Violation("the node ended unasked".to_owned())),
            _ => {}
        }
        checks::alarms(node)?;
        for clients in &self.clients {
            let clients = &mut *clients.borrow_mut();
            let unreadable = std::mem::take(&mut clients.unreadable);
            if let Some(status) =
                clients.strange.first().or(unreadable.first().map(|(_, status)| status).filter(|_| !failed))
            {
                return Err(Violation(format!("a client was told {:?}: {}", status.code, status.message)));
            }
        }
        Ok(())
    }

    /// One more start, so that the last life is checked too.
    fn conclude(mut self) -> Result<Outcome, Violation> {
        let began = self.sim.env().now();
        let node = self.sim.block_on(machine::start(self.env(), self.options.clone()));
        let node = node.map_err(|error| Violation(format!("the node doesn't start: {error}")))?;
        let node = self.checked(node, began)?;
        self.stop(&node)?;
        let clean = checks::files(&self.sim)?;
        for (state, published) in clean.iter().zip(&node.handle.groups) {
            if state.applied.0 != published.status.applied() {
                return Err(Violation(format!("a clean stop left entries behind {} to be replayed", state.applied)));
            }
        }
        for (state, clients) in clean.iter().zip(&self.clients) {
            checks::content(state, &clients.borrow().history).map_err(Violation)?;
        }
        Ok(Outcome {
            operations: self.operations(),
            faults: self.sim.faults(),
            virtual_time: self.sim.elapsed(),
            trace_hash: self.sim.trace_hash(),
        })
    }
}

#[cfg(test)]
mod tests;
