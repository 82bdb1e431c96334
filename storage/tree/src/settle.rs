//! After a checkpoint: the working tree lets go of leaves in memory that have durable pages now.
//!
//! Nobody changes a leaf for that: the branches above are copied with a link to the page in place of the node, as in any other
//! change. Older roots keep the nodes until they are dropped.

use plinth_env::Env;

use crate::{layout::DEPTH_MAX, ledger::Ledger, node::Link, store::Store};

/// Where settling goes on. Children may have moved since; what is skipped is settled after the next checkpoint.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Settling {
    tree: usize,
    /// The next child at each level.
    next: [usize; DEPTH_MAX],
}

impl<E: Env> Store<E> {
    /// Moves the working tree from leaves in memory to their pages, as far as the last checkpoint wrote them. Looks at no more
    /// than about `nodes_max` nodes; true when done. What it frees goes when the roots published before are dropped. A checkpoint
    /// that begins ends it; the rest is done after that.
    pub fn settle(&mut self, nodes_max: usize) -> bool {
        let Some(mut settling) = self.settling else { return true };
        let mut budget = nodes_max.max(DEPTH_MAX);
        let mut settled = 0;
        while let Some(root) = self.working.roots.get_mut(settling.tree) {
            if let Some(link) = root.link.as_mut().filter(|link| link.page().is_none()) {
                let before = self.ledger.dirty;
                let slice = Slice { budget: &mut budget, settled: &mut settled, ledger: &mut self.ledger };
                let done = settle_below(link, root.depth - 1, &mut settling.next, slice);
                debug_assert_eq!(before.pages, self.ledger.dirty.pages, "settling makes nothing dirty");
                self.resettled = true;
                if !done {
                    self.settling = Some(settling);
                    self.unsettled_pages = self.unsettled_pages.saturating_sub(settled);
                    return false;
                }
            }
            settling.tree += 1;
        }
        self.settling = None;
        self.unsettled_pages = 0;
        true
    }
}

/// What one call may do, and what it did.
struct Slice<'a> {
    /// Nodes to look at.
    budget: &'a mut usize,
    /// Leaves that were settled.
    settled: &'a mut u64,
    ledger: &'a mut Ledger,
}

impl Slice<'_> {
    fn reborrow(&mut self) -> Slice<'_> {
        Slice { budget: self.budget, settled: self.settled, ledger: self.ledger }
    }
}

/// Settles what `link` leads to; false if the budget ran out. `link` has no page.
fn settle_below(link: &mut Link, level: usize, next: &mut [usize; DEPTH_MAX], mut slice: Slice<'_>) -> bool {
    let Some(left) = slice.budget.checked_sub(1) else { return false };
    *slice.budget = left;
    let node = link.node().expect("a link without a page has a node");
    // No checkpoint is running, so every page that a node names is durable.
    let page = node.disk.get().copied();
    if level == 0 {
        if let Some(page) = page {
            *link = Link::of_page(page, link.totals);
            *slice.settled += 1;
        }
        return true;
    }
    let from = next[level];
    let has_page = |child: &Link| child.page().is_some();
    if !node.branch().children.iter().skip(from).all(has_page) {
        let children = link.children_in_place(slice.ledger);
        for at in from..children.len() {
            if !has_page(&children[at]) && !settle_below(&mut children[at], level - 1, next, slice.reborrow()) {
                next[level] = at;
                return false;
            }
        }
    }
    next[level] = 0;
    if let Some(page) = page
        && link.node().is_some_and(|node| node.branch().children.iter().all(has_page))
    {
        link.settle(page);
    }
    true
}
