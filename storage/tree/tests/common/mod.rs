//! What the tests share: a tree file on the simulated machine beside a plain model of it.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{cell::RefCell, collections::BTreeMap, path::PathBuf, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use plinth_base::Prng;
use plinth_env::{Env, TaskQueue};
use plinth_sim_env::{SimEnv, SimPages};
use plinth_tree::{
    CheckpointDone, Missing, NewBody, NewValue, Snapshot, Store, StoreOptions, Totals, TreeError, TreeId, TreeSpec,
    View, check, put_pages_max, remove_pages_max,
};

pub fn weigh(key_len: usize, head: &[u8], body_len: usize) -> u64 {
    (key_len + 3 * head.len() + body_len) as u64
}

pub static SPECS: &[TreeSpec] = &[TreeSpec { name: "first", weigh }, TreeSpec { name: "second", weigh }];

pub fn options() -> StoreOptions {
    StoreOptions { path: PathBuf::from("/tree"), trees: SPECS, file_bytes_max: 1 << 30, grow_bytes: 256 << 10 }
}

/// Head and body.
pub type Value = (Vec<u8>, Bytes);
pub type Model = [BTreeMap<Vec<u8>, Value>; 2];

/// Runs `op`, loading what it misses until it succeeds.
pub async fn loaded<T>(env: &SimEnv, pages: &Arc<SimPages>, mut op: impl FnMut() -> Result<T, Missing>) -> T {
    loop {
        match op() {
            Ok(value) => return value,
            Err(missing) => {
                assert!(!missing.wants.is_empty(), "missing means that something is wanted");
                env.load_pages(pages, missing.wants).await.expect("pages are sound");
            }
        }
    }
}

/// A store, its model, and the checkpoint that may be running.
pub struct Bed {
    pub env: SimEnv,
    pub store: Store<SimEnv>,
    pub model: Model,
    /// The state counts changes, so that a recovered root says which model it belongs to.
    pub changes: u64,
    pub running: Option<Rc<RefCell<Option<CheckpointDone>>>>,
    /// How long a checkpoint waits after each write.
    pub pace: Duration,
    /// The model of the newest published root, with its state.
    pub published: (u64, Model),
    /// The models of the roots that checkpoints froze.
    pub frozen: Vec<(u64, Model)>,
    /// How many of them are certainly durable.
    pub durable: usize,
}

impl Bed {
    pub async fn create(env: SimEnv) -> Self {
        let store = Store::create(env.clone(), options()).await.expect("the disk is empty");
        Self::over(env, store, Model::default(), 0)
    }

    /// A store that was just opened and holds `model`.
    pub fn over(env: SimEnv, store: Store<SimEnv>, model: Model, changes: u64) -> Self {
        let published = (changes, model.clone());
        let frozen = vec![published.clone()];
        Self { env, store, model, changes, running: None, pace: Duration::ZERO, published, frozen, durable: 1 }
    }

    pub fn publish(&mut self) -> Snapshot<SimPages> {
        self.published = (self.changes, self.model.clone());
        self.store.publish()
    }

    /// Makes sure that a put of these sizes fits, growing the file.
    pub async fn reserve(&mut self, key_bytes: usize, body_bytes: usize) {
        let pages = put_pages_max(key_bytes, body_bytes) + remove_pages_max();
        let run_bytes = key_bytes.max(body_bytes);
        while !self.store.room(run_bytes).admits_put(pages) {
            let grow = self.store.begin_grow(2 * pages, run_bytes).expect("the file may grow");
            let done = grow.run().await;
            self.store.finish_grow(done).expect("the disk has room");
        }
    }

    pub async fn put(&mut self, tree: u8, key: &[u8], head: &[u8], body: &Bytes) {
        self.reserve(key.len(), body.len()).await;
        let pages = Arc::clone(self.store.pages());
        let store = &mut self.store;
        let old =
            loaded(&self.env, &pages, || store.put(TreeId(tree), key, NewValue { head, body: NewBody::Bytes(body) }))
                .await;
        let expected = self.model[tree as usize].insert(key.to_vec(), (head.to_vec(), body.clone()));
        assert_eq!(old.as_ref().map(|old| (old.head.to_vec(), old.body_len())), expected.map(|(h, b)| (h, b.len())));
        if let Some(old) = old {
            self.store.discard(old);
        }
        self.changed();
    }

