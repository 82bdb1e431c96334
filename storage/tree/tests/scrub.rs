//! Passes of the scrub over files that are sound, rotten, and changed meanwhile.

mod common;

use std::collections::BTreeSet;

use bytes::Bytes;
use common::{Bed, SPECS, options, some_body, some_head, some_key};
use plinth_base::{Prng, limits::IO_BYTES_MAX};
use plinth_sim_env::{OpKind, Sim, SimEnv, SimOptions};
use plinth_tree::{PAGE_BYTES, ScrubPlace, ScrubSlice, TreeError, check};

const SLICE_BYTES: u64 = 64 << 10;

/// Where a page's header says what it is, and which checkpoint wrote it.
const KIND_AT: usize = 2;
const GENERATION_AT: usize = 16;
const BITMAP: u8 = 4;

/// What a leaf begins with, and where a meta says which generation it is of.
const LEAF_BEGIN: [u8; 3] = [0x70, 0x74, 1];
const META_GENERATION_AT: usize = 24;

async fn slice(bed: &Bed, place: ScrubPlace) -> ScrubSlice {
    let done = bed.store.begin_scrub(place, SLICE_BYTES).run(async |bytes| assert!(bytes <= IO_BYTES_MAX)).await;
    bed.store.finish_scrub(done)
}

/// A pass from the beginning to its end: the pages that it found to be wrong.
async fn pass(bed: &Bed) -> BTreeSet<u64> {
    let mut wrong = BTreeSet::new();
    let mut next = Some(ScrubPlace::default());
    while let Some(place) = next.take() {
        let found = slice(bed, place.clone()).await;
        assert_ne!(found.next, Some(place), "a slice gets further");
        next = found.next;
        match found.error {
            None => {}
            Some(TreeError::Corrupt(corrupt)) => _ = wrong.insert(corrupt.offset / PAGE_BYTES as u64),
            Some(error) => panic!("{error}"),
        }
    }
    wrong
}

async fn change(bed: &mut Bed, prng: &mut Prng, count: u64) {
    for _ in 0..count {
        let (tree, key) = (u8::from(prng.chance(1, 3)), some_key(prng));
        if prng.chance(1, 4) {
            bed.remove(tree, &key).await;
        } else {
            bed.put(tree, &key, &some_head(prng), &some_body(prng)).await;
        }
    }
}

async fn filled(env: SimEnv, entries: u64, seed: u64) -> Bed {
    let mut bed = Bed::create(env).await;
    change(&mut bed, &mut Prng::new(seed), entries).await;
    bed.checkpoint().await;
    bed
}

fn page_of(file: &[u8], page: u64) -> &[u8] {
    &file[page as usize * PAGE_BYTES..][..PAGE_BYTES]
}

#[test]
fn a_flipped_bit_in_any_page_of_the_newest_generation_is_found_by_a_pass_and_in_no_other() {
    let sim = Sim::new(1, SimOptions::default());
    let path = options().path;
    let mut bed = sim.block_on(filled(sim.env(), 500, 1));
    // A second generation with the same pages: the older one alone has its bitmap and nothing else.
    bed.store.set_state(Bytes::from_static(b"same"));
    sim.block_on(bed.checkpoint());
    assert_eq!(sim.block_on(pass(&bed)), BTreeSet::new());
    let newest = bed.store.checkpoints().generation;
    let file = sim.read_file(&path).expect("the file is there");
    let mut kinds = BTreeSet::new();
    for page in 0..(file.len() / PAGE_BYTES) as u64 {
        let offset = page * PAGE_BYTES as u64 + (page * 131) % 32;
        assert!(sim.flip_bit(&path, offset));
        // The checker is the judge of what belongs to a generation. A run is named by its first page.
        let want = match sim.block_on(check(&sim.env(), &path, SPECS)) {
            Err(TreeError::Corrupt(corrupt)) => Some(corrupt.offset / PAGE_BYTES as u64),
            Ok(report) => (report.generations.len() == 1).then_some(page),
            Err(error) => panic!("{error}"),
        };
        let want = want.filter(|first| {
            let bytes = page_of(&file, *first);
            let generation = u64::from_le_bytes(bytes[GENERATION_AT..][..8].try_into().expect("eight bytes"));
            page < 2 || bytes[KIND_AT] != BITMAP || generation == newest
        });
        let found = sim.block_on(pass(&bed));
        assert_eq!(found, want.into_iter().collect(), "page {page}");
        if page >= 2
            && let Some(first) = want
        {
            kinds.insert((page_of(&file, first)[KIND_AT], page_of(&file, first)[4].min(2)));
        }
        assert!(sim.flip_bit(&path, offset));
    }
    assert_eq!(kinds.len(), 5, "leaves, branches of two levels, overflow runs and the bitmap: {kinds:?}");
    assert_eq!(sim.block_on(pass(&bed)), BTreeSet::new());
}

