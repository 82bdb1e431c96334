//! Space in the file: whether what is changed surely fits, and growing before it no longer does.
//!
//! Space is reserved before a write is admitted, so that a full disk is an answer to a client and never a failed checkpoint.

use std::collections::VecDeque;

use plinth_base::{PageId, PageRun};
use plinth_env::{Env, File};

use crate::{
    error::TreeError,
    layout::{DEPTH_MAX, PAGE_BYTES, run_pages},
    meta::Meta,
    punch::without,
    space::{Space, is_useful_alone},
    store::Store,
};

/// Pages kept back when puts are admitted, so that deletes, a checkpoint and a compaction still fit a full file.
pub const RESERVE_PAGES: u64 = 256;

/// So many of the last checkpoints are remembered for the room that they needed.
pub const NEEDS_KEPT: usize = 8;

/// What the file can still take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Pages that surely fit into the free pages, fragmentation considered.
    pub free_pages: u64,
    /// Pages that the running and the next checkpoint need already.
    pub needed_pages: u64,
}

impl Room {
    /// Whether a put that changes up to `pages` is admitted. If not: grow the file, or answer "no space".
    #[must_use]
    pub fn admits_put(&self, pages: u64) -> bool {
        self.needed_pages + pages + RESERVE_PAGES <= self.free_pages
    }

    /// Whether a removal that changes up to `pages` is admitted: it may use the reserve.
    #[must_use]
    pub fn admits_remove(&self, pages: u64) -> bool {
        self.needed_pages + pages <= self.free_pages
    }
}

/// Sizes as people ask for them, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Pages in use and the free ones between them that were not given back to the file system. What lies behind the last page
    /// in use is room reserved for writes to come and doesn't count.
    pub total_bytes: u64,
    /// Pages that the newest durable generation reaches, or an older one that is still needed.
    pub in_use_bytes: u64,
}

/// How the file grows.
#[derive(Default)]
pub(crate) struct Growth {
    /// Pages of the file.
    pub file_pages: u64,
    /// Pages added, and holes filled, while the space was with a checkpoint.
    pub added_pages: u64,
    pub filled: Vec<PageRun>,
    /// Holes that are left meanwhile.
    pub holes: Vec<PageRun>,
    pub running: bool,
    /// Pages that the last checkpoints needed, and what was changed while they ran.
    pub needs: VecDeque<u64>,
    /// The sizes when the space was here last.
    pub sizes: Option<Sizes>,
}

/// A step by which the file is to grow: run it and hand the result to `Store::finish_grow`.
#[must_use = "the store can't begin another one before this is finished"]
pub struct Grow<E: Env> {
    file: E::File,
    run: PageRun,
}

/// A step that was run.
#[must_use = "goes to Store::finish_grow"]
pub struct GrowDone {
    run: PageRun,
    result: Result<(), TreeError>,
}

impl Growth {
    /// The space goes to a checkpoint.
    pub fn leave(&mut self, space: &Space) {
        self.holes = space.hole_runs().collect();
    }

    /// A checkpoint is done.
    pub fn note_need(&mut self, pages: u64) {
        self.needs.truncate(NEEDS_KEPT - 1);
        self.needs.push_front(pages);
    }
}

impl<E: Env> Grow<E> {
    /// Reserves the space.
    pub async fn run(self) -> GrowDone {
        let page_bytes = PAGE_BYTES as u64;
        let result = self.file.allocate(self.run.first.0 * page_bytes, u64::from(self.run.count) * page_bytes).await;
        GrowDone { run: self.run, result: result.map_err(TreeError::from) }
    }
}

/// More pages than a put of this size can change or add: its path, a split of every level, and the overflow runs.
#[must_use]
pub fn put_pages_max(key_bytes: usize, body_bytes: usize) -> u64 {
    2 * DEPTH_MAX as u64 + 2 * u64::from(run_pages(key_bytes)) + u64::from(run_pages(body_bytes))
}

/// More pages than a removal can change: its path and a neighbor at every level.
#[must_use]
pub fn remove_pages_max() -> u64 {
    2 * DEPTH_MAX as u64
}

impl<E: Env> Store<E> {
    /// What the file can still take, if no single value or key is longer than `run_bytes_max`.
    #[must_use]
    pub fn room(&self, run_bytes_max: usize) -> Room {
        let mut needed_pages = self.ledger.dirty.pages + u64::from(self.bitmap_pages());
        if let Some(frozen) = &self.frozen {
            needed_pages += frozen.dirty.pages + u64::from(frozen.bitmap_pages);
        }
        let mut capacity = self.capacity;
        if self.growth.added_pages > 0 {
            capacity.add_extent(self.growth.added_pages);
        }
        self.growth.filled.iter().for_each(|run| capacity.add_extent(u64::from(run.count)));
        Room { free_pages: capacity.pages(self.run_pages_max(run_bytes_max)), needed_pages }
    }

