//! Reading: a view of one root, the working one or a published one.

use std::sync::Arc;

use bytes::Bytes;
use plinth_env::PageSource;

use crate::{
    branch::BranchCount,
    cursor::Cursor,
    error::Missing,
    key::Pages,
    node::{Link, Totals, TreeRoot},
    space::Pin,
    store::{TreeId, TreeSpec, Weigh},
    value::ValueRef,
};

/// All trees at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trees {
    pub roots: Vec<TreeRoot>,
    pub state: Bytes,
}

/// A published root.
#[derive(Debug)]
pub(crate) struct Published {
    pub trees: Trees,
    pub specs: &'static [TreeSpec],
    pub pages_end: u64,
    pub branches: BranchCount,
    pub sequence: u64,
    pub pin: Pin,
}

/// A published root and the pages it reaches: immutable, for any executor. While it lives, no page it reaches is used again.
pub struct Snapshot<P> {
    pub(crate) root: Arc<Published>,
    pub(crate) pages: Arc<P>,
}

impl<P> Clone for Snapshot<P> {
    fn clone(&self) -> Self {
        Self { root: Arc::clone(&self.root), pages: Arc::clone(&self.pages) }
    }
}

impl<P: PageSource> Snapshot<P> {
    /// Reads it.
    #[must_use]
    pub fn view(&self) -> View<'_, P> {
        View {
            trees: &self.root.trees,
            specs: self.root.specs,
            pages: &*self.pages,
            pages_end: self.root.pages_end,
            branches: &self.root.branches,
        }
    }

    /// The newest checkpoint that was begun when it was published: pages freed by later ones wait for it.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.root.pin.generation()
    }

    /// Counts publishes since the file was opened.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.root.sequence
    }

    /// Its pages, for `Env::load_pages`.
    #[must_use]
    pub fn pages(&self) -> &Arc<P> {
        &self.pages
    }
}

/// Reads one root.
pub struct View<'a, P> {
    pub(crate) trees: &'a Trees,
    pub(crate) specs: &'static [TreeSpec],
    pub(crate) pages: &'a P,
    pub(crate) pages_end: u64,
    pub(crate) branches: &'a BranchCount,
}

impl<P> Clone for View<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for View<'_, P> {}

impl<'a, P: PageSource> View<'a, P> {
    fn pages(&self) -> Pages<'a> {
        Pages { source: self.pages, end: self.pages_end, branches: self.branches }
    }

    fn root(&self, tree: TreeId) -> &'a TreeRoot {
        &self.trees.roots[usize::from(tree.0)]
    }

    /// The owner's record.
    #[must_use]
    pub fn state(&self) -> &'a Bytes {
        &self.trees.state
    }

    /// The value of `key`.
    pub fn get(&self, tree: TreeId, key: &[u8]) -> Result<Option<ValueRef<'a>>, Missing> {
        let Some(link) = descend(self.root(tree), key, self.pages(), |_, _| {})? else { return Ok(None) };
        let leaf = link.leaf(self.pages())?;
        match leaf.search(key, self.pages())? {
            Ok(at) => Ok(Some(ValueRef::of_cell(&leaf.cell(at)?, leaf.runs(self.pages())))),
            Err(_) => Ok(None),
        }
    }

    /// A cursor that stands nowhere yet.
    #[must_use]
    pub fn cursor(&self, tree: TreeId) -> Cursor<'a> {
        Cursor::new(self.root(tree), self.pages())
    }

    /// Entries and weight of all keys `from <= key < to`; without `to`, of all from `from` on. Costs two descents.
    pub fn totals(&self, tree: TreeId, from: &[u8], to: Option<&[u8]>) -> Result<Totals, Missing> {
        if to.is_some_and(|to| to <= from) {
            return Ok(Totals::default());
        }
        let root = self.root(tree);
        let weigh = self.specs[usize::from(tree.0)].weigh;
        let mut totals = match to {
            Some(to) => self.totals_below(root, to, weigh)?,
            None => root.totals(),
        };
        if !from.is_empty() {
            totals -= self.totals_below(root, from, weigh)?;
        }
        Ok(totals)
    }

    fn totals_below(&self, root: &'a TreeRoot, key: &[u8], weigh: Weigh) -> Result<Totals, Missing> {
        let mut totals = Totals::default();
        let leaf = descend(root, key, self.pages(), |branch, at| {
            branch.children.iter().take(at).for_each(|child| totals += child.totals);
        })?;
        if let Some(link) = leaf {
            let leaf = link.leaf(self.pages())?;
            let (Ok(at) | Err(at)) = leaf.search(key, self.pages())?;
            totals += leaf.totals(0..at, weigh)?;
        }
        Ok(totals)
    }
}

/// The link to the leaf where `key` belongs; None in an empty tree. `visit` sees each branch and the child taken, from the root down.
pub(crate) fn descend<'a>(
    root: &'a TreeRoot,
    key: &[u8],
    pages: Pages<'_>,
    mut visit: impl FnMut(&'a crate::branch::Branch, usize),
) -> Result<Option<&'a Link>, Missing> {
    let Some(mut link) = root.link.as_ref() else { return Ok(None) };
    for _ in 1..root.depth {
        let branch = link.branch(pages)?;
        let at = branch.search(key, pages)?;
        visit(branch, at);
        link = &branch.children[at];
    }
    Ok(Some(link))
}
