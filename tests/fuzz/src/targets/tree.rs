//! Files of trees: whatever they hold, checking, opening, reading and writing end with an answer or an error.

use std::{ops::Range, path::PathBuf, sync::Arc};

use bytes::Bytes;
use plinth_base::{Prng, crc32c};
use plinth_env::Env;
use plinth_sim_env::{Chance, Faults, Sim, SimEnv, SimOptions};
use plinth_tree::{
    Missing, NewBody, NewValue, PAGE_BYTES, Store, StoreOptions, TreeId, TreeSpec, check, put_pages_max,
};

use crate::target::Target;

const TREE: TreeId = TreeId(0);
static SPECS: &[TreeSpec] = &[TreeSpec { name: "fuzz", weigh }];

// Offsets in a meta page, as `docs/format/tree.md` has them: the first tree's root, and within it the page and its checksum.
const META_ROOT: usize = 64 + 16;
const META_ROOT_CHECKSUM: usize = META_ROOT + 24;
const META_STRUCTURE: usize = 200;
/// Of one that has more keys than a page, the root is a branch.
const ENTRIES: [u64; 2] = [12, 200];

fn weigh(key_bytes: usize, head: &[u8], body_bytes: usize) -> u64 {
    (key_bytes + head.len() + body_bytes) as u64
}

fn options() -> StoreOptions {
    StoreOptions { path: PathBuf::from("/tree"), trees: SPECS, file_bytes_max: 64 << 20, grow_bytes: 64 << 10 }
}

/// The target. The input is the file without the zeroes at its end.
pub(super) struct Tree {
    files: Vec<Vec<u8>>,
    file_bytes: usize,
}

fn key(number: u64) -> Vec<u8> {
    let mut key = format!("key/{number:06}").into_bytes();
    if number.is_multiple_of(7) {
        // Longer than a cell's part of it: the rest lies in overflow pages.
        key.extend(vec![b'k'; 700]);
    }
    key
}

fn body(number: u64) -> Bytes {
    Bytes::from(vec![b'b'; [10, 100, 1500, 9000][usize::try_from(number % 4).expect("below 4")]])
}

/// One attempt at what may miss pages; none if those can't be loaded.
async fn tried<T>(
    env: &SimEnv,
    store: &mut Store<SimEnv>,
    mut op: impl FnMut(&mut Store<SimEnv>) -> Result<T, Missing>,
) -> Option<T> {
    loop {
        match op(store) {
            Ok(value) => return Some(value),
            Err(missing) => {
                let pages = Arc::clone(store.pages());
                env.load_pages(&pages, missing.wants).await.ok()?;
            }
        }
    }
}

async fn write_sample(env: SimEnv, entries: u64) {
    let mut store = Store::create(env.clone(), options()).await.expect("the disk is empty");
    for number in 0..entries {
        let (key, body) = (key(number), body(number));
        while !store.room(body.len()).admits_put(2 * put_pages_max(key.len(), body.len())) {
            let grow = store.begin_grow(1, body.len()).expect("the file may grow");
            let done = grow.run().await;
            store.finish_grow(done).expect("the disk has room");
        }
        let put = tried(&env, &mut store, |store| {
            store.put(TREE, &key, NewValue { head: b"head", body: NewBody::Bytes(&body) })
        });
        assert!(put.await.expect("pages are sound").is_none(), "each key is put once");
    }
    drop(store.publish());
    let checkpoint = store.begin_checkpoint().expect("there is something to write");
    let done = checkpoint.run(async |_| {}).await;
    store.finish_checkpoint(done).expect("the disk works");
}