    pub async fn remove(&mut self, tree: u8, key: &[u8]) {
        let pages = Arc::clone(self.store.pages());
        let store = &mut self.store;
        let old = loaded(&self.env, &pages, || store.remove(TreeId(tree), key)).await;
        let expected = self.model[tree as usize].remove(key);
        assert_eq!(old.as_ref().map(|old| old.head.to_vec()), expected.map(|(head, _)| head));
        if let Some(old) = old {
            self.store.discard(old);
        }
        self.changed();
    }

    /// Moves an entry to the other tree, with its overflow pages.
    pub async fn move_over(&mut self, tree: u8, key: &[u8]) {
        self.reserve(key.len(), 0).await;
        let pages = Arc::clone(self.store.pages());
        let store = &mut self.store;
        let Some(old) = loaded(&self.env, &pages, || store.remove(TreeId(tree), key)).await else { return };
        let other = 1 - tree;
        let replaced = loaded(&self.env, &pages, || {
            store.put(TreeId(other), key, NewValue { head: &old.head, body: NewBody::Moved(old.body.clone()) })
        })
        .await;
        if let Some(replaced) = replaced {
            self.store.discard(replaced);
        }
        let value = self.model[tree as usize].remove(key).expect("the model has what the tree has");
        self.model[other as usize].insert(key.to_vec(), value);
        self.changed();
    }

    fn changed(&mut self) {
        self.changes += 1;
        self.store.set_state(Bytes::copy_from_slice(&self.changes.to_le_bytes()));
    }

    /// Starts a checkpoint in the background unless one is running.
    pub fn start_checkpoint(&mut self) {
        if self.running.is_some() {
            return;
        }
        if let Some(checkpoint) = self.store.begin_checkpoint() {
            self.frozen.push(self.published.clone());
            let done = Rc::new(RefCell::new(None));
            let slot = Rc::clone(&done);
            let (env, pace) = (self.env.clone(), self.pace);
            self.env.spawn(TaskQueue::Background, async move {
                let paced = async |_| {
                    if !pace.is_zero() {
                        env.sleep(pace).await;
                    }
                };
                let result = checkpoint.run(paced).await;
                *slot.borrow_mut() = Some(result);
            });
            self.running = Some(done);
        }
    }

    /// Finishes the checkpoint if it is done.
    pub fn poll_checkpoint(&mut self) -> Result<bool, TreeError> {
        let Some(running) = &self.running else { return Ok(true) };
        let Some(done) = running.borrow_mut().take() else { return Ok(false) };
        self.running = None;
        self.store.finish_checkpoint(done)?;
        self.durable = self.frozen.len();
        Ok(true)
    }

    pub async fn wait_checkpoint(&mut self) -> Result<(), TreeError> {
        while !self.poll_checkpoint()? {
            self.env.sleep(Duration::from_micros(500)).await;
        }
        Ok(())
    }

    /// Publishes and makes durable everything.
    pub async fn checkpoint(&mut self) {
        self.wait_checkpoint().await.expect("the disk works");
        let _ = self.publish();
        self.start_checkpoint();
        self.wait_checkpoint().await.expect("the disk works");
    }
}

/// Compares all of a view with the model: both directions, values, totals.
pub async fn assert_same(
    env: &SimEnv,
    view: View<'_, SimPages>,
    pages: &Arc<SimPages>,
    model: &Model,
    prng: &mut Prng,
) {
    for (tree, entries) in model.iter().enumerate() {
        let tree = TreeId(u8::try_from(tree).expect("two trees"));
        let view = if prng.chance(1, 2) { view.passing() } else { view };
        let mut cursor = view.cursor(tree);
        let mut found = loaded(env, pages, || cursor.seek(b"")).await;
        for (key, (head, body)) in entries {
            assert!(found, "the tree ends before {} bytes of key", key.len());
            assert_eq!(loaded(env, pages, || cursor.key()).await, key);
            let value = cursor.value();
            assert_eq!((value.head(), value.body_len()), (&head[..], body.len()));
            assert_eq!(loaded(env, pages, || value.body()).await, body);
            found = loaded(env, pages, || cursor.next()).await;
        }
        assert!(!found, "the tree has more entries than the model");
        let mut found = loaded(env, pages, || cursor.seek_last()).await;
        for key in entries.keys().rev() {
            assert!(found);
            assert_eq!(loaded(env, pages, || cursor.key()).await, key);
            found = loaded(env, pages, || cursor.prev()).await;
        }
        assert!(!found);
        for _ in 0..3 {
            assert_totals(env, view, pages, tree, entries, prng).await;
            assert_places(env, view, pages, tree, entries, prng).await;
        }
    }
}

