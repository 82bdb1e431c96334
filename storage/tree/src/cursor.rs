//! Walking a tree in key order, in both directions.
//!
//! A call that returns [`Missing`] leaves the cursor where it was: load the pages and call it again. At the edge of a leaf
//! several of the leaves that follow are asked for at once, so that a scan waits once for many.

use std::iter::successors;

use crate::{
    error::Missing,
    key::Pages,
    layout::DEPTH_MAX,
    leaf::{Cell, LeafRef},
    node::{PageRef, TreeRoot},
    value::ValueRef,
    way::{Child, Fork, descend},
};

/// How many leaves a scan asks for when the next one is not in memory.
const READ_AHEAD_LEAVES_MAX: usize = 16;

/// The way from the root to a leaf: each branch and the child taken.
#[derive(Clone, Copy)]
struct Way<'a> {
    steps: [Option<(Fork<'a>, usize)>; DEPTH_MAX],
    len: usize,
}

impl<'a> Way<'a> {
    fn push(&mut self, fork: Fork<'a>, at: usize) {
        self.steps[self.len] = Some((fork, at));
        self.len += 1;
    }

    fn last(&self) -> Option<(Fork<'a>, usize)> {
        self.steps[..self.len].last().copied().flatten()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Toward {
    Start,
    End,
}

impl Toward {
    /// The child behind number `at`.
    fn after(self, at: usize, fork: Fork<'_>) -> Option<usize> {
        match self {
            Self::End => (at + 1 < fork.len()).then_some(at + 1),
            Self::Start => at.checked_sub(1),
        }
    }

    /// The entry of a leaf that is met first.
    fn first_of(self, leaf: LeafRef<'_>) -> usize {
        if self == Self::End { 0 } else { leaf.count() - 1 }
    }
}

/// A place in a tree: at an entry, or nowhere before the first seek and after a call returned false.
#[derive(Clone)]
pub struct Cursor<'a> {
    root: &'a TreeRoot,
    pages: Pages<'a>,
    way: Way<'a>,
    /// The leaf and the entry in it.
    entry: Option<(LeafRef<'a>, usize, Cell<'a>)>,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(root: &'a TreeRoot, pages: Pages<'a>) -> Self {
        Self { root, pages, way: Way { steps: [None; DEPTH_MAX], len: 0 }, entry: None }
    }

    /// Goes to the first entry with a key not below `key`. False if there is none.
    pub fn seek(&mut self, key: &[u8]) -> Result<bool, Missing> {
        let Some((way, leaf)) = self.descend(key)? else { return Ok(self.leave()) };
        let (Ok(at) | Err(at)) = leaf.search(key, self.pages)?;
        if at < leaf.count() { self.stand(way, leaf, at) } else { self.neighbor(way, Toward::End) }
    }

    /// Goes to the last entry with a key below `key`. False if there is none.
    pub fn seek_before(&mut self, key: &[u8]) -> Result<bool, Missing> {
        let Some((way, leaf)) = self.descend(key)? else { return Ok(self.leave()) };
        let (Ok(at) | Err(at)) = leaf.search(key, self.pages)?;
        if at > 0 { self.stand(way, leaf, at - 1) } else { self.neighbor(way, Toward::Start) }
    }

    /// Goes to the last entry. False in an empty tree.
    pub fn seek_last(&mut self) -> Result<bool, Missing> {
        let Some(link) = self.root.link.as_ref() else { return Ok(self.leave()) };
        let mut way = Way { steps: [None; DEPTH_MAX], len: 0 };
        let leaf = self.edge(&mut way, Child::Link(link), Toward::Start)?;
        self.stand(way, leaf, leaf.count() - 1)
    }

    /// Goes to the next entry. False if there is none.
    #[expect(clippy::should_implement_trait, reason = "it moves the cursor and may find pages missing")]
    pub fn next(&mut self) -> Result<bool, Missing> {
        match self.entry {
            None => Ok(false),
            Some((leaf, at, _)) if at + 1 < leaf.count() => self.step(leaf, at + 1),
            Some(_) => self.advance(Toward::End),
        }
    }

    /// Goes to the entry before. False if there is none.
    pub fn prev(&mut self) -> Result<bool, Missing> {
        match self.entry {
            None => Ok(false),
            Some((leaf, at, _)) if at > 0 => self.step(leaf, at - 1),
            Some(_) => self.advance(Toward::Start),
        }
    }

    /// Whether it stands at an entry.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.entry.is_some()
    }

    /// The key of the entry, in one piece; missing only if it is long and its overflow pages are not in memory.
    ///
    /// # Panics
    /// If the cursor stands nowhere.
    pub fn key(&self) -> Result<&'a [u8], Missing> {
        let (leaf, _, cell) = self.current();
        cell.key.bytes(&leaf.runs(self.pages))
    }

    /// The value of the entry.
    ///
    /// # Panics
    /// If the cursor stands nowhere.
    #[must_use]
    pub fn value(&self) -> ValueRef<'a> {
        let (leaf, _, cell) = self.current();
        ValueRef::of_cell(cell, leaf.runs(self.pages))
    }

    fn current(&self) -> &(LeafRef<'a>, usize, Cell<'a>) {
        self.entry.as_ref().expect("a cursor is read only where it stands at an entry")
    }

    fn leave(&mut self) -> bool {
        self.entry = None;
        false
    }

    fn step(&mut self, leaf: LeafRef<'a>, at: usize) -> Result<bool, Missing> {
        self.entry = Some((leaf, at, leaf.cell(at)?));
        Ok(true)
    }

    fn stand(&mut self, way: Way<'a>, leaf: LeafRef<'a>, at: usize) -> Result<bool, Missing> {
        self.step(leaf, at)?;
        self.way = way;
        Ok(true)
    }

    fn descend(&self, key: &[u8]) -> Result<Option<(Way<'a>, LeafRef<'a>)>, Missing> {
        let mut way = Way { steps: [None; DEPTH_MAX], len: 0 };
        let leaf = descend(self.root, key, self.pages, |fork, at| way.push(fork, at))?;
        Ok(leaf.map(|leaf| (way, leaf)))
    }

    /// Goes on to the leaf behind, most often below the same branch.
    fn advance(&mut self, toward: Toward) -> Result<bool, Missing> {
        let Some((fork, at)) = self.way.last() else { return Ok(self.leave()) };
        let Some(next) = toward.after(at, fork) else { return self.neighbor(self.way, toward) };
        let leaf = self.leaf(fork, next, toward)?;
        self.step(leaf, toward.first_of(leaf))?;
        self.way.steps[self.way.len - 1] = Some((fork, next));
        Ok(true)
    }

    /// Stands at the first entry of the leaf behind `way`, or at the last one of the leaf before it.
    fn neighbor(&mut self, mut way: Way<'a>, toward: Toward) -> Result<bool, Missing> {
        while let Some((fork, at)) = way.last() {
            way.len -= 1;
            let Some(next) = toward.after(at, fork) else { continue };
            way.push(fork, next);
            let leaf = if way.len + 1 == self.root.depth {
                self.leaf(fork, next, toward)?
            } else {
                self.edge(&mut way, fork.child(next, self.pages)?, toward)?
            };
            return self.stand(way, leaf, toward.first_of(leaf));
        }
        Ok(self.leave())
    }

    /// Leaf `at` below a lowest branch. While its entries are read, the one behind it comes.
    fn leaf(&self, fork: Fork<'a>, at: usize, toward: Toward) -> Result<LeafRef<'a>, Missing> {
        let leaf = fork.child(at, self.pages)?.leaf(self.pages);
        let leaf = leaf.map_err(|missing| self.read_ahead(fork, at, toward, missing))?;
        if let Some(soon) = toward.after(at, fork).and_then(|at| self.clean_page(fork, at)) {
            self.pages.source.prefetch(&soon.want());
        }
        Ok(leaf)
    }

    fn clean_page(&self, fork: Fork<'a>, at: usize) -> Option<PageRef> {
        fork.child(at, self.pages).ok()?.clean_page()
    }

    /// The first leaf below `child` when going toward the end, the last one when going toward the start.
    fn edge(&self, way: &mut Way<'a>, mut child: Child<'a>, toward: Toward) -> Result<LeafRef<'a>, Missing> {
        while way.len + 1 < self.root.depth {
            let Child::Link(link) = child else { unreachable!("only leaves are below a lowest branch") };
            let fork = Fork::of_link(link, way.len + 2 == self.root.depth, self.pages)?;
            let at = if toward == Toward::End { 0 } else { fork.len() - 1 };
            way.push(fork, at);
            child = fork.child(at, self.pages)?;
        }
        child.leaf(self.pages)
    }

    /// Adds the leaves that come after child `at` and are not in memory either.
    fn read_ahead(&self, fork: Fork<'a>, at: usize, toward: Toward, mut missing: Missing) -> Missing {
        let ahead = successors(toward.after(at, fork), |&at| toward.after(at, fork)).take(READ_AHEAD_LEAVES_MAX - 1);
        let wants = ahead.filter_map(|at| self.clean_page(fork, at)).map(PageRef::want);
        missing.wants.extend(wants.filter(|want| self.pages.source.get(want).is_none()));
        missing
    }
}
