//! Power cuts at every disk event of a checkpoint: afterwards the file is exactly one of its two durable generations, the
//! checker is content, and work goes on.

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{Bed, Model, assert_same, assert_sound, options, some_body, some_head, some_key};
use plinth_base::{Mark, Prng};
use plinth_sim_env::{Limit, OpKind, Sim, SimEnv, SimOptions};
use plinth_tree::{Store, TreeError};

async fn work(bed: &mut Bed, prng: &mut Prng, steps: usize) {
    for _ in 0..steps {
        let tree = u8::from(prng.chance(1, 3));
        if prng.chance(2, 3) {
            let (key, head, body) = (some_key(prng), some_head(prng), some_body(prng));
            bed.put(tree, &key, &head, &body).await;
        } else if let Some(key) = bed.model[tree as usize].keys().nth(prng.index(30)).cloned() {
            bed.remove(tree, &key).await;
        }
    }
}

/// A file with some generations behind it, unsaved changes, and the model of its newest checkpoint.
async fn prepared(env: SimEnv, prng: &mut Prng) -> (Bed, Model, u64) {
    let mut bed = Bed::create(env).await;
    for _ in 0..4 {
        work(&mut bed, prng, 40).await;
        bed.checkpoint().await;
        bed.store.settle(usize::MAX);
    }
    let (durable, changes) = (bed.model.clone(), bed.changes);
    work(&mut bed, prng, 40).await;
    (bed, durable, changes)
}

fn changes_of(state: &Bytes) -> u64 {
    u64::from_le_bytes(state.as_ref().try_into().expect("eight bytes"))
}

/// Cuts the power `events` disk events into a checkpoint. False if the checkpoint was done before.
fn cut(seed: u64, events: u64) -> bool {
    let sim = Sim::new(seed, SimOptions::default());
    let mut prng = Prng::new(seed);
    let env = sim.env();
    let (mut bed, older, older_changes) = sim.block_on(prepared(env, &mut prng));
    let (newer, newer_changes) = (bed.model.clone(), bed.changes);
    let finished = sim.block_on_within(bed.checkpoint(), Limit::DiskEvents(events)).is_ok();
    sim.crash();
    drop(bed);
    let env = sim.env();
    sim.block_on(async {
        let store = Store::open(env.clone(), options(), true).await.unwrap_or_else(|error| panic!("{error}"));
        store.begin_verify().run(async |_| {}).await.unwrap_or_else(|error| panic!("{error}"));
        assert_sound(&env).await;
        let changes = changes_of(store.state());
        assert!(changes == newer_changes || (changes == older_changes && !finished), "state {changes}");
        let model = if changes == newer_changes { newer } else { older };
        assert_same(&env, store.view(), &Arc::clone(store.pages()), &model, &mut prng).await;
        // Go on: the pages of the lost checkpoint are used again.
        let mut bed = Bed::over(env.clone(), store, model, changes);
        for _ in 0..3 {
            work(&mut bed, &mut prng, 15).await;
            bed.checkpoint().await;
            assert_sound(&env).await;
        }
    });
    finished
}

/// Disk events of the whole checkpoint with this seed.
fn events_of(seed: u64) -> u64 {
    let sim = Sim::new(seed, SimOptions::default());
    let mut prng = Prng::new(seed);
    let env = sim.env();
    let (mut bed, ..) = sim.block_on(prepared(env, &mut prng));
    let before = sim.disk_events();
    sim.block_on(bed.checkpoint());
    sim.disk_events() - before
}

#[test]
fn a_crash_at_any_event_of_a_checkpoint_leaves_one_of_two_generations() {
    let events = events_of(7);
    assert!(events > 10, "a checkpoint has several writes");
    (0..=events).for_each(|events| _ = cut(7, events));
    // The meta is written near the end: cut there until it was torn.
    for seed in 100..130 {
        let events = events_of(seed);
        (1..5).for_each(|before| _ = cut(seed, events - before));
        assert!(cut(seed, events + 10), "with all of its events a checkpoint is done");
    }
    assert!(Mark::CheckpointLost.count() > 0, "some metas must have been torn");
}

#[test]
fn a_failed_write_or_sync_poisons_the_store_and_the_file_stays_as_it_was() {
    for (kind, skip) in [(OpKind::Write, 0), (OpKind::Write, 1), (OpKind::Sync, 0), (OpKind::Sync, 1)] {
        let sim = Sim::new(skip, SimOptions::default());
        let mut prng = Prng::new(skip);
        let (mut bed, older, older_changes) = sim.block_on(prepared(sim.env(), &mut prng));
        let (newer, newer_changes) = (bed.model.clone(), bed.changes);
        sim.fail_op(kind, "tree", skip);
        sim.block_on(async {
            let _ = bed.publish();
            bed.start_checkpoint();
            assert!(matches!(bed.wait_checkpoint().await, Err(TreeError::Io(_))));
            assert!(bed.store.is_poisoned() && bed.store.begin_checkpoint().is_none());
        });
        sim.crash();
        drop(bed);
        let env = sim.env();
        sim.block_on(async {
            let store = Store::open(env.clone(), options(), true).await.unwrap_or_else(|error| panic!("{error}"));
            assert_sound(&env).await;
            let changes = changes_of(store.state());
            assert!(changes == newer_changes || changes == older_changes, "state {changes}");
            let model = if changes == newer_changes { newer } else { older };
            assert_same(&env, store.view(), &Arc::clone(store.pages()), &model, &mut prng).await;
        });
    }
}