/// A pass while the tree changes between its slices and checkpoints run beside them. `before` and `after` are called around each slice. Which
/// pages were found wrong, and how many slices there were.
fn pass_over_changes(seed: u64, mut before: impl FnMut(&Sim), mut after: impl FnMut(&Sim)) -> (BTreeSet<u64>, u64) {
    let sim = Sim::new(seed, SimOptions::default());
    let mut prng = Prng::new(seed);
    let mut bed = sim.block_on(filled(sim.env(), 150 + prng.below(300), seed));
    let grows = prng.chance(1, 2);
    let mut wrong = BTreeSet::new();
    let mut next = Some(ScrubPlace::default());
    let mut slices = 0;
    let mut progress_ppm = 0;
    while let Some(place) = next.take() {
        before(&sim);
        let found = sim.block_on(slice(&bed, place.clone()));
        after(&sim);
        assert_ne!(found.next, Some(place), "a slice gets further");
        progress_ppm = found.progress_ppm;
        match found.error {
            None => {}
            Some(TreeError::Corrupt(corrupt)) => _ = wrong.insert(corrupt.offset / PAGE_BYTES as u64),
            Some(error) => panic!("{error}"),
        }
        next = found.next;
        slices += 1;
        assert!(slices < 2_000, "a pass ends");
        sim.block_on(change_and_checkpoint(&mut bed, &mut prng, grows));
    }
    assert_eq!(progress_ppm, 1_000_000);
    (wrong, slices)
}

/// The tree grows, or shrinks, and perhaps some of it is written.
async fn change_and_checkpoint(bed: &mut Bed, prng: &mut Prng, grows: bool) {
    if grows {
        let changes = prng.below(12);
        change(bed, prng, changes).await;
    } else {
        let keys: Vec<_> = bed.model[0].keys().cloned().collect();
        for key in keys.iter().filter(|_| prng.chance(1, 20)) {
            bed.remove(0, key).await;
        }
    }
    bed.poll_checkpoint().expect("the disk works");
    if prng.chance(1, 2) {
        let _ = bed.publish();
        bed.start_checkpoint();
    }
    if prng.chance(1, 2) {
        bed.wait_checkpoint().await.expect("the disk works");
        bed.store.settle(usize::MAX);
    }
}

#[test]
fn a_pass_over_a_tree_that_changes_ends_and_finds_nothing_in_sound_pages() {
    for seed in 0..60 {
        let (wrong, slices) = pass_over_changes(seed, |_| {}, |_| {});
        assert!(wrong.is_empty(), "seed {seed}: {wrong:?}");
        assert!(slices > 2, "seed {seed}: only {slices} slices");
    }
}

/// Whether the newest generation of a file uses a page: the checker sees a flipped bit in it, and no other generation.
fn is_used(mut file: Vec<u8>, page: u64) -> bool {
    let generation = |slot: usize| {
        let field = file[slot * PAGE_BYTES + META_GENERATION_AT..][..8].try_into().expect("eight bytes");
        u64::from_le_bytes(field)
    };
    let older = usize::from(generation(0) > generation(1));
    file[older * PAGE_BYTES..][..8].fill(0);
    let sim = Sim::new(0, SimOptions::default());
    let is_sound = |file: &[u8]| {
        sim.write_file(&options().path, file).expect("the disk has room");
        sim.block_on(check(&sim.env(), &options().path, SPECS)).is_ok()
    };
    assert!(is_sound(&file), "the newest generation is whole");
    file[page as usize * PAGE_BYTES + 50] ^= 1;
    !is_sound(&file)
}

/// The disk is rotten only while a slice reads, so the changes between find sound pages.
#[test]
fn what_stays_during_a_pass_is_proven_by_it() {
    let path = options().path;
    let read = |sim: &Sim| sim.read_file(&path).expect("the file is there");
    let mut tried = 0;
    for seed in 0..25 {
        // Leaves that are the same before every slice, and in the newest generation at both ends.
        let (mut first, mut last, mut changed) = (Vec::new(), Vec::new(), BTreeSet::new());
        let look = |sim: &Sim| {
            last = read(sim);
            if first.is_empty() {
                first.clone_from(&last);
            }
            let pages = (first.len() / PAGE_BYTES) as u64;
            changed.extend((2..pages).filter(|page| page_of(&first, *page) != page_of(&last, *page)));
        };
        pass_over_changes(seed, look, |_| {});
        let stays = |page: &u64| page_of(&first, *page)[..3] == LEAF_BEGIN && !changed.contains(page);
        let kept: Vec<u64> = (2..(first.len() / PAGE_BYTES) as u64).filter(stays).collect();
        let mut prng = Prng::new(seed);
        for _ in 0..4.min(kept.len()) {
            let page = kept[prng.index(kept.len())];
            if !is_used(first.clone(), page) || !is_used(last.clone(), page) {
                continue;
            }
            let flip = |sim: &Sim| _ = sim.flip_bit(&path, page * PAGE_BYTES as u64 + 50);
            let (wrong, _) = pass_over_changes(seed, flip, flip);
            assert_eq!(wrong, BTreeSet::from([page]), "seed {seed}");
            tried += 1;
        }
    }
    assert!(tried > 30, "only {tried} pages stayed");
}

