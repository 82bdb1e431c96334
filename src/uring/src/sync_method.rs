//! Which of the ways to make a write durable is the fastest on this device: a short measurement at a member's first start.
//!
//! In each round every method writes one block to a zeroed scratch file where the log will lie, one after the other, while a neighbour
//! writes as a checkpoint does where the trees will lie. Rounds go on until their time is up; what counts is each method's median.
//!
//! Nothing depends on it: a file system that can't hold the scratch files, or a device too slow for enough rounds, leaves the choice
//! at RWF_DSYNC. A crash in the middle leaves the scratch files; the next measurement replaces them.

use std::{
    cell::Cell,
    fmt, fs, io,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use plinth_base::{AlignedBuf, BLOCK_BYTES};
use plinth_env::{Env, File, OpenMode, OpenOptions, SyncMethod, TaskQueue};

use crate::{env::UringEnv, file::UringFile, probe::StartError};

/// The names of the scratch files, where the log will lie and where the trees will.
pub const SCRATCH_FILES: [&str; 2] = ["measure-log.tmp", "measure-tree.tmp"];

/// How long the rounds go on. A first start takes so much longer.
const ROUNDS_TIME: Duration = Duration::from_millis(100);

/// With fewer rounds than this a median says nothing.
const ROUNDS_MIN: usize = 5;

/// Size of the file that stands for the log: no block is written twice in a row of rounds that a device could merge.
const LOG_BYTES: u64 = 1 << 20;

/// Size of the file that stands for the tree.
const TREE_BYTES: u64 = 4 << 20;

/// What the neighbour writes at once, and after how many of them it syncs.
const TREE_WRITE_BYTES: usize = 64 << 10;
const TREE_WRITES_PER_SYNC: u64 = 16;

/// The neighbour's pause between two writes: a checkpoint steps back before the log.
const TREE_PAUSE: Duration = Duration::from_millis(1);

/// RWF_DSYNC stays unless another method's median is better than this part of its own, in percent: it needs the fewest system calls,
/// and single measurements differ by as much.
const WORTH_PERCENT: u64 = 95;

/// The methods in the order in which medians are kept.
const METHODS: [SyncMethod; 3] = [SyncMethod::WriteDsync, SyncMethod::LinkedSync, SyncMethod::ThreadDsync];

/// How long a durable write of one block took with each method: the medians, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SyncMedians {
    /// One write with RWF_DSYNC on the ring.
    pub write_dsync_ns: u64,
    /// A write and an fdatasync, linked on the ring.
    pub linked_sync_ns: u64,
    /// pwritev2 with RWF_DSYNC on a thread of its own.
    pub thread_dsync_ns: u64,
}

impl SyncMedians {
    /// The method to use: the fastest, but RWF_DSYNC unless another one is clearly faster.
    #[must_use]
    pub fn choose(&self) -> SyncMethod {
        let medians = [self.write_dsync_ns, self.linked_sync_ns, self.thread_dsync_ns];
        let (best, best_ns) =
            METHODS.into_iter().zip(medians).min_by_key(|&(_, ns)| ns).expect("there are three methods");
        let worth_ns = u128::from(self.write_dsync_ns) * u128::from(WORTH_PERCENT) / 100;
        if u128::from(best_ns) < worth_ns { best } else { SyncMethod::WriteDsync }
    }

    /// Of the times of all rounds; none if there are too few.
    fn of_rounds(mut rounds: [Vec<u64>; METHODS.len()]) -> Option<Self> {
        let [write_dsync_ns, linked_sync_ns, thread_dsync_ns] = rounds.each_mut().map(|times| {
            times.sort_unstable();
            if times.len() < ROUNDS_MIN { None } else { times.get(times.len() / 2).copied() }
        });
        Some(Self {
            write_dsync_ns: write_dsync_ns?,
            linked_sync_ns: linked_sync_ns?,
            thread_dsync_ns: thread_dsync_ns?,
        })
    }
}

