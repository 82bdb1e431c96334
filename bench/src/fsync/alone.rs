//! One cell by itself, for commands that want a disk's figure beside their own.

use std::{path::Path, sync::atomic::AtomicU64, time::Duration};

use super::{
    cell::Cell,
    files::write_whole,
    method::Method,
    slice::{self, Slice},
};
use crate::{failure::Failure, histogram::Latencies};

/// A file whose every block was written, for 4 KiB writes at depth 1 without a neighbour. It goes when this is dropped.
#[derive(Debug)]
pub struct Written<'a> {
    path: &'a Path,
    bytes: u64,
}

/// Where the time of a durable write goes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Medians {
    /// The write alone, in µs.
    pub write_us: f64,
    /// The sync alone.
    pub sync_us: f64,
}

impl<'a> Written<'a> {
    /// Writes it.
    pub fn new(path: &'a Path, bytes: u64) -> Result<Self, Failure> {
        let file = Self { path, bytes };
        write_whole(path, bytes, true).map_err(|trouble| file.failure(&trouble))?;
        Ok(file)
    }

    /// Makes writes durable for so long, from `core` or from where the thread may be.
    pub fn measure(&self, method: Method, core: Option<usize>, duration: Duration) -> Result<Latencies, Failure> {
        Ok(self.run(method, core, duration)?.latencies)
    }

    /// The same with direct writes and fdatasync, told apart. None if there are too few samples.
    pub fn measure_parts(&self, core: usize, duration: Duration) -> Result<Option<Medians>, Failure> {
        let tally = self.run(Method::DirectFdatasync, Some(core), duration)?;
        let parts = tally.writes.quantile_us(0.5).zip(tally.syncs.quantile_us(0.5));
        Ok(parts.map(|(write_us, sync_us)| Medians { write_us, sync_us }))
    }

    fn run(&self, method: Method, core: Option<usize>, duration: Duration) -> Result<slice::Tally, Failure> {
        let slice = Slice {
            cell: Cell::plain(method),
            path: self.path.to_path_buf(),
            file_bytes: self.bytes,
            first: 0,
            duration,
            since: Duration::ZERO,
            core,
        };
        let ran = slice::run(&slice, &|| Duration::ZERO, &AtomicU64::new(0));
        ran.map_err(|trouble| self.failure(&trouble))
    }

    fn failure(&self, trouble: &super::trouble::Trouble) -> Failure {
        Failure::Trouble(format!("writing {}: {trouble}", self.path.display()))
    }
}

impl Drop for Written<'_> {
    fn drop(&mut self) {
        // It goes with its directory at the latest.
        std::fs::remove_file(self.path).ok();
    }
}
