//! Which pages of the file are in use, free, or freed but still needed by an older generation.
//!
//! Every page below `pages` is in exactly one of these states: *used* by the newest generation (or handed out for the one
//! being written), *pending* (freed by generation g, while the older durable meta is before g or a root pinned before g
//! lives), *free* (may be handed out), or a *hole* (free, and its blocks were or will be given back to the file system).

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use plinth_base::{Mark, PageId, PageRun};

use crate::{
    bitmap::Bitmap,
    layout::{BODY_BYTES_MAX, PAGE_BYTES, PAGE_HEADER_BYTES},
};

/// Keeps the pages that generation `generation` and later ones reach from being handed out.
#[derive(Clone, Debug)]
pub(crate) struct Pin(Arc<u64>);

impl Pin {
    pub fn generation(&self) -> u64 {
        *self.0
    }
}

/// All pins that are held, by whatever thread.
pub(crate) struct Pins {
    current: Pin,
    older: VecDeque<(u64, Weak<u64>)>,
}

impl Pins {
    pub fn new(generation: u64) -> Self {
        Self { current: Pin(Arc::new(generation)), older: VecDeque::new() }
    }

    /// A pin of the newest generation.
    pub fn pin(&self) -> Pin {
        self.current.clone()
    }

    /// Roots published from now on pin `generation`.
    pub fn advance(&mut self, generation: u64) {
        let old = std::mem::replace(&mut self.current, Pin(Arc::new(generation)));
        self.older.push_back((*old.0, Arc::downgrade(&old.0)));
    }

    /// The oldest generation that is pinned.
    pub fn oldest(&mut self) -> u64 {
        self.older.retain(|(_, token)| token.strong_count() > 0);
        self.older.front().map_or(*self.current.0, |(generation, _)| *generation)
    }
}

/// How many size classes of runs [`Capacity`] knows: the last one holds the longest body.
const CLASSES: usize = 20;

/// The longest run of a class, in pages: 1, 2, then 2^n + 1, because a payload of 2^n pages has a header before it.
const fn class_pages(class: usize) -> u64 {
    if class < 2 { class as u64 + 1 } else { (1 << (class - 1)) + 1 }
}

/// The class of runs of up to `run_pages_max`. None if no class has such long ones.
fn class_of(run_pages_max: u32) -> Option<usize> {
    (0..CLASSES).find(|&class| class_pages(class) >= u64::from(run_pages_max))
}

/// What an extent of free pages counts for in a class.
fn extent_capacity(pages: u64, class: usize) -> u64 {
    (pages + 1).saturating_sub(class_pages(class))
}

const _: () = assert!(class_pages(CLASSES - 1) * PAGE_BYTES as u64 > (BODY_BYTES_MAX + PAGE_HEADER_BYTES) as u64);

/// How many pages can surely be handed out, in any order, if no run is longer than its class allows.
///
/// First fit uses at least `extent - (longest - 1)` pages of an extent before a run does not fit into it; the sum over all
/// extents is what fits for certain.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Capacity([u64; CLASSES]);

impl Capacity {
    fn of(free: &Bitmap) -> Self {
        let mut capacity = Self::default();
        for (_, pages) in free.runs(0) {
            capacity.add_extent(pages);
        }
        capacity
    }

    /// Counts an extent of free pages.
    pub fn add_extent(&mut self, pages: u64) {
        for (class, sum) in self.0.iter_mut().enumerate() {
            *sum += extent_capacity(pages, class);
        }
    }

    /// Pages that fit if no run is longer than `run_pages_max`.
    pub fn pages(&self, run_pages_max: u32) -> u64 {
        class_of(run_pages_max).map_or(0, |class| self.0[class])
    }
}

/// See the module.
pub(crate) struct Space {
    used: Bitmap,
    free: Bitmap,
    holes: Bitmap,
    /// Freed runs with the generation that does without them, oldest first.
    pending: VecDeque<(u64, PageRun)>,
    /// Pages of all of them.
    pending_pages: u64,
    /// Pages from here on never held anything.
    fresh_from: u64,
    /// Where the search for single pages goes on: neighbors are written together.
    next: u64,
}

impl Space {
    /// A file of `pages` of which the metas are used and the others free.
    pub fn new(pages: u64, metas: u64) -> Self {
        let mut space = Self {
            used: Bitmap::new(pages),
            free: Bitmap::new(pages),
            holes: Bitmap::new(pages),
            pending: VecDeque::new(),
            pending_pages: 0,
            fresh_from: metas,
            next: 0,
        };
        (0..metas).for_each(|page| space.used.set(page));
        (metas..pages).for_each(|page| space.free.set(page));
        space
    }

