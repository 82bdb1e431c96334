//! Branches that nobody uses are let go of; those in use stay, and nothing that a tree says changes.

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{Bed, assert_same, assert_sound, loaded, options};
use plinth_base::Prng;
use plinth_sim_env::{Sim, SimEnv, SimOptions};
use plinth_tree::{Store, TreeId};

/// Two to a leaf, so that there are thousands of leaves and three levels.
const ENTRIES: u32 = 12_000;
const BODY_BYTES: usize = 1900;

fn key(i: u32) -> Vec<u8> {
    format!("key/{i:08}").into_bytes()
}

/// A file with all entries, just opened: nothing is in memory.
async fn opened(env: &SimEnv) -> Bed {
    let mut bed = Bed::create(env.clone()).await;
    let body = Bytes::from(vec![7; BODY_BYTES]);
    for i in 0..ENTRIES {
        bed.put(0, &key(i), b"h", &body).await;
    }
    bed.checkpoint().await;
    let model = bed.model;
    let changes = bed.changes;
    drop(bed.store);
    let store = Store::open(env.clone(), options(), false).await.expect("the file is sound");
    Bed::over(env.clone(), store, model, changes)
}

/// Gets every `step`th entry below `end` in the newest published root, as a reader does.
async fn read(env: &SimEnv, bed: &Bed, end: u32, step: usize) {
    let snapshot = bed.store.snapshot();
    for i in (0..end).step_by(step) {
        let found =
            loaded(env, snapshot.pages(), || snapshot.view().get(TreeId(0), &key(i)).map(|value| value.is_some()))
                .await;
        assert!(found, "entry {i}");
    }
}

/// Trims in small slices, as the shard does, and lets readers have the result. How many slices it took.
fn trim(bed: &mut Bed, bytes_max: u64) -> usize {
    let mut slices = 1;
    while !bed.store.trim(bytes_max, 20) {
        slices += 1;
    }
    bed.publish();
    slices
}

#[test]
fn trimming_keeps_to_its_limit_and_nothing_that_is_read_changes() {
    let sim = Sim::new(1, SimOptions::default());
    let env = sim.env();
    let mut prng = Prng::new(1);
    sim.block_on(async {
        let mut bed = opened(&env).await;
        let empty = bed.store.branch_bytes();
        read(&env, &bed, ENTRIES, 1).await;
        let all = bed.store.branch_bytes();
        assert!(all > empty + (400 << 10), "{empty} bytes of branches before, {all} after all was read");

        assert_eq!(trim(&mut bed, all), 1, "within the limit there is nothing to do");
        assert_eq!(bed.store.branch_bytes(), all);

        let slices = trim(&mut bed, all / 2);
        assert!(slices > 1, "it takes several slices");
        let half = bed.store.branch_bytes();
        assert!(half <= all / 2, "{half} of {all} bytes are left");
        assert!(half > all / 4, "no more than that goes: {half} of {all} bytes are left");
        assert_eq!(bed.store.dirty_bytes(), 0, "nothing was changed");
        assert!(bed.store.begin_checkpoint().is_none(), "so there is nothing to write");

        assert_same(&env, bed.store.view(), &Arc::clone(bed.store.pages()), &bed.model, &mut prng).await;
        trim(&mut bed, 0);
        assert!(bed.store.branch_bytes() <= empty + (20 << 10), "{} bytes are left", bed.store.branch_bytes());
        read(&env, &bed, ENTRIES, 7).await;
    });
}

#[test]
fn who_passes_by_leaves_no_branches_behind() {
    let sim = Sim::new(4, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let bed = opened(&env).await;
        let snapshot = bed.store.snapshot();
        let pages = snapshot.pages();
        let view = snapshot.view().passing();
        let empty = bed.store.branch_bytes();
        let mut cursor = view.cursor(TreeId(0));
        let mut found = loaded(&env, pages, || cursor.seek(b"")).await;
        for i in 0..ENTRIES {
            assert!(found && loaded(&env, pages, || cursor.key()).await == key(i), "entry {i}");
            assert!(loaded(&env, pages, || view.get(TreeId(0), &key(i)).map(|value| value.is_some())).await);
            found = loaded(&env, pages, || cursor.next()).await;
        }
        assert!(!found);
        // The two upper levels: a root and a few.
        let grown = bed.store.branch_bytes() - empty;
        assert!(grown <= 50 << 10, "{grown} bytes of branches stay");
    });
}

#[test]
fn branches_in_use_outlive_those_that_were_used_once() {
    let sim = Sim::new(2, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut bed = opened(&env).await;
        let hot = ENTRIES / 8;
        read(&env, &bed, hot, 1).await;
        let hot_bytes = bed.store.branch_bytes();
        read(&env, &bed, ENTRIES, 1).await;
        // The first round only asks who was used; the hot ones are used again before the second comes by.
        let limit = bed.store.branch_bytes() / 2;
        while !bed.store.trim(limit, 1) {
            bed.publish();
            read(&env, &bed, hot, 50).await;
        }
        bed.publish();
        let before = bed.store.branch_bytes();
        assert!(before <= limit, "{before} bytes are left, {limit} is the limit, {hot_bytes} in use");
        read(&env, &bed, hot, 1).await;
        let decoded_again = bed.store.branch_bytes() - before;
        assert!(decoded_again * 4 < hot_bytes, "{decoded_again} of {hot_bytes} bytes in use were let go of");
    });
}

#[test]
fn trimming_goes_on_beside_changes_and_stops_for_a_checkpoint() {
    let sim = Sim::new(3, SimOptions::default());
    let env = sim.env();
    let mut prng = Prng::new(3);
    sim.block_on(async {
        let mut bed = opened(&env).await;
        read(&env, &bed, ENTRIES, 1).await;
        let all = bed.store.branch_bytes();
        let body = Bytes::from(vec![8; BODY_BYTES]);
        for round in 0..40 {
            for _ in 0..3 {
                let i = u32::try_from(prng.below(u64::from(ENTRIES))).expect("it is below");
                bed.put(0, &key(i), b"x", &body).await;
            }
            bed.store.trim(all / 4, 5);
            bed.publish();
            if round == 20 {
                bed.start_checkpoint();
                assert!(bed.store.trim(0, 1000), "it waits until the checkpoint is done");
                assert!(bed.store.branch_bytes() > 100 << 10, "and lets go of nothing");
                bed.checkpoint().await;
                bed.store.settle(usize::MAX);
            }
        }
        bed.checkpoint().await;
        bed.store.settle(usize::MAX);
        trim(&mut bed, all / 4);
        assert!(bed.store.branch_bytes() <= all / 4);
        assert_same(&env, bed.store.view(), &Arc::clone(bed.store.pages()), &bed.model, &mut prng).await;
        assert_sound(&env).await;
    });
}
