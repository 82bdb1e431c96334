//! Damaged and hostile files: found, named, and never a panic.

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{Bed, SPECS, assert_same, assert_sound, options, some_body, some_head, some_key};
use plinth_base::Prng;
use plinth_env::{Env, PageError};
use plinth_sim_env::{Chance, Sim, SimEnv, SimOptions};
use plinth_tree::{Missing, PAGE_BYTES, Store, StoreOptions, TreeError, TreeId, TreeSpec, check};

fn path() -> std::path::PathBuf {
    options().path
}

/// A file with `entries` random entries in its newest generation.
async fn filled(env: SimEnv, entries: usize, seed: u64) -> Bed {
    let mut prng = Prng::new(seed);
    let mut bed = Bed::create(env).await;
    for _ in 0..entries {
        let tree = u8::from(prng.chance(1, 3));
        bed.put(tree, &some_key(&mut prng), &some_head(&mut prng), &some_body(&mut prng)).await;
    }
    bed.checkpoint().await;
    bed
}

#[test]
fn a_flipped_bit_in_any_used_page_is_found_at_its_offset() {
    let sim = Sim::new(1, SimOptions::default());
    let mut bed = sim.block_on(filled(sim.env(), 150, 1));
    // A second generation with the same pages, so that no page is used by the older one alone.
    bed.store.set_state(Bytes::from_static(b"same"));
    sim.block_on(bed.checkpoint());
    drop(bed);
    let env = sim.env();
    let used = sim.block_on(assert_sound(&env)).generations[0].used_pages;
    let file = sim.read_file(&path()).expect("the file is there");
    let mut found = 0;
    for page in 0..(file.len() / PAGE_BYTES) as u64 {
        let offset = page * PAGE_BYTES as u64 + (page * 131) % 32;
        assert!(sim.flip_bit(&path(), offset));
        match sim.block_on(check(&env, &path(), SPECS)) {
            Err(TreeError::Corrupt(corrupt)) => {
                // A run is named by its first page; the longest here has 257.
                let first = corrupt.offset / PAGE_BYTES as u64;
                assert!(first <= page && page < first + 258, "page {page}: {corrupt}");
                found += 1;
            }
            // One meta of the two is enough, and a run's last page may have bytes behind its payload.
            Ok(report) => found += u64::from(report.generations.len() == 1),
            Err(error) => panic!("{error}"),
        }
        assert!(sim.flip_bit(&path(), offset));
    }
    assert!(found * 10 > used * 9, "{found} found of {used}");
}

#[test]
fn stale_pages_are_reported_as_corrupt_and_never_read() {
    let sim = Sim::new(2, SimOptions::default());
    let mut prng = Prng::new(2);
    let mut bed = sim.block_on(filled(sim.env(), 200, 2));
    sim.block_on(async {
        for _ in 0..6 {
            for _ in 0..100 {
                bed.put(0, &some_key(&mut prng), &some_head(&mut prng), &some_body(&mut prng)).await;
            }
            bed.checkpoint().await;
            bed.store.settle(usize::MAX);
        }
    });
    let model = bed.model.clone();
    drop(bed);
    let env = sim.env();
    let store = sim.block_on(Store::open(env.clone(), options(), false)).expect("the file is sound");
    sim.change_faults(|faults| faults.page_stale = Chance::one_in(2));
    let stale = sim.block_on(async {
        let mut stale = 0;
        for (key, (_, body)) in &model[0] {
            let read = || store.view().get(TreeId(0), key)?.map(|value| value.body()).transpose();
            loop {
                match read() {
                    Ok(got) => break assert_eq!(got, Some(&body[..])),
                    Err(Missing { wants }) => match env.load_pages(store.pages(), wants).await {
                        Ok(()) => {}
                        Err(PageError::Corrupt(_)) => stale += 1,
                        Err(error) => panic!("{error}"),
                    },
                }
            }
        }
        stale
    });
    assert!(stale > 0, "some loads must have been stale");
}

#[test]
fn files_that_are_something_else_are_refused_with_their_own_error() {
    let sim = Sim::new(4, SimOptions::default());
    drop(sim.block_on(filled(sim.env(), 20, 4)));
    let env = sim.env();
    let sound = sim.read_file(&path()).expect("the file is there");
    let open = |bytes: &[u8]| {
        sim.write_file(&path(), bytes).expect("the disk has room");
        sim.block_on(Store::open(env.clone(), options(), true)).err()
    };
    assert!(matches!(open(&[0; 100]), Some(TreeError::NotATree { .. })));
    assert!(matches!(open(&vec![7; 1 << 16]), Some(TreeError::NotATree { .. })));
    let mut newer = sound.clone();
    newer[8] = 9;
    newer[PAGE_BYTES + 8] = 9;
    assert!(matches!(open(&newer), Some(TreeError::Version { got: 9, want: 2, .. })));
    let mut torn = sound.clone();
    torn[100] ^= 1;
    torn[PAGE_BYTES + 100] ^= 1;
    assert!(matches!(open(&torn), Some(TreeError::Corrupt(_))));
    assert!(matches!(open(&sound[..PAGE_BYTES * 8]), Some(TreeError::Corrupt(_))));
    assert!(open(&sound).is_none());
    static OTHER: &[TreeSpec] = &[TreeSpec { name: "other", weigh: common::weigh }];
    let other = StoreOptions { trees: OTHER, ..options() };
    assert!(matches!(sim.block_on(Store::open(env.clone(), other, false)), Err(TreeError::Trees { .. })));
}

#[test]
fn after_a_lost_newest_meta_the_older_generation_is_used_whole() {
    let sim = Sim::new(5, SimOptions::default());
    let mut prng = Prng::new(5);
    let mut bed = sim.block_on(filled(sim.env(), 100, 5));
    let older = bed.model.clone();
    sim.block_on(async {
        for _ in 0..50 {
            bed.put(0, &some_key(&mut prng), b"", &some_body(&mut prng)).await;
        }
        bed.checkpoint().await;
    });
    let slot = bed.store.checkpoints().generation % 2;
    drop(bed);
    assert!(sim.flip_bit(&path(), slot * PAGE_BYTES as u64 + 30));
    let env = sim.env();
    sim.block_on(async {
        let store = Store::open(env.clone(), options(), true).await.unwrap_or_else(|error| panic!("{error}"));
        let proven = store.begin_verify().run(async |_| {}).await.unwrap_or_else(|error| panic!("{error}"));
        assert!(proven > 50, "without an older meta all pages are verified");
        assert_same(&env, store.view(), &Arc::clone(store.pages()), &older, &mut prng).await;
    });
}
