//! Bugs that random seeds found or missed, each as a scripted run.

use std::time::Duration;

use plinth_base::Prng;
use plinth_env::SyncMethod;
use plinth_node::ShardOptions;
use plinth_sim_env::{Limit, Sim, SimEnv, SimOptions};

use super::{
    checks,
    machine::{self, Node},
};
use crate::{model::Put, wire};

/// Enough to make checkpoints, and segments of the log that are not needed any more.
const PUTS: u8 = 20;

fn options() -> ShardOptions {
    let mut prng = Prng::new(0);
    ShardOptions {
        segment_bytes: 64 << 10,
        checkpoint_log_bytes: 100 << 10,
        checkpoint_age: Duration::from_millis(500),
        sync_method: SyncMethod::WriteDsync,
        ..machine::options(&mut prng)
    }
}

fn started(sim: &Sim) -> Node<SimEnv> {
    let node = sim.block_on(machine::start(sim.env(), options())).unwrap_or_else(|error| panic!("{error}"));
    sim.block_on(machine::lead(&sim.env(), &node));
    node
}

/// The first start is killed after so many disk events, the second one works until a power cut. False if the first one was done before.
fn first_start_killed(seed: u64, events: u64) -> bool {
    let sim = Sim::new(seed, SimOptions::default());
    let first = sim.block_on_within(machine::start(sim.env(), options()), Limit::DiskEvents(events));
    let was_cut = first.is_err();
    drop(first);
    sim.kill();
    let node = started(&sim);
    for index in 0..PUTS {
        let put = Put { key: vec![1, index], value: vec![2; 20_000], ..Put::default() };
        sim.block_on(node.apis[1].put(wire::put(&put))).unwrap_or_else(|status| panic!("{}", status.message));
    }
    sim.run_for(Duration::from_secs(1));
    sim.crash();
    let node = started(&sim);
    let all = sim.block_on(checks::everything(&node, 1, 0));
    let (_, state) = all.unwrap_or_else(|status| panic!("{}", status.message));
    assert_eq!(state.len(), usize::from(PUTS), "killed {events} disk events into the first start");
    was_cut
}

/// A process that dies leaves names that only its own life knew of: no power cut may take them once others count on them.
#[test]
fn first_start_killed_anywhere_leaves_nothing_that_a_power_cut_after_the_second_takes_back() {
    let mut events = 0;
    while (0..4).all(|round| first_start_killed(4 * events + round, events)) {
        events += 1;
    }
    assert!(events > 50, "a first start has only {events} disk events");
}
