//! Others on the same device, while something is measured.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use plinth_base::{AlignedBuf, Prng};
use rustix::time::ClockId;

use super::{
    cell::{BLOCK, Neighbour},
    files::{Files, content, open},
    slice::cpu,
    trouble::Trouble,
};

/// What the one who writes writes at once: a checkpoint does no less.
const WRITE_BYTES: usize = 128 << 10;
/// Readers; each has one read under way.
const READERS: usize = 4;

/// The neighbour's threads, which end with this.
pub struct Beside {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    since: Instant,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    operations: AtomicU64,
    cpu_ns: AtomicU64,
}

impl Beside {
    /// Starts the neighbour on its file, which must be there.
    pub fn start(neighbour: Neighbour, files: &Files<'_>) -> Result<Self, Trouble> {
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        let count = match neighbour {
            Neighbour::None => 0,
            Neighbour::Writes => 1,
            Neighbour::Reads => READERS,
        };
        for number in 0..count {
            let file = open(&files.neighbour_path(), true)?;
            let (shared, bytes) = (Arc::clone(&shared), files.sizes.neighbour);
            let body = move || match neighbour {
                Neighbour::Writes => write_in_sequence(&file, bytes, &shared),
                _ => read_at_random(&file, bytes, number as u64, &shared),
            };
            threads.push(thread::Builder::new().name("neighbour".to_owned()).spawn(body)?);
        }
        Ok(Self { shared, threads, since: Instant::now() })
    }

    /// CPU time that it has used so far.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.shared.cpu_ns.load(Ordering::Relaxed))
    }

    /// Ends it, and says how many of its operations there were in a second.
    pub fn stop(mut self) -> Result<f64, Trouble> {
        let elapsed = self.since.elapsed().as_secs_f64();
        let operations = self.shared.operations.load(Ordering::Relaxed);
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(operations as f64 / elapsed)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // After an error nobody asks for the result, and it must not disturb what comes next.
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

impl Shared {
    /// Does it again and again, and counts.
    fn repeat(&self, mut operation: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        let mut used = Duration::ZERO;
        while !self.is_over.load(Ordering::Relaxed) {
            operation()?;
            self.operations.fetch_add(1, Ordering::Relaxed);
            let now = cpu(ClockId::ThreadCPUTime);
            let more = u64::try_from((now - used).as_nanos()).unwrap_or(0);
            self.cpu_ns.fetch_add(more, Ordering::Relaxed);
            used = now;
        }
        Ok(())
    }
}

fn write_in_sequence(file: &File, bytes: u64, shared: &Shared) -> io::Result<()> {
    let buf = content(WRITE_BYTES);
    let mut offset = 0;
    shared.repeat(|| {
        file.write_all_at(buf.as_slice(), offset)?;
        offset = (offset + WRITE_BYTES as u64) % bytes;
        Ok(())
    })
}

fn read_at_random(file: &File, bytes: u64, seed: u64, shared: &Shared) -> io::Result<()> {
    let mut buf = AlignedBuf::zeroed(BLOCK);
    let mut random = Prng::new(seed);
    shared.repeat(|| file.read_exact_at(buf.as_mut_slice(), random.below(bytes / BLOCK as u64) * BLOCK as u64))
}
