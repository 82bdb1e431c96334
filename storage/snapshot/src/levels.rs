//! The branches above the leaves of one tree, as they grow.

use crate::format::{
    ELEMENT_BYTES, FLAG_BRANCH, PAGE_BYTES, PAGE_HEADER_BYTES, overflow_pages, pad, put_branch_element, put_header,
};

/// Children that a branch has at least, and that one that is closed leaves for its successor's beginning.
const CHILDREN_MIN: usize = 2;

/// A page of a tree as its parent names it: by its first key, to the byte. (bbolt looks a page up in its parent by that key when it changes.)
pub(crate) struct Child {
    pub first_key: Vec<u8>,
    pub page: u64,
}

/// The open branch of each level, the one above the leaves first.
#[derive(Default)]
pub(crate) struct Levels(Vec<Level>);

#[derive(Default)]
struct Level {
    children: Vec<Child>,
    bytes: usize,
    /// Whether a branch of this level was closed.
    has_closed: bool,
}

/// Where pages go.
pub(crate) struct Pages {
    /// The next page's number.
    pub next: u64,
    /// Their bytes, unless pages are only counted.
    pub out: Option<Vec<u8>>,
}

impl Levels {
    /// Adds a page at `level`, behind those that are there.
    pub(crate) fn push(&mut self, pages: &mut Pages, mut level: usize, mut child: Child) {
        loop {
            if self.0.len() == level {
                self.0.push(Level::default());
            }
            let open = &mut self.0[level];
            let bytes = ELEMENT_BYTES + child.first_key.len();
            let is_full = PAGE_HEADER_BYTES + open.bytes + bytes > PAGE_BYTES && open.children.len() > CHILDREN_MIN;
            if !is_full {
                open.add(child);
                return;
            }
            // The last child begins the next branch, so that no branch is left with a single one.
            let last = open.children.pop().expect("it is full");
            let parent = open.close(pages);
            open.has_closed = true;
            open.add(last);
            open.add(child);
            (level, child) = (level + 1, parent);
        }
    }

    /// Closes all levels and returns the root.
    pub(crate) fn finish(mut self, pages: &mut Pages) -> Child {
        let mut level = 0;
        loop {
            let open = &mut self.0[level];
            if !open.has_closed && open.children.len() == 1 {
                return open.children.pop().expect("there is one");
            }
            let parent = open.close(pages);
            self.push(pages, level + 1, parent);
            level += 1;
        }
    }
}

impl Level {
    fn add(&mut self, child: Child) {
        self.bytes += ELEMENT_BYTES + child.first_key.len();
        self.children.push(child);
    }

    /// Makes a page of the children.
    fn close(&mut self, pages: &mut Pages) -> Child {
        let children = std::mem::take(&mut self.children);
        let count = children.len();
        // What follows takes the last child's bytes into account again.
        let bytes: usize = children.iter().map(|child| ELEMENT_BYTES + child.first_key.len()).sum();
        self.bytes = 0;
        let (page, overflow) = (pages.next, overflow_pages(PAGE_HEADER_BYTES + bytes));
        pages.next += 1 + overflow;
        if let Some(out) = &mut pages.out {
            let start = out.len();
            put_header(out, page, FLAG_BRANCH, count, overflow);
            let mut at = count * ELEMENT_BYTES;
            for child in &children {
                put_branch_element(out, at, child.first_key.len(), child.page);
                at = at - ELEMENT_BYTES + child.first_key.len();
            }
            children.iter().for_each(|child| out.extend_from_slice(&child.first_key));
            pad(out, start);
        }
        let first = children.into_iter().next().expect("a branch has children");
        Child { first_key: first.first_key, page }
    }
}
