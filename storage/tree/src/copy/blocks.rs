//! A set of blocks of a file's pages, small enough to be sent and stored: a bit for 8 KiB.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use plinth_base::codec::Malformed;

use crate::bitmap::Bitmap;

/// Pages of a block. Changes are scattered over a file: with larger blocks most of what is copied because of them wouldn't have changed.
pub(crate) const BLOCK_PAGES: u64 = 2;

/// Blocks of a file. The last one may be shorter than the others.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Blocks {
    bits: Bitmap,
    pages: u64,
}

impl Blocks {
    /// None of a file of so many pages.
    pub(crate) fn none_of(pages: u64) -> Self {
        Self { bits: Bitmap::new(pages.div_ceil(BLOCK_PAGES)), pages }
    }

    /// All of them.
    pub(crate) fn all_of(pages: u64) -> Self {
        let mut blocks = Self::none_of(pages);
        blocks.insert(0, pages);
        blocks
    }

    /// Pages of the file.
    pub(crate) fn file_pages(&self) -> u64 {
        self.pages
    }

    /// Whether no block is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.bits.ones() == 0
    }

    /// How many blocks are in it.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.bits.ones()
    }

    /// How many blocks the file has.
    #[must_use]
    pub fn count_of_file(&self) -> u64 {
        self.bits.len()
    }

    /// Adds the blocks that these pages lie in.
    pub(crate) fn insert(&mut self, first: u64, pages: u64) {
        for block in first / BLOCK_PAGES..(first + pages).div_ceil(BLOCK_PAGES) {
            if !self.bits.get(block) {
                self.bits.set(block);
            }
        }
    }

    /// Takes the blocks out of it that lie within `from..to`, which are ends of blocks.
    pub(crate) fn remove(&mut self, from: u64, to: u64) {
        let to = if to >= self.pages { self.bits.len() } else { to / BLOCK_PAGES };
        for block in from.div_ceil(BLOCK_PAGES)..to {
            if self.bits.get(block) {
                self.bits.clear(block);
            }
        }
    }

    /// Adds those of another set, which may be of a longer file.
    pub fn add(&mut self, other: &Self) {
        self.grow(other.pages.max(self.pages));
        for (first, blocks) in other.bits.runs(0) {
            self.insert(first * BLOCK_PAGES, blocks * BLOCK_PAGES);
        }
    }

    /// The file has become longer. No new block is in it.
    pub(crate) fn grow(&mut self, pages: u64) {
        self.bits.grow(pages.div_ceil(BLOCK_PAGES));
        self.pages = pages;
    }

    /// Blocks that follow each other, as pages, in order.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Range<u64>> {
        self.runs_in(0, self.pages)
    }

    /// The same of those blocks only that the pages `first..end` lie in.
    pub(crate) fn runs_in(&self, first: u64, end: u64) -> impl Iterator<Item = Range<u64>> {
        let (from, to) = (first / BLOCK_PAGES, end.div_ceil(BLOCK_PAGES));
        let runs = self.bits.runs(from).take_while(move |(block, _)| *block < to);
        runs.map(move |(block, blocks)| block * BLOCK_PAGES..((block + blocks).min(to) * BLOCK_PAGES).min(self.pages))
    }

    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(8 + Bitmap::stored_bytes(self.bits.len()));
        out.put_u64_le(self.pages);
        let mut words = Vec::new();
        self.bits.store(&mut words);
        out.put_slice(&words);
        out.freeze()
    }

    /// Reads what [`Blocks::encode`] made.
    ///
    /// # Errors
    /// It isn't that.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, Malformed> {
        const NOT_ONE: Malformed = Malformed("what should be a set of blocks isn't one");
        let pages = bytes.try_get_u64_le().map_err(|_| NOT_ONE)?;
        let bits = Bitmap::load(bytes, pages.div_ceil(BLOCK_PAGES)).ok_or(NOT_ONE)?;
        Ok(Self { bits, pages })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_and_go_whole_and_survive_their_bytes() {
        let runs = |blocks: &Blocks| blocks.runs().map(|run| (run.start, run.end)).collect::<Vec<_>>();
        let mut blocks = Blocks::all_of(5);
        assert_eq!((blocks.count(), runs(&blocks)), (3, vec![(0, 5)]));
        blocks.remove(0, 2);
        assert_eq!(runs(&blocks), [(2, 5)]);
        assert!(blocks.runs_in(1, 3).eq(std::iter::once(2..4)));
        assert!(blocks.runs_in(3, 5).eq(std::iter::once(2..5)));
        assert_eq!(blocks.runs_in(0, 2).count(), 0);
        blocks.remove(2, 5);
        assert_eq!((blocks.count(), runs(&blocks)), (0, vec![]));
        let mut other = Blocks::none_of(10);
        other.insert(3, 2);
        other.insert(9, 1);
        blocks.add(&other);
        assert_eq!((blocks.count(), blocks.count_of_file(), runs(&blocks)), (3, 5, vec![(2, 6), (8, 10)]));
        assert_eq!(blocks, other);
        let bytes = blocks.encode();
        assert_eq!(Blocks::decode(&bytes), Ok(blocks));
        let mut wrong = bytes.to_vec();
        wrong[1] = 0xff;
        for wrong in [&bytes[..7], &bytes[..9], &wrong, &[0xff; 16]] {
            assert!(Blocks::decode(wrong).is_err());
        }
    }
}
