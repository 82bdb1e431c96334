//! The tree on a real file: get, insert, range, checkpoint.

use std::{
    hint::black_box,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use plinth_base::Prng;
use plinth_micro::{KEYS, Session, VALUE_BYTES, checkpoint, key, load, reserve, value};
use plinth_tree::{Missing, NewBody, NewValue, Store, StoreOptions, TreeId, TreeSpec, View};
use plinth_uring::{MappedPages, UringEnv};

const TREE: TreeId = TreeId(0);
const TREES: &[TreeSpec] = &[TreeSpec { name: "bench", weigh }];
const FILE_BYTES_MAX: u64 = 64 << 30;
const GROW_BYTES: u64 = 64 << 20;
/// Pages that one put can make dirty.
const PAGES_PER_PUT_MAX: u64 = 20;
/// Entries of a range.
const RANGE: usize = 100;
/// Changed keys of a checkpoint.
const CHANGES: u64 = 1000;

fn weigh(key_len: usize, _head: &[u8], body_len: usize) -> u64 {
    (key_len + body_len) as u64
}

fn options(dir: &Path) -> StoreOptions {
    StoreOptions { path: dir.join("tree"), trees: TREES, file_bytes_max: FILE_BYTES_MAX, grow_bytes: GROW_BYTES }
}

struct Bed {
    store: Store<UringEnv>,
    dir: PathBuf,
    prng: Prng,
    body: Bytes,
    /// Keys 0.. that are there.
    keys: u64,
}

impl Bed {
    /// An empty tree.
    async fn empty(env: UringEnv, dir: &Path) -> Self {
        let store = Store::create(env, options(dir)).await.expect("the directory is ours");
        Self { store, dir: dir.to_path_buf(), prng: Prng::new(1), body: value(1).into(), keys: 0 }
    }

    /// Keys in pages, all of them in memory, as after a clean start.
    async fn filled(env: UringEnv, dir: &Path) -> Self {
        let mut bed = Self::empty(env.clone(), dir).await;
        for number in 0..KEYS {
            reserve(&mut bed.store, PAGES_PER_PUT_MAX).await;
            bed.put(&env, number).await;
        }
        drop(bed.store.publish());
        checkpoint(&mut bed.store).await;
        drop(bed.store);
        bed.store = Store::open(env.clone(), options(dir), false).await.expect("the file is sound");
        bed.keys = KEYS;
        for number in 0..KEYS {
            while let Err(missing) = bed.store.view().get(TREE, &key(number)) {
                load(&env, &bed.store, missing).await;
            }
        }
        bed
    }

    async fn put(&mut self, env: &UringEnv, number: u64) {
        loop {
            let value = NewValue { head: &[], body: NewBody::Bytes(&self.body) };
            match self.store.put(TREE, &key(number), value) {
                Ok(old) => {
                    if let Some(old) = old {
                        self.store.discard(old);
                    }
                    return;
                }
                Err(missing) => load(env, &self.store, missing).await,
            }
        }
    }

    /// One read, again for what it missed.
    async fn read(&mut self, env: &UringEnv, read: impl Fn(View<'_, MappedPages>, &[u8]) -> Result<usize, Missing>) {
        let key = key(self.prng.below(self.keys));
        loop {
            match read(self.store.view(), &key) {
                Ok(bytes) => {
                    black_box(bytes);
                    return;
                }
                Err(missing) => load(env, &self.store, missing).await,
            }
        }
    }
}

fn read_one(view: View<'_, MappedPages>, key: &[u8]) -> Result<usize, Missing> {
    let value = view.get(TREE, key)?.expect("every key is there");
    Ok(value.body()?.len())
}

fn read_range(view: View<'_, MappedPages>, key: &[u8]) -> Result<usize, Missing> {
    let mut cursor = view.cursor(TREE);
    let (mut bytes, mut found) = (0, cursor.seek(key)?);
    for _ in 0..RANGE {
        if !found {
            break;
        }
        bytes += cursor.key()?.len() + cursor.value().body()?.len();
        found = cursor.next()?;
    }
    Ok(bytes)
}

async fn reads(
    env: &UringEnv,
    bed: &mut Bed,
    iterations: u64,
    read: fn(View<'_, MappedPages>, &[u8]) -> Result<usize, Missing>,
) -> Duration {
    let began = Instant::now();
    for _ in 0..iterations {
        bed.read(env, read).await;
    }
    began.elapsed()
}

/// New keys into a tree that is emptied when it holds `KEYS`.
async fn inserts(env: &UringEnv, bed: &mut Bed, iterations: u64) -> Duration {
    let mut spent = Duration::ZERO;
    let mut left = iterations;
    while left > 0 {
        if bed.keys == KEYS {
            *bed = Bed::empty(env.clone(), &bed.dir.clone()).await;
        }
        let count = left.min(KEYS - bed.keys);
        let began = Instant::now();
        for _ in 0..count {
            bed.put(env, bed.keys).await;
            bed.keys += 1;
        }
        spent += began.elapsed();
        left -= count;
    }
    spent
}

async fn checkpoints(env: &UringEnv, bed: &mut Bed, iterations: u64) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..iterations {
        for _ in 0..CHANGES {
            reserve(&mut bed.store, PAGES_PER_PUT_MAX).await;
            let number = bed.prng.below(KEYS);
            bed.put(env, number).await;
        }
        drop(bed.store.publish());
        let began = Instant::now();
        assert!(checkpoint(&mut bed.store).await, "there is something new");
        spent += began.elapsed();
        drop(bed.store.publish());
    }
    spent
}

fn tree(c: &mut Criterion) {
    let filled = async |env: UringEnv, dir: &Path| Bed::filled(env, dir).await;
    let get = Session::start(filled, async |env, bed, count| reads(env, bed, count, read_one).await);
    c.bench_function("tree get, 100 k keys in pages", |b| b.iter_custom(|iterations| get.time(iterations)));
    drop(get);
    let range = Session::start(filled, async |env, bed, count| reads(env, bed, count, read_range).await);
    c.bench_function("tree range of 100 keys", |b| b.iter_custom(|iterations| range.time(iterations)));
    drop(range);
    let insert = Session::start(async |env, dir| Bed::empty(env, dir).await, inserts);
    c.bench_function("tree insert, in memory", |b| b.iter_custom(|iterations| insert.time(iterations)));
    drop(insert);
    let write = Session::start(filled, checkpoints);
    let name = format!("tree checkpoint of {CHANGES} changed values of {VALUE_BYTES} bytes");
    c.bench_function(&name, |b| b.iter_custom(|iterations| write.time(iterations)));
}

criterion_group! { name = benches; config = Criterion::default().sample_size(20); targets = tree }
criterion_main!(benches);
