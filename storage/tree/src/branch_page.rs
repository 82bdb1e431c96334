//! A branch as it lies in its page, read in place.
//!
//! ```text
//! header (32) | child 0 (28) | child 1 ... | end 0 u16 | end 1 ... | separator 0 | separator 1 ... | zeroes
//! ```
//! A child is `page u64 | checksum u32 | entries u64 | weight u64`. Separator `i`, a key cell, is not above any key below child `i + 1` and above
//! every key below child `i`; `end i` is where it ends, counted from where the first one begins.

use std::{cmp::Ordering, ops::Range};

use plinth_base::{
    PageId,
    codec::{Malformed, Reader},
};

use crate::{
    error::Missing,
    key::{KeyRef, Pages, Runs},
    layout::{CHILD_BYTES, Kind, PAGE_BYTES, PAGE_HEADER_BYTES, PageHeader, SLOT_BYTES, u16_at},
    node::{PageRef, Totals},
};

/// The page. Any bytes: what can't be right is told when it is read.
#[derive(Clone, Copy)]
pub(crate) struct BranchPage<'a> {
    bytes: &'a [u8],
    len: u16,
}

/// What a branch says of a child.
#[derive(Clone, Copy)]
pub(crate) struct StoredChild {
    pub page: PageRef,
    pub totals: Totals,
}

impl<'a> BranchPage<'a> {
    /// Of the page that lies at `page`.
    pub fn of_page(bytes: &'a [u8], page: PageId) -> Result<Self, Malformed> {
        let header = PageHeader::decode(bytes)?;
        if header.kind != Kind::Branch || header.page != page || header.count == 0 || bytes.len() != PAGE_BYTES {
            return Err(Malformed("not the branch that its parent names"));
        }
        let branch = Self { bytes, len: header.count };
        if branch.separators_at() > bytes.len() {
            return Err(Malformed("more children than a branch has room for"));
        }
        Ok(branch)
    }

    /// Children.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Child `at`; it may not lie at `pages_end` or behind.
    pub fn child(&self, at: usize, pages_end: u64) -> Result<StoredChild, Malformed> {
        let mut reader = Reader::new(&self.bytes[PAGE_HEADER_BYTES + at * CHILD_BYTES..]);
        let page = PageRef { page: PageId(reader.u64()?), checksum: reader.u32()? };
        if page.page.0 >= pages_end {
            return Err(Malformed("page behind the end of the file"));
        }
        Ok(StoredChild { page, totals: Totals { entries: reader.u64()?, weight: reader.u64()? } })
    }

    /// The separator before child `at + 1`.
    pub fn separator(&self, at: usize, pages_end: u64) -> Result<KeyRef<'a>, Malformed> {
        let mut reader = Reader::new(self.separator_cell(at)?);
        let key = KeyRef::read(&mut reader)?;
        let is_inside = key.run.is_none_or(|run| run.is_inside(key.len, pages_end));
        if !is_inside || key.len == 0 || !reader.rest().is_empty() {
            return Err(Malformed("impossible separator"));
        }
        Ok(key)
    }

    /// Its bytes.
    pub fn separator_cell(&self, at: usize) -> Result<&'a [u8], Malformed> {
        let start = if at == 0 { 0 } else { self.end(at - 1) };
        let cells = &self.bytes[self.separators_at()..];
        cells.get(start..self.end(at)).ok_or(Malformed("separators out of their page"))
    }

    /// The child below which `key` belongs. `page` is this one.
    pub fn search(&self, key: &[u8], page: PageRef, pages: Pages<'_>) -> Result<usize, Missing> {
        let runs = Runs { pages, blobs: &[], page: Some(page) };
        let Range { mut start, mut end } = 0..self.len() - 1;
        while start < end {
            let middle = usize::midpoint(start, end);
            let separator = self.separator(middle, pages.end).map_err(|_| Missing::malformed(page))?;
            match separator.compare(key, &runs)? {
                Ordering::Less => end = middle,
                Ordering::Equal | Ordering::Greater => start = middle + 1,
            }
        }
        Ok(start)
    }

    fn ends_at(&self) -> usize {
        PAGE_HEADER_BYTES + self.len() * CHILD_BYTES
    }

    fn separators_at(&self) -> usize {
        self.ends_at() + (self.len() - 1) * SLOT_BYTES
    }

    fn end(&self, at: usize) -> usize {
        u16_at(self.bytes, self.ends_at() + at * SLOT_BYTES).map_or(usize::MAX, usize::from)
    }
}