    /// Of the bitmaps that a checkpoint writes.
    fn bitmap_pages(&self) -> u32 {
        run_pages(Meta::bitmap_bytes(self.growth.file_pages))
    }

    /// The longest run that room is to be kept for.
    pub(crate) fn run_pages_max(&self, run_bytes_max: usize) -> u32 {
        let frozen = self.frozen.as_ref().map_or(0, |frozen| frozen.dirty.run_pages_max);
        run_pages(run_bytes_max).max(self.ledger.dirty.run_pages_max).max(self.bitmap_pages()).max(frozen)
    }

    /// Sizes of the file. While a checkpoint runs, as they were when it began.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        match (&self.space, self.growth.sizes) {
            (Some(space), _) => sizes(space),
            (None, Some(sizes)) => sizes,
            (None, None) => panic!("sizes are noted before the space goes to a checkpoint"),
        }
    }

    /// Bytes that the next checkpoints and the end of old roots will make free. 0 while a checkpoint is running.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        self.space.as_ref().map_or(0, |space| space.pending_pages() * PAGE_BYTES as u64)
    }

    /// A step by which the file grows, by at least `pages_min`: first into holes it has, if that makes room for values and keys of up to
    /// `run_bytes_max`, then at its end. None while a step is running, at the file's largest size, or if poisoned.
    pub fn begin_grow(&mut self, pages_min: u64, run_bytes_max: usize) -> Option<Grow<E>> {
        if self.growth.running || self.poisoned {
            return None;
        }
        let step_pages = pages_min.max(self.options.grow_bytes / PAGE_BYTES as u64).max(1);
        let left_pages = (self.options.file_bytes_max / PAGE_BYTES as u64).saturating_sub(self.growth.file_pages);
        let run_pages_max = self.run_pages_max(run_bytes_max);
        let is_at_rest = |hole: &PageRun| !self.punching.is_running_in(*hole);
        let hole = match &self.space {
            // Shorter values may still fit.
            Some(space) if left_pages == 0 => space.hole_runs().find(is_at_rest),
            Some(space) => space.hole_runs().filter(is_at_rest).find(|hole| space.is_useful(*hole, run_pages_max)),
            None => {
                let mut holes = self.growth.holes.iter().copied().filter(is_at_rest);
                holes.find(|hole| is_useful_alone(*hole, run_pages_max))
            }
        };
        let (first, pages_max) = match hole {
            Some(hole) => (hole.first, u64::from(hole.count)),
            None if left_pages == 0 => return None,
            None => (PageId(self.growth.file_pages), left_pages),
        };
        let run = PageRun { first, count: u32::try_from(step_pages.min(pages_max)).unwrap_or(u32::MAX) };
        self.growth.running = true;
        Some(Grow { file: self.file.clone(), run })
    }

    /// Takes a step's result over. `StorageFull` changes nothing.
    pub fn finish_grow(&mut self, done: GrowDone) -> Result<(), TreeError> {
        self.growth.running = false;
        done.result?;
        if done.run.first.0 == self.growth.file_pages {
            self.growth.file_pages += u64::from(done.run.count);
            self.growth.added_pages += u64::from(done.run.count);
        } else {
            self.punching.filled(done.run);
            let holes = std::mem::take(&mut self.growth.holes).into_iter();
            self.growth.holes = holes.flat_map(|hole| without(hole, done.run)).collect();
            self.growth.filled.push(done.run);
        }
        self.finish_growth();
        Ok(())
    }

    /// Adds what the file has grown by to the space, if that is here.
    pub(crate) fn finish_growth(&mut self) {
        let Some(space) = &mut self.space else { return };
        if self.growth.added_pages > 0 {
            space.grow(std::mem::take(&mut self.growth.added_pages));
        }
        self.growth.filled.drain(..).for_each(|run| space.fill(run));
        self.capacity = space.capacity();
    }

    /// Hands pages out again that no durable meta and no pinned root needs any longer. To be called now and then when
    /// roots were dropped; a checkpoint does it by itself.
    pub fn release_pages(&mut self) {
        let older = self.older.as_ref().unwrap_or(&self.newest).generation;
        let Some(space) = &mut self.space else { return };
        if space.release(older, &self.pins.held()) {
            self.capacity = space.capacity();
        }
        self.growth.sizes = Some(sizes(space));
    }
}

fn sizes(space: &crate::space::Space) -> Sizes {
    let holes = space.holes().ones();
    let in_use_pages = space.pages() - holes - space.free_pages();
    let page_bytes = PAGE_BYTES as u64;
    let total_pages = space.end().saturating_sub(holes).max(in_use_pages);
    Sizes { total_bytes: total_pages * page_bytes, in_use_bytes: in_use_pages * page_bytes }
}
