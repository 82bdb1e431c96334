//! Copies of a generation, made while the file that they come from goes on changing.

mod common;

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{BufMut, Bytes, BytesMut};
use common::{Bed, Model, SPECS, assert_same, options, some_body, some_head, some_key};
use plinth_base::{AlignedBuf, Prng};
use plinth_env::{Env, File, OpenMode, OpenOptions};
use plinth_sim_env::{Sim, SimEnv, SimOptions};
use plinth_tree::{
    CopyMeta, CopyPart, CopySource, CopyTarget, PAGE_BYTES, Since, Store, StoreOptions, TreeError, check,
};

fn copy_options() -> StoreOptions {
    StoreOptions { path: PathBuf::from("/copy"), ..options() }
}

fn meta_of(source: &CopySource<SimEnv>) -> CopyMeta {
    CopyMeta::decode(&source.meta(), SPECS).expect("it was just encoded").expect("in this version")
}

/// Pages that are asked for.
fn one(from: u64, to: u64) -> Vec<Range<u64>> {
    vec![Range { start: from, end: to }]
}

async fn change(bed: &mut Bed, prng: &mut Prng, count: u64) {
    for _ in 0..count {
        let (tree, key) = (u8::from(prng.chance(1, 4)), some_key(prng));
        match prng.below(6) {
            0 => bed.remove(tree, &key).await,
            1 => bed.move_over(tree, &key).await,
            _ => {
                let (head, body) = (some_head(prng), some_body(prng));
                bed.put(tree, &key, &head, &body).await;
            }
        }
        if prng.chance(1, 20) {
            let _ = bed.publish();
            bed.start_checkpoint();
        }
        bed.poll_checkpoint().expect("the disk works");
        if prng.chance(1, 40) {
            bed.store.settle(usize::MAX);
        }
    }
}

async fn read(source: &CopySource<SimEnv>, wanted: &[Range<u64>], bytes_max: usize) -> Result<CopyPart, TreeError> {
    let mut pages = BytesMut::new();
    let until = source.read(wanted, bytes_max, &mut pages, async |_| {}).await?;
    Ok(CopyPart { pages: pages.freeze(), until })
}

/// One part of what is missing.
async fn copy_part(
    source: &CopySource<SimEnv>,
    target: &mut CopyTarget<SimEnv>,
    bytes_max: usize,
) -> Result<bool, TreeError> {
    let wanted = target.next(12);
    let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else { return Ok(false) };
    let part = read(source, &wanted, bytes_max).await?;
    assert!(first.start < part.until && part.until <= last.end, "{} of {wanted:?}", part.until);
    let accepted = target.accept(&wanted, part.until, part.pages)?;
    target.write(accepted, async |_| {}).await?;
    Ok(true)
}

/// All of it, a part at a time; `between` is what happens meanwhile.
async fn copy(
    env: &SimEnv,
    source: &CopySource<SimEnv>,
    prng: &mut Prng,
    mut between: impl AsyncFnMut(&mut Prng),
) -> Result<Store<SimEnv>, TreeError> {
    let mut target = CopyTarget::create(env.clone(), copy_options(), meta_of(source)).await?;
    between(prng).await;
    while copy_part(source, &mut target, 1 << (10 + prng.below(9))).await? {
        between(prng).await;
    }
    finish(target).await
}

/// Nothing is missing.
async fn finish(mut target: CopyTarget<SimEnv>) -> Result<Store<SimEnv>, TreeError> {
    target.prove(async |_| {}).await?;
    target.finish().await
}

/// What the newest durable generation holds.
fn model_of(bed: &Bed, source: &CopySource<SimEnv>) -> Model {
    let found = bed.frozen.iter().find(|(changes, _)| source.state()[..] == changes.to_le_bytes());
    found.map(|(_, model)| model.clone()).unwrap_or_default()
}