/// Why there are no medians.
#[derive(Debug)]
pub enum MeasureError {
    /// plinth can't run here at all.
    Start(StartError),
    /// The scratch files couldn't be made or written.
    Io(io::Error),
    /// The device took longer than the time allotted.
    TooSlow,
}

impl fmt::Display for MeasureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => error.fmt(f),
            Self::Io(error) => write!(f, "writing the scratch files failed: {error}"),
            Self::TooSlow => write!(f, "fewer than {ROUNDS_MIN} rounds were done in {} ms", ROUNDS_TIME.as_millis()),
        }
    }
}

impl std::error::Error for MeasureError {}

/// Measures all methods in `log_dir`, with checkpoint traffic in `tree_dir`; both must exist. Blocks: runs executors of its own on
/// `cores` meanwhile, so that kernel workers and threads have the cores that the server's will have.
///
/// # Errors
/// Whatever kept it from an answer. The scratch files are removed in any case.
pub fn measure_sync_methods(cores: &[usize], log_dir: &Path, tree_dir: &Path) -> Result<SyncMedians, MeasureError> {
    let scratch = Scratch { log: log_dir.join(SCRATCH_FILES[0]), tree: tree_dir.join(SCRATCH_FILES[1]) };
    let scratch = Arc::new(scratch);
    let outcome = Arc::new(Mutex::new(None));
    let (to, of) = (Arc::clone(&outcome), Arc::clone(&scratch));
    let ran = crate::runtime::run(cores, move |context| {
        let (to, of) = (Arc::clone(&to), Arc::clone(&of));
        async move {
            if context.index > 0 {
                return;
            }
            let rounds = of.rounds(&context.env).await;
            *to.lock().unwrap_or_else(PoisonError::into_inner) = Some(rounds);
        }
    });
    scratch.remove();
    ran.map_err(MeasureError::Start)?;
    let rounds = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
    let rounds =
        rounds.expect("the first executor has returned, and it ends with an outcome").map_err(MeasureError::Io)?;
    SyncMedians::of_rounds(rounds).ok_or(MeasureError::TooSlow)
}

/// The two files of a measurement.
struct Scratch {
    log: PathBuf,
    tree: PathBuf,
}

impl Scratch {
    fn remove(&self) {
        for path in [&self.log, &self.tree] {
            // Perhaps it was never made; one that stays is replaced by the next measurement.
            drop(fs::remove_file(path));
        }
    }

    /// Each method's times.
    async fn rounds(&self, env: &UringEnv) -> io::Result<[Vec<u64>; METHODS.len()]> {
        self.remove();
        let mut files = Vec::new();
        for (mode, sync_method) in [OpenMode::CreateNew, OpenMode::Write, OpenMode::Write].into_iter().zip(METHODS) {
            let options = OpenOptions { sync_method, ..OpenOptions::direct(mode) };
            files.push(env.open(&self.log, options).await?);
        }
        // Written as the log's segments are: extents that are only reserved cost a change of metadata at the first write.
        files[0].allocate(0, LOG_BYTES).await?;
        for at in (0..LOG_BYTES).step_by(TREE_WRITE_BYTES) {
            files[0].write_at(at, AlignedBuf::zeroed(TREE_WRITE_BYTES)).await.0?;
        }
        files[0].sync().await?;
        let tree = env.open(&self.tree, OpenOptions::cached(OpenMode::CreateNew)).await?;
        tree.allocate(0, TREE_BYTES).await?;
        let neighbour = Neighbour::start(env, tree);
        let times = time_methods(env, &files).await;
        neighbour.stop(env).await;
        times
    }
}