    /// The state after opening: `newest` is the bitmap of the newest checkpoint, `older` that of the one before, if it is
    /// usable; `holes` was stored with the newest. Pages behind the bitmaps, up to `pages`, are free.
    pub fn of_checkpoints(newest: Bitmap, older: Option<&Bitmap>, holes: Bitmap, generation: u64, pages: u64) -> Self {
        let mut space = Self {
            used: newest,
            free: Bitmap::new(pages),
            holes,
            pending: VecDeque::new(),
            pending_pages: 0,
            fresh_from: 0,
            next: 0,
        };
        space.used.grow(pages);
        space.holes.grow(pages);
        for page in 0..pages {
            let used = space.used.get(page);
            let was_used = older.is_some_and(|older| older.get(page));
            if used || was_used {
                space.fresh_from = page + 1;
            }
            if was_used && !used {
                space.pending.push_back((generation, PageRun::one(PageId(page))));
                space.pending_pages += 1;
            } else if !used && !space.holes.get(page) {
                space.free.set(page);
            }
        }
        space
    }

    /// Pages of the file.
    pub fn pages(&self) -> u64 {
        self.used.len()
    }

    pub fn used(&self) -> &Bitmap {
        &self.used
    }

    pub fn holes(&self) -> &Bitmap {
        &self.holes
    }

    /// The page behind the last one that is used or pending.
    pub fn end(&self) -> u64 {
        let pending = self.pending.iter().map(|(_, run)| run.end().0).max().unwrap_or(0);
        self.used.runs(0).last().map_or(0, |(first, pages)| first + pages).max(pending)
    }

    pub fn free_pages(&self) -> u64 {
        self.free.ones()
    }

    pub fn capacity(&self) -> Capacity {
        Capacity::of(&self.free)
    }

    /// The file has become `pages` longer; they are free.
    pub fn grow(&mut self, pages: u64) {
        let (from, to) = (self.pages(), self.pages() + pages);
        for bitmap in [&mut self.used, &mut self.free, &mut self.holes] {
            bitmap.grow(to);
        }
        (from..to).for_each(|page| self.free.set(page));
    }

    /// Hands out `count` pages that follow each other, or none.
    pub fn allocate(&mut self, count: u32) -> Option<PageRun> {
        let want = u64::from(count);
        let first = if count == 1 { self.find_page() } else { self.find_run(want) }?;
        for page in first..first + want {
            self.free.clear(page);
            self.used.set(page);
        }
        if count == 1 {
            self.next = first + 1;
        }
        if first < self.fresh_from {
            Mark::PageReused.hit();
        }
        self.fresh_from = self.fresh_from.max(first + want);
        Some(PageRun { first: PageId(first), count })
    }

    fn find_page(&self) -> Option<u64> {
        let found = |page: u64| (page < self.pages()).then_some(page);
        found(self.free.find(true, self.next)).or_else(|| found(self.free.find(true, 0)))
    }

    /// The first place that fits, so that the bound of `Capacity` holds.
    fn find_run(&self, want: u64) -> Option<u64> {
        self.free.runs(0).find(|(_, pages)| *pages >= want).map(|(first, _)| first)
    }

    /// Generation `generation` does without `run`.
    pub fn free(&mut self, generation: u64, run: PageRun) {
        (run.first.0..run.end().0).for_each(|page| self.used.clear(page));
        self.pending.push_back((generation, run));
        self.pending_pages += u64::from(run.count);
    }

    /// What generations up to `limit` freed may be handed out. False if that was nothing.
    pub fn release(&mut self, limit: u64) -> bool {
        let before = self.free.ones();
        while let Some((_, run)) = self.pending.pop_front_if(|(generation, _)| *generation <= limit) {
            (run.first.0..run.end().0).for_each(|page| self.free.set(page));
            self.pending_pages -= u64::from(run.count);
        }
        self.free.ones() > before
    }

    /// Pages that nothing uses and that may not be handed out yet.
    pub fn pending_pages(&self) -> u64 {
        self.pending_pages
    }

    /// Starts a new checkpoint's pages from the front, where free runs have been joined.
    pub fn rewind(&mut self) {
        self.next = 0;
    }