/// One checkpoint more, and both of them are sound.
async fn assert_can_go_on(env: &SimEnv, mut store: Store<SimEnv>, seed: u64) {
    store.set_state(store.state().clone());
    store.publish();
    let checkpoint = store.begin_checkpoint().expect("there is something new");
    store.finish_checkpoint(checkpoint.run(async |_| {}).await).expect("the disk works");
    drop(store);
    check(env, &copy_options().path, SPECS).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
}

#[test]
fn a_copy_is_the_generation_that_it_began_with_whatever_becomes_of_the_file() {
    for seed in 0..12 {
        let sim = Sim::new(seed, SimOptions::default());
        let env = sim.env();
        let mut prng = Prng::new(seed);
        sim.block_on(async {
            let mut bed = Bed::create(env.clone()).await;
            let warm_up = prng.below(600);
            change(&mut bed, &mut prng, warm_up).await;
            if prng.chance(1, 2) {
                // What is published while a checkpoint runs belongs to the next generation, the copy doesn't.
                let _ = bed.publish();
                bed.start_checkpoint();
            }
            let source = bed.store.begin_copy();
            let want = model_of(&bed, &source);
            let store = copy(&env, &source, &mut prng, async |prng: &mut Prng| {
                for _ in 0..prng.below(4) {
                    change(&mut bed, prng, 30).await;
                    bed.checkpoint().await;
                }
            })
            .await
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            drop(source);
            assert_same(&env, store.view(), &Arc::clone(store.pages()), &want, &mut prng).await;
            assert_can_go_on(&env, store, seed).await;
            bed.wait_checkpoint().await.expect("the disk works");
            common::assert_sound(&env).await;
        });
    }
}

