//! Branches in memory, with a link for each child and the separators between them. [`BranchPage`] is one on disk.

use std::sync::Arc;

use plinth_base::{PageId, codec::Malformed};

use crate::{
    branch_page::BranchPage,
    children::Children,
    error::Missing,
    key::{KeyRef, Pages, Runs},
    layout::{BRANCH_CAPACITY_BYTES, CHILD_BYTES, PAGE_HEADER_BYTES, SLOT_BYTES},
    node::{Blob, Link, Totals},
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
        self.children.len() * (CHILD_BYTES + SLOT_BYTES) + self.separators.bytes()
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
            bytes += CHILD_BYTES + SLOT_BYTES + self.separators.cell_bytes(at - 1);
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
        for child in self.children.iter() {
            let page = child.disk().expect("children are written before their parent");
            put(&page.page.0.to_le_bytes());
            put(&page.checksum.to_le_bytes());
            put(&child.totals.entries.to_le_bytes());
            put(&child.totals.weight.to_le_bytes());
        }
        let separators = 0..self.children.len() - 1;
        let mut end = 0;
        for at in separators.clone() {
            end += self.separators.cell_bytes(at);
            put(&u16::try_from(end).expect("separators fit their page").to_le_bytes());
        }
        separators.for_each(|at| self.separators.encode(at, &mut put));
        out[at..].fill(0);
    }

    /// Reads a branch page; no child lies at `pages_end` or behind.
    pub fn decode(bytes: &[u8], page: PageId, pages_end: u64, count: &BranchCount) -> Result<Self, Malformed> {
        let stored = BranchPage::of_page(bytes, page)?;
        let (mut children, mut cells) = (Vec::with_capacity(stored.len()), Vec::with_capacity(stored.len()));
        for at in 0..stored.len() {
            let child = stored.child(at, pages_end)?;
            children.push(Link::of_page(child.page, child.totals));
            if at > 0 {
                stored.separator(at - 1, pages_end)?;
                cells.push(stored.separator_cell(at - 1)?);
            }
        }
        let separators = Separators::read(cells.into_iter());
        Ok(Self { children: children.into(), separators: Arc::new(separators), count: count.clone() })
    }
}