    /// Makes holes of free runs of at least `pages_min`, from the end of the file on. Returns them. `keep_pages` stay free; and what counts for runs
    /// of up to `run_pages_max` is dug only while so many of those are left: else growing would fill the holes again at once.
    pub fn dig(&mut self, pages_min: u64, keep_pages: u64, run_pages_max: u32) -> Vec<PageRun> {
        let Some(class) = class_of(run_pages_max) else { return Vec::new() };
        let runs: Vec<_> = self.free.runs(0).filter(|(_, pages)| *pages >= pages_min).collect();
        let mut free_left = self.free_pages().saturating_sub(keep_pages);
        let mut capacity_left = self.capacity().0[class].saturating_sub(keep_pages);
        let mut dug = Vec::new();
        for (first, pages) in runs.into_iter().rev() {
            let counted = extent_capacity(pages, class);
            let most = if counted <= capacity_left { pages } else { capacity_left };
            let count = most.min(free_left).min(u64::from(u32::MAX));
            if count < pages_min {
                continue;
            }
            let rest = pages - count;
            for page in first + rest..first + pages {
                self.free.clear(page);
                self.holes.set(page);
            }
            free_left -= count;
            capacity_left -= counted - extent_capacity(rest, class);
            let count = u32::try_from(count).expect("bounded above");
            dug.push(PageRun { first: PageId(first + rest), count });
        }
        dug
    }

    /// The first hole, of which at most `pages_max` are told, that counts for runs of up to `run_pages_max` when it is filled and joined with the free
    /// pages beside it.
    pub fn first_useful_hole(&self, pages_max: u64, run_pages_max: u32) -> Option<PageRun> {
        let class = class_of(run_pages_max)?;
        let useful = self.holes.runs(0).find(|&(first, pages)| {
            let before = (0..first).rev().take_while(|page| self.free.get(*page)).count() as u64;
            let behind = self.free.find(false, first + pages) - (first + pages);
            let apart = extent_capacity(before, class) + extent_capacity(behind, class);
            extent_capacity(before + pages + behind, class) > apart
        });
        useful.map(|hole| run_of(hole, pages_max))
    }

    /// The first hole, of which at most `pages_max` are told.
    pub fn first_hole(&self, pages_max: u64) -> Option<PageRun> {
        self.holes.runs(0).next().map(|hole| run_of(hole, pages_max))
    }

    /// A run of holes has blocks again.
    pub fn fill(&mut self, run: PageRun) {
        for page in run.first.0..run.end().0 {
            self.holes.clear(page);
            self.free.set(page);
        }
    }
}

fn run_of((first, pages): (u64, u64), pages_max: u64) -> PageRun {
    PageRun { first: PageId(first), count: u32::try_from(pages.min(pages_max)).unwrap_or(u32::MAX) }
}

#[cfg(test)]
mod tests {
    use plinth_base::Prng;

    use super::*;

    /// A space whose free pages lie in pieces.
    fn fragmented(prng: &mut Prng) -> Space {
        let mut space = Space::new(600, 2);
        let runs: Vec<_> = std::iter::from_fn(|| space.allocate(1 + prng.below(20) as u32)).collect();
        for run in runs.into_iter().filter(|_| prng.chance(1, 2)) {
            space.free(1, run);
        }
        assert!(space.release(1));
        space.rewind();
        space
    }

    #[test]
    fn what_the_capacity_promises_can_be_handed_out_in_any_order() {
        for seed in 0..200 {
            let mut prng = Prng::new(seed);
            let mut space = fragmented(&mut prng);
            let longest = 1 + prng.below(18) as u32;
            let mut left = space.capacity().pages(longest);
            while left > 0 {
                let want = (1 + prng.below(u64::from(longest))).min(left) as u32;
                assert!(space.allocate(want).is_some(), "seed {seed}: {want} of the {left} pages still promised");
                left -= u64::from(want);
            }
        }
    }

    #[test]
    fn pages_wait_for_the_older_meta_and_for_pins() {
        let mut pins = Pins::new(4);
        let pin = pins.pin();
        pins.advance(5);
        pins.advance(6);
        assert_eq!(pins.oldest(), 4);
        let mut space = Space::new(16, 2);
        let run = space.allocate(14).expect("all of it");
        space.free(5, run);
        assert!(!space.release(pins.oldest().min(5)));
        drop(pin);
        assert!(!space.release(pins.oldest().min(4)), "the older meta needs them");
        assert!(space.release(pins.oldest().min(5)));
        assert_eq!(space.free_pages(), 14);
    }
}
