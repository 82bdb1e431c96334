//! Nodes in memory and the links between them.
//!
//! A node is shared by `Arc` between the working root, published roots and a running checkpoint. Whatever is shared is never
//! changed: the writer copies it first. What only the working root reaches is changed in place.
//!
//! `disk` is set when a checkpoint gave the node its page, or when the node was read from it. A link without
//! `page` always has its node in memory; a link with `page` leads to nothing but pages, and a node it has is a copy of one.

use std::{
    ops::{AddAssign, SubAssign},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use plinth_base::{PageId, PageRun};
use plinth_env::PageWant;

use crate::{
    branch::Branch,
    children::Children,
    error::Missing,
    key::{Pages, run_of},
    layout::{PAGE_BYTES, run_pages},
    leaf::{Leaf, LeafRef},
    ledger::Ledger,
};

/// How many entries there are, and the sum of their weights as the tree's `weigh` counts them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Totals {
    /// Entries.
    pub entries: u64,
    /// Sum of the weights of the entries.
    pub weight: u64,
}

// Wrapping, because a file that was made to harm may hold any numbers; the checker compares them with the entries.
impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.entries = self.entries.wrapping_add(other.entries);
        self.weight = self.weight.wrapping_add(other.weight);
    }
}

impl SubAssign for Totals {
    fn sub_assign(&mut self, other: Self) {
        self.entries = self.entries.wrapping_sub(other.entries);
        self.weight = self.weight.wrapping_sub(other.weight);
    }
}

/// A page, or the first page of a run, and the checksum of what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PageRef {
    pub page: PageId,
    pub checksum: u32,
}

impl PageRef {
    /// What to load for a leaf or branch page.
    pub fn want(self) -> PageWant {
        PageWant { run: PageRun::one(self.page), bytes: PAGE_BYTES as u32, checksum: self.checksum }
    }
}

/// The payload of an overflow run that has not been settled on disk. Belongs to exactly one cell of the working tree.
#[derive(Debug)]
pub(crate) struct Blob {
    pub id: u64,
    /// The sequence of the first root that can reach it.
    pub born: u64,
    pub bytes: Bytes,
    pub disk: OnceLock<PageRef>,
}

impl Blob {
    pub fn pages(&self) -> u32 {
        run_pages(self.bytes.len())
    }

    /// Its pages, if a checkpoint gave it some.
    pub fn run(&self) -> Option<PageRun> {
        self.disk.get().map(|&first| run_of(first, self.bytes.len()))
    }
}

/// A leaf or branch.
#[derive(Debug)]
pub(crate) struct Node {
    /// The sequence of the first root that can reach it; 0 for a copy of a page.
    pub born: u64,
    pub disk: OnceLock<PageRef>,
    /// Whether somebody came by since the trimming last did. Only copies of pages are asked.
    pub used: AtomicBool,
    pub body: NodeBody,
}

#[derive(Debug)]
pub(crate) enum NodeBody {
    Leaf(Leaf),
    Branch(Branch),
}

impl Node {
    pub fn new(born: u64, disk: OnceLock<PageRef>, body: NodeBody) -> Arc<Self> {
        Arc::new(Self { born, disk, used: AtomicBool::new(true), body })
    }

    pub fn branch(&self) -> &Branch {
        match &self.body {
            NodeBody::Branch(branch) => branch,
            NodeBody::Leaf(_) => panic!("a leaf where the tree's depth says branch"),
        }
    }

    pub fn leaf(&self) -> &Leaf {
        match &self.body {
            NodeBody::Leaf(leaf) => leaf,
            NodeBody::Branch(_) => panic!("a branch where the tree's depth says leaf"),
        }
    }

    fn branch_mut(&mut self) -> &mut Branch {
        match &mut self.body {
            NodeBody::Branch(branch) => branch,
            NodeBody::Leaf(_) => panic!("a leaf where the tree's depth says branch"),
        }
    }

    fn leaf_mut(&mut self) -> &mut Leaf {
        match &mut self.body {
            NodeBody::Leaf(leaf) => leaf,
            NodeBody::Branch(_) => panic!("a branch where the tree's depth says leaf"),
        }
    }
}

/// What a parent knows of a child.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub totals: Totals,
    target: Target,
}

#[derive(Clone, Debug)]
enum Target {
    /// Changed, and in no checkpoint that this link knows of.
    Node(Arc<Node>),
    /// With a copy of it, once a branch was decoded.
    Page(PageRef, OnceLock<Arc<Node>>),
}

impl Link {
    pub fn of_page(page: PageRef, totals: Totals) -> Self {
        Self { totals, target: Target::Page(page, OnceLock::new()) }
    }

    pub fn of_node(node: Arc<Node>, totals: Totals) -> Self {
        Self { totals, target: Target::Node(node) }
    }

    /// The page that this link names.
    pub fn page(&self) -> Option<PageRef> {
        match &self.target {
            Target::Node(_) => None,
            Target::Page(page, _) => Some(*page),
        }
    }

    /// What is in memory as a node.
    pub fn node(&self) -> Option<&Arc<Node>> {
        match &self.target {
            Target::Node(node) => Some(node),
            Target::Page(_, copy) => copy.get(),
        }
    }

    /// The page that holds what this link leads to, if there is one.
    pub fn disk(&self) -> Option<PageRef> {
        match &self.target {
            Target::Node(node) => node.disk.get().copied(),
            Target::Page(page, _) => Some(*page),
        }
    }

    /// Whether a checkpoint must write the node: it has no page.
    pub fn unwritten(&self) -> Option<&Arc<Node>> {
        match &self.target {
            Target::Node(node) if node.disk.get().is_none() => Some(node),
            _ => None,
        }
    }