/// A key, what comes from it on, and what comes before.
async fn assert_places(
    env: &SimEnv,
    view: View<'_, SimPages>,
    pages: &Arc<SimPages>,
    tree: TreeId,
    entries: &BTreeMap<Vec<u8>, Value>,
    prng: &mut Prng,
) {
    let key = some_key(prng);
    let found = loaded(env, pages, || view.get(tree, &key).map(|value| value.is_some())).await;
    assert_eq!(found, entries.contains_key(&key));
    let mut cursor = view.cursor(tree);
    for (is_before, want) in
        [(false, entries.range(key.clone()..).next()), (true, entries.range(..key.clone()).next_back())]
    {
        let found = loaded(env, pages, || if is_before { cursor.seek_before(&key) } else { cursor.seek(&key) }).await;
        assert_eq!(found, want.is_some());
        if let Some((want, _)) = want {
            assert_eq!(loaded(env, pages, || cursor.key()).await, want);
        }
    }
}

async fn assert_totals(
    env: &SimEnv,
    view: View<'_, SimPages>,
    pages: &Arc<SimPages>,
    tree: TreeId,
    entries: &BTreeMap<Vec<u8>, Value>,
    prng: &mut Prng,
) {
    let (from, to) = (some_key(prng), some_key(prng));
    let to = prng.chance(3, 4).then_some(to);
    let mut want = Totals::default();
    for (key, (head, body)) in entries.range(from.clone()..) {
        if to.as_ref().is_none_or(|to| key < to) {
            want.entries += 1;
            want.weight += weigh(key.len(), head, body.len());
        }
    }
    assert_eq!(loaded(env, pages, || view.totals(tree, &from, to.as_deref())).await, want);
}

pub async fn assert_snapshot(env: &SimEnv, snapshot: &Snapshot<SimPages>, model: &Model, prng: &mut Prng) {
    assert_same(env, snapshot.view(), snapshot.pages(), model, prng).await;
}

/// Keys from a small space, some long with long common prefixes.
pub fn some_key(prng: &mut Prng) -> Vec<u8> {
    match prng.below(12) {
        0 => format!("long/{}/{:04}", "x".repeat(600), prng.below(40)).into_bytes(),
        1 => format!("{}{:03}", "y".repeat(1 + prng.index(700)), prng.below(10)).into_bytes(),
        2 => Vec::new(),
        3 => vec![b'z'; 4000 + prng.index(9000)],
        4..7 => format!("key/{:06}", prng.below(3000)).into_bytes(),
        // Separators as long as branches hold: few children each, so the tree has several levels.
        7 | 8 => format!("{}{:04}", "k".repeat(490), prng.below(3000)).into_bytes(),
        _ => prng.below(2000).to_be_bytes().to_vec(),
    }
}

pub fn some_head(prng: &mut Prng) -> Vec<u8> {
    let mut head = vec![0; if prng.chance(1, 20) { 256 } else { prng.index(40) }];
    prng.fill(&mut head);
    head
}

pub fn some_body(prng: &mut Prng) -> Bytes {
    let len = match prng.below(100) {
        0 => 1 << 20,
        1..5 => 4000 + prng.index(20_000),
        5..10 => 900 + prng.index(400),
        // Around the largest that stays in the leaf.
        10..15 => 1500 + prng.index(600),
        15..40 => 200 + prng.index(300),
        _ => prng.index(64),
    };
    let mut body = vec![0; len];
    prng.fill(&mut body);
    body.into()
}

/// Proves the file with the checker.
pub async fn assert_sound(env: &SimEnv) -> plinth_tree::Report {
    check(env, &options().path, SPECS).await.unwrap_or_else(|error| panic!("{error}"))
}