#[test]
fn a_crash_while_the_file_is_made_leaves_none_or_a_whole_one() {
    let mut events = 0;
    loop {
        let sim = Sim::new(events, SimOptions::default());
        let env = sim.env();
        let made = sim.block_on_within(Bed::create(env), Limit::DiskEvents(events)).is_ok();
        sim.crash();
        let env = sim.env();
        sim.block_on(async {
            match Store::open(env.clone(), options(), true).await {
                Ok(_) => drop(assert_sound(&env).await),
                Err(TreeError::Io(error)) => assert!(!made && error.kind() == std::io::ErrorKind::NotFound, "{error}"),
                Err(error) => panic!("{error}"),
            }
            drop(Bed::create(env.clone()).await);
            assert_sound(&env).await;
        });
        if made {
            break;
        }
        events += 1;
    }
}

#[test]
fn a_disk_that_lied_about_a_flush_is_found_by_verification() {
    let (mut found, mut unnoticed) = (0, 0);
    for seed in 0..20 {
        let sim = Sim::new(seed, SimOptions::default());
        let mut prng = Prng::new(seed);
        let (mut bed, ..) = sim.block_on(prepared(sim.env(), &mut prng));
        sim.change_faults(|faults| faults.lie_about_flush = true);
        sim.block_on(bed.checkpoint());
        sim.crash();
        drop(bed);
        sim.change_faults(|faults| faults.lie_about_flush = false);
        let env = sim.env();
        sim.block_on(async {
            let Ok(store) = Store::open(env.clone(), options(), true).await else { return found += 1 };
            let verified = store.begin_verify().run(async |_| {}).await;
            let sound = plinth_tree::check(&env, &options().path, common::SPECS).await;
            match (verified, sound) {
                (Err(_), _) => found += 1,
                (Ok(_), Ok(_)) => unnoticed += 1,
                (Ok(_), Err(error)) => panic!("verified, but {error}"),
            }
        });
    }
    assert!(found > 0, "{unnoticed} crashes left a whole file by chance");
}

/// A checkpoint fails with `kind` at its meta page and the process dies, so that the next one reads what the device may still lose.
/// The power goes `events` disk events into the life that builds on it; what that leaves must be sound. False if all was done before.
fn build_on_unconfirmed_meta(kind: OpKind, events: u64) -> bool {
    let sim = Sim::new(events, SimOptions::default());
    let mut prng = Prng::new(events);
    let (mut bed, ..) = sim.block_on(prepared(sim.env(), &mut prng));
    sim.block_on(bed.checkpoint());
    let (model, changes) = (bed.model.clone(), bed.changes + 1);
    // With nothing new but its state it has one write before the meta's, and one sync.
    bed.store.set_state(Bytes::copy_from_slice(&changes.to_le_bytes()));
    sim.fail_op(kind, "tree", 1);
    sim.block_on(async {
        let _ = bed.publish();
        bed.start_checkpoint();
        assert!(bed.wait_checkpoint().await.is_err(), "its meta page is not confirmed");
    });
    sim.kill();
    drop(bed);
    let build = async {
        let env = sim.env();
        let store = Store::open(env.clone(), options(), true).await.unwrap_or_else(|error| panic!("{error}"));
        let mut bed = Bed::over(env, store, model, changes);
        for _ in 0..2 {
            work(&mut bed, &mut prng, 15).await;
            bed.checkpoint().await;
        }
    };
    let finished = sim.block_on_within(build, Limit::DiskEvents(events)).is_ok();
    sim.crash();
    let env = sim.env();
    sim.block_on(async {
        let store = Store::open(env.clone(), options(), true).await.unwrap_or_else(|error| panic!("{error}"));
        store.begin_verify().run(async |_| {}).await.unwrap_or_else(|error| panic!("{error}"));
        assert_sound(&env).await;
    });
    !finished
}

#[test]
fn a_meta_page_that_was_never_confirmed_is_made_durable_before_anything_builds_on_it() {
    for kind in [OpKind::Sync, OpKind::Write] {
        let mut events = 0;
        while build_on_unconfirmed_meta(kind, events) {
            events += 1;
        }
        assert!(events > 30, "two checkpoints have more than {events} disk events");
    }
}
