//! Copies of a generation, made while the file that they come from goes on changing.

mod common;

use std::{path::PathBuf, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use common::{Bed, SPECS, assert_same, options, some_body, some_head, some_key};
use plinth_base::Prng;
use plinth_env::{Env, File, OpenMode, OpenOptions};
use plinth_sim_env::{Sim, SimEnv, SimOptions};
use plinth_tree::{CopyMeta, CopySource, CopyTarget, PAGE_BYTES, Store, StoreOptions, TreeError, check};

fn copy_options() -> StoreOptions {
    StoreOptions { path: PathBuf::from("/copy"), ..options() }
}

fn meta_of(source: &CopySource<SimEnv>) -> CopyMeta {
    CopyMeta::decode(&source.meta(), SPECS).expect("it was just encoded").expect("in this version")
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

/// All of it, a part at a time; `between` is what happens meanwhile.
async fn copy(
    env: &SimEnv,
    source: &CopySource<SimEnv>,
    prng: &mut Prng,
    mut between: impl AsyncFnMut(&mut Prng),
) -> Result<Store<SimEnv>, TreeError> {
    let mut target = CopyTarget::create(env.clone(), copy_options(), meta_of(source)).await?;
    loop {
        between(prng).await;
        let part = source.read(target.next(), 1 << (10 + prng.below(9)), async |_| {}).await?;
        target.write(part.pages, async |_| {}).await?;
        if part.is_last {
            return target.finish(async |_| {}).await;
        }
    }
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
            let want = bed.frozen.iter().find(|(changes, _)| source.state()[..] == changes.to_le_bytes()).cloned();
            let (_, want) = want.unwrap_or_default();
            let mut store = copy(&env, &source, &mut prng, async |prng: &mut Prng| {
                for _ in 0..prng.below(4) {
                    change(&mut bed, prng, 30).await;
                    bed.checkpoint().await;
                }
            })
            .await
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            drop(source);
            assert_same(&env, store.view(), &Arc::clone(store.pages()), &want, &mut prng).await;
            // One checkpoint more, and both of them are there.
            store.set_state(store.state().clone());
            store.publish();
            let checkpoint = store.begin_checkpoint().expect("there is something new");
            store.finish_checkpoint(checkpoint.run(async |_| {}).await).expect("the disk works");
            drop(store);
            check(&env, &copy_options().path, SPECS).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
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
        let part = source.read(0, usize::MAX, async |_| {}).await.expect("the disk works");
        assert!(part.is_last);
        for _ in 0..20 {
            let mut pages = part.pages.to_vec();
            let at = prng.index(pages.len());
            pages[at] ^= 1 << prng.below(8);
            // Behind a run's payload anything may stand: the checksum speaks of what is there.
            let mut target =
                CopyTarget::create(env.clone(), copy_options(), meta_of(&source)).await.expect("there is room");
            let written = target.write(pages.into(), async |_| {}).await;
            let finished = match written {
                Ok(()) => target.finish(async |_| {}).await.map(drop),
                Err(error) => Err(error),
            };
            if finished.is_ok() {
                let store = Store::open(env.clone(), copy_options(), true).await.expect("it is whole");
                assert_same(&env, store.view(), &Arc::clone(store.pages()), &bed.model, &mut prng).await;
            }
            env.remove_file(&copy_options().path).await.expect("it is there");
        }
        let target = CopyTarget::create(env.clone(), copy_options(), meta_of(&source)).await.expect("there is room");
        assert!(target.finish(async |_| {}).await.is_err(), "nothing has come");
    });
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
            assert!(target.write(bad, async |_| {}).await.is_err());
        }
        target.write(part(5, 1, PAGE_BYTES), async |_| {}).await.expect("it comes next");
        assert!(target.write(part(5, 1, PAGE_BYTES), async |_| {}).await.is_err(), "it has come");
        let file = env.open(&copy_options().path, OpenOptions::cached(OpenMode::Read)).await.expect("it is there");
        assert!(file.len().await.expect("it is open") >= 6 * PAGE_BYTES as u64);
    });
}
