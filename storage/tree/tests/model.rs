//! Random work against a plain model: puts, removals, moves, publishes, snapshots that are kept, checkpoints beside the writer,
//! pages that vanish at any time, and a reopened file at the end.

mod common;

use std::time::Duration;

use common::{Bed, Model, assert_same, assert_snapshot, assert_sound, options, some_body, some_head, some_key};
use plinth_base::{Mark, Prng};
use plinth_env::Env;
use plinth_sim_env::{Chance, Faults, Limit, Sim, SimEnv, SimOptions, SimPages};
use plinth_tree::{Snapshot, Store};

type Kept = Vec<(Snapshot<SimPages>, Model)>;

/// One random step.
async fn step(bed: &mut Bed, prng: &mut Prng) {
    let tree = u8::from(prng.chance(1, 3));
    match prng.below(20) {
        0..11 => {
            let (key, head, body) = (some_key(prng), some_head(prng), some_body(prng));
            bed.put(tree, &key, &head, &body).await;
        }
        11..16 => {
            let known = bed.model[tree as usize].keys().nth(prng.index(50)).cloned();
            let key = known.unwrap_or_else(|| some_key(prng));
            bed.remove(tree, &key).await;
        }
        16..18 => {
            let known = bed.model[tree as usize].keys().nth(prng.index(20)).cloned();
            if let Some(key) = known {
                bed.move_over(tree, &key).await;
            }
        }
        18 if prng.chance(1, 8) => {
            if let Some(punch) = bed.store.begin_punch(0, 0) {
                let done = punch.run(async |_| {}).await;
                bed.store.finish_punch(done).expect("the disk can punch");
            }
        }
        18 => bed.env.sleep(Duration::from_micros(prng.below(400))).await,
        _ if prng.chance(1, 2) => {
            bed.store.settle(1 + prng.index(40));
        }
        _ => {
            bed.store.trim([0, 100 << 10, 1 << 20][prng.index(3)], 1 + prng.index(40));
        }
    }
}

/// Publishes, keeps and compares snapshots, and lets checkpoints go on.
async fn between(bed: &mut Bed, kept: &mut Kept, prng: &mut Prng) {
    if prng.chance(1, 10) {
        let snapshot = bed.publish();
        if prng.chance(1, 10) {
            kept.push((snapshot, bed.model.clone()));
        }
    }
    if prng.chance(1, 60) {
        bed.start_checkpoint();
    }
    let was_running = bed.running.is_some();
    let done = bed.poll_checkpoint().expect("the disk works");
    if was_running && done && prng.chance(1, 4) {
        assert_sound(&bed.env).await;
        bed.store.begin_verify().run(async |_| {}).await.expect("the newest checkpoint is sound");
    }
    if kept.len() > 4 {
        let (snapshot, model) = kept.swap_remove(prng.index(kept.len()));
        assert_snapshot(&bed.env, &snapshot, &model, prng).await;
    }
}

async fn random_work(env: SimEnv, seed: u64, steps: usize) {
    let mut prng = Prng::new(seed);
    let mut bed = Bed::create(env.clone()).await;
    let mut kept = Kept::new();
    for _ in 0..steps {
        step(&mut bed, &mut prng).await;
        between(&mut bed, &mut kept, &mut prng).await;
    }
    assert_same(&env, bed.store.view(), &bed.store.pages().clone(), &bed.model, &mut prng).await;
    for (snapshot, model) in kept.drain(..) {
        assert_snapshot(&env, &snapshot, &model, &mut prng).await;
    }
    bed.checkpoint().await;
    while !bed.store.settle(100) {}
    bed.checkpoint().await;
    assert_same(&env, bed.store.view(), &bed.store.pages().clone(), &bed.model, &mut prng).await;
    assert_eq!(bed.store.dirty_bytes(), 0);
    let state = bed.store.state().clone();
    let model = bed.model;
    drop(bed.store);
    assert_sound(&env).await;
    let store = Store::open(env.clone(), options(), false).await.expect("the file is sound");
    assert_eq!(store.state(), &state);
    assert_same(&env, store.view(), &store.pages().clone(), &model, &mut prng).await;
}

fn run_seed(seed: u64, steps: usize) {
    let faults = Faults { page_miss: Chance::one_in(30), ..Faults::default() };
    let sim = Sim::new(seed, SimOptions { faults, ..SimOptions::default() });
    sim.block_on(random_work(sim.env(), seed, steps));
}

#[test]
fn random_work_equals_the_model_at_every_kept_root_and_after_reopening() {
    for seed in 0..12 {
        run_seed(seed, 3000);
    }
    assert!(Mark::PageReused.count() > 0, "pages must have been used again");
    assert!(Mark::BranchTrimmed.count() > 0, "branches must have been let go of");
}

/// Opens what a power cut left, and finds the model it must be equal to.
async fn recover(env: SimEnv, before: Bed, prng: &mut Prng) -> Bed {
    drop(before.store);
    let store = Store::open(env.clone(), options(), true).await.unwrap_or_else(|error| panic!("{error}"));
    store.begin_verify().run(async |_| {}).await.unwrap_or_else(|error| panic!("{error}"));
    assert_sound(&env).await;
    let state = store.state();
    let changes = if state.is_empty() { 0 } else { u64::from_le_bytes(state[..].try_into().expect("eight bytes")) };
    let at = before.frozen.iter().rposition(|(frozen, _)| *frozen == changes).expect("a root that was frozen");
    assert!(at + 1 >= before.durable, "a checkpoint that was done is not lost");
    let model = before.frozen[at].1.clone();
    assert_same(&env, store.view(), &store.pages().clone(), &model, prng).await;
    Bed::over(env, store, model, changes)
}

#[test]
fn random_work_goes_on_after_every_power_cut_from_a_generation_that_was_frozen() {
    for seed in 0..12 {
        let sim = Sim::new(seed, SimOptions::default());
        let mut prng = Prng::new(seed);
        let mut bed = sim.block_on(Bed::create(sim.env()));
        for _ in 0..8 {
            let events = Limit::DiskEvents(1 + prng.below(400));
            let worked = sim.block_on_within(
                async {
                    let mut kept = Kept::new();
                    for _ in 0..1500 {
                        step(&mut bed, &mut prng).await;
                        between(&mut bed, &mut kept, &mut prng).await;
                    }
                },
                events,
            );
            drop(worked);
            sim.crash();
            bed = sim.block_on(recover(sim.env(), bed, &mut prng));
        }
    }
}

#[test]
fn snapshots_go_to_any_thread() {
    fn assert_shared<T: Send + Sync + Clone>() {}
    assert_shared::<Snapshot<SimPages>>();
}
