//! Giving free space back to the file system.
//!
//! Long free runs become *holes*, which are never handed out; both durable metas must say so before the blocks go, so that no
//! recovery takes a hole for space that is reserved. Growing fills first those holes that make room for the longest values; shorter ones stay holes, else
//! they would be filled and dug again for ever while writes wait for room. What recent checkpoints needed isn't given back either: the next ones need it, and
//! each time the blocks go and come the file system has its journal to write and its caches to fill.
//!
//! A crash in the middle leaves holes some of whose blocks are still there; they are punched again after the next open.

use plinth_base::{PageId, PageRun};
use plinth_env::{Env, File};

use crate::{error::TreeError, layout::PAGE_BYTES, room::RESERVE_PAGES, space::Space, store::Store};

/// Shorter free runs are kept.
const PUNCH_PAGES_MIN: u64 = (1 << 20) / PAGE_BYTES as u64;

/// A longer run is given back in steps of so many pages: the file system frees the blocks of one at once, and the log's flush waits for that.
const STEP_PAGES: u64 = (4 << 20) / PAGE_BYTES as u64;

/// Holes whose blocks have not been given back.
#[derive(Default)]
pub(crate) struct Punching {
    /// With the first generation whose bitmap has them.
    waiting: Vec<(u64, PageRun)>,
    /// Those that lose them just now.
    running: Vec<PageRun>,
    /// More would be given back if recent checkpoints hadn't needed it.
    is_keeping: bool,
}

impl Punching {
    /// After opening: nobody knows which holes were punched.
    pub fn resume(space: &Space) -> Self {
        let runs = space.holes().runs(0).map(|(first, pages)| {
            let count = u32::try_from(pages).unwrap_or(u32::MAX);
            // The older meta may not have them yet.
            (u64::MAX, PageRun { first: PageId(first), count })
        });
        Self { waiting: runs.collect(), ..Self::default() }
    }

    /// Whether `run` loses blocks just now: if it were filled it would lose those, too.
    pub fn is_running_in(&self, run: PageRun) -> bool {
        self.running.iter().any(|hole| hole.first < run.end() && run.first < hole.end())
    }

    /// `run` is no hole any longer.
    pub fn filled(&mut self, run: PageRun) {
        let rest = |(since, hole): (u64, PageRun)| without(hole, run).map(move |rest| (since, rest));
        self.waiting = std::mem::take(&mut self.waiting).into_iter().flat_map(rest).collect();
    }
}

/// What is left of `hole` beside `run`.
pub(crate) fn without(hole: PageRun, run: PageRun) -> impl Iterator<Item = PageRun> {
    let (first, end) = (hole.first.0, hole.end().0);
    let sides = [(first, end.min(run.first.0)), (first.max(run.end().0), end)];
    let is_left = |(from, to): &(u64, u64)| from < to;
    let piece = |(from, to): (u64, u64)| PageRun {
        first: PageId(from),
        count: u32::try_from(to - from).expect("a part of a run is no longer"),
    };
    sides.into_iter().filter(is_left).map(piece)
}

/// Holes to be punched: run it as a background task and hand the result to `Store::finish_punch`.
#[must_use = "the store can't begin another one before this is finished"]
pub struct Punch<E: Env> {
    file: E::File,
    runs: Vec<PageRun>,
}

/// Holes that were punched.
#[must_use = "goes to Store::finish_punch"]
pub struct PunchDone {
    pages: u64,
    result: Result<(), TreeError>,
}

impl<E: Env> Punch<E> {
    /// Gives the blocks back, some at a time. After each step `pace` is called with its bytes.
    pub async fn run(self, mut pace: impl AsyncFnMut(usize)) -> PunchDone {
        let mut pages = 0;
        for run in self.runs {
            for first in (run.first.0..run.end().0).step_by(STEP_PAGES as usize) {
                let step = STEP_PAGES.min(run.end().0 - first);
                let bytes = step * PAGE_BYTES as u64;
                if let Err(error) = self.file.punch_hole(first * PAGE_BYTES as u64, bytes).await {
                    return PunchDone { pages, result: Err(error.into()) };
                }
                pages += step;
                pace(usize::try_from(bytes).expect("a step is small")).await;
            }
        }
        PunchDone { pages, result: Ok(()) }
    }
}

impl<E: Env> Store<E> {
    /// Makes holes of free runs of 1 MiB and more, but for `keep_bytes` of room for values and keys of up to `run_bytes_max`, and returns those that
    /// may be punched now. What one of the last [`NEEDS_KEPT`] checkpoints needed is kept, too. New ones take two checkpoints: call it after each, until
    /// [`Store::has_holes_waiting`] says no.
    ///
    /// [`NEEDS_KEPT`]: crate::room::NEEDS_KEPT
    pub fn begin_punch(&mut self, keep_bytes: u64, run_bytes_max: usize) -> Option<Punch<E>> {
        if !self.punching.running.is_empty() || self.growth.running || self.poisoned {
            return None;
        }
        self.release_pages();
        let generation = self.newest.generation + 1;
        let run_pages_max = self.run_pages_max(run_bytes_max);
        let needed = self.ledger.dirty.pages;
        let needed_lately = self.growth.needs.iter().copied().fold(needed, u64::max);
        let space = self.space.as_mut()?;
        let diggable = |space: &Space, needed: u64| {
            let keep_pages = needed + 2 * RESERVE_PAGES + keep_bytes / PAGE_BYTES as u64;
            space.diggable(PUNCH_PAGES_MIN, keep_pages, run_pages_max)
        };
        let dug = diggable(space, needed_lately);
        space.dig(&dug);
        self.punching.waiting.extend(dug.into_iter().map(|run| (generation, run)));
        self.punching.is_keeping = needed_lately > needed && !diggable(space, needed).is_empty();
        self.capacity = space.capacity();
        // After a reopening the next two checkpoints write what is known now.
        for (since, _) in &mut self.punching.waiting {
            *since = (*since).min(generation);
        }
        let older = self.older.as_ref().map_or(0, |meta| meta.generation);
        let ready = self.punching.waiting.extract_if(.., |(since, _)| *since <= older);
        let runs: Vec<_> = ready.map(|(_, run)| run).collect();
        // What waits needs a checkpoint even if nobody writes.
        self.changed |= self.has_holes_waiting();
        if runs.is_empty() {
            return None;
        }
        self.punching.running.clone_from(&runs);
        Some(Punch { file: self.file.clone(), runs })
    }

    /// Takes a result over and returns how many bytes were given back. After an error the rest stays until the next open.
    pub fn finish_punch(&mut self, done: PunchDone) -> Result<u64, TreeError> {
        self.punching.running.clear();
        done.result.map(|()| done.pages * PAGE_BYTES as u64)
    }

    /// Whether there are holes that wait for a checkpoint before they are punched, or free runs that become some if the next ones need less.
    #[must_use]
    pub fn has_holes_waiting(&self) -> bool {
        !self.punching.waiting.is_empty() || self.punching.is_keeping
    }

    /// What checkpoints needed so far says nothing of what comes: room that is kept for it may be given back.
    pub fn forget_needs(&mut self) {
        self.growth.needs.clear();
    }
}
