//! What is known of each page: nothing, or when it was last seen in memory, verified.
//!
//! A stamp is the time at which the page was last proven or touched. The kernel evicts a page only if two of its scans
//! find it untouched, so a page stamped within `TRUST_MS` is there; an older one is asked for (whether it is in the page cache) before it is
//! touched. While the kernel evicts pages every one is asked for, and more strictly: whether it is in the page table.
//! Memory is 4 bytes a page, and only what was ever stamped is backed by real memory.
//!
//! Invariant: whoever lets a stamp age replaces exactly the value it judged (compare and swap), and never a fresh
//! one: a page loaded while it is judged keeps its new stamp.

use std::{
    io,
    ops::{Deref, Range},
    sync::atomic::{AtomicU32, Ordering},
};

use memmap2::{MmapOptions, MmapRaw};
use rustix::time::{ClockId, clock_gettime};

/// How long a page is trusted to stay after it was proven or touched, in milliseconds: a tick of the
/// coarse clock.
const TRUST_MS: u32 = 4;

/// How long no stamp is trusted after a page was found evicted, in milliseconds: under pressure a reclaim that was interrupted
/// can still drop a page that was touched since.
const PRESSURE_MS: u32 = 10_000;

/// How a page is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ask {
    /// Is it in the page cache? Quickly told, and enough as long as nothing is evicted.
    Cached,
    /// Is it in the page table? What reclaim is about to drop isn't.
    Mapped,
}

/// Pages that are asked for at once: bits of an answer.
pub(super) const BLOCK_PAGES: usize = u128::BITS as usize;

/// Not in memory, or not verified.
const MISSING: u32 = 0;

/// In memory when last looked at, too long ago to be trusted.
const STALE: u32 = 1;

/// The smallest time stamp.
const TIME_MIN: u32 = 2;

/// Stamps of the pages of one file.
pub(super) struct Residency {
    stamps: Stamps,
    /// When a page was last found evicted; `MISSING` if none was lately.
    evicted: AtomicU32,
}

impl Residency {
    /// Fails if there is no address space for the table.
    pub(super) fn new(pages: usize) -> io::Result<Self> {
        Ok(Self { stamps: Stamps::new(pages)?, evicted: AtomicU32::new(MISSING) })
    }

    pub(super) fn pages(&self) -> usize {
        self.stamps.len()
    }

    /// The pages were verified, or written: they are in memory and right.
    pub(super) fn mark(&self, pages: Range<usize>) {
        let now = now_ms();
        for stamp in &self.stamps[pages] {
            stamp.store(now, Ordering::Release);
        }
    }

    /// Nothing is known of the pages any more.
    pub(super) fn clear(&self, pages: Range<usize>) {
        for stamp in &self.stamps[pages] {
            stamp.store(MISSING, Ordering::Release);
        }
    }

    /// Whether all pages are in memory and verified. `ask` is called if the knowledge of one is too old, for blocks of at most
    /// `BLOCK_PAGES`: bit `i` of the answer says whether the page `i` of the block is there.
    pub(super) fn check(&self, pages: Range<usize>, ask: impl FnMut(Range<usize>, Ask) -> u128) -> bool {
        self.check_at(now_ms(), pages, ask)
    }

    fn check_at(&self, now: u32, pages: Range<usize>, mut ask: impl FnMut(Range<usize>, Ask) -> u128) -> bool {
        let stamps = &self.stamps[pages.clone()];
        let pressure = self.under_pressure(now);
        let mut all_fresh = !pressure;
        for stamp in stamps {
            let value = stamp.load(Ordering::Acquire);
            if value == MISSING {
                return false;
            }
            all_fresh &= is_fresh(value, now);
            // The touch that follows keeps the page for another while. One store a page and clock tick.
            if all_fresh && value != now {
                replace(stamp, value, now);
            }
        }
        if all_fresh {
            return true;
        }
        // A block costs little more than a page; who reads one page often reads others near it.
        let (around, how) = if pressure { (pages.clone(), Ask::Mapped) } else { (self.blocks_of(&pages), Ask::Cached) };
        let there = self.refresh(now, &pages, around, |block| ask(block, how));
        if !there {
            self.evicted.store(now, Ordering::Relaxed);
            // Of a run all pages go.
            for stamp in stamps {
                replace(stamp, stamp.load(Ordering::Relaxed), MISSING);
            }
        }
        there && stamps.iter().all(|stamp| stamp.load(Ordering::Relaxed) != MISSING)
    }

