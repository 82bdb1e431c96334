//! What the disk takes for a log's smallest commit: a 4 KiB write with RWF_DSYNC and O_DIRECT into a file whose every block was written
//! before, by a thread that blocks. Nothing a log does can be faster on the same path.

use std::{path::Path, thread, time::Duration};

use crate::{
    failure::Failure,
    fsync::{Method, Written},
    histogram::Latencies,
    load::pin_to,
};

/// As long as a segment of plinth's log.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Writes for `duration` from `core` into a file of its own at `path`, which goes afterwards.
pub fn measure(path: &Path, core: usize, duration: Duration) -> Result<Latencies, Failure> {
    Written::new(path, SEGMENT_BYTES)?.measure(Method::DirectDsync, Some(core), duration)
}

/// The same by `count` threads at once on any of `cores`, each with a file of its own in `dir`: what members on one disk do to each other.
pub fn measure_together(dir: &Path, count: usize, cores: &[usize], duration: Duration) -> Result<Latencies, Failure> {
    let paths: Vec<_> = (0..count).map(|number| dir.join(format!("disk-write-{number}"))).collect();
    let files = paths.iter().map(|path| Written::new(path, SEGMENT_BYTES)).collect::<Result<Vec<_>, Failure>>()?;
    let write = |file: &Written<'_>| {
        pin_to(cores)?;
        file.measure(Method::DirectDsync, None, duration)
    };
    thread::scope(|scope| {
        let running: Vec<_> = files.iter().map(|file| scope.spawn(move || write(file))).collect();
        let mut all = Latencies::new();
        for thread in running {
            all.add(&thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(all)
    })
}
