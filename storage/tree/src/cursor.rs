//! Walking a tree in key order, in both directions.
//!
//! A call that returns [`Missing`] leaves the cursor where it was: load the pages and call it again. At the edge of a leaf
//! several of the leaves that follow are asked for at once, so that a scan waits once for many.

use crate::{
    branch::Branch,
    error::Missing,
    key::Pages,
    layout::DEPTH_MAX,
    leaf::{Cell, LeafRef},
    node::{Link, TreeRoot},
    value::ValueRef,
};

/// How many leaves a scan asks for when the next one is not in memory.
const READ_AHEAD_LEAVES_MAX: usize = 16;

/// The way from the root to a leaf: each branch and the child taken.
#[derive(Clone, Copy)]
struct Way<'a> {
    steps: [Option<(&'a Branch, usize)>; DEPTH_MAX],
    len: usize,
}

impl<'a> Way<'a> {
    fn push(&mut self, branch: &'a Branch, at: usize) {
        self.steps[self.len] = Some((branch, at));
        self.len += 1;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Toward {
    Start,
    End,
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
        let leaf = self.edge(&mut way, link, Toward::Start)?;
        self.stand(way, leaf, leaf.count() - 1)
    }

    /// Goes to the next entry. False if there is none.
    #[expect(clippy::should_implement_trait, reason = "it moves the cursor and may find pages missing")]
    pub fn next(&mut self) -> Result<bool, Missing> {
        match self.entry {
            None => Ok(false),
            Some((leaf, at, _)) if at + 1 < leaf.count() => self.step(leaf, at + 1),
            Some(_) => self.neighbor(self.way, Toward::End),
        }
    }

    /// Goes to the entry before. False if there is none.
    pub fn prev(&mut self) -> Result<bool, Missing> {
        match self.entry {
            None => Ok(false),
            Some((leaf, at, _)) if at > 0 => self.step(leaf, at - 1),
            Some(_) => self.neighbor(self.way, Toward::Start),
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
        let link = crate::view::descend(self.root, key, self.pages, |branch, at| way.push(branch, at))?;
        link.map(|link| Ok((way, link.leaf(self.pages)?))).transpose()
    }

    /// Stands at the first entry of the leaf behind `way`, or at the last one of the leaf before it.
    fn neighbor(&mut self, mut way: Way<'a>, toward: Toward) -> Result<bool, Missing> {
        while let Some(last) = way.len.checked_sub(1) {
            let (branch, at) = way.steps[last].expect("steps below the length are there");
            let next = match toward {
                Toward::End => (at + 1 < branch.children.len()).then_some(at + 1),
                Toward::Start => at.checked_sub(1),
            };
            way.len = last;
            let Some(next) = next else { continue };
            way.push(branch, next);
            let leaf = self.edge(&mut way, &branch.children[next], toward).map_err(|missing| {
                if last + 2 == self.root.depth { self.read_ahead(branch, next, toward, missing) } else { missing }
            })?;
            let at = if toward == Toward::End { 0 } else { leaf.count() - 1 };
            return self.stand(way, leaf, at);
        }
        Ok(self.leave())
    }

    /// The first leaf below `link` when going toward the end, the last one when going toward the start.
    fn edge(&self, way: &mut Way<'a>, mut link: &'a Link, toward: Toward) -> Result<LeafRef<'a>, Missing> {
        while way.len + 1 < self.root.depth {
            let branch = link.branch(self.pages)?;
            let at = if toward == Toward::End { 0 } else { branch.children.len() - 1 };
            way.push(branch, at);
            link = &branch.children[at];
        }
        link.leaf(self.pages)
    }

    /// Adds the leaves that come after child `at` and are not in memory either.
    fn read_ahead(&self, branch: &Branch, at: usize, toward: Toward, mut missing: Missing) -> Missing {
        let add = |link: &Link| {
            let want = link.page().filter(|_| link.node().is_none()).map(super::node::PageRef::want);
            missing.wants.extend(want.filter(|want| self.pages.source.get(want).is_none()));
        };
        match toward {
            Toward::End => branch.children.iter().skip(at + 1).take(READ_AHEAD_LEAVES_MAX - 1).for_each(add),
            Toward::Start => {
                branch.children.iter().take(at).skip(at.saturating_sub(READ_AHEAD_LEAVES_MAX - 1)).for_each(add);
            }
        }
        missing
    }
}
