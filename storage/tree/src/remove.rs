//! Removing an entry. Nodes that become empty go; nodes that become small are merged with a neighbor if that is in
//! memory: a merge is never worth a wait.

use crate::{
    branch::Branch,
    error::Missing,
    key::{Pages, RunRef},
    layout::{BRANCH_CAPACITY_BYTES, LEAF_CAPACITY_BYTES},
    leaf::{Leaf, used_bytes},
    ledger::Ledger,
    node::{Link, NodeBody, Totals, TreeRoot},
    put::{Path, detach},
    store::Weigh,
    value::{BodyPlace, Detached},
    way::descend_to_change,
};

/// A node with less in it looks for a neighbor to merge with.
const SMALL_LEAF_BYTES: usize = LEAF_CAPACITY_BYTES / 4;
const SMALL_BRANCH_BYTES: usize = BRANCH_CAPACITY_BYTES / 4;
/// What two nodes may hold together to become one: some room is left, or the next put would split it again.
const MERGED_LEAF_BYTES_MAX: usize = LEAF_CAPACITY_BYTES * 3 / 4;
const MERGED_BRANCH_BYTES_MAX: usize = BRANCH_CAPACITY_BYTES * 3 / 4;

/// A removal that has everything it needs in memory.
struct Remove<'p> {
    weigh: Weigh,
    pages: Pages<'p>,
    path: Path,
    clean: Option<&'p [u8]>,
    at: usize,
    removed: Totals,
    old: Option<Detached>,
}

/// Removes `key` and returns what was there. `Missing` comes before anything is changed.
pub(crate) fn remove(
    root: &mut TreeRoot,
    key: &[u8],
    weigh: Weigh,
    pages: Pages<'_>,
    ledger: &mut Ledger,
) -> Result<Option<Detached>, Missing> {
    let mut path = Path::default();
    let Some(link) = descend_to_change(root, key, pages, |branch, at| path.push(branch, at))? else { return Ok(None) };
    let Ok(at) = link.leaf(pages)?.search(key, pages)? else { return Ok(None) };
    let clean = link.clean_image(pages)?;
    let mut remove = Remove { weigh, pages, path, clean, at, removed: Totals::default(), old: None };
    let link = root.link.as_mut().expect("the tree has the entry");
    remove.remove_below(link, root.depth - 1, ledger);
    collapse(root, ledger);
    Ok(remove.old)
}

/// Takes away a root that holds nothing, or nothing but one child.
fn collapse(root: &mut TreeRoot, ledger: &mut Ledger) {
    while let Some(node) = root.link.as_ref().and_then(Link::node) {
        let child = match &node.body {
            NodeBody::Leaf(leaf) if leaf.count() == 0 => None,
            NodeBody::Branch(branch) if branch.children.len() <= 1 => branch.children.get(0).cloned(),
            _ => return,
        };
        root.depth = if child.is_some() { root.depth - 1 } else { 0 };
        let old = std::mem::replace(&mut root.link, child);
        old.expect("the loop saw it").retire(ledger);
    }
}

impl Remove<'_> {
    fn remove_below(&mut self, link: &mut Link, level: usize, ledger: &mut Ledger) {
        if level == 0 {
            let leaf = link.leaf_mut(self.clean, ledger);
            self.remove_from_leaf(leaf, ledger);
        } else {
            let at = self.path.at(level);
            let branch = link.branch_mut(ledger);
            self.remove_below(&mut branch.children[at], level - 1, ledger);
            self.tidy(branch, at, level - 1, ledger);
        }
        link.totals -= self.removed;
    }

    fn remove_from_leaf(&mut self, leaf: &mut Leaf, ledger: &mut Ledger) {
        let view = leaf.view();
        let cell = view.cell(self.at).expect("cells of a leaf in memory are well formed");
        self.removed = cell.totals(self.weigh);
        let (key_run, key_len) = (cell.key.run, cell.key.len);
        self.old = Some(detach(leaf, self.at));
        leaf.remove(self.at);
        match key_run {
            Some(RunRef::Blob(id)) => ledger.retire_blob(&leaf.take_blob(id)),
            Some(RunRef::Disk(first)) => ledger.retire_run(first, key_len),
            None => {}
        }
    }

    /// Takes child `at` out if it is empty; merges it if it is small.
    fn tidy(&self, branch: &mut Branch, at: usize, level: usize, ledger: &mut Ledger) {
        let node = branch.children[at].node().expect("the child was changed just now");
        let (is_empty, is_small) = match &node.body {
            NodeBody::Leaf(leaf) => (leaf.count() == 0, leaf.used_bytes() < SMALL_LEAF_BYTES),
            NodeBody::Branch(child) => (child.children.is_empty(), child.used_bytes() < SMALL_BRANCH_BYTES),
        };
        if is_empty {
            let (link, separator) = branch.remove(at);
            link.retire(ledger);
            if let Some(separator) = separator {
                separator.retire(ledger);
            }
        } else if is_small {
            let merge = if level == 0 { Self::merge_leaves } else { Self::merge_branches };
            let _ = (at + 1 < branch.children.len() && merge(self, branch, at, ledger))
                || (at > 0 && merge(self, branch, at - 1, ledger));
        }
    }

    /// Merges leaf `at` with the one that follows, if both are in memory and fit one page.
    fn merge_leaves(&self, branch: &mut Branch, at: usize, ledger: &mut Ledger) -> bool {
        let (left, right) = (&branch.children[at], &branch.children[at + 1]);
        let (Ok(left_clean), Ok(right_clean)) = (left.clean_image(self.pages), right.clean_image(self.pages)) else {
            return false;
        };
        let used = |link: &Link, clean: Option<&[u8]>| {
            clean.map_or_else(|| link.node().map_or(0, |node| node.leaf().used_bytes()), used_bytes)
        };
        if used(left, left_clean) + used(right, right_clean) > MERGED_LEAF_BYTES_MAX {
            return false;
        }
        let (right, separator) = branch.remove(at + 1);
        separator.expect("two children have a separator").retire(ledger);
        let left = &mut branch.children[at];
        left.totals += right.totals;
        let leaf = left.leaf_mut(left_clean, ledger);
        match (right_clean, right.node()) {
            (Some(image), _) => leaf.merge(&Leaf::from_image(image)),
            (None, Some(node)) => leaf.merge(node.leaf()),
            (None, None) => panic!("a link has a page or a node"),
        }
        right.retire(ledger);
        true
    }

    /// Merges branch `at` with the one that follows, if both are in memory and fit one page.
    fn merge_branches(&self, branch: &mut Branch, at: usize, ledger: &mut Ledger) -> bool {
        let (left, right) = (&branch.children[at], &branch.children[at + 1]);
        let (Ok(left), Ok(right)) = (left.branch(self.pages), right.branch(self.pages)) else { return false };
        if left.used_bytes() + right.used_bytes() > MERGED_BRANCH_BYTES_MAX {
            return false;
        }
        let moved = right.clone();
        let (right, separator) = branch.remove(at + 1);
        let left = &mut branch.children[at];
        left.totals += right.totals;
        left.branch_mut(ledger).merge(separator.expect("two children have a separator"), moved);
        right.retire(ledger);
        true
    }
}

impl Detached {
    pub(crate) fn discard(self, ledger: &mut Ledger) {
        match self.body.0 {
            BodyPlace::Inline(_) => {}
            BodyPlace::Blob(blob) => ledger.retire_blob(&blob),
            BodyPlace::Pages(first, len) => ledger.retire_run(first, len),
        }
    }
}
