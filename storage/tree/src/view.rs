//! Reading: a view of one root, the working one or a published one.

use std::sync::Arc;

use bytes::Bytes;
use plinth_env::PageSource;

use crate::{
    branch::BranchCount,
    cursor::Cursor,
    error::Missing,
    key::Pages,
    layout::DEPTH_MAX,
    node::{Totals, TreeRoot},
    pins::Pin,
    store::{TreeId, TreeSpec, Weigh},
    value::ValueRef,
    way::descend,
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
            keeps: true,
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
    pub(crate) keeps: bool,
}

impl<P> Clone for View<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for View<'_, P> {}

impl<'a, P: PageSource> View<'a, P> {
    fn pages(&self) -> Pages<'a> {
        Pages { source: self.pages, end: self.pages_end, branches: self.branches, keeps: self.keeps }
    }

    /// The same for who passes by once: what it reads doesn't bring the branches above into memory to stay. A read of few keys that will
    /// be read again is faster without.
    #[must_use]
    pub fn passing(self) -> Self {
        Self { keeps: false, ..self }
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
        let Some(leaf) = descend(self.root(tree), key, self.pages(), |_, _| {})? else { return Ok(None) };
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
        let mut way = [None; DEPTH_MAX];
        let mut len = 0;
        let leaf = descend(root, key, self.pages(), |fork, at| {
            way[len] = Some((fork, at));
            len += 1;
        })?;
        let mut totals = Totals::default();
        for (fork, at) in way[..len].iter().flatten() {
            totals += fork.totals_before(*at, self.pages())?;
        }
        if let Some(leaf) = leaf {
            let (Ok(at) | Err(at)) = leaf.search(key, self.pages())?;
            totals += leaf.totals(0..at, weigh)?;
        }
        Ok(totals)
    }
}
