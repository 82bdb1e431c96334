//! A stretch of one cell: writes without a pause, each durable before the next of its place begins.

use std::{
    fs::File,
    io::{self, IoSlice},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use plinth_base::AlignedBuf;
use plinth_uring::{Durable, WriteRing};
use rustix::{
    io::{ReadWriteFlags, pwritev2},
    time::{ClockId, clock_gettime},
};

use super::{
    cell::{Cell, FileKind},
    files::{content, open},
    method::Method,
    trouble::Trouble,
};
use crate::{histogram::Latencies, load::pin};

/// What a stretch is made of.
#[derive(Clone, Debug)]
pub struct Slice {
    /// What is measured.
    pub cell: Cell,
    /// The file, as it must be for the cell.
    pub path: PathBuf,
    /// Its length, or what it may grow to.
    pub file_bytes: u64,
    /// Which write of the file comes first.
    pub first: u64,
    /// How long it goes on, unless the file is used up before.
    pub duration: Duration,
    /// How long the cell was measured already.
    pub since: Duration,
    /// The core of the threads.
    pub core: Option<usize>,
}

impl Slice {
    fn pin(&self) -> Result<(), Trouble> {
        let Some(core) = self.core else { return Ok(()) };
        pin(core).map_err(|failure| Trouble::Io(io::Error::other(failure.to_string())))
    }
}

/// What a stretch, or several of a cell, gave.
#[derive(Clone, Debug)]
pub struct Tally {
    /// From the start of each write until it was durable.
    pub latencies: Latencies,
    /// Of the write alone, where that is told apart.
    pub writes: Latencies,
    /// Of the sync alone.
    pub syncs: Latencies,
    /// Writes that became durable in each second of the cell.
    pub series: Vec<u64>,
    /// How long it was measured.
    pub elapsed: Duration,
    /// CPU time of the threads that wrote and of the kernel's workers behind a ring.
    pub cpu: Duration,
    /// Writes that were begun.
    pub begun: u64,
    /// Whether the file has no place for another write.
    pub is_used_up: bool,
}

impl Tally {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            latencies: Latencies::new(),
            writes: Latencies::new(),
            syncs: Latencies::new(),
            series: Vec::new(),
            elapsed: Duration::ZERO,
            cpu: Duration::ZERO,
            begun: 0,
            is_used_up: false,
        }
    }

    /// Takes in another one. Times of stretches add up; those of threads beside each other are set by whoever ran them.
    pub fn add(&mut self, other: &Self) {
        self.latencies.add(&other.latencies);
        self.writes.add(&other.writes);
        self.syncs.add(&other.syncs);
        if self.series.len() < other.series.len() {
            self.series.resize(other.series.len(), 0);
        }
        self.series.iter_mut().zip(&other.series).for_each(|(sum, count)| *sum += count);
        self.cpu += other.cpu;
        self.begun += other.begun;
        self.is_used_up |= other.is_used_up;
    }

    fn count(&mut self, second: u64) {
        let second = usize::try_from(second).unwrap_or(usize::MAX);
        if self.series.len() <= second {
            self.series.resize(second + 1, 0);
        }
        self.series[second] += 1;
    }
}

/// What the threads of a stretch share.
struct Run<'a> {
    slice: &'a Slice,
    start: Instant,
    next: AtomicU64,
    /// Writes that became durable, for whoever watches.
    durable: &'a AtomicU64,
}

