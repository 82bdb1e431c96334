//! The one seam between plinth's logic and the machine: clock, timers, tasks, files and pages. Traits only.
//!
//! There are two implementations: `plinth-uring` (io_uring) and `plinth-sim-env` (seeded executor, virtual
//! time, simulated disk). Everything above is generic over [`Env`] and runs unchanged on both.
//!
//! Invariant: an `Env` belongs to one executor (it is `!Send`); only what [`Env::Pages`] names is shared between executors.

mod file;
mod pages;
mod peers;

use std::{future::Future, io, path::Path, sync::Arc, time::Duration};

pub use file::{DirEntry, DiskSpace, File, OpenMode, OpenOptions, SyncMethod};
pub use pages::{PageError, PageSource, PageWant};
pub use peers::{Alone, NotSent, PeerAddress, PeerEvent, PeerLane, Peers, Resident};
use plinth_base::Instant;

/// Which queue of an executor a task runs in. Shares, latency targets and budgets belong to the queue.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TaskQueue {
    /// Shard turns, ticks, raft messages, log completions: latency first.
    Consensus,
    /// Client connections and reads.
    Serve,
    /// Checkpoints, snapshots, compaction, scrub: small shares.
    Background,
}

/// An executor's view of the machine.
pub trait Env: Clone + 'static {
    /// A file opened by this environment.
    type File: File;
    /// The pages of a tree file, shared by all executors of a process.
    type Pages: PageSource;

    /// The monotonic clock.
    fn now(&self) -> Instant;

    /// Time since the Unix epoch, for people and for file names; may jump, so nothing is decided by it.
    fn unix_time(&self) -> Duration;

    /// 64 random bits: unpredictable on a real machine, from the seed in the simulator.
    fn random_u64(&self) -> u64;

    /// Completes at `at`, or at once if that has passed.
    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + 'static;

    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        self.sleep_until(self.now() + duration)
    }

    /// Lets other tasks of this executor run.
    fn yield_now(&self) -> impl Future<Output = ()> + 'static;

    /// Starts a task on this executor. It runs to its end unless the executor stops.
    fn spawn(&self, queue: TaskQueue, task: impl Future<Output = ()> + 'static);

    /// Opens or creates a file. A file system without direct I/O fails with [`io::ErrorKind::Unsupported`].
    fn open(&self, path: &Path, options: OpenOptions) -> impl Future<Output = io::Result<Self::File>>;

    /// The entries of a directory, sorted by name.
    fn list_dir(&self, path: &Path) -> impl Future<Output = io::Result<Vec<DirEntry>>>;

    /// Makes a directory, and its parents where they are missing, mode 0700. Not durable before [`Env::sync_dir`] of its parent.
    fn create_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// Gives a file another name in the same file system, replacing what had it. Durable after [`Env::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>>;

    /// Removes a file. Durable after [`Env::sync_dir`].
    fn remove_file(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// Room on the file system that holds `path`.
    fn disk_space(&self, path: &Path) -> impl Future<Output = io::Result<DiskSpace>>;

    /// Opens the pages of `file` for reading, `page_bytes` each. `bytes_max` is the size up to which the file may grow: the
    /// address range is reserved once, for the file's life.
    fn open_pages(&self, file: &Self::File, page_bytes: usize, bytes_max: u64) -> io::Result<Arc<Self::Pages>>;

    /// Brings pages into memory and verifies each against its checksum. Afterwards [`PageSource::get`] has them, at least until
    /// the calling task next yields.
    fn load_pages(
        &self,
        pages: &Arc<Self::Pages>,
        wants: Vec<PageWant>,
    ) -> impl Future<Output = Result<(), PageError>> + 'static;
}
