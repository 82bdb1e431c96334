//! One file as the disk sees it: what a reader gets now (*live*) and what is certain to be there after a power cut
//! (*durable*), told apart per sector.
//!
//! Invariant: outside `unflushed` the live and the durable content are the same; an entry of `unflushed` holds the durable
//! content of those sectors of a block that were written since the last flush of them.
//!
//! A cut leaves, for each such sector, the new content, the old one, or a mixture of both; and a length between the two.

use std::{
    collections::BTreeMap,
    ops::{AddAssign, Range},
    sync::Arc,
};

use plinth_base::{BLOCK_BYTES, Prng};

/// What a disk writes whole or not at all, as a rule; the unit in which unflushed data is kept, lost or torn.
pub use plinth_fuse::direct::SECTOR_BYTES;
const BLOCK: u64 = BLOCK_BYTES as u64;
const SECTORS_PER_BLOCK: u64 = BLOCK / SECTOR_BYTES;
const _: () = assert!(SECTORS_PER_BLOCK == 8, "a block's sectors are the bits of a u8");

/// How likely one unflushed sector survives, in 64ths; drawn once per file and cut. Nothing survives, half, nearly all:
/// each finds other mistakes, and with many sectors none of them amounts to a flush.
const KEEP_OF_64: [u64; 4] = [0, 32, 60, 63];
/// One in so many of the sectors that don't survive is torn instead of lost.
const TORN_ONE_IN: u64 = 8;

#[derive(Clone)]
struct Block([u8; BLOCK_BYTES]);

/// What a cut did to unflushed data, in sectors and directory operations.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CutReport {
    /// Unflushed sectors that survived.
    pub sectors_kept: u64,
    /// Unflushed sectors that fell back to the last flushed content.
    pub sectors_dropped: u64,
    /// Unflushed sectors left half new, half old.
    pub sectors_torn: u64,
    /// Directory operations without a sync that survived.
    pub dir_ops_kept: u64,
    /// Directory operations without a sync that are undone.
    pub dir_ops_dropped: u64,
}

impl AddAssign for CutReport {
    fn add_assign(&mut self, other: Self) {
        self.sectors_kept += other.sectors_kept;
        self.sectors_dropped += other.sectors_dropped;
        self.sectors_torn += other.sectors_torn;
        self.dir_ops_kept += other.dir_ops_kept;
        self.dir_ops_dropped += other.dir_ops_dropped;
    }
}

#[derive(Clone)]
struct Unflushed {
    /// Bit i: sector i of the block changed since its last flush.
    sectors: u8,
    /// The durable content of those sectors; other sectors of it mean nothing. `None`: a hole.
    durable: Option<Arc<Block>>,
}

/// Content and length of a file, live and durable.
#[derive(Clone, Default)]
pub struct FileImage {
    /// Live content; a block that is not there is a hole and reads as zero.
    blocks: BTreeMap<u64, Arc<Block>>,
    live_bytes: u64,
    unflushed: BTreeMap<u64, Unflushed>,
    durable_bytes: u64,
}

/// The block number, and the part of that block, that each piece of `range` falls on.
fn pieces(range: Range<u64>) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        (at < range.end).then(|| {
            let block = at / BLOCK;
            let end = range.end.min((block + 1) * BLOCK);
            let part = (at - block * BLOCK) as usize..(end - block * BLOCK) as usize;
            at = end;
            (block, part)
        })
    })
}

/// The sectors of a block that `part` touches, as bits.
fn sectors_of(part: &Range<usize>) -> u8 {
    let sector = SECTOR_BYTES as usize;
    (part.start / sector..part.end.div_ceil(sector)).fold(0, |bits, i| bits | 1 << i)
}

fn sector(i: u64) -> Range<usize> {
    (i * SECTOR_BYTES) as usize..((i + 1) * SECTOR_BYTES) as usize
}

/// Copies the sectors named by `sectors` into `to`; `None` is zeroes.
fn copy_sectors(sectors: u8, from: Option<&Block>, to: &mut Block) {
    for i in (0..SECTORS_PER_BLOCK).filter(|i| sectors & 1 << i != 0) {
        match from {
            Some(from) => to.0[sector(i)].copy_from_slice(&from.0[sector(i)]),
            None => to.0[sector(i)].fill(0),
        }
    }
}

fn zeroes() -> Arc<Block> {
    Arc::new(Block([0; BLOCK_BYTES]))
}