    /// Asks for all pages `around` and stamps those that are there. Whether all of `pages` are.
    fn refresh(
        &self,
        now: u32,
        pages: &Range<usize>,
        around: Range<usize>,
        mut ask: impl FnMut(Range<usize>) -> u128,
    ) -> bool {
        let mut there = true;
        for start in around.clone().step_by(BLOCK_PAGES) {
            let block = start..around.end.min(start + BLOCK_PAGES);
            let found = ask(block.clone());
            for page in block {
                let is_found = found >> (page - start) & 1 != 0;
                let stamp = &self.stamps[page];
                let value = stamp.load(Ordering::Relaxed);
                if is_found && value != MISSING && value != now {
                    replace(stamp, value, now);
                }
                there &= is_found || !pages.contains(&page);
            }
        }
        there
    }

    fn blocks_of(&self, pages: &Range<usize>) -> Range<usize> {
        let start = pages.start / BLOCK_PAGES * BLOCK_PAGES;
        start..pages.end.next_multiple_of(BLOCK_PAGES).min(self.stamps.len())
    }

    fn under_pressure(&self, now: u32) -> bool {
        let evicted = self.evicted.load(Ordering::Relaxed);
        evicted != MISSING && now.wrapping_sub(evicted) <= PRESSURE_MS
    }

    /// Asks for the pages of `range` that were not seen lately, and forgets those that are gone. `ask` gives one answer per page.
    pub(super) fn sweep(&self, range: Range<usize>, ask: impl FnOnce(Range<usize>) -> Vec<bool>) {
        self.sweep_at(now_ms(), range, ask);
    }

    fn sweep_at(&self, now: u32, range: Range<usize>, ask: impl FnOnce(Range<usize>) -> Vec<bool>) {
        let base = range.start;
        let seen: Vec<u32> = self.stamps[range].iter().map(|stamp| stamp.load(Ordering::Acquire)).collect();
        let old = |value: &u32| *value != MISSING && !is_fresh(*value, now);
        let (Some(first), Some(last)) = (seen.iter().position(old), seen.iter().rposition(old)) else { return };
        let answers = ask(base + first..base + last + 1);
        for (index, there) in (first..=last).zip(answers) {
            if old(&seen[index]) {
                if !there {
                    self.evicted.store(now, Ordering::Relaxed);
                }
                let to = if there { STALE } else { MISSING };
                replace(&self.stamps[base + index], seen[index], to);
            }
        }
    }
}

fn replace(stamp: &AtomicU32, from: u32, to: u32) {
    // Lost to a newer stamp: that one is right.
    let _ = stamp.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
}

fn is_fresh(value: u32, now: u32) -> bool {
    value >= TIME_MIN && now.wrapping_sub(value) <= TRUST_MS
}

/// Milliseconds of the coarse clock, which costs a few nanoseconds; wraps after 49 days, long after a sweep made stamps stale.
fn now_ms() -> u32 {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    let ms = time.tv_sec.wrapping_mul(1000).wrapping_add(time.tv_nsec / 1_000_000);
    (ms as u32).max(TIME_MIN)
}

/// One stamp per page, in a mapping of its own: an allocator may touch all of what it hands out zeroed, and the table of a file's whole
/// address range is far larger than what a file ever needs of it.
struct Stamps {
    map: MmapRaw,
    pages: usize,
}

impl Stamps {
    fn new(pages: usize) -> io::Result<Self> {
        let bytes = pages * size_of::<AtomicU32>();
        let map = MmapRaw::from(MmapOptions::new().len(bytes.max(1)).map_anon()?);
        Ok(Self { map, pages })
    }
}

impl Deref for Stamps {
    type Target = [AtomicU32];

