//! What the disk takes for a log's smallest commit: a 4 KiB write with RWF_DSYNC and O_DIRECT into a file whose every block was written
//! before, by a thread that blocks. Nothing a log does can be faster on the same path.

use std::{path::Path, time::Duration};

use crate::{
    failure::Failure,
    fsync::{Method, Written},
    histogram::Latencies,
};

/// As long as a segment of plinth's log.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Writes for `duration` from `core` into a file of its own at `path`, which goes afterwards.
pub fn measure(path: &Path, core: usize, duration: Duration) -> Result<Latencies, Failure> {
    Written::new(path, SEGMENT_BYTES)?.measure(Method::DirectDsync, core, duration)
}
