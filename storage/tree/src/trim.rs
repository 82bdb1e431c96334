//! Branches in memory, bounded: copies of branch pages that nobody came by for a while are let go of.
//!
//! Every branch that a descent meets stays decoded, so a large tree that is read all over would end up in memory with all of its
//! branches. The trimming is a clock: its hand goes round over the working tree, asks each copy whether it was used since the last round,
//! and lets go of those that were not. Branches that no checkpoint has written are not copies, and stay.
//!
//! As in settling nothing is changed for that: the branches above are copied with a link that has only its page. Older roots
//! keep what they have until they are dropped.

use std::sync::atomic::Ordering;

use plinth_base::Mark;
use plinth_env::Env;

use crate::{layout::DEPTH_MAX, ledger::Ledger, node::Link, store::Store};

/// About what a branch takes in memory: a full page's children with their links, its separators and their index.
const BRANCH_BYTES: u64 = 10 << 10;
/// Times that the hand passes the end: the first round is what was left of one, the second may find every copy used, and what is used again in the
/// third one stays.
const ROUNDS_MAX: u32 = 3;
/// A run goes this far below the limit, so that the next one is some time away.
const SLACK_DIVISOR: u64 = 8;

/// The hand, and what is left of the run that moves it.
#[derive(Default, Debug)]
pub(crate) struct Trimming {
    tree: usize,
    /// The next child at each level. Children may have moved since: it is only a clock.
    next: [usize; DEPTH_MAX],
    /// Copies to let go of; 0 without a run.
    excess: usize,
    rounds: u32,
}

impl<E: Env> Store<E> {
    /// About how many bytes the branches in memory take, changed ones and those that only older roots have included.
    #[must_use]
    pub fn branch_bytes(&self) -> u64 {
        self.branches.get() as u64 * BRANCH_BYTES
    }

    /// Lets go of copies of branches while they take more than `bytes_max`. Looks at no more than about `nodes_max`; true when
    /// done. What it lets go of goes when the roots published before are dropped. While a checkpoint runs, nothing is done.
    pub fn trim(&mut self, bytes_max: u64, nodes_max: usize) -> bool {
        let run = &mut self.trimming;
        let bytes = self.branches.get() as u64 * BRANCH_BYTES;
        if self.frozen.is_some() || (run.excess == 0 && bytes <= bytes_max) {
            run.excess = 0;
            return true;
        }
        if run.excess == 0 {
            let excess = (bytes - bytes_max + bytes_max / SLACK_DIVISOR) / BRANCH_BYTES;
            (run.excess, run.rounds) = (usize::try_from(excess).unwrap_or(usize::MAX), 0);
            self.adopt_roots();
        }
        let run = &mut self.trimming;
        let mut budget = nodes_max.max(DEPTH_MAX);
        let dirty = self.ledger.dirty;
        while run.excess > 0 && run.rounds < ROUNDS_MAX {
            let Some(root) = self.working.roots.get_mut(run.tree) else {
                (run.tree, run.rounds) = (0, run.rounds + 1);
                continue;
            };
            let mut slice = Slice { budget: &mut budget, excess: &mut run.excess, ledger: &mut self.ledger };
            let link = root.link.as_mut().filter(|link| root.depth > 1 && link.node().is_some());
            if link.is_some_and(|link| !slice.trim_below(link, root.depth - 1, &mut run.next)) {
                break;
            }
            run.tree += 1;
        }
        debug_assert_eq!(dirty.pages, self.ledger.dirty.pages, "trimming makes nothing dirty");
        self.resettled = true;
        if run.rounds == ROUNDS_MAX {
            run.excess = 0;
        }
        run.excess == 0
    }

    /// Takes over root branches that readers decoded in the published root, with all that they decoded below. Behind a root that was
    /// decoded before it was published, links are shared anyway.
    fn adopt_roots(&mut self) {
        for (working, published) in self.working.roots.iter_mut().zip(&self.published.trees.roots) {
            if let (Some(ours), Some(theirs)) = (&mut working.link, &published.link)
                && ours.page().is_some()
                && ours.page() == theirs.page()
                && ours.node().is_none()
            {
                *ours = theirs.clone();
            }
        }
    }
}

/// What one call may do, and what it does it with.
struct Slice<'a> {
    /// Branches to look at.
    budget: &'a mut usize,
    excess: &'a mut usize,
    ledger: &'a mut Ledger,
}

impl Slice<'_> {
    /// Trims below a branch in memory; false if the budget ran out or enough is gone.
    fn trim_below(&mut self, link: &mut Link, level: usize, next: &mut [usize; DEPTH_MAX]) -> bool {
        // Leaves have no copies.
        if level == 1 {
            return true;
        }
        let children = |link: &Link| link.node().map_or(0, |node| node.branch().children.len());
        let mut at = next[level];
        while at < children(link) {
            let child = &link.node().expect("it has children").branch().children[at];
            let Some(node) = child.node() else {
                at += 1;
                continue;
            };
            next[level] = at;
            if *self.budget == 0 || *self.excess == 0 {
                return false;
            }
            *self.budget -= 1;
            // Below a child that was left in the middle it goes on; that one was asked already.
            let is_asked = next[level - 1] > 0;
            if !is_asked && child.page().is_some() && !node.used.swap(false, Ordering::Relaxed) {
                link.children_in_place(self.ledger)[at].forget_copy();
                *self.excess -= 1;
                Mark::BranchTrimmed.hit();
            } else if level > 2 {
                let child = &mut link.children_in_place(self.ledger)[at];
                if !self.trim_below(child, level - 1, next) {
                    return false;
                }
            }
            at += 1;
        }
        next[level] = 0;
        true
    }
}