    /// The children of a branch in memory, unshared, without changing what the branch says or where it is stored.
    pub fn children_in_place(&mut self, ledger: &mut Ledger) -> &mut Children {
        let node = match &mut self.target {
            Target::Node(node) => node,
            Target::Page(_, copy) => copy.get_mut().expect("the caller saw the branch in memory"),
        };
        if Arc::get_mut(node).is_none() {
            *node = match node.disk.get() {
                Some(_) => Node::new(node.born, node.disk.clone(), NodeBody::Branch(node.branch().clone())),
                // A checkpoint may give the shared one a page later, so the copy is a change like any other.
                None => {
                    let copy = ledger.copy_node(node);
                    ledger.retire_node(node);
                    copy
                }
            };
        }
        &mut Arc::get_mut(node).expect("unshared just now").branch_mut().children
    }

    /// Lets go of the copy of a page.
    pub fn forget_copy(&mut self) {
        if let Target::Page(_, copy) = &mut self.target {
            copy.take();
        }
    }

    /// Names the page that a checkpoint gave the node; the node becomes a copy of it.
    pub fn settle(&mut self, page: PageRef) {
        if let Target::Node(node) = &self.target {
            self.target = Target::Page(page, OnceLock::from(Arc::clone(node)));
        }
    }

    /// The branch, decoded and kept from now on if only its page is there.
    pub fn branch<'a>(&'a self, pages: Pages<'_>) -> Result<&'a Branch, Missing> {
        let (page, copy) = match &self.target {
            Target::Node(node) => return Ok(node.branch()),
            Target::Page(page, copy) => (*page, copy),
        };
        if let Some(node) = copy.get() {
            // Readers share the line as long as nobody writes it.
            if !node.used.load(Ordering::Relaxed) {
                node.used.store(true, Ordering::Relaxed);
            }
            return Ok(node.branch());
        }
        let bytes = pages.get(page.want())?;
        let branch =
            Branch::decode(bytes, page.page, pages.end, pages.branches).map_err(|_| Missing::malformed(page))?;
        // Readers on several executors may decode the same page; one copy stays.
        let node = copy.get_or_init(|| Node::new(0, OnceLock::from(page), NodeBody::Branch(branch)));
        Ok(node.branch())
    }

    /// The leaf, in memory or as its page.
    pub fn leaf<'a>(&'a self, pages: Pages<'a>) -> Result<LeafRef<'a>, Missing> {
        match &self.target {
            Target::Node(node) => Ok(node.leaf().view()),
            Target::Page(page, _) => clean_leaf(*page, pages),
        }
    }

    /// What [`Link::leaf_mut`] needs: the page's bytes, checked cell by cell, if the leaf is not in memory as a node.
    pub fn clean_image<'p>(&self, pages: Pages<'p>) -> Result<Option<&'p [u8]>, Missing> {
        let Target::Page(page, _) = &self.target else { return Ok(None) };
        let leaf = clean_leaf(*page, pages)?;
        leaf.check_cells(pages.end)?;
        Ok(Some(leaf.image()))
    }

    /// The node, unshared and without a page: the old page, or the old shared copy, is retired.
    fn node_mut(&mut self, ledger: &mut Ledger) -> &mut Node {
        if let Target::Page(_, copy) = &mut self.target {
            self.target = Target::Node(copy.take().expect("the caller brought the node into memory"));
        }
        let Target::Node(arc) = &mut self.target else { panic!("it was made a node just now") };
        match Arc::get_mut(arc) {
            Some(node) => ledger.readmit_node(node),
            None => {
                let copy = ledger.copy_node(arc);
                ledger.retire_node(arc);
                *arc = copy;
            }
        }
        Arc::get_mut(arc).expect("unshared just now")
    }

    pub fn branch_mut(&mut self, ledger: &mut Ledger) -> &mut Branch {
        self.node_mut(ledger).branch_mut()
    }

    /// `clean` is what [`Link::clean_image`] gave.
    pub fn leaf_mut(&mut self, clean: Option<&[u8]>, ledger: &mut Ledger) -> &mut Leaf {
        if let Target::Page(page, _) = &self.target {
            let image = clean.expect("a leaf that is only a page comes with its bytes");
            ledger.retire_pages(PageRun::one(page.page));
            self.target = Target::Node(ledger.new_node(NodeBody::Leaf(Leaf::from_image(image))));
        }
        self.node_mut(ledger).leaf_mut()
    }

    /// Takes what this link leads to, one node, out of the working tree. Blobs and children have been moved away.
    pub fn retire(self, ledger: &mut Ledger) {
        match self.target {
            Target::Node(node) => ledger.retire_node(&node),
            Target::Page(page, _) => ledger.retire_pages(PageRun::one(page.page)),
        }
    }
}

/// A leaf's page. The result doesn't borrow the link, so it outlives changes to the tree.
pub(crate) fn clean_leaf(page: PageRef, pages: Pages<'_>) -> Result<LeafRef<'_>, Missing> {
    LeafRef::of_page(pages.get(page.want())?, page)
}

/// The root of one tree.
#[derive(Clone, Debug, Default)]
pub(crate) struct TreeRoot {
    /// None for an empty tree.
    pub link: Option<Link>,
    /// Levels: 0 for an empty tree, 1 for a single leaf.
    pub depth: usize,
}

impl TreeRoot {
    pub fn totals(&self) -> Totals {
        self.link.as_ref().map_or(Totals::default(), |link| link.totals)
    }
}