    #[allow(unsafe_code)]
    fn deref(&self) -> &[AtomicU32] {
        // SAFETY: the mapping is `pages` times 4 bytes long, page-aligned, readable and writable, and lives as long as `self`;
        // it is only ever seen as these atomics, for which every bit pattern is valid.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast::<AtomicU32>(), self.pages) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_stamps(stamps: &[u32]) -> Residency {
        let residency = Residency::new(stamps.len()).expect("a small table");
        for (stamp, value) in residency.stamps.iter().zip(stamps) {
            stamp.store(*value, Ordering::Relaxed);
        }
        residency
    }

    fn stamps(residency: &Residency) -> Vec<u32> {
        residency.stamps.iter().map(|stamp| stamp.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn fresh_pages_are_there_without_asking_and_old_ones_only_after_it() {
        let residency = with_stamps(&[1000, 997, 900, MISSING]);
        assert!(residency.check_at(1000, 0..2, |_, _| panic!("both are fresh")));
        assert!(!residency.check_at(1000, 2..3, |_, _| 0));
        assert_eq!(stamps(&residency), [1000, 1000, MISSING, MISSING]);
        assert!(!residency.check_at(1000, 0..4, |_, _| panic!("one is missing anyway")));
    }

    #[test]
    fn a_page_that_is_still_there_gets_a_fresh_stamp() {
        let residency = with_stamps(&[STALE, 20]);
        assert!(residency.check_at(1000, 0..2, |_, _| u128::MAX));
        assert_eq!(stamps(&residency), [1000, 1000]);
    }

    #[test]
    fn neighbors_that_are_there_are_trusted_too_but_not_while_the_kernel_evicts_pages() {
        let residency = with_stamps(&[20, MISSING, 20, 30]);
        assert!(residency.check_at(1000, 2..3, |block, how| {
            assert_eq!((block, how), (0..4, Ask::Cached));
            0b0111
        }));
        assert_eq!(stamps(&residency), [1000, MISSING, 1000, 30]);
        assert!(!residency.check_at(1000, 3..4, |_, _| 0b0111));
        assert!(residency.check_at(1001, 0..1, |block, how| {
            assert_eq!((block, how), (0..1, Ask::Mapped));
            1
        }));
    }

    #[test]
    fn a_long_run_is_there_if_all_blocks_of_it_are() {
        let pages = 3 * BLOCK_PAGES + 5;
        let residency = with_stamps(&vec![20; pages]);
        let mut blocks = Vec::new();
        assert!(residency.check_at(1000, 100..300, |block, _| {
            blocks.push(block);
            u128::MAX
        }));
        assert_eq!(blocks, [0..128, 128..256, 256..384]);
        assert!(!residency.check_at(2000, 100..300, |block, _| if block.start == 256 {
            u128::MAX >> 100
        } else {
            u128::MAX
        }));
        assert_eq!(stamps(&residency)[100..300], [MISSING; 200]);
    }

    #[test]
    fn while_the_kernel_evicts_pages_even_fresh_ones_are_asked_for() {
        let residency = with_stamps(&[1000, 900]);
        assert!(!residency.check_at(1000, 1..2, |_, _| 0));
        assert!(!residency.check_at(1001, 0..1, |_, _| 0));
        let residency = with_stamps(&[20_000, 900]);
        assert!(!residency.check_at(1000, 1..2, |_, _| 0));
        assert!(residency.check_at(20_001, 0..1, |_, _| panic!("the pressure is long over")));
    }

    #[test]
    fn a_sweep_forgets_only_old_pages_that_are_gone() {
        let residency = with_stamps(&[MISSING, 1000, 20, 21, STALE, 999]);
        residency.sweep_at(1000, 0..6, |range| {
            assert_eq!(range, 2..5);
            vec![false, true, false]
        });
        assert_eq!(stamps(&residency), [MISSING, 1000, MISSING, STALE, MISSING, 999]);
    }

    #[test]
    fn a_page_loaded_during_a_sweep_keeps_its_stamp() {
        let residency = with_stamps(&[20]);
        residency.sweep_at(1000, 0..1, |_| {
            residency.stamps[0].store(1001, Ordering::Release);
            vec![false]
        });
        assert_eq!(stamps(&residency), [1001]);
    }
}
