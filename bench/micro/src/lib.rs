//! What the benches of parts share: the real machine below them, and keys.
//!
//! Parts of plinth run on an executor and on real files, as in the server; criterion runs on the main thread. A [`Session`] joins
//! them: criterion says how many iterations it wants, the executor does them and says how long they took. What is between
//! the iterations, such as making room in a file, is not counted.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use plinth_base::Prng;
use plinth_env::Env;
use plinth_tree::{Missing, Store};
use plinth_uring::{
    UringEnv,
    cores::{self, Available},
};

/// Length of every key, in bytes.
pub const KEY_BYTES: usize = 32;
/// Length of every value, in bytes.
pub const VALUE_BYTES: usize = 256;
/// Keys that are there before anything is measured.
pub const KEYS: u64 = 100_000;
/// Nodes looked at in one step of settling.
const SETTLE_NODES: usize = 1000;

/// A part on an executor of its own, alive as long as this is.
pub struct Session {
    wanted: Option<mpsc::Sender<u64>>,
    took: mpsc::Receiver<Duration>,
    thread: Option<JoinHandle<()>>,
}

impl Session {
    /// Makes a part by `setup`, in an empty directory, on a core of this machine. `work` does so many iterations and says how
    /// long they took.
    ///
    /// # Panics
    /// If no executor can be started here.
    pub fn start<S: 'static>(
        setup: impl AsyncFnOnce(UringEnv, &Path) -> S + Send + 'static,
        work: impl AsyncFnMut(&UringEnv, &mut S, u64) -> Duration + Send + 'static,
    ) -> Self {
        let (wanted, wanted_end) = mpsc::channel();
        let (took_end, took) = mpsc::channel();
        let parts = Arc::new(Mutex::new(Some((setup, work, wanted_end, took_end))));
        let thread = std::thread::spawn(move || {
            let available = Available::of_this_process().and_then(|available| cores::choose(None, &available));
            let core = available.expect("this process has a core")[0];
            let ended = plinth_uring::run(&[core], move |context| {
                let parts = parts.lock().unwrap_or_else(PoisonError::into_inner).take();
                let (setup, mut work, wanted, took) = parts.expect("there is one executor");
                async move {
                    let dir = tempfile::tempdir().expect("a temporary directory can be made");
                    let mut state = setup(context.env.clone(), dir.path()).await;
                    // Blocks the executor: nothing else is to run on it meanwhile.
                    while let Ok(iterations) = wanted.recv() {
                        let spent = work(&context.env, &mut state, iterations).await;
                        took.send(spent).expect("whoever asks waits for the answer");
                    }
                }
            });
            ended.expect("this machine can run an executor");
        });
        Self { wanted: Some(wanted), took, thread: Some(thread) }
    }

    /// Does `iterations` and says how long they took.
    ///
    /// # Panics
    /// If the part did.
    pub fn time(&self, iterations: u64) -> Duration {
        let wanted = self.wanted.as_ref().expect("it is taken when the session ends");
        wanted.send(iterations).expect("the executor waits for work");
        self.took.recv().expect("the executor answers")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.wanted.take());
        if let Some(thread) = self.thread.take() {
            // What went wrong there has been said there.
            drop(thread.join());
        }
    }
}

/// Key `number`, spread over the key space: neighbors in number are no neighbors in order.
#[must_use]
pub fn key(number: u64) -> [u8; KEY_BYTES] {
    let mut key = [b'k'; KEY_BYTES];
    // Odd factors permute the numbers of 64 bits.
    let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    key[..8].copy_from_slice(&spread.to_be_bytes());
    key
}

/// A value, the same for the same seed.
#[must_use]
pub fn value(seed: u64) -> Vec<u8> {
    let mut value = vec![0; VALUE_BYTES];
    Prng::new(seed).fill(&mut value);
    value
}

/// Loads what an operation missed.
///
/// # Panics
/// If the disk fails.
pub async fn load(env: &UringEnv, store: &Store<UringEnv>, missing: Missing) {
    let pages = Arc::clone(store.pages());
    env.load_pages(&pages, missing.wants).await.expect("pages are sound");
}

/// Grows the file until a put that changes up to `pages` surely fits.
///
/// # Panics
/// If the disk is full.
pub async fn reserve(store: &mut Store<UringEnv>, pages: u64) {
    while !store.room(VALUE_BYTES).admits_put(pages) {
        let grow = store.begin_grow(pages, VALUE_BYTES).expect("the file may grow");
        let done = grow.run().await;
        store.finish_grow(done).expect("the disk has room");
    }
}

/// Makes the newest published root durable, and moves the working tree from memory to its pages. False if there was nothing new.
///
/// # Panics
/// If the disk fails.
pub async fn checkpoint(store: &mut Store<UringEnv>) -> bool {
    let Some(checkpoint) = store.begin_checkpoint() else { return false };
    let done = checkpoint.run(async |_| {}).await;
    store.finish_checkpoint(done).expect("the disk works");
    while !store.settle(SETTLE_NODES) {}
    true
}
