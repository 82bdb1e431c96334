//! A file system in memory that knows what is durable, so that a test can cut the power of a process that uses it.
//!
//! `file` and `image` are the disk, `power` its switch; `ops` answers the kernel's FUSE requests from it; `plinth_fuse::mount` brings it into the
//! host's name space and, whatever happens, out again.
//!
//! What the kernel's FUSE client sends, found by experiment (`tests/kernel_paths.rs` holds it to this):
//! - Without the writeback cache every write arrives at once, as FUSE_WRITE, O_DIRECT or not; a mapping of the file sees it.
//! - A write with O_DSYNC or RWF_DSYNC arrives as FUSE_WRITE with O_DSYNC among its flags, followed by a FUSE_FSYNC from the same
//!   thread before the caller gets its answer. FUSE loses the range of that sync, so `ops` puts it back: only the
//!   sectors of that write become durable, as on a device with FUA, and nothing that was written before.
//! - That FUSE_FSYNC never comes for an asynchronous direct write: FUSE_ASYNC_DIO is therefore not negotiated.

mod file;
mod image;
mod ops;
mod power;

pub use file::{CutReport, SECTOR_BYTES};
pub use image::{FsError, Image, NameModel};
pub use plinth_fuse::{MountError, detach_all, detach_stale};

use std::{path::Path, sync::Arc, time::Duration};

use plinth_fuse::Mount;

/// What the kernel asked for since the mount.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    /// FUSE_WRITE requests.
    pub writes: u64,
    /// Those of them with O_DSYNC among their flags.
    pub dsync_writes: u64,
    /// Syncs that belong to such a write and made its sectors durable.
    pub range_syncs: u64,
    /// Syncs of whole files.
    pub file_syncs: u64,
    /// Syncs of directories.
    pub dir_syncs: u64,
}

/// What is left after a cut.
pub struct Survivor {
    /// The disk to start again from.
    pub image: Image,
    /// What happened to unflushed data.
    pub report: CutReport,
}

/// A mounted disk. Dropping it detaches the mount and forgets the content.
pub struct PowerFs {
    mount: Mount,
    disk: Arc<power::Disk>,
}

impl PowerFs {
    /// Mounts `image` on the directory `at`, which must exist.
    pub fn mount(image: Image, at: &Path) -> Result<Self, MountError> {
        let disk = Arc::new(power::Disk::new(image));
        let mount = Mount::new(ops::Server(Arc::clone(&disk)), at)?;
        Ok(Self { mount, disk })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.mount.path()
    }

    /// Cuts the power now, unless [`cut_after`](Self::cut_after) did already: from here on every operation fails with EIO.
    /// `seed` decides what unflushed data is left.
    pub fn cut(&self, seed: u64) -> Survivor {
        self.disk.cut(seed)
    }

    /// Cuts the power at the `changes`-th operation from now that would change or sync anything; that one fails already.
    pub fn cut_after(&self, changes: u64, seed: u64) {
        self.disk.cut_after(changes, seed);
    }

    /// Whether the power is gone.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.disk.is_cut()
    }

    /// Makes every sync, of files and directories, take `delay` longer.
    pub fn set_sync_delay(&self, delay: Duration) {
        self.disk.set_sync_delay(delay);
    }

    /// Limits the disk to `bytes`: then writes to new blocks fail with ENOSPC.
    pub fn set_capacity(&self, bytes: u64) {
        self.disk.set_capacity(bytes);
    }

    /// What the kernel asked for since the mount.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.disk.stats()
    }
}