#[test]
fn a_copy_of_damaged_or_missing_pages_is_refused() {
    let sim = Sim::new(1, SimOptions::default());
    let env = sim.env();
    let mut prng = Prng::new(1);
    sim.block_on(async {
        let mut bed = Bed::create(env.clone()).await;
        change(&mut bed, &mut prng, 300).await;
        bed.checkpoint().await;
        let source = bed.store.begin_copy();
        let part = read(&source, &one(0, u64::MAX), usize::MAX).await.expect("the disk works");
        assert_eq!(part.until, u64::MAX, "that is all");
        for _ in 0..20 {
            let mut pages = part.pages.to_vec();
            let at = prng.index(pages.len());
            pages[at] ^= 1 << prng.below(8);
            // Behind a run's payload anything may stand: the checksum speaks of what is there.
            let mut target =
                CopyTarget::create(env.clone(), copy_options(), meta_of(&source)).await.expect("there is room");
            let finished = match target.accept(&one(0, u64::MAX), u64::MAX, pages.into()) {
                // What is wrong with the bitmaps is found here.
                Ok(accepted) => match target.write(accepted, async |_| {}).await {
                    Ok(()) => finish(target).await.map(drop),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            if finished.is_ok() {
                let store = Store::open(env.clone(), copy_options(), true).await.expect("it is whole");
                assert_same(&env, store.view(), &Arc::clone(store.pages()), &bed.model, &mut prng).await;
            }
            CopyTarget::remove(&env, &copy_options()).await.expect("the disk works");
        }
        let mut target =
            CopyTarget::create(env.clone(), copy_options(), meta_of(&source)).await.expect("there is room");
        let accepted = target.accept(&one(0, u64::MAX), u64::MAX, Bytes::new()).expect("it was asked for");
        assert!(target.write(accepted, async |_| {}).await.is_err(), "nothing has come");
    });
}

/// What was proven before a copy became that of a newer generation isn't looked at again, and nothing of what came since is believed: a wrong bit in it is found, or does no harm.
#[test]
fn a_second_proof_is_of_what_came_since_the_first() {
    let (mut refused, mut all_proven, mut newly_proven) = (0, 0, 0);
    for seed in 0..20 {
        let sim = Sim::new(seed, SimOptions::default());
        let env = sim.env();
        let mut prng = Prng::new(seed);
        sim.block_on(async {
            let mut bed = Bed::create(env.clone()).await;
            change(&mut bed, &mut prng, 2_000).await;
            bed.checkpoint().await;
            let older = bed.store.begin_copy();
            let mut target =
                CopyTarget::create(env.clone(), copy_options(), meta_of(&older)).await.expect("there is room");
            while copy_part(&older, &mut target, 1 << 16).await.expect("the disk works") {}
            let all = target.prove(async |_| {}).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let again = target.prove(async |_| {}).await.expect("it was proven");
            assert_eq!(again, 0, "seed {seed}: it was proven");
            change(&mut bed, &mut prng, 10).await;
            bed.checkpoint().await;
            let source = bed.store.begin_copy();
            let changed = source.changed_since(&older, async |_| {}).await.expect("the disk works");
            let older_generation = older.generation();
            drop(older);
            let mut since = Since::generation(older_generation);
            since.advance(&changed);
            target.advance(meta_of(&source), &since).await.expect("it follows");
            assert!(copy_part(&source, &mut target, usize::MAX).await.expect("the disk works"), "the bitmaps");
            let wanted = target.next(usize::MAX);
            let part = read(&source, &wanted, usize::MAX).await.expect("the disk works");
            let mut pages = part.pages.to_vec();
            let is_damaged = prng.chance(3, 4);
            if is_damaged {
                let at = prng.index(pages.len());
                pages[at] ^= 1 << prng.below(8);
            }
            let proven = match target.accept(&wanted, part.until, pages.into()) {
                Ok(accepted) => {
                    target.write(accepted, async |_| {}).await.expect("the disk works");
                    target.prove(async |_| {}).await
                }
                Err(error) => Err(error),
            };
            match proven {
                // A wrong bit in a page that was proven already does no harm.
                Ok(proven) => {
                    (all_proven, newly_proven) = (all_proven + all, newly_proven + proven);
                    let store = target.finish().await.expect("the disk works");
                    assert_same(&env, store.view(), &Arc::clone(store.pages()), &model_of(&bed, &source), &mut prng)
                        .await;
                    assert_can_go_on(&env, store, seed).await;
                }
                Err(error) => {
                    assert!(is_damaged, "seed {seed}: {error}");
                    refused += 1;
                }
            }
        });
    }
    assert!(
        refused >= 5 && newly_proven > 0 && newly_proven * 2 < all_proven,
        "{refused}: {newly_proven} {all_proven}"
    );
}

/// Two moves at once: a page may have been let go of by the first and used again by the second.
#[test]
fn a_proof_doesn_t_count_for_a_generation_that_wasn_t_held_beside_the_proven_one() {
    for seed in 0..10 {
        let sim = Sim::new(seed, SimOptions::default());
        let env = sim.env();
        let mut prng = Prng::new(seed);
        sim.block_on(async {
            let mut bed = Bed::create(env.clone()).await;
            change(&mut bed, &mut prng, 1_000).await;
            bed.checkpoint().await;
            let mut source = bed.store.begin_copy();
            let mut target =
                CopyTarget::create(env.clone(), copy_options(), meta_of(&source)).await.expect("there is room");
            while copy_part(&source, &mut target, 1 << 16).await.expect("the disk works") {}
            target.prove(async |_| {}).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let mut since = Since::generation(source.generation());
            for _ in 0..2 {
                change(&mut bed, &mut prng, 300).await;
                bed.checkpoint().await;
                bed.checkpoint().await;
                let newer = bed.store.begin_copy();
                since.advance(&newer.changed_since(&source, async |_| {}).await.expect("the disk works"));
                source = newer;
            }
            target.advance(meta_of(&source), &since).await.expect("it follows");
            while copy_part(&source, &mut target, 1 << 16).await.expect("the disk works") {}
            let store = finish(target).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert_same(&env, store.view(), &Arc::clone(store.pages()), &model_of(&bed, &source), &mut prng).await;
            assert_can_go_on(&env, store, seed).await;
        });
    }
}

#[test]
fn hostile_metas_and_parts_are_refused() {
    let sim = Sim::new(2, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let bed = Bed::create(env.clone()).await;
        let source = bed.store.begin_copy();
        let meta = source.meta();
        for length in [0, 31, 32, PAGE_BYTES - 1] {
            assert!(CopyMeta::decode(&meta[..length], SPECS).is_err());
        }
        assert!(CopyMeta::decode(&meta, &SPECS[..1]).is_err(), "other trees");
        for at in [0, 30, 56, 500, PAGE_BYTES - 1] {
            let mut changed = meta.to_vec();
            changed[at] ^= 1;
            assert!(CopyMeta::decode(&changed, SPECS).is_err(), "byte {at}");
        }
        let mut later = meta.to_vec();
        later[8] += 1;
        assert!(CopyMeta::decode(&later, SPECS).is_ok_and(|meta| meta.is_none()), "of a later version");
        let mut target =
            CopyTarget::create(env.clone(), copy_options(), meta_of(&source)).await.expect("there is room");
        let part = |first: u64, pages: u32, bytes: usize| {
            let mut out = BytesMut::new();
            out.put_u64_le(first);
            out.put_u32_le(pages);
            out.put_bytes(7, bytes);
            out.freeze()
        };
        for bad in [
            part(0, 1, PAGE_BYTES),
            part(2, 0, 0),
            part(2, 2, PAGE_BYTES),
            part(u64::MAX, 1, PAGE_BYTES),
            part(2, u32::MAX, PAGE_BYTES),
            Bytes::from_static(b"short"),
        ] {
            assert!(target.accept(&one(0, 16), 16, bad).is_err());
        }
        assert!(target.accept(&one(8, 16), 8, Bytes::new()).is_err(), "nothing");
        assert!(target.accept(&[], u64::MAX, Bytes::new()).is_err(), "nothing was asked for");
        for behind in [8, 20, 7] {
            let pages = if behind == 7 { 2 } else { 1 };
            let part = part(behind, pages, pages as usize * PAGE_BYTES);
            assert!(target.accept(&[0..8, 16..20], 20, part).is_err(), "not asked for: {behind}");
        }
        let accepted = target.accept(&one(0, 8), 8, part(5, 1, PAGE_BYTES)).expect("it was asked for");
        let written = target.write(accepted, async |_| {}).await;
        assert!(matches!(written, Err(TreeError::Corrupt(_))), "the bitmaps: {written:?}");
        let file = env.open(&copy_options().path, OpenOptions::cached(OpenMode::Read)).await.expect("it is there");
        assert!(file.len().await.expect("it is open") >= 6 * PAGE_BYTES as u64);
    });
}

/// A copy is interrupted, resumed and moved to newer generations while its source changes, and is in the end the last generation that it became.
#[test]
fn a_copy_goes_on_after_crashes_and_becomes_that_of_newer_generations() {
    const ROUNDS_MAX: u32 = 60;
    let (mut resumed, mut moved, mut proven) = (0, 0, 0);
    for seed in 0..40 {
        let sim = Sim::new(seed, SimOptions::default());
        let env = sim.env();
        let mut prng = Prng::new(seed);
        sim.block_on(async {
            let mut bed = Bed::create(env.clone()).await;
            let warm_up = 200 + prng.below(800);
            change(&mut bed, &mut prng, warm_up).await;
            bed.checkpoint().await;
            let mut source = bed.store.begin_copy();
            // What was changed since the generation that the target is known to copy.
            let mut base: Option<Since> = None;
            let mut target =
                Some(CopyTarget::create(env.clone(), copy_options(), meta_of(&source)).await.expect("there is room"));
            let mut rounds = 0;
            let store = loop {
                let bytes_max = 1 << (14 + prng.below(8));
                let mut one = target.take().expect("it is there");
                // Who doesn't know yet that there is a newer one gets nothing.
                let is_current = one.generation() == source.generation();
                if is_current && !copy_part(&source, &mut one, bytes_max).await.expect("the disk works") {
                    one.prove(async |_| {}).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                    // It may go on as that of a newer one.
                    if rounds >= ROUNDS_MAX || prng.chance(1, 6) {
                        break one.finish().await.expect("the disk works");
                    }
                    proven += 1;
                }
                // Whoever writes faster than pages are copied is never caught up with.
                rounds += 1;
                if rounds < ROUNDS_MAX && prng.chance(1, 3) {
                    change(&mut bed, &mut prng, 20).await;
                    bed.checkpoint().await;
                }
                if prng.chance(1, 6) && bed.store.checkpoints().generation > source.generation() {
                    let newer = bed.store.begin_copy();
                    let changed = newer.changed_since(&source, async |_| {}).await.expect("the disk works");
                    base.get_or_insert_with(|| Since::generation(source.generation())).advance(&changed);
                    source = newer;
                    moved += 1;
                }
                if prng.chance(1, 8) {
                    // The process ends, with or without having noted what it had.
                    if prng.chance(2, 3) {
                        one.save().await.expect("the disk works");
                    }
                    drop(one);
                    let (options, meta) = (copy_options(), meta_of(&source));
                    let found = CopyTarget::resume(env.clone(), options.clone(), meta.clone(), base.as_ref()).await;
                    one = match found.expect("the disk works") {
                        Some(found) => found,
                        None => CopyTarget::create(env.clone(), options, meta).await.expect("there is room"),
                    };
                    resumed += u64::from(one.left().0 < one.left().1);
                    base = None;
                } else if prng.chance(1, 2)
                    && let Some(since) = base.take()
                {
                    one.advance(meta_of(&source), &since).await.expect("it follows");
                }
                target = Some(one);
            };
            let want = model_of(&bed, &source);
            assert_same(&env, store.view(), &Arc::clone(store.pages()), &want, &mut prng).await;
            assert_can_go_on(&env, store, seed).await;
            bed.wait_checkpoint().await.expect("the disk works");
            drop(source);
            common::assert_sound(&env).await;
        });
    }
    assert!(
        resumed > 20 && moved > 20 && proven > 20,
        "{resumed} resumed, {moved} moved, {proven} proven and gone on with"
    );
}

#[test]
fn a_copy_of_another_file_or_of_a_generation_that_nobody_knows_is_not_gone_on_with() {
    let sim = Sim::new(3, SimOptions::default());
    let env = sim.env();
    let mut prng = Prng::new(3);
    sim.block_on(async {
        let mut bed = Bed::create(env.clone()).await;
        change(&mut bed, &mut prng, 300).await;
        bed.checkpoint().await;
        let source = bed.store.begin_copy();
        let resume = async |source: &CopySource<SimEnv>, base: Option<&Since>| {
            let found = CopyTarget::resume(env.clone(), copy_options(), meta_of(source), base).await;
            found.expect("the disk works").map(|target| target.left())
        };
        assert_eq!(resume(&source, None).await, None, "nothing is there");
        let mut target =
            CopyTarget::create(env.clone(), copy_options(), meta_of(&source)).await.expect("there is room");
        assert!(copy_part(&source, &mut target, 1).await.expect("the disk works"));
        assert_eq!(resume(&source, None).await, None, "nothing was noted");
        target.save().await.expect("the disk works");
        let left = target.left();
        assert!(left.0 < left.1);
        drop(target);
        assert_eq!(resume(&source, None).await, Some(left));
        change(&mut bed, &mut prng, 100).await;
        bed.checkpoint().await;
        let newer = bed.store.begin_copy();
        let changed = newer.changed_since(&source, async |_| {}).await.expect("the disk works");
        assert!(changed.count() > 0);
        assert_eq!(resume(&newer, None).await, None, "nobody says what has changed");
        let since = |generation| {
            let mut since = Since::generation(generation);
            since.advance(&changed);
            since
        };
        assert_eq!(resume(&newer, Some(&since(source.generation() - 1))).await, None, "since something else");
        assert!(resume(&newer, Some(&since(source.generation()))).await.is_some());
        let progress = PathBuf::from("/copy.progress");
        let file = env.open(&progress, OpenOptions::direct(OpenMode::Write)).await.expect("it is there");
        let (_, mut page) = file.read_at(PAGE_BYTES as u64, AlignedBuf::zeroed(PAGE_BYTES)).await;
        page.as_mut_slice()[100] ^= 1;
        file.write_at(PAGE_BYTES as u64, page).await.0.expect("the disk works");
        assert_eq!(resume(&source, None).await, None, "what was noted is rotten");
    });
}

/// A file with long holes, `live` keys at its end.
async fn mostly_holes(bed: &mut Bed, live: u32) {
    let body = Bytes::from(vec![7; 3000]);
    let count = 4000u32;
    for i in 0..count {
        bed.put(0, &i.to_be_bytes(), b"", &body).await;
    }
    bed.checkpoint().await;
    for i in 0..count - live {
        bed.remove(0, &i.to_be_bytes()).await;
    }
    bed.checkpoint().await;
    for _ in 0..8 {
        bed.store.forget_needs();
        if let Some(punch) = bed.store.begin_punch(0, 0) {
            let done = punch.run(async |_| {}).await;
            bed.store.finish_punch(done).expect("the disk can punch");
        }
        bed.store.set_state(bed.store.state().clone());
        bed.checkpoint().await;
    }
}

#[test]
fn a_copy_takes_no_more_room_than_what_it_is_of_and_is_refused_before_it_fills_the_disk() {
    let sim = Sim::new(4, SimOptions::default());
    let env = sim.env();
    let mut prng = Prng::new(4);
    sim.block_on(async {
        let mut bed = Bed::create(env.clone()).await;
        mostly_holes(&mut bed, 800).await;
        let taken = async || {
            let space = env.disk_space(Path::new("/")).await.expect("there is a disk");
            space.total_bytes - space.available_bytes
        };
        let before = taken().await;
        let file = env.open(&options().path, OpenOptions::cached(OpenMode::Read)).await.expect("it is there");
        let file_bytes = file.len().await.expect("it is open");
        assert!(before * 2 < file_bytes, "{before} of {file_bytes} bytes are no holes");
        let source = bed.store.begin_copy();
        let store = copy(&env, &source, &mut prng, async |_| {}).await.expect("there is room");
        let both = taken().await;
        assert!(both < 2 * before + (1 << 20), "{before} bytes, and with a copy {both}");
        assert_same(&env, store.view(), &Arc::clone(store.pages()), &bed.model, &mut prng).await;
        assert_can_go_on(&env, store, 4).await;
        CopyTarget::remove(&env, &copy_options()).await.expect("the disk works");

        let page_bytes = PAGE_BYTES as u64;
        sim.set_capacity(before + before / 2);
        let mut target = CopyTarget::create(env.clone(), copy_options(), meta_of(&source)).await.expect("it is short");
        let refused = copy_part(&source, &mut target, usize::MAX).await;
        assert!(matches!(refused, Err(TreeError::StorageFull)), "{refused:?}");
        let (left, all) = target.left();
        assert!(left + 8 > all, "{left} of {all} blocks were missing: only the bitmaps had come");
        CopyTarget::remove(&env, &copy_options()).await.expect("the disk works");
        assert!(taken().await < before + 8 * page_bytes, "nothing is left of it");
    });
}
