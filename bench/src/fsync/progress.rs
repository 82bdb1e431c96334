//! A line on the terminal that says how it goes. Where there is no terminal, nobody reads it.

use std::{
    io::{IsTerminal, Write, stderr},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::{cell::Cell, slice::Tally};

/// The live line.
#[derive(Debug)]
pub struct Progress {
    is_live: bool,
    start: Instant,
    about: Duration,
}

impl Progress {
    /// For a run that begins now and takes about so long.
    #[must_use]
    pub fn new(about: Duration) -> Self {
        Self { is_live: stderr().is_terminal(), start: Instant::now(), about }
    }

    /// A file is made.
    pub fn preparing(&self, cell: Cell) {
        self.line(&format!("making files for: {}", cell_text(cell)));
    }

    /// It goes on.
    pub fn tick(&self, cell: Cell, durable: &AtomicU64, so_far: &Tally) {
        let p50 = so_far.latencies.quantile_us(0.5).map_or_else(String::new, |us| format!(", p50 {us:.0} µs"));
        let count = durable.load(Ordering::Relaxed);
        self.line(&format!("{}: {count} durable writes{p50}", cell_text(cell)));
    }

    fn line(&self, text: &str) {
        if self.is_live {
            let (done, about) = (self.start.elapsed().as_secs(), self.about.as_secs());
            eprint!("\r\x1b[K{done} of about {about} s; {text}");
            // A line that isn't shown is no loss.
            stderr().flush().ok();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_live {
            eprint!("\r\x1b[K");
        }
    }
}

fn cell_text(cell: Cell) -> String {
    let mut text =
        format!("{}, {} bytes, depth {}, {} file", cell.method.name(), cell.bytes, cell.depth, cell.file.name());
    if cell.neighbour != super::cell::Neighbour::None {
        text += &format!(", neighbour {}", cell.neighbour.name());
    }
    text
}