impl Tree {
    pub(super) fn new() -> Self {
        let file = |entries| {
            let sim = Sim::new(entries, SimOptions::default());
            sim.block_on(write_sample(sim.env(), entries));
            sim.read_file(&options().path).expect("the file is there")
        };
        let mut files: Vec<Vec<u8>> = ENTRIES.into_iter().map(file).collect();
        let file_bytes = files.iter().map(Vec::len).max().expect("two files");
        for file in &mut files {
            file.truncate(file.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        }
        Self { files, file_bytes }
    }
}

/// Offset of the root page that the meta at `meta` names, if it lies within the file.
fn root_of(input: &[u8], meta: usize) -> Option<usize> {
    let page = u64::from_le_bytes(*input.get(meta + META_ROOT..)?.first_chunk()?);
    let at = usize::try_from(page).ok()?.checked_mul(PAGE_BYTES)?;
    (at >= 2 * PAGE_BYTES && at.checked_add(PAGE_BYTES)? <= input.len()).then_some(at)
}

impl Target for Tree {
    fn corpus(&self) -> Vec<Vec<u8>> {
        self.files.clone()
    }

    fn structure(&self, input: &[u8]) -> Vec<Range<usize>> {
        let mut spots = Vec::new();
        for meta in [0, PAGE_BYTES] {
            spots.push(meta..meta + META_STRUCTURE);
            if let Some(root) = root_of(input, meta) {
                spots.extend([root..root + PAGE_BYTES / 8, root..root + PAGE_BYTES, root..root + PAGE_BYTES]);
            }
        }
        spots.retain(|spot| spot.end <= input.len());
        spots
    }

    /// The checksums of the roots, and then of the metas that hold them. What lies deeper keeps its parent's checksum, and is found.
    fn repair(&self, input: &mut [u8], prng: &mut Prng) {
        for meta in [0, PAGE_BYTES] {
            let end = meta + PAGE_BYTES - 4;
            if input.len() < end + 4 {
                return;
            }
            if let Some(root) = root_of(input, meta)
                && prng.chance(7, 8)
            {
                let checksum = crc32c(0, &input[root..root + PAGE_BYTES]).to_le_bytes();
                input[meta + META_ROOT_CHECKSUM..][..4].copy_from_slice(&checksum);
            }
            let checksum = crc32c(0, &input[meta..end]).to_le_bytes();
            input[end..end + 4].copy_from_slice(&checksum);
        }
    }

    fn run(&mut self, input: &[u8]) -> bool {
        let mut file = input.to_vec();
        // A file that was cut stays cut.
        if file.len() > PAGE_BYTES * 8 {
            file.resize(self.file_bytes.max(file.len()), 0);
        }
        let faults = Faults { page_miss: Chance::one_in(50), ..Faults::default() };
        let sim = Sim::new(4, SimOptions { faults, ..SimOptions::default() });
        sim.write_file(&options().path, &file).expect("the disk has room");
        sim.block_on(use_file(sim.env()))
    }
}

/// Everything that is done to a file; whether the checker finds it sound.
async fn use_file(env: SimEnv) -> bool {
    let sound = check(&env, &options().path, SPECS).await.is_ok();
    let Ok(mut store) = Store::open(env.clone(), options(), true).await else { return false };
    // It may be unsound, but not for what is used below.
    store.begin_verify().run(async |_| {}).await.ok();
    for number in [0, 5, 7, 100, 1000] {
        let (key, body) = (key(number), body(number));
        tried(&env, &mut store, |store| store.view().totals(TREE, &key, None)).await;
        tried(&env, &mut store, |store| store.view().get(TREE, &key)?.map(|v| v.body().map(<[u8]>::len)).transpose())
            .await;
        tried(&env, &mut store, |store| walk(store, &key)).await;
        let value = || NewValue { head: b"head", body: NewBody::Bytes(&body) };
        // What an unsound page hands over may name any pages: it is not given back.
        drop(tried(&env, &mut store, |store| store.put(TREE, &key, value())).await);
        drop(tried(&env, &mut store, |store| store.remove(TREE, &key)).await);
    }
    sound
}

/// Some steps forth and back from a key.
fn walk(store: &Store<SimEnv>, key: &[u8]) -> Result<(), Missing> {
    let mut cursor = store.view().cursor(TREE);
    let mut found = cursor.seek(key)?;
    for _ in 0..20 {
        if !found {
            break;
        }
        cursor.key()?;
        cursor.value().body()?;
        found = cursor.next()?;
    }
    found = cursor.seek_before(key)?;
    for _ in 0..5 {
        if !found {
            break;
        }
        cursor.key()?;
        found = cursor.prev()?;
    }
    Ok(())
}
