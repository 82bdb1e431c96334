//! Cells measured in turns: each group in rounds of short stretches, so that a device that gets slower while it is measured decides nothing.

use std::{
    path::PathBuf,
    sync::{
        atomic::AtomicU64,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use super::{
    cell::Cell,
    files::Files,
    neighbour::Beside,
    progress::Progress,
    slice::{self, Slice, Tally},
    trouble::Trouble,
};
use crate::procfs::{CpuSample, Disk, Disturbance};

/// How often the live line changes.
const TICK: Duration = Duration::from_millis(200);
/// A file that is used up at once is not worth making again and again: after so many times the cell has what it has.
const REMAKES_MAX: u32 = 200;

/// What a cell gave.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Figures.
    Measured(Box<Measured>),
    /// It can't be done here, for this reason.
    Impossible(String),
}

impl Outcome {
    /// The figures, if there are any.
    #[must_use]
    pub fn measured(&self) -> Option<&Measured> {
        match self {
            Self::Measured(measured) => Some(measured),
            Self::Impossible(_) => None,
        }
    }
}

/// The figures of a cell.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What its writes gave.
    pub tally: Tally,
    /// Flushes that the device counted meanwhile, if it counts any.
    pub device_flushes: Option<u64>,
    /// Operations of the neighbour in a second.
    pub neighbour_per_second: Option<f64>,
    /// What others did to this machine.
    pub disturbance: Disturbance,
}

/// How cells are measured.
pub struct Measuring<'a> {
    /// What is written to.
    pub files: &'a Files<'a>,
    /// Each cell's time.
    pub duration: Duration,
    /// The core of the threads that write.
    pub core: Option<usize>,
    /// The device below, if there is one.
    pub disk: Option<Disk>,
    /// The live line.
    pub progress: Progress,
}

/// A cell under way.
struct Turn {
    cell: Cell,
    path: PathBuf,
    is_ready: bool,
    first: u64,
    tally: Tally,
    flushes: Option<u64>,
    /// What others did, and the neighbour's operations, each times the seconds that it was so.
    steal_seconds: f64,
    foreign_seconds: f64,
    neighbour_operations: f64,
    impossible: Option<String>,
}

impl Measuring<'_> {
    /// Measures a group, each cell for the same time.
    pub fn in_turns(&mut self, cells: &[Cell], rounds: u32) -> Result<Vec<Outcome>, Trouble> {
        let mut turns: Vec<Turn> =
            cells.iter().enumerate().map(|(place, cell)| Turn::new(*cell, self.files.path(*cell, place))).collect();
        for round in 0..rounds {
            for step in 0..turns.len() {
                // Each round begins with another one, so that none always comes behind the same.
                let at = (step + round as usize) % turns.len();
                let turn = &mut turns[at];
                if turn.impossible.is_some() {
                    continue;
                }
                let until = self.duration * (round + 1) / rounds;
                match self.turn(turn, until) {
                    Ok(()) => {}
                    Err(Trouble::Impossible(reason)) => turn.impossible = Some(reason),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(turns.into_iter().map(|turn| turn.end(self.files)).collect())
    }

    /// Measures a cell until it has had so much time in all.
    fn turn(&mut self, turn: &mut Turn, until: Duration) -> Result<(), Trouble> {
        let mut remakes = 0;
        while turn.tally.elapsed < until && remakes < REMAKES_MAX {
            if !turn.is_ready {
                self.progress.preparing(turn.cell);
                self.files.prepare(turn.cell, &turn.path)?;
                self.files.prepare_neighbour(turn.cell.neighbour)?;
                (turn.is_ready, turn.first) = (true, 0);
                remakes += 1;
            }
            self.stretch(turn, until - turn.tally.elapsed)?;
        }
        Ok(())
    }

    fn stretch(&mut self, turn: &mut Turn, duration: Duration) -> Result<(), Trouble> {
        let slice = Slice {
            cell: turn.cell,
            path: turn.path.clone(),
            file_bytes: self.files.sizes.file,
            first: turn.first,
            duration,
            since: turn.tally.elapsed,
            core: self.core,
        };
        let before = (CpuSample::read()?, self.disk_flushes());
        let beside = Beside::start(turn.cell.neighbour, self.files)?;
        let tally = self.watched(&slice, &beside, &turn.tally)?;
        let per_second = beside.stop()?;
        let seconds = tally.elapsed.as_secs_f64();
        let others = CpuSample::read()?.since(&before.0, &[std::process::id()]);
        turn.steal_seconds += others.steal_percent * seconds;
        turn.foreign_seconds += others.foreign_percent * seconds;
        turn.neighbour_operations += per_second * seconds;
        let flushes = self.disk_flushes().zip(before.1).map(|(after, before)| after.saturating_sub(before));
        turn.flushes = turn.flushes.zip(flushes).map(|(sum, more)| sum + more);
        turn.first += tally.begun;
        turn.is_ready = !tally.is_used_up;
        turn.tally.add(&tally);
        turn.tally.elapsed += tally.elapsed;
        Ok(())
    }

    /// Runs a stretch, and tells meanwhile how it goes.
    fn watched(&mut self, slice: &Slice, beside: &Beside, so_far: &Tally) -> Result<Tally, Trouble> {
        let durable = AtomicU64::new(so_far.latencies.count());
        let (over, wait) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let durable = &durable;
            let runner = scope.spawn(move || {
                let outcome = slice::run(slice, &|| beside.cpu(), durable);
                drop(over);
                outcome
            });
            while let Err(RecvTimeoutError::Timeout) = wait.recv_timeout(TICK) {
                self.progress.tick(slice.cell, durable, so_far);
            }
            runner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// None if the device has never counted one: those made of other devices don't count.
    fn disk_flushes(&self) -> Option<u64> {
        let sample = self.disk.as_ref()?.sample().ok()?;
        (sample.flushes > 0).then_some(sample.flushes)
    }
}

impl Turn {
    fn new(cell: Cell, path: PathBuf) -> Self {
        Self {
            cell,
            path,
            is_ready: false,
            first: 0,
            tally: Tally::new(),
            flushes: Some(0),
            steal_seconds: 0.0,
            foreign_seconds: 0.0,
            neighbour_operations: 0.0,
            impossible: None,
        }
    }

    fn end(self, files: &Files<'_>) -> Outcome {
        files.remove(self.cell, &self.path);
        if let Some(reason) = self.impossible {
            return Outcome::Impossible(reason);
        }
        let seconds = self.tally.elapsed.as_secs_f64();
        let has_neighbour = self.cell.neighbour != super::cell::Neighbour::None;
        Outcome::Measured(Box::new(Measured {
            device_flushes: self.flushes,
            neighbour_per_second: has_neighbour.then(|| self.neighbour_operations / seconds),
            disturbance: Disturbance {
                steal_percent: self.steal_seconds / seconds,
                foreign_percent: self.foreign_seconds / seconds,
            },
            tally: self.tally,
        }))
    }
}

#[cfg(test)]
mod tests;
