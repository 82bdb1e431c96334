//! Which pages of the file are in use, free, or freed but still needed by an older generation.
//!
//! Every page below `pages` is in exactly one of these states: *used* by the newest generation (or handed out for the one
//! being written), *pending* (freed by generation g, while the older durable meta is before g or something pinned before g
//! reaches it), *free* (may be handed out), or a *hole* (free, and its blocks were or will be given back to the file system).

use std::collections::BTreeMap;

use plinth_base::{Mark, PageId, PageRun};

use crate::{
    bitmap::Bitmap,
    layout::{BODY_BYTES_MAX, PAGE_BYTES, PAGE_HEADER_BYTES},
    pins::{Births, may_reach},
};

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
    /// Freed runs, by the generation that does without them and the one that they were handed out for.
    pending: BTreeMap<(u64, u64), Vec<PageRun>>,
    /// Pages of all of them.
    pending_pages: u64,
    births: Births,
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
            pending: BTreeMap::new(),
            pending_pages: 0,
            births: Births::default(),
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
            pending: BTreeMap::new(),
            pending_pages: 0,
            births: Births::default(),
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
                space.pending.entry((generation, 0)).or_default().push(PageRun::one(PageId(page)));
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
        let pending = self.pending.values().flatten().map(|run| run.end().0).max().unwrap_or(0);
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
        self.births.grow(to);
    }

    /// Pages are handed out for `generation` from now on, while the generations `held` are pinned: from the front, where free runs have been joined.
    pub fn begin(&mut self, generation: u64, held: &[u64]) {
        self.births.begin(generation, self.pages(), held);
        self.next = 0;
    }

    /// Hands out `count` pages that follow each other, or none.
    pub fn allocate(&mut self, count: u32) -> Option<PageRun> {
        let want = u64::from(count);
        let first = if count == 1 { self.find_page() } else { self.find_run(want) }?;
        for page in first..first + want {
            self.free.clear(page);
            self.used.set(page);
            self.births.note(page);
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
        let mut born = u64::MAX;
        for page in run.first.0..run.end().0 {
            self.used.clear(page);
            born = born.min(self.births.take(page));
        }
        self.pending.entry((generation, born)).or_default().push(run);
        self.pending_pages += u64::from(run.count);
    }

    /// What generations up to `older` freed may be handed out, unless one of the generations `held` is pinned that reaches it. False if that was nothing.
    pub fn release(&mut self, older: u64, held: &[u64]) -> bool {
        let is_needed = |freed: u64, born: u64| held.iter().any(|pin| *pin < freed && may_reach(*pin, born));
        let due = self.pending.extract_if(..=(older, u64::MAX), |(freed, born), _| !is_needed(*freed, *born));
        let before = self.free.ones();
        for run in due.flat_map(|(_, runs)| runs) {
            (run.first.0..run.end().0).for_each(|page| self.free.set(page));
            self.pending_pages -= u64::from(run.count);
        }
        self.free.ones() > before
    }

    /// Pages that nothing uses and that may not be handed out yet.
    pub fn pending_pages(&self) -> u64 {
        self.pending_pages
    }

    /// Makes holes of what [`Space::diggable`] says.
    pub fn dig(&mut self, runs: &[PageRun]) {
        for page in runs.iter().flat_map(|run| run.first.0..run.end().0) {
            self.free.clear(page);
            self.holes.set(page);
        }
    }

    /// Free runs of at least `pages_min` that may become holes, from the end of the file on. `keep_pages` stay free; and what counts for runs of up to
    /// `run_pages_max` is dug only while so many of those are left: else growing would fill the holes again at once.
    pub fn diggable(&self, pages_min: u64, keep_pages: u64, run_pages_max: u32) -> Vec<PageRun> {
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
            free_left -= count;
            capacity_left -= counted - extent_capacity(rest, class);
            let count = u32::try_from(count).expect("bounded above");
            dug.push(PageRun { first: PageId(first + rest), count });
        }
        dug
    }

    /// All holes, in order.
    pub fn hole_runs(&self) -> impl Iterator<Item = PageRun> {
        self.holes.runs(0).map(run_of)
    }

    /// Whether a hole counts for runs of up to `run_pages_max` when it is filled and joined with the free pages beside it.
    pub fn is_useful(&self, hole: PageRun, run_pages_max: u32) -> bool {
        let (first, pages, end) = (hole.first.0, u64::from(hole.count), hole.end().0);
        let before = (0..first).rev().take_while(|page| self.free.get(*page)).count() as u64;
        let behind = self.free.find(false, end) - end;
        class_of(run_pages_max).is_some_and(|class| {
            let apart = extent_capacity(before, class) + extent_capacity(behind, class);
            extent_capacity(before + pages + behind, class) > apart
        })
    }

    /// A run of holes has blocks again.
    pub fn fill(&mut self, run: PageRun) {
        for page in run.first.0..run.end().0 {
            self.holes.clear(page);
            self.free.set(page);
        }
    }
}

