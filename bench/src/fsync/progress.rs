//! A line on the terminal that says how it goes. Where there is no terminal, nobody reads it.

use std::{
    io::{IsTerminal, Write, stderr},
    sync::atomic::{AtomicU64, Ordering},
};

use super::{cell::Cell, slice::Tally};

/// The live line.
#[derive(Debug)]
pub struct Progress {
    is_live: bool,
    /// Cells before the group under way.
    pub done: usize,
    /// All cells.
    pub all: usize,
}

impl Progress {
    /// For a run of so many cells.
    #[must_use]
    pub fn new(all: usize, is_wanted: bool) -> Self {
        Self { is_live: is_wanted && stderr().is_terminal(), done: 0, all }
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

    /// The line goes away.
    pub fn clear(&self) {
        if self.is_live {
            eprint!("\r\x1b[K");
        }
    }

    fn line(&self, text: &str) {
        if self.is_live {
            eprint!("\r\x1b[K{} of {} cells done; {text}", self.done, self.all);
            // A line that isn't shown is no loss.
            stderr().flush().ok();
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
