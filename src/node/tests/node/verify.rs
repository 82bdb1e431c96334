//! Starts that prove every page first.

use std::path::Path;

use plinth_node::ShardOptions;
use plinth_sim_env::{Sim, SimOptions};

use crate::support::{TREE, keys, options, put, start};

const KEYS: i64 = 500;

/// The files of a member that was stopped cleanly.
fn stopped(seed: u64) -> Sim {
    let sim = Sim::new(seed, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let node = start(&env, options()).await.expect("an empty disk takes a member");
        for key in 0..KEYS {
            put(&node.api, &format!("key-{key:05}")).await.expect("the device is well");
        }
        node.api.stop().await;
    });
    sim.kill();
    sim
}

fn verify_all() -> ShardOptions {
    ShardOptions { verify_all: true, ..options() }
}

#[test]
fn a_sound_tree_is_proven_whole_and_served() {
    let sim = stopped(3);
    let env = sim.env();
    sim.block_on(async {
        let node = start(&env, verify_all()).await.expect("every page is sound");
        assert_eq!(keys(&node.api).await, KEYS);
    });
}

/// Flips a bit in a page of a stopped member's tree, and gives the page's offset.
fn rotten(seed: u64) -> (Sim, usize) {
    let sim = stopped(seed);
    let content = sim.read_file(Path::new(TREE)).expect("there");
    let at = content.windows(9).position(|window| window == b"key-00321").expect("keys are stored as they are");
    assert!(sim.flip_bit(Path::new(TREE), at as u64));
    (sim, at / 4096 * 4096)
}

#[test]
fn a_rotten_page_is_found_at_the_start_only_if_every_page_is_proven() {
    let (sim, _) = rotten(4);
    let env = sim.env();
    sim.block_on(start(&env, options())).expect("after a clean stop pages are proven when they are read");
    let (sim, offset) = rotten(5);
    let env = sim.env();
    let error = sim.block_on(start(&env, verify_all())).err().expect("refused").to_string();
    let want = format!("{TREE} is corrupt at offset {offset}");
    assert!(error.contains(&want), "want {want}, got {error}");
}