fn run_of((first, pages): (u64, u64)) -> PageRun {
    PageRun { first: PageId(first), count: u32::try_from(pages).unwrap_or(u32::MAX) }
}

/// Whether a run of free pages with none beside it counts for runs of up to `run_pages_max`.
pub(crate) fn is_useful_alone(run: PageRun, run_pages_max: u32) -> bool {
    class_of(run_pages_max).is_some_and(|class| extent_capacity(u64::from(run.count), class) > 0)
}

#[cfg(test)]
mod tests {
    use plinth_base::Prng;

    use super::*;
    use crate::pins::{Pin, Pins};

    /// A space whose free pages lie in pieces.
    fn fragmented(prng: &mut Prng) -> Space {
        let mut space = Space::new(600, 2);
        let runs: Vec<_> = std::iter::from_fn(|| space.allocate(1 + prng.below(20) as u32)).collect();
        for run in runs.into_iter().filter(|_| prng.chance(1, 2)) {
            space.free(1, run);
        }
        assert!(space.release(1, &[1]));
        space.begin(2, &[1]);
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
        assert_eq!(pins.held(), [4, 6]);
        let mut space = Space::new(16, 2);
        let run = space.allocate(14).expect("all of it");
        space.free(5, run);
        assert!(!space.release(5, &pins.held()));
        drop(pin);
        assert!(!space.release(4, &pins.held()), "the older meta needs them");
        assert!(space.release(5, &pins.held()));
        assert_eq!(space.free_pages(), 14);
    }

    #[test]
    fn what_is_younger_than_a_pin_does_not_wait_for_it() {
        let mut pins = Pins::new(4);
        let mut space = Space::new(40, 2);
        let old = space.allocate(1).expect("empty");
        let pin = pins.pin();
        let mut begin = |space: &mut Space, generation| {
            pins.advance(generation);
            space.begin(generation, &pins.held());
            pins.held()
        };
        begin(&mut space, 5);
        let next = space.allocate(1).expect("room");
        begin(&mut space, 6);
        let young = space.allocate(3).expect("room");
        // Joined with the ones before: nothing is pinned between them.
        begin(&mut space, 7);
        let younger = space.allocate(1).expect("room");
        let held = begin(&mut space, 8);
        assert_eq!(held, [4, 8]);
        [old, next, young, younger].into_iter().for_each(|run| space.free(8, run));
        assert!(!space.release(7, &held), "the older meta needs them");
        let free = space.free_pages();
        assert!(space.release(8, &held));
        assert_eq!(
            space.free_pages(),
            free + 4,
            "the root behind 4 may have what 5 has written in memory, and no more"
        );
        assert_eq!(space.pending_pages(), 2);
        // Handed out again they are younger still.
        let again = space.allocate(4).expect("just freed");
        space.free(9, again);
        assert!(space.release(9, &held[..1]));
        drop(pin);
        assert!(space.release(9, &pins.held()));
        assert_eq!(space.pending_pages(), 0);
    }

    #[test]
    fn no_page_that_something_pinned_reaches_is_handed_out() {
        for seed in 0..200 {
            let mut prng = Prng::new(seed);
            let (mut pins, mut space) = (Pins::new(1), Space::new(4000, 2));
            let mut used: Vec<PageRun> = Vec::new();
            // What is pinned, and what it reaches: all that its generation uses, and what the next one has written.
            let mut pinned: Vec<(Pin, Vec<PageRun>)> = Vec::new();
            for generation in 2..60 {
                space.release(generation - 1, &pins.held());
                for _ in 0..prng.below(8) {
                    if !used.is_empty() {
                        let run = used.swap_remove(prng.below(used.len() as u64) as usize);
                        space.free(generation, run);
                    }
                }
                let before = pins.pin();
                pins.advance(generation);
                space.begin(generation, &pins.held());
                let made: Vec<_> =
                    (0..prng.below(12)).filter_map(|_| space.allocate(1 + prng.below(3) as u32)).collect();
                for run in &made {
                    let reached = pinned.iter().flat_map(|(_, reached)| reached);
                    let overlaps = |other: &PageRun| other.first.0 < run.end().0 && run.first.0 < other.end().0;
                    assert!(
                        !reached.clone().any(overlaps),
                        "seed {seed}: generation {generation} got a page that is pinned"
                    );
                }
                pinned
                    .iter_mut()
                    .filter(|(pin, _)| pin.generation() + 1 == generation)
                    .for_each(|(_, reached)| reached.extend(&made));
                used.extend(&made);
                pinned.retain(|_| prng.chance(9, 10));
                if prng.chance(1, 2) {
                    pinned.push((pins.pin(), used.clone()));
                }
                drop(before);
            }
        }
    }
}