#[test]
fn the_pages_of_a_slice_can_be_used_again_when_it_has_ended() {
    let sim = Sim::new(3, SimOptions::default());
    let mut prng = Prng::new(3);
    let mut bed = sim.block_on(filled(sim.env(), 300, 3));
    sim.block_on(async {
        for _ in 0..2 {
            bed.store.set_state(Bytes::from_static(b"same"));
            bed.checkpoint().await;
        }
        bed.store.release_pages();
        let settled_bytes = bed.store.pending_bytes();
        for _ in 0..2 {
            // Also one that begins while a checkpoint runs.
            change(&mut bed, &mut prng, 100).await;
            let _ = bed.publish();
            bed.start_checkpoint();
            let slice = bed.store.begin_scrub(ScrubPlace::default(), SLICE_BYTES);
            bed.wait_checkpoint().await.expect("the disk works");
            for _ in 0..3 {
                bed.store.set_state(Bytes::from_static(b"same"));
                bed.checkpoint().await;
            }
            bed.store.release_pages();
            let held_bytes = bed.store.pending_bytes();
            let done = slice.run(async |_| {}).await;
            let found = bed.store.finish_scrub(done);
            assert!(found.error.is_none(), "{:?}", found.error);
            bed.store.release_pages();
            let left_bytes = bed.store.pending_bytes();
            assert!(left_bytes + 10 * PAGE_BYTES as u64 <= held_bytes, "{left_bytes} of {held_bytes} wait on");
            assert!(left_bytes <= settled_bytes, "{left_bytes} wait, {settled_bytes} did before");
        }
    });
}

#[test]
fn a_meta_page_that_was_written_while_it_was_read_is_not_wrong() {
    let sim = Sim::new(4, SimOptions::default());
    let mut bed = sim.block_on(filled(sim.env(), 20, 4));
    sim.block_on(async {
        let slice = bed.store.begin_scrub(ScrubPlace::default(), SLICE_BYTES);
        for _ in 0..2 {
            bed.store.set_state(Bytes::from_static(b"same"));
            bed.checkpoint().await;
        }
        let done = slice.run(async |_| {}).await;
        let found = bed.store.finish_scrub(done);
        assert!(found.error.is_none() && found.next.is_some(), "{found:?}");
    });
    assert_eq!(sim.block_on(pass(&bed)), BTreeSet::new());
}

#[test]
fn a_tree_that_was_emptied_is_proven_in_one_slice() {
    let sim = Sim::new(5, SimOptions::default());
    let mut bed = sim.block_on(filled(sim.env(), 300, 5));
    sim.block_on(async {
        let middle = slice(&bed, ScrubPlace::default()).await.next.expect("there is more than one slice");
        for tree in 0..2_u8 {
            for key in bed.model[usize::from(tree)].keys().cloned().collect::<Vec<_>>() {
                bed.remove(tree, &key).await;
            }
        }
        bed.checkpoint().await;
        for place in [middle, ScrubPlace::default()] {
            let found = slice(&bed, place).await;
            assert!(found.next.is_none() && found.error.is_none() && found.progress_ppm == 1_000_000, "{found:?}");
        }
    });
}

/// Few entries with values far longer than a slice: it ends within a leaf, and the next one goes on there.
#[test]
fn long_values_of_one_leaf_are_proven_in_many_slices() {
    const VALUES: u64 = 12;
    let sim = Sim::new(6, SimOptions::default());
    let mut bed = sim.block_on(Bed::create(sim.env()));
    sim.block_on(async {
        for i in 0..VALUES as u8 {
            bed.put(0, &[i], b"", &vec![i; 1 << 20].into()).await;
        }
        bed.checkpoint().await;
        let mut next = Some(ScrubPlace::default());
        let (mut slices, mut pages, mut progress_ppm) = (0, 0, 0);
        while let Some(place) = next.take() {
            let found = slice(&bed, place).await;
            assert!(found.error.is_none(), "{:?}", found.error);
            assert!(found.pages <= 270, "one value, and what leads to it: {} pages", found.pages);
            assert!(found.progress_ppm > progress_ppm, "{} after {progress_ppm}", found.progress_ppm);
            (slices, pages, progress_ppm) = (slices + 1, pages + found.pages, found.progress_ppm);
            next = found.next;
        }
        assert_eq!((slices, pages / 257), (VALUES, VALUES));
    });
}

#[test]
fn a_read_that_fails_is_no_rot_and_the_same_place_is_proven_when_it_works_again() {
    let sim = Sim::new(7, SimOptions::default());
    let bed = sim.block_on(filled(sim.env(), 300, 7));
    let mut next = Some(ScrubPlace::default());
    let mut failed = 0;
    while let Some(place) = next.take() {
        sim.fail_op(OpKind::Read, "tree", 2);
        let found = sim.block_on(slice(&bed, place.clone()));
        if let Some(error) = &found.error {
            assert!(matches!(error, TreeError::Io(_)), "{error}");
            failed += 1;
        }
        sim.host(0).cancel_plans();
        let again = sim.block_on(slice(&bed, place));
        assert!(again.error.is_none(), "{:?}", again.error);
        next = again.next;
    }
    assert!(failed > 3, "{failed} slices failed");
}