impl Run<'_> {
    /// Where the next write goes. None when the time is over or the file is used up.
    fn next_offset(&self, tally: &mut Tally) -> Option<u64> {
        if self.start.elapsed() >= self.slice.duration {
            return None;
        }
        let bytes = self.slice.cell.bytes as u64;
        let places = self.slice.file_bytes / bytes;
        let write = self.next.fetch_add(1, Ordering::Relaxed);
        if self.slice.cell.file != FileKind::Recycled && write >= places {
            tally.is_used_up = true;
            return None;
        }
        tally.begun += 1;
        Some(write % places * bytes)
    }

    fn record(&self, tally: &mut Tally, began: Instant, written: Option<Instant>) {
        let now = Instant::now();
        tally.latencies.record(now - began);
        if let Some(written) = written {
            tally.writes.record(written - began);
            tally.syncs.record(now - written);
        }
        tally.count((self.slice.since + (now - self.start)).as_secs());
        self.durable.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs a stretch to its end. `others_cpu` is what other threads of this process have used so far; `durable` counts along.
pub fn run(slice: &Slice, others_cpu: &(dyn Fn() -> Duration + Sync), durable: &AtomicU64) -> Result<Tally, Trouble> {
    let run = Run { slice, start: Instant::now(), next: AtomicU64::new(slice.first), durable };
    if slice.cell.method.is_on_ring() { on_ring(run, others_cpu) } else { on_threads(run) }
}

fn on_threads(run: Run<'_>) -> Result<Tally, Trouble> {
    let cell = run.slice.cell;
    let mut files = Vec::new();
    for _ in 0..cell.depth {
        files.push(open(&run.slice.path, cell.method.is_direct())?);
    }
    let buf = content(cell.bytes);
    let run = Run { start: Instant::now(), ..run };
    let threads = |file| {
        let (run, buf) = (&run, &buf);
        move || drive_thread(run, &file, buf)
    };
    let tallies: Vec<Result<Tally, Trouble>> = thread::scope(|scope| {
        let threads: Vec<_> = files.into_iter().map(|file| scope.spawn(threads(file))).collect();
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        joined.map(|outcome| outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut sum = Tally::new();
    for tally in tallies {
        sum.add(&tally?);
    }
    sum.elapsed = run.start.elapsed();
    Ok(sum)
}

/// One thread of a stretch, which blocks in each write.
fn drive_thread(run: &Run<'_>, file: &File, buf: &AlignedBuf) -> Result<Tally, Trouble> {
    run.slice.pin()?;
    let mut tally = Tally::new();
    let before = cpu(ClockId::ThreadCPUTime);
    while let Some(offset) = run.next_offset(&mut tally) {
        let began = Instant::now();
        let written = write_durably(run.slice.cell, file, buf, offset)?;
        run.record(&mut tally, began, written);
    }
    tally.cpu = cpu(ClockId::ThreadCPUTime).saturating_sub(before);
    Ok(tally)
}

/// One write; says when the write itself was over, where the sync comes after it.
fn write_durably(cell: Cell, file: &File, buf: &AlignedBuf, offset: u64) -> Result<Option<Instant>, Trouble> {
    let bytes = &buf.as_slice()[..cell.bytes];
    let refused = |error| Trouble::of_write(error, cell.bytes);
    if cell.method == Method::DirectDsync {
        let written = pwritev2(file, &[IoSlice::new(bytes)], offset, ReadWriteFlags::DSYNC);
        let written = written.map_err(|error| refused(error.into()))?;
        return if written == cell.bytes { Ok(None) } else { Err(io::Error::from(io::ErrorKind::WriteZero).into()) };
    }
    file.write_all_at(bytes, offset).map_err(refused)?;
    let written = Instant::now();
    match cell.method {
        Method::BufferedFsync => file.sync_all()?,
        _ => file.sync_data()?,
    }
    Ok(Some(written))
}

/// One thread for all writes that are under way.
fn on_ring(run: Run<'_>, others_cpu: &(dyn Fn() -> Duration + Sync)) -> Result<Tally, Trouble> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            run.slice.pin()?;
            drive_ring(run, others_cpu)
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn drive_ring(run: Run<'_>, others_cpu: &dyn Fn() -> Duration) -> Result<Tally, Trouble> {
    let cell = run.slice.cell;
    let file = open(&run.slice.path, true)?;
    let durable = if cell.method == Method::RingDsync { Durable::Dsync } else { Durable::LinkedSync };
    let ring = WriteRing::new(file, content(cell.bytes), cell.bytes, durable, cell.depth);
    let mut ring = ring.map_err(|error| Trouble::Impossible(error.to_string()))?;
    let mut tally = Tally::new();
    let run = Run { start: Instant::now(), ..run };
    // The kernel's workers behind the ring are threads of this process.
    let own_cpu = || cpu(ClockId::ProcessCPUTime).saturating_sub(others_cpu());
    let before = own_cpu();
    let mut began = vec![run.start; cell.depth];
    let mut under_way = 0;
    for (slot, began) in began.iter_mut().enumerate() {
        if let Some(offset) = run.next_offset(&mut tally) {
            *began = Instant::now();
            ring.start(slot, offset);
            under_way += 1;
        }
    }
    while under_way > 0 {
        let (slot, result) = ring.wait()?;
        result.map_err(|error| Trouble::of_write(error, cell.bytes))?;
        run.record(&mut tally, began[slot], None);
        match run.next_offset(&mut tally) {
            Some(offset) => {
                began[slot] = Instant::now();
                ring.start(slot, offset);
            }
            None => under_way -= 1,
        }
    }
    tally.elapsed = run.start.elapsed();
    tally.cpu = own_cpu().saturating_sub(before);
    Ok(tally)
}

/// What a clock of CPU time says.
pub fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests;
