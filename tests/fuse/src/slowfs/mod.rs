//! A file system that passes everything through to a directory, and makes flushes wait when a test says so: a disk that stalls.
//!
//! `flushes` is what a flush has to go through, `nodes` the files of the directory as the kernel names them, `ops` answers the kernel's requests.
//!
//! A flush is a FUSE_FSYNC or FUSE_FSYNCDIR. A direct write with RWF_DSYNC ends in one too (`plinth_fuse`'s own tests hold the kernel to it), so all ways in
//! which a log is made durable wait here. Writes and reads never wait by themselves, and a flush that waits has a thread of its own: only who asked for
//! it notices, and whoever needs the lock of the same inode, as on any file system.

mod flushes;
mod nodes;
mod ops;

use std::{ops::RangeInclusive, path::Path, sync::Arc, time::Duration};

use self::flushes::Flushes;
use crate::mount::{Mount, MountError};

/// What the kernel asked for since the mount.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    /// FUSE_WRITE requests.
    pub writes: u64,
    /// Those of them with O_DSYNC among their flags; the kernel sends a sync behind each.
    pub dsync_writes: u64,
    /// Flushes of files and directories that were answered with success.
    pub flushes: u64,
    /// Those that were answered with an error.
    pub flushes_failed: u64,
}

/// A mounted directory. Dropped, it lets all flushes go and detaches the mount; the directory below keeps what was written.
pub struct SlowFs {
    flushes: Arc<Flushes>,
    mount: Mount,
}

impl SlowFs {
    /// Mounts what is in the directory `backing` on the directory `at`; both must exist.
    pub fn mount(backing: &Path, at: &Path) -> Result<Self, MountError> {
        let flushes = Arc::new(Flushes::default());
        let server = ops::Server::new(backing, Arc::clone(&flushes)).map_err(MountError::Failed)?;
        Ok(Self { flushes, mount: Mount::new(server, at)? })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.mount.path()
    }

    /// For so long from now on no flush ends, neither those under way nor those to come.
    pub fn stick(&self, duration: Duration) {
        self.flushes.stick(duration);
    }

    /// The next flush takes so long, and no other.
    pub fn stick_next(&self, duration: Duration) {
        self.flushes.stick_next(duration);
    }

    /// From now on each flush takes some time of this range longer, another one each time; `d..=d` is always the same.
    pub fn slow_down(&self, by: RangeInclusive<Duration>) {
        self.flushes.slow_down(by);
    }

    /// From now on each flush fails with EIO, and makes nothing durable.
    pub fn fail(&self) {
        self.flushes.fail();
    }

    /// From now on the disk is sound; what waits goes on at once.
    pub fn heal(&self) {
        self.flushes.heal();
    }

    /// Flushes that wait now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.flushes.waiting()
    }

    /// What the kernel asked for since the mount.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.flushes.stats()
    }
}

impl Drop for SlowFs {
    fn drop(&mut self) {
        // Whoever waits for a flush can't be killed before it ends.
        self.flushes.heal();
    }
}
