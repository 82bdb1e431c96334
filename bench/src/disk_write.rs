//! What the disk takes for a log's smallest commit: a 4 KiB write with RWF_DSYNC and O_DIRECT into a file whose every block was written
//! before, by a thread that blocks. Nothing a log does can be faster on the same path.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use plinth_base::{AlignedBuf, BLOCK_BYTES};
use rustix::{
    fs::OFlags,
    io::{ReadWriteFlags, pwritev2},
};

use crate::{failure::Failure, histogram::Latencies, load::pin};

/// As long as a segment of plinth's log.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Written at once while the file is made.
const CHUNK_BYTES: usize = 512 << 10;

/// Writes for `duration` from `core` into a file of its own at `path`, which goes afterwards.
pub fn measure(path: &Path, core: usize, duration: Duration) -> Result<Latencies, Failure> {
    let measured = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            pin(core)?;
            write_for(path, duration).map_err(Failure::file(path, "writing"))
        });
        writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    std::fs::remove_file(path).ok();
    measured
}

fn write_for(path: &Path, duration: Duration) -> io::Result<Latencies> {
    let direct = i32::try_from(OFlags::DIRECT.bits()).expect("the flag fits the system's own type");
    let file = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(direct).open(path)?;
    // Twice: a recycled segment's blocks were allocated and written before.
    for _ in 0..2 {
        write_through(&file)?;
    }
    let buf = AlignedBuf::zeroed(BLOCK_BYTES);
    let mut latencies = Latencies::new();
    let start = Instant::now();
    let mut offset = 0;
    while start.elapsed() < duration {
        let began = Instant::now();
        let written = pwritev2(&file, &[IoSlice::new(buf.as_slice())], offset, ReadWriteFlags::DSYNC)?;
        latencies.record(began.elapsed());
        if written != BLOCK_BYTES {
            return Err(io::ErrorKind::WriteZero.into());
        }
        offset = (offset + BLOCK_BYTES as u64) % SEGMENT_BYTES;
    }
    Ok(latencies)
}

fn write_through(file: &File) -> io::Result<()> {
    let buf = AlignedBuf::zeroed(CHUNK_BYTES);
    for offset in (0..SEGMENT_BYTES).step_by(CHUNK_BYTES) {
        pwritev2(file, &[IoSlice::new(buf.as_slice())], offset, ReadWriteFlags::empty())?;
    }
    file.sync_all()
}
