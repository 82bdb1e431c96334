//! A branch on the way from the root to a leaf, and how readers find it.
//!
//! A branch that is met is decoded and kept, because it is met again; but a walk over everything would bring all branches of a tree
//! into memory. So who only passes by reads the lowest branches, which are nearly all of them, in place.

use crate::{
    branch::Branch,
    branch_page::{BranchPage, StoredChild},
    error::Missing,
    key::Pages,
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
    branch: BranchPage<'a>,
    page: PageRef,
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
            Self::Passed(passed) => passed.branch.len(),
        }
    }

    /// The child below which `key` belongs.
    pub fn search(&self, key: &[u8], pages: Pages<'_>) -> Result<usize, Missing> {
        match self {
            Self::Kept(branch) => branch.search(key, pages),
            Self::Passed(passed) => passed.branch.search(key, passed.page, pages),
        }
    }

    pub fn child(&self, at: usize, pages: Pages<'_>) -> Result<Child<'a>, Missing> {
        match self {
            Self::Kept(branch) => Ok(Child::Link(&branch.children[at])),
            Self::Passed(passed) => Ok(Child::Leaf(passed.child(at, pages)?.page)),
        }
    }

    /// The totals of all children before `at`.
    pub fn totals_before(&self, at: usize, pages: Pages<'_>) -> Result<Totals, Missing> {
        let mut totals = Totals::default();
        match self {
            Self::Kept(branch) => branch.children.iter().take(at).for_each(|child| totals += child.totals),
            Self::Passed(passed) => {
                for at in 0..at {
                    totals += passed.child(at, pages)?.totals;
                }
            }
        }
        Ok(totals)
    }
}

impl<'a> PassedBranch<'a> {
    fn of_page(page: PageRef, pages: Pages<'a>) -> Result<Self, Missing> {
        let branch = BranchPage::of_page(pages.get(page.want())?, page.page).map_err(|_| Missing::malformed(page))?;
        Ok(Self { branch, page })
    }

    fn child(&self, at: usize, pages: Pages<'_>) -> Result<StoredChild, Missing> {
        self.branch.child(at, pages.end).map_err(|_| Missing::malformed(self.page))
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
        let fork = Fork::of_link(link, level == 1, pages)?;
        let at = fork.search(key, pages)?;
        visit(fork, at);
        child = fork.child(at, pages)?;
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
