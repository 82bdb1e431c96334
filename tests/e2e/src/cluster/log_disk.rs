//! The disk of a member's log, which a case can make slow, stuck or broken.

use std::{fs, path::PathBuf, sync::Once};

use plinth_fuse::{MountError, detach_stale, slowfs::SlowFs};
use tempfile::TempDir;

use crate::outcome::Ended;

static STALE: Once = Once::new();

/// A directory behind a file system whose flushes do as they are told.
pub(crate) struct LogDisk {
    // Detached before its directories are removed.
    fs: SlowFs,
    _dirs: TempDir,
}

impl LogDisk {
    /// An empty one, sound for now.
    pub(crate) fn new() -> Result<Self, Ended> {
        // Whoever looks at the mount of a process that was killed gets errors, and it keeps its directory from being removed.
        STALE.call_once(detach_stale);
        let dirs = TempDir::new()?;
        let [below, mounted] = ["below", "mounted"].map(|name| dirs.path().join(name));
        fs::create_dir(&below)?;
        fs::create_dir(&mounted)?;
        let fs = SlowFs::mount(&below, &mounted).map_err(|error| match error {
            MountError::Unavailable(why) => Ended::Skipped(format!("no FUSE here: {why}")),
            MountError::Failed(error) => Ended::Failed(format!("the log's file system: {error}")),
        })?;
        Ok(Self { fs, _dirs: dirs })
    }

    /// The directory of the log, which the member makes.
    pub(crate) fn wal_dir(&self) -> PathBuf {
        self.fs.path().join("wal")
    }

    /// What decides on flushes.
    pub(crate) fn fs(&self) -> &SlowFs {
        &self.fs
    }
}