impl FileImage {
    /// The length that `stat` shows, in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.live_bytes
    }

    /// Whether the file has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live_bytes == 0
    }

    /// Space taken, in blocks of [`BLOCK_BYTES`].
    #[must_use]
    pub fn allocated_blocks(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// How many blocks of `range` have no space yet.
    #[must_use]
    pub fn missing_blocks(&self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let blocks = range.start / BLOCK..range.end.div_ceil(BLOCK);
        blocks.end - blocks.start - self.blocks.range(blocks).count() as u64
    }

    /// Up to `len` bytes from `offset`, less at the end of the file.
    #[must_use]
    pub fn read(&self, offset: u64, len: u64) -> Vec<u8> {
        let end = offset.saturating_add(len).min(self.live_bytes);
        let mut out = Vec::with_capacity(end.saturating_sub(offset) as usize);
        for (block, part) in pieces(offset..end) {
            match self.blocks.get(&block) {
                Some(content) => out.extend_from_slice(&content.0[part]),
                None => out.resize(out.len() + part.len(), 0),
            }
        }
        out
    }

    /// Writes `data` at `offset`, live only.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let end = offset + data.len() as u64;
        let mut rest = data;
        for (block, part) in pieces(offset..end) {
            let (head, tail) = rest.split_at(part.len());
            rest = tail;
            self.remember(block, sectors_of(&part));
            let content = self.blocks.entry(block).or_insert_with(zeroes);
            Arc::make_mut(content).0[part].copy_from_slice(head);
        }
        self.live_bytes = self.live_bytes.max(end);
    }

    /// Reserves space for `range`; makes the file that long unless `keep_len`.
    pub fn allocate(&mut self, range: Range<u64>, keep_len: bool) {
        if !keep_len {
            self.live_bytes = self.live_bytes.max(range.end);
        }
        for (block, part) in pieces(range) {
            if !self.blocks.contains_key(&block) {
                self.remember(block, sectors_of(&part));
                self.blocks.insert(block, zeroes());
            }
        }
    }

    /// Makes `range` read as zero and gives back the blocks that lie in it whole.
    pub fn punch(&mut self, range: Range<u64>) {
        let first = range.start / BLOCK;
        let last = range.end.div_ceil(BLOCK);
        let present: Vec<u64> = self.blocks.range(first..last).map(|(block, _)| *block).collect();
        for block in present {
            let start = range.start.max(block * BLOCK) - block * BLOCK;
            let end = range.end.min((block + 1) * BLOCK) - block * BLOCK;
            let part = start as usize..end as usize;
            self.remember(block, sectors_of(&part));
            if part.len() == BLOCK_BYTES {
                self.blocks.remove(&block);
            } else if let Some(content) = self.blocks.get_mut(&block) {
                Arc::make_mut(content).0[part].fill(0);
            }
        }
    }

    /// Cuts the file to `bytes`, or makes it longer with a hole.
    pub fn set_len(&mut self, bytes: u64) {
        if bytes < self.live_bytes {
            self.punch(bytes..self.live_bytes.next_multiple_of(BLOCK));
        }
        self.live_bytes = bytes;
    }

    /// Keeps the durable content of sectors that are about to change.
    fn remember(&mut self, block: u64, sectors: u8) {
        let live = self.blocks.get(&block);
        let entry =
            self.unflushed.entry(block).or_insert_with(|| Unflushed { sectors: 0, durable: live.map(Arc::clone) });
        let fresh = sectors & !entry.sectors;
        if entry.sectors != 0 && fresh != 0 && (live.is_some() || entry.durable.is_some()) {
            let durable = entry.durable.get_or_insert_with(zeroes);
            copy_sectors(fresh, live.map(Arc::as_ref), Arc::make_mut(durable));
        }
        entry.sectors |= sectors;
    }

    /// All content and the length become durable: fsync, fdatasync.
    pub fn flush(&mut self) {
        self.unflushed.clear();
        self.durable_bytes = self.live_bytes;
    }

    /// The sectors of `range`, and a length that covers them, become durable: one write with O_DSYNC or RWF_DSYNC.
    pub fn flush_range(&mut self, range: Range<u64>) {
        self.durable_bytes = self.durable_bytes.max(range.end.min(self.live_bytes));
        for (block, part) in pieces(range) {
            if let Some(entry) = self.unflushed.get_mut(&block) {
                entry.sectors &= !sectors_of(&part);
                if entry.sectors == 0 {
                    self.unflushed.remove(&block);
                }
            }
        }
    }

    /// The power goes: what was not flushed is kept, lost or torn as `prng` says. Afterwards all there is is durable.
    pub fn cut(&mut self, prng: &mut Prng, report: &mut CutReport) {
        let keep_of_64 = KEEP_OF_64[prng.index(KEEP_OF_64.len())];
        for (block, entry) in std::mem::take(&mut self.unflushed) {
            let live = self.blocks.get(&block).map(Arc::clone);
            let content = self.blocks.entry(block).or_insert_with(zeroes);
            let content = Arc::make_mut(content);
            for i in (0..SECTORS_PER_BLOCK).filter(|i| entry.sectors & 1 << i != 0) {
                let new = if prng.chance(keep_of_64, 64) {
                    report.sectors_kept += 1;
                    continue;
                } else if prng.chance(1, TORN_ONE_IN) {
                    report.sectors_torn += 1;
                    1 + prng.index(SECTOR_BYTES as usize - 1)
                } else {
                    report.sectors_dropped += 1;
                    0
                };
                copy_sectors(1 << i, entry.durable.as_deref(), content);
                if let Some(live) = &live {
                    let torn = sector(i).start..sector(i).start + new;
                    content.0[torn.clone()].copy_from_slice(&live.0[torn]);
                }
            }
        }
        self.cut_len(prng);
    }

    fn cut_len(&mut self, prng: &mut Prng) {
        let (low, high) = (self.durable_bytes.min(self.live_bytes), self.durable_bytes.max(self.live_bytes));
        if low < high {
            let len = match prng.below(3) {
                0 => self.durable_bytes,
                1 => self.live_bytes,
                _ => (low + prng.below(high - low)).next_multiple_of(SECTOR_BYTES).min(high),
            };
            self.live_bytes = high;
            self.set_len(len);
        }
        self.flush();
    }
}

#[cfg(test)]
mod tests;
