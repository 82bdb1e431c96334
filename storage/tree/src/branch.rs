//! Branches: always decoded in memory, with a link for each child and the separators between them.
//!
//! On disk, behind the header, each child is `page u64 | checksum u32 | entries u64 | weight u64 | separator`: the separator
//! is a key, not above any key below this child and above every key below the child before; the first child has an empty one.

use std::sync::Arc;

use plinth_base::{
    PageId,
    codec::{Malformed, Reader},
};

use crate::{
    children::Children,
    error::Missing,
    key::{KeyRef, Pages, Runs},
    layout::{BRANCH_CAPACITY_BYTES, CHILD_BYTES, Kind, PAGE_BYTES, PAGE_HEADER_BYTES, PageHeader},
    node::{Blob, Link, PageRef, Totals},
    separators::{Separator, Separators},
};

/// Shared by all branches of a store that are in memory, and so their number.
#[derive(Clone, Default, Debug)]
pub(crate) struct BranchCount(Arc<()>);

impl BranchCount {
    /// About: whoever hands it on is counted too.
    pub fn get(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

/// A branch in memory. `separators[i]` stands between `children[i]` and `children[i + 1]`.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    pub children: Children,
    separators: Arc<Separators>,
    count: BranchCount,
}

impl Branch {
    /// A root over two children.
    pub fn over(left: Link, separator: Separator, right: Link, count: &BranchCount) -> Self {
        let mut branch = Self { children: vec![left].into(), separators: Arc::default(), count: count.clone() };
        branch.insert(0, separator, right);
        branch
    }

    /// The separator before child `at + 1`.
    pub fn separator(&self, at: usize) -> KeyRef<'_> {
        self.separators.key(at)
    }

    /// Blobs of long separators that are not settled on disk.
    pub fn blobs(&self) -> &[(u64, Arc<Blob>)] {
        self.separators.blobs()
    }

    /// The child below which `key` belongs.
    pub fn search(&self, key: &[u8], pages: Pages<'_>) -> Result<usize, Missing> {
        let runs = Runs { pages, blobs: self.separators.blobs(), page: None };
        self.separators.count_up_to(key, &runs)
    }

    /// Bytes of the children on a page; more than `BRANCH_CAPACITY_BYTES` only until the caller splits.
    pub fn used_bytes(&self) -> usize {
        // The first child's separator is empty: one byte.
        self.children.len() * CHILD_BYTES + 1 + self.separators.bytes()
    }

    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.children.iter().for_each(|child| totals += child.totals);
        totals
    }

    /// Puts a child behind child `at`.
    pub fn insert(&mut self, at: usize, separator: Separator, child: Link) {
        Arc::make_mut(&mut self.separators).insert(at, separator);
        self.children.insert(at + 1, child);
    }

    /// Takes child `at` out, with the separator that no longer separates anything, if there is one.
    pub fn remove(&mut self, at: usize) -> (Link, Option<Separator>) {
        let has_separator = self.children.len() > 1;
        let separator = has_separator.then(|| Arc::make_mut(&mut self.separators).remove(at.saturating_sub(1)));
        (self.children.remove(at), separator)
    }

    /// Keeps the children before `at`; returns the separator between and a branch of the others.
    pub fn split_off(&mut self, at: usize) -> (Separator, Self) {
        let (middle, right) = Arc::make_mut(&mut self.separators).split_off(at - 1);
        let right =
            Self { children: self.children.split_off(at), separators: Arc::new(right), count: self.count.clone() };
        (middle, right)
    }

    /// The cut that leaves both sides about equally full.
    pub fn middle(&self) -> usize {
        let mut bytes = 0;
        let half = self.used_bytes() / 2;
        let cut = (1..self.children.len()).find(|&at| {
            bytes += CHILD_BYTES + self.separators.cell_bytes(at - 1);
            bytes >= half
        });
        cut.unwrap_or(self.children.len() - 1)
    }

    /// Takes over all children of the branch that follows.
    pub fn merge(&mut self, separator: Separator, mut right: Self) {
        Arc::make_mut(&mut self.separators).append(separator, &right.separators);
        self.children.append(&mut right.children);
    }

    /// Writes everything behind the header. All children and blobs have their pages.
    pub fn encode_into(&self, out: &mut [u8]) {
        assert!(self.used_bytes() <= BRANCH_CAPACITY_BYTES, "a branch that is too full is split at once");
        let mut at = PAGE_HEADER_BYTES;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        for (i, child) in self.children.iter().enumerate() {
            let page = child.disk().expect("children are written before their parent");
            put(&page.page.0.to_le_bytes());
            put(&page.checksum.to_le_bytes());
            put(&child.totals.entries.to_le_bytes());
            put(&child.totals.weight.to_le_bytes());
            match i.checked_sub(1) {
                None => put(&[0]),
                Some(separator) => self.separators.encode(separator, &mut put),
            }
        }
        out[at..].fill(0);
    }

    /// Reads a branch page; `page` is where it lies, and no child lies at `pages_end` or behind.
    pub fn decode(bytes: &[u8], page: PageId, pages_end: u64, count: &BranchCount) -> Result<Self, Malformed> {
        let mut cells = Cells::of_page(bytes, page, pages_end)?;
        let (mut children, mut separators) = (Vec::with_capacity(cells.len()), Vec::with_capacity(cells.len()));
        for _ in 0..cells.len() {
            let child = cells.next()?;
            children.push(Link::of_page(child.page, child.totals));
            separators.push(child.separator_cell);
        }
        let separators = Separators::read(separators.into_iter().skip(1));
        Ok(Self { children: children.into(), separators: Arc::new(separators), count: count.clone() })
    }
}