/// One write per method and round, as many rounds as there is time for.
async fn time_methods(env: &UringEnv, files: &[UringFile]) -> io::Result<[Vec<u64>; METHODS.len()]> {
    let mut times: [Vec<u64>; METHODS.len()] = Default::default();
    let mut buf = AlignedBuf::zeroed(BLOCK_BYTES);
    let began = env.now();
    let mut writes = 0;
    while env.now().since(began) < ROUNDS_TIME {
        // Each round begins with another method, so that none always comes at the same place behind the others.
        let first = times[0].len();
        for step in 0..METHODS.len() {
            let method = (first + step) % METHODS.len();
            let offset = writes * BLOCK_BYTES as u64 % LOG_BYTES;
            writes += 1;
            let submitted = env.now();
            let (result, back) = files[method].write_durable(offset, buf).await;
            result?;
            buf = back;
            times[method].push(u64::try_from(env.now().since(submitted).as_nanos()).unwrap_or(u64::MAX));
        }
    }
    Ok(times)
}

/// Writes like a checkpoint until it is stopped.
struct Neighbour {
    is_stopping: Rc<Cell<bool>>,
    has_stopped: Rc<Cell<bool>>,
}

impl Neighbour {
    fn start(env: &UringEnv, tree: UringFile) -> Self {
        let neighbour = Self { is_stopping: Rc::default(), has_stopped: Rc::default() };
        let (is_stopping, has_stopped) = (Rc::clone(&neighbour.is_stopping), Rc::clone(&neighbour.has_stopped));
        let task_env = env.clone();
        env.spawn(TaskQueue::Background, async move {
            // An error only means a quieter neighbour.
            drop(write_like_a_checkpoint(&task_env, &tree, &is_stopping).await);
            has_stopped.set(true);
        });
        neighbour
    }

    async fn stop(self, env: &UringEnv) {
        self.is_stopping.set(true);
        while !self.has_stopped.get() {
            env.sleep(TREE_PAUSE).await;
        }
    }
}

async fn write_like_a_checkpoint(env: &UringEnv, tree: &UringFile, is_stopping: &Cell<bool>) -> io::Result<()> {
    let mut writes = 0;
    while !is_stopping.get() {
        let offset = writes * TREE_WRITE_BYTES as u64 % TREE_BYTES;
        tree.write_at(offset, AlignedBuf::zeroed(TREE_WRITE_BYTES)).await.0?;
        writes += 1;
        if writes % TREE_WRITES_PER_SYNC == 0 {
            tree.sync().await?;
        }
        env.sleep(TREE_PAUSE).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn medians(write_dsync_ns: u64, linked_sync_ns: u64, thread_dsync_ns: u64) -> SyncMedians {
        SyncMedians { write_dsync_ns, linked_sync_ns, thread_dsync_ns }
    }

    #[test]
    fn rwf_dsync_stays_unless_another_method_is_clearly_faster() {
        assert_eq!(medians(100, 100, 100).choose(), SyncMethod::WriteDsync);
        assert_eq!(medians(100, 95, 200).choose(), SyncMethod::WriteDsync, "within the tolerance");
        assert_eq!(medians(100, 94, 200).choose(), SyncMethod::LinkedSync);
        assert_eq!(medians(100, 94, 93).choose(), SyncMethod::ThreadDsync, "the faster of two that are clearly faster");
        assert_eq!(medians(50, 94, 93).choose(), SyncMethod::WriteDsync);
        assert_eq!(medians(u64::MAX, u64::MAX / 2, u64::MAX).choose(), SyncMethod::LinkedSync);
    }

    #[test]
    fn a_median_is_not_moved_by_single_stalls_and_needs_enough_rounds() {
        let rounds = |times: &[u64]| [times.to_vec(), times.to_vec(), times.to_vec()];
        assert_eq!(SyncMedians::of_rounds(rounds(&[9_000, 1, 3, 2, 8_000])), Some(medians(3, 3, 3)));
        assert_eq!(SyncMedians::of_rounds(rounds(&[1, 2, 3, 4])), None);
        assert_eq!(SyncMedians::of_rounds([vec![1; 9], vec![1; 9], Vec::new()]), None);
    }
}
