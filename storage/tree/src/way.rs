//! A branch on the way from the root to a leaf, and how readers find it.
//!
//! A branch that is met is decoded and kept, because it is met again; but a walk over everything would bring all branches of a tree
//! into memory. So who only passes by reads the lowest branches, which are nearly all of them, in place.

use std::cmp::Ordering;

use crate::{
    branch::{Branch, CellPlace, Cells, ChildCell},
    error::Missing,
    key::{Pages, Runs},
    layout::{PageHeader, u16_at},
    leaf::LeafRef,
    node::{Link, PageRef, Totals, TreeRoot, clean_leaf},
};

/// A branch, in memory or as its page.
#[derive(Clone, Copy)]
pub(crate) enum Fork<'a> {
    Kept(&'a Branch),
    Passed(PassedBranch<'a>),
}

/// A lowest branch in its page: nothing of it is kept.
#[derive(Clone, Copy)]
pub(crate) struct PassedBranch<'a> {
    bytes: &'a [u8],
    page: PageRef,
    /// A child that was met: the next ones are found from there.
    met: CellPlace,
}

/// What a fork leads to.
#[derive(Clone, Copy)]
pub(crate) enum Child<'a> {
    Link(&'a Link),
    Leaf(PageRef),
}

impl<'a> Fork<'a> {
    /// The branch behind `link`; `is_lowest` says whether leaves are below it.
    pub fn of_link(link: &'a Link, is_lowest: bool, pages: Pages<'a>) -> Result<Self, Missing> {
        match link.page() {
            Some(page) if is_lowest && !pages.keeps && link.node().is_none() => {
                PassedBranch::of_page(page, pages).map(Self::Passed)
            }
            _ => link.branch(pages).map(Self::Kept),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Kept(branch) => branch.children.len(),
            Self::Passed(branch) => branch.len(),
        }
    }

    /// The child below which `key` belongs.
    pub fn search(&self, key: &[u8], pages: Pages<'_>) -> Result<usize, Missing> {
        match self {
            Self::Kept(branch) => branch.search(key, pages),
            Self::Passed(branch) => branch.search(key, pages),
        }
    }

    /// Child `at`. Going on from the one asked for last costs one step.
    pub fn child(&mut self, at: usize, pages: Pages<'_>) -> Result<Child<'a>, Missing> {
        match self {
            Self::Kept(branch) => Ok(Child::Link(&branch.children[at])),
            Self::Passed(branch) => Ok(Child::Leaf(branch.child(at, pages)?.page)),
        }
    }

    /// The totals of all children before `at`.
    pub fn totals_before(&self, at: usize, pages: Pages<'_>) -> Result<Totals, Missing> {
        let mut totals = Totals::default();
        match self {
            Self::Kept(branch) => branch.children.iter().take(at).for_each(|child| totals += child.totals),
            Self::Passed(branch) => branch.visit(at, pages, |child| totals += child.totals)?,
        }
        Ok(totals)
    }
}

impl<'a> PassedBranch<'a> {
    fn of_page(page: PageRef, pages: Pages<'a>) -> Result<Self, Missing> {
        let branch = Self { bytes: pages.get(page.want())?, page, met: CellPlace::default() };
        branch.cells(pages)?;
        Ok(branch)
    }

    fn len(&self) -> usize {
        u16_at(self.bytes, PageHeader::COUNT_AT).map_or(0, usize::from)
    }

    fn cells(&self, pages: Pages<'_>) -> Result<Cells<'a>, Missing> {
        Cells::of_page(self.bytes, self.page.page, pages.end).map_err(|_| self.malformed())
    }

    fn malformed(&self) -> Missing {
        Missing::malformed(self.page)
    }

    /// From the first one on: there are some eighty, of a few dozen bytes each.
    fn search(&self, key: &[u8], pages: Pages<'_>) -> Result<usize, Missing> {
        let runs = Runs { pages, blobs: &[], page: Some(self.page) };
        let mut cells = self.cells(pages)?;
        for at in 0..self.len() {
            let child = cells.next().map_err(|_| self.malformed())?;
            if at > 0 && child.separator.compare(key, &runs)? == Ordering::Less {
                return Ok(at - 1);
            }
        }
        Ok(self.len() - 1)
    }

    fn child(&mut self, at: usize, pages: Pages<'_>) -> Result<ChildCell<'a>, Missing> {
        let from = if at < usize::from(self.met.at) { CellPlace::default() } else { self.met };
        let mut cells = Cells::from_place(self.bytes, self.len(), from, pages.end);
        loop {
            self.met = cells.place();
            let child = cells.next().map_err(|_| self.malformed())?;
            if usize::from(self.met.at) == at {
                return Ok(child);
            }
        }
    }

    /// The first `count` children.
    fn visit(&self, count: usize, pages: Pages<'_>, mut visit: impl FnMut(ChildCell<'a>)) -> Result<(), Missing> {
        let mut cells = self.cells(pages)?;
        (0..count).try_for_each(|_| cells.next().map(&mut visit)).map_err(|_| self.malformed())
    }
}

impl<'a> Child<'a> {
    /// As a leaf.
    pub fn leaf(&self, pages: Pages<'a>) -> Result<LeafRef<'a>, Missing> {
        match self {
            Self::Link(link) => link.leaf(pages),
            Self::Leaf(page) => clean_leaf(*page, pages),
        }
    }

    /// The page of what is only in its page.
    pub fn clean_page(&self) -> Option<PageRef> {
        match self {
            Self::Link(link) => link.page().filter(|_| link.node().is_none()),
            Self::Leaf(page) => Some(*page),
        }
    }
}

/// The leaf where `key` belongs; None in an empty tree. `visit` sees each branch and the child taken, from the root down.
pub(crate) fn descend<'a>(
    root: &'a TreeRoot,
    key: &[u8],
    pages: Pages<'a>,
    mut visit: impl FnMut(Fork<'a>, usize),
) -> Result<Option<LeafRef<'a>>, Missing> {
    let Some(link) = root.link.as_ref() else { return Ok(None) };
    let mut child = Child::Link(link);
    for level in (1..root.depth).rev() {
        let Child::Link(link) = child else { unreachable!("only leaves are below a lowest branch") };
        let mut fork = Fork::of_link(link, level == 1, pages)?;
        let at = fork.search(key, pages)?;
        child = fork.child(at, pages)?;
        visit(fork, at);
    }
    child.leaf(pages).map(Some)
}

/// The same for who changes the leaf: its link, and all branches above it are kept.
pub(crate) fn descend_to_change<'a>(
    root: &'a TreeRoot,
    key: &[u8],
    pages: Pages<'_>,
    mut visit: impl FnMut(&'a Branch, usize),
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
