//! Branches: always decoded in memory, with a link for each child and the separators between them.
//!
//! On disk, behind the header, each child is `page u64 | checksum u32 | entries u64 | weight u64 | separator`: the separator
//! is a key, not above any key below this child and above every key below the child before; the first child has an empty one.

use std::{cmp::Ordering, sync::Arc};

use bytes::{Bytes, BytesMut};
use plinth_base::{
    PageId,
    codec::{Malformed, Reader},
};

use crate::{
    error::Missing,
    key::{KeyRef, Pages, RunRef, Runs, find_blob, is_long, key_cell_bytes, put_key},
    layout::{BRANCH_CAPACITY_BYTES, CHILD_BYTES, Kind, PAGE_BYTES, PAGE_HEADER_BYTES, PageHeader, RUN_REF_BYTES},
    ledger::Ledger,
    node::{Blob, Link, PageRef, Totals},
};

/// A key between two children: the cell form, and its blob if it is long and not yet written.
#[derive(Clone, Debug)]
pub(crate) struct Separator {
    cell: Bytes,
    blob: Option<Arc<Blob>>,
}

impl Separator {
    pub fn new(key: &[u8], ledger: &mut Ledger) -> Self {
        let blob = is_long(key.len()).then(|| ledger.new_blob(Bytes::copy_from_slice(key)));
        let mut cell = BytesMut::with_capacity(key_cell_bytes(key.len()));
        put_key(&mut cell, key, blob.as_ref().map(|blob| RunRef::Blob(blob.id)));
        Self { cell: cell.freeze(), blob }
    }

    /// Gives its overflow pages back; for a separator that no branch holds any longer.
    pub fn retire(self, ledger: &mut Ledger) {
        let key = read_key(&self.cell);
        match (self.blob, key.run) {
            (Some(blob), _) => ledger.retire_blob(&blob),
            (None, Some(RunRef::Disk(first))) => ledger.retire_run(first, key.len),
            (None, Some(RunRef::Blob(_))) => panic!("a separator comes with its blob"),
            (None, None) => {}
        }
    }
}

fn read_key(cell: &[u8]) -> KeyRef<'_> {
    KeyRef::read(&mut Reader::new(cell)).expect("separators were checked when the branch was decoded")
}

/// A branch in memory. `separators[i]` stands between `children[i]` and `children[i + 1]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Branch {
    pub children: Vec<Link>,
    separators: Separators,
}

/// Key cells one after the other.
#[derive(Clone, Debug, Default)]
struct Separators {
    cells: Vec<u8>,
    ends: Vec<u32>,
    blobs: Vec<(u64, Arc<Blob>)>,
}

impl Separators {
    fn cell(&self, at: usize) -> &[u8] {
        &self.cells[self.range(at)]
    }

    fn range(&self, at: usize) -> std::ops::Range<usize> {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        start as usize..self.ends[at] as usize
    }

    fn insert(&mut self, at: usize, separator: Separator) {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        let bytes = u32::try_from(separator.cell.len()).expect("a separator's cell is small");
        self.cells.splice(start as usize..start as usize, separator.cell);
        self.ends.insert(at, start);
        self.ends[at..].iter_mut().for_each(|end| *end += bytes);
        self.blobs.extend(separator.blob.map(|blob| (blob.id, blob)));
    }

    fn take(&mut self, at: usize) -> Separator {
        let range = self.range(at);
        let cell: Bytes = self.cells.drain(range).collect();
        self.ends.remove(at);
        let bytes = u32::try_from(cell.len()).expect("a separator's cell is small");
        self.ends[at..].iter_mut().for_each(|end| *end -= bytes);
        let blob = match read_key(&cell).run {
            Some(RunRef::Blob(id)) => {
                let at = self.blobs.iter().position(|(blob_id, _)| *blob_id == id);
                Some(self.blobs.swap_remove(at.expect("a blob lives in the branch of its separator")).1)
            }
            _ => None,
        };
        Separator { cell, blob }
    }
}

impl Branch {
    /// A root over two children.
    pub fn over(left: Link, separator: Separator, right: Link) -> Self {
        let mut branch = Self { children: vec![left], separators: Separators::default() };
        branch.insert(0, separator, right);
        branch
    }

