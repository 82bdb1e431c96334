//! A file system that passes everything through to a directory, and makes flushes wait when a test says so: a disk that stalls.
//!
//! `flushes` is what a flush has to go through, `nodes` the files of the directory as the kernel names them, `ops` answers the kernel's requests.
//!
//! A flush is a FUSE_FSYNC, a FUSE_FSYNCDIR, or a FUSE_WRITE with O_DSYNC among its flags, as a device takes one with FUA: all ways in which a log is made
//! durable. Other writes and reads never wait by themselves, and a flush that waits has a thread of its own: only who asked for it notices, and
//! whoever needs the lock of the same inode, as on any file system.
//!
//! What the kernel's FUSE client makes of direct writes with RWF_DSYNC, found by experiment (`tests/slowfs.rs` holds it to this):
//! - One that is waited for, as by pwritev2, arrives as FUSE_WRITE with O_DSYNC, and once it is answered FUSE_FSYNC follows from the same thread. It is flushed
//!   by then, so that sync is answered at once.
//! - Without FUSE_ASYNC_DIO a ring's write is no other, and FUSE heeds no IOCB_NOWAIT: whoever submits it waits for the flush inside io_uring_enter, which no
//!   local file system does to him, and a whole executor stands still. So it is negotiated here. Then the ring's write is asynchronous, and no FUSE_FSYNC
//!   follows.

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
    /// Those of them with O_DSYNC among their flags: flushes, too.
    pub dsync_writes: u64,
    /// Flushes of files and directories, and writes with O_DSYNC, that were carried out.
    pub flushes: u64,
    /// Those that failed.
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
