//! FUSE takes any direct I/O; a disk takes whole sectors only.

use fuser::OpenFlags;

/// The sector of the disks that are played, in bytes.
pub const SECTOR_BYTES: u64 = 512;

/// Whether a disk would refuse it.
#[must_use]
pub fn is_misaligned(flags: OpenFlags, offset: u64, bytes: u64) -> bool {
    flags.0 & libc::O_DIRECT != 0 && !(offset.is_multiple_of(SECTOR_BYTES) && bytes.is_multiple_of(SECTOR_BYTES))
}
