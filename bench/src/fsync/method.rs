//! The ways to make a write durable.

use serde::{Deserialize, Serialize};

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// A write into the page cache, then fdatasync: what etcd does.
    BufferedFdatasync,
    /// A write into the page cache, then fsync, which also stores the times of the file.
    BufferedFsync,
    /// A write with O_DIRECT, then fdatasync.
    DirectFdatasync,
    /// One write with O_DIRECT and RWF_DSYNC, by a thread that blocks.
    DirectDsync,
    /// A write with O_DIRECT and an fdatasync, linked on an io_uring.
    RingLinked,
    /// One write with O_DIRECT and RWF_DSYNC on an io_uring.
    RingDsync,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::BufferedFdatasync,
        Self::BufferedFsync,
        Self::DirectFdatasync,
        Self::DirectDsync,
        Self::RingLinked,
        Self::RingDsync,
    ];

    /// As in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BufferedFdatasync => "write, fdatasync",
            Self::BufferedFsync => "write, fsync",
            Self::DirectFdatasync => "direct write, fdatasync",
            Self::DirectDsync => "direct write with RWF_DSYNC",
            Self::RingLinked => "ring: direct write, fdatasync linked",
            Self::RingDsync => "ring: direct write with RWF_DSYNC",
        }
    }

    /// What plinth's `--wal-sync-method` calls it, if it is one of plinth's.
    #[must_use]
    pub fn flag(self) -> Option<&'static str> {
        match self {
            Self::RingDsync => Some("write-dsync"),
            Self::RingLinked => Some("linked-sync"),
            Self::DirectDsync => Some("thread-dsync"),
            _ => None,
        }
    }

    /// Whether it goes past the page cache.
    #[must_use]
    pub fn is_direct(self) -> bool {
        !matches!(self, Self::BufferedFdatasync | Self::BufferedFsync)
    }

    /// Whether several writes are under way from one thread.
    #[must_use]
    pub fn is_on_ring(self) -> bool {
        matches!(self, Self::RingLinked | Self::RingDsync)
    }

    /// Whether write and sync are two calls, whose times can be told apart.
    #[must_use]
    pub fn has_two_parts(self) -> bool {
        matches!(self, Self::BufferedFdatasync | Self::BufferedFsync | Self::DirectFdatasync)
    }
}