    /// The separator before child `at + 1`.
    pub fn separator(&self, at: usize) -> KeyRef<'_> {
        read_key(self.separators.cell(at))
    }

    /// Blobs of long separators that are not settled on disk.
    pub fn blobs(&self) -> &[(u64, Arc<Blob>)] {
        &self.separators.blobs
    }

    /// The child below which `key` belongs.
    pub fn search(&self, key: &[u8], pages: Pages<'_>) -> Result<usize, Missing> {
        let runs = Runs { pages, blobs: &self.separators.blobs, page: None };
        let (mut low, mut high) = (0, self.separators.ends.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.separator(middle).compare(key, &runs)? {
                Ordering::Less => high = middle,
                Ordering::Equal | Ordering::Greater => low = middle + 1,
            }
        }
        Ok(low)
    }

    /// Bytes of the children on a page; more than `BRANCH_CAPACITY_BYTES` only until the caller splits.
    pub fn used_bytes(&self) -> usize {
        // The first child's separator is empty: one byte.
        self.children.len() * CHILD_BYTES + 1 + self.separators.cells.len()
    }

    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.children.iter().for_each(|child| totals += child.totals);
        totals
    }

    /// Puts a child behind child `at`.
    pub fn insert(&mut self, at: usize, separator: Separator, child: Link) {
        self.separators.insert(at, separator);
        self.children.insert(at + 1, child);
    }

    /// Takes child `at` out, with the separator that no longer separates anything, if there is one.
    pub fn remove(&mut self, at: usize) -> (Link, Option<Separator>) {
        let separator = (self.children.len() > 1).then(|| self.separators.take(at.saturating_sub(1)));
        (self.children.remove(at), separator)
    }

    /// Keeps the children before `at`; returns the separator between and a branch of the others.
    pub fn split_off(&mut self, at: usize) -> (Separator, Self) {
        let mut right = Self { children: self.children.split_off(at), separators: Separators::default() };
        while self.separators.ends.len() >= at {
            let separator = self.separators.take(self.separators.ends.len() - 1);
            if self.separators.ends.len() < at {
                return (separator, right);
            }
            right.separators.insert(0, separator);
        }
        panic!("a branch is cut between two children");
    }

    /// The cut that leaves both sides about equally full.
    pub fn middle(&self) -> usize {
        let mut bytes = 0;
        let half = self.used_bytes() / 2;
        let cut = (1..self.children.len()).find(|&at| {
            bytes += CHILD_BYTES + self.separators.range(at - 1).len();
            bytes >= half
        });
        cut.unwrap_or(self.children.len() - 1)
    }

    /// Takes over all children of the branch that follows.
    pub fn merge(&mut self, separator: Separator, mut right: Self) {
        self.separators.insert(self.separators.ends.len(), separator);
        let base = u32::try_from(self.separators.cells.len()).expect("separators of a branch are small");
        self.separators.cells.append(&mut right.separators.cells);
        self.separators.ends.extend(right.separators.ends.iter().map(|end| base + end));
        self.separators.blobs.append(&mut right.separators.blobs);
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
            if i == 0 {
                put(&[0]);
                continue;
            }
            let cell = self.separators.cell(i - 1);
            match read_key(cell).run {
                Some(RunRef::Blob(id)) => {
                    let blob =
                        find_blob(&self.separators.blobs, id).expect("a blob lives in the branch of its separator");
                    put(&cell[..cell.len() - RUN_REF_BYTES]);
                    put(&RunRef::Disk(*blob.disk.get().expect("blobs are written before their branch")).to_bytes());
                }
                _ => put(cell),
            }
        }
        out[at..].fill(0);
    }

    /// Reads a branch page; `page` is where it lies, and no child lies at `pages_end` or behind.
    pub fn decode(bytes: &[u8], page: PageId, pages_end: u64) -> Result<Self, Malformed> {
        let header = PageHeader::decode(bytes)?;
        if header.kind != Kind::Branch || header.page != page || header.count == 0 || bytes.len() != PAGE_BYTES {
            return Err(Malformed("not the branch that its parent names"));
        }
        let mut reader = Reader::new(&bytes[PAGE_HEADER_BYTES..]);
        let count = usize::from(header.count);
        let mut branch = Self { children: Vec::with_capacity(count), separators: Separators::default() };
        for i in 0..count {
            let child = PageRef { page: PageId(reader.u64()?), checksum: reader.u32()? };
            if child.page.0 >= pages_end {
                return Err(Malformed("page behind the end of the file"));
            }
            let totals = Totals { entries: reader.u64()?, weight: reader.u64()? };
            branch.children.push(Link::of_page(child, totals));
            branch.decode_separator(i, &mut reader, pages_end)?;
        }
        Ok(branch)
    }

    fn decode_separator(&mut self, child: usize, reader: &mut Reader<'_>, pages_end: u64) -> Result<(), Malformed> {
        let rest = reader.rest();
        let key = KeyRef::read(reader)?;
        let cell = &rest[..rest.len() - reader.rest().len()];
        if !key.run.is_none_or(|run| run.is_inside(key.len, pages_end)) || (child == 0) != (key.len == 0) {
            return Err(Malformed("impossible separator"));
        }
        if child > 0 {
            self.separators.cells.extend_from_slice(cell);
            self.separators.ends.push(u32::try_from(self.separators.cells.len()).expect("a page of separators"));
        }
        Ok(())
    }
}
