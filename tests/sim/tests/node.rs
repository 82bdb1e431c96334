//! The scenario `node` keeps its promises, and nodes that are built to break them are found out.

use std::panic::{AssertUnwindSafe, catch_unwind};

use plinth_env::Env;
use plinth_sim::{
    scenario::{Outcome, Scenario, Violation},
    scenarios::{NodeScenario, node},
};
use plinth_sim_env::{Faults, MetaFirst, SimEnv};

/// A panic counts as found out too.
fn run<E: Env>(seed: u64, faults: &Faults, wrap: impl Fn(SimEnv) -> E) -> Result<Outcome, Violation> {
    catch_unwind(AssertUnwindSafe(|| node::run(seed, faults, wrap)))
        .unwrap_or_else(|_| Err(Violation("panicked".into())))
}

#[test]
fn node_keeps_its_promises_and_a_seed_is_the_same_run_twice() {
    for seed in [0, 1] {
        let outcome = NodeScenario.run(seed).expect("the node keeps its promises");
        outcome.check(NodeScenario.floor()).expect("enough happens");
        assert_eq!(NodeScenario.run(seed), Ok(outcome));
    }
}

#[test]
fn log_that_drops_flushes_is_caught() {
    let lie = || Faults { lie_about_flush: true, ..Faults::default() };
    let caught = (0..5).filter(|seed| run(*seed, &lie(), |env| env).is_err()).count();
    assert!(caught >= 4, "{caught} of 5");
}

#[test]
fn tree_that_writes_its_meta_page_first_is_caught() {
    // A crash has to come between the two: about one seed in five has one there.
    let caught = (0..20).filter(|seed| run(*seed, &Faults::default(), MetaFirst::new).is_err()).count();
    assert!(caught >= 2, "{caught} of 20");
}