/// A child as it lies in a page.
#[derive(Clone, Copy)]
pub(crate) struct ChildCell<'a> {
    pub page: PageRef,
    pub totals: Totals,
    pub separator: KeyRef<'a>,
    separator_cell: &'a [u8],
}

/// The children of a branch page, one after the other.
pub(crate) struct Cells<'a> {
    reader: Reader<'a>,
    place: CellPlace,
    len: usize,
    pages_end: u64,
}

/// Where a child lies in the page of its branch.
#[derive(Clone, Copy, Default)]
pub(crate) struct CellPlace {
    pub at: u16,
    offset: u16,
}

impl<'a> Cells<'a> {
    /// Of the page that lies at `page`; no child lies at `pages_end` or behind.
    pub fn of_page(bytes: &'a [u8], page: PageId, pages_end: u64) -> Result<Self, Malformed> {
        let header = PageHeader::decode(bytes)?;
        if header.kind != Kind::Branch || header.page != page || header.count == 0 || bytes.len() != PAGE_BYTES {
            return Err(Malformed("not the branch that its parent names"));
        }
        Ok(Self::from_place(bytes, usize::from(header.count), CellPlace::default(), pages_end))
    }

    /// From a place on that was met before, in a page that has `len` children.
    pub fn from_place(bytes: &'a [u8], len: usize, place: CellPlace, pages_end: u64) -> Self {
        let reader = Reader::new(&bytes[PAGE_HEADER_BYTES + usize::from(place.offset)..]);
        Self { reader, place, len, pages_end }
    }

    /// Where the next child lies.
    pub fn place(&self) -> CellPlace {
        self.place
    }

    /// Children of the branch.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The next child; whoever asks for more than there are finds something malformed.
    pub fn next(&mut self) -> Result<ChildCell<'a>, Malformed> {
        let reader = &mut self.reader;
        let before = reader.rest().len();
        let page = PageRef { page: PageId(reader.u64()?), checksum: reader.u32()? };
        if page.page.0 >= self.pages_end {
            return Err(Malformed("page behind the end of the file"));
        }
        let totals = Totals { entries: reader.u64()?, weight: reader.u64()? };
        let rest = reader.rest();
        let separator = KeyRef::read(reader)?;
        let is_inside = separator.run.is_none_or(|run| run.is_inside(separator.len, self.pages_end));
        if !is_inside || (self.place.at == 0) != (separator.len == 0) {
            return Err(Malformed("impossible separator"));
        }
        self.place.at += 1;
        self.place.offset += u16::try_from(before - reader.rest().len()).expect("a cell lies in its page");
        Ok(ChildCell { page, totals, separator, separator_cell: &rest[..rest.len() - reader.rest().len()] })
    }
}
