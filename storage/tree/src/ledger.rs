//! What the writer owes and is owed: pages that its changes freed, and how much is changed and not yet on disk.
//!
//! Time runs in *sequences*, one per published root; a node is *born* in the sequence of the first root that can reach it.
//! A checkpoint freezes everything born up to its root's sequence. So of a node without a page, `born > frozen` says that
//! no checkpoint knows it, and `born <= frozen` that the running checkpoint is about to give it one.
//!
//! A page is freed for the checkpoint that first does without it: frees since the last publish wait in `unpublished`, because
//! a checkpoint may still freeze the root before them.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use plinth_base::PageRun;

use crate::{
    key::run_of,
    layout::PAGE_BYTES,
    node::{Blob, Node, NodeBody, PageRef},
};

/// Pages that the next checkpoint of their kind does without.
#[derive(Default)]
pub(crate) struct Freed {
    pub runs: Vec<PageRun>,
    /// Without pages when they were dropped, but in a published root: if a checkpoint froze that root, their pages are known
    /// when it is done.
    nodes: Vec<Arc<Node>>,
    blobs: Vec<Arc<Blob>>,
}

impl Freed {
    /// Takes over what `other` has; what no checkpoint up to `frozen` knows never gets pages and is forgotten.
    fn append(&mut self, other: &mut Self, frozen: u64) {
        self.runs.append(&mut other.runs);
        self.nodes.extend(other.nodes.drain(..).filter(|node| node.born <= frozen));
        self.blobs.extend(other.blobs.drain(..).filter(|blob| blob.born <= frozen));
    }

    /// The checkpoint of `frozen` is done: what it wrote has pages now. What was born later waits for a checkpoint that may
    /// still freeze the published root it is in.
    fn resolve(&mut self, frozen: u64) {
        let nodes = self.nodes.extract_if(.., |node| node.born <= frozen);
        self.runs.extend(nodes.filter_map(|node| node.disk.get().map(|page| PageRun::one(page.page))));
        let blobs = self.blobs.extract_if(.., |blob| blob.born <= frozen);
        self.runs.extend(blobs.filter_map(|blob| blob.run()));
    }
}

/// Pages that a checkpoint will write.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Dirty {
    pub pages: u64,
    /// Not less than the longest run among them.
    pub run_pages_max: u32,
}

impl Dirty {
    fn add(&mut self, pages: u32) {
        self.pages += u64::from(pages);
        self.run_pages_max = self.run_pages_max.max(pages);
    }

    fn sub(&mut self, pages: u32) {
        self.pages = self.pages.checked_sub(u64::from(pages)).expect("a page is dirty before it is dropped");
    }

    pub fn bytes(&self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Ledger {
    /// The sequence that the next publish will have.
    pub epoch: u64,
    /// The newest sequence that a checkpoint froze.
    pub frozen: u64,
    /// The newest sequence that a durable checkpoint froze.
    pub durable: u64,
    /// In the working root and unknown to any checkpoint.
    pub dirty: Dirty,
    /// Of these, born in the current epoch.
    fresh: Dirty,
    unpublished: Freed,
    published: Freed,
    blobs_made: u64,
}

impl Ledger {
    /// For a root that was just read: sequence 0.
    pub fn new() -> Self {
        Self { epoch: 1, ..Self::default() }
    }

    fn admit(&mut self, pages: u32) {
        self.dirty.add(pages);
        self.fresh.add(pages);
    }

    /// Takes something without a page off the books. True if a published root has it, so that a checkpoint may give it a page.
    fn dismiss(&mut self, born: u64, pages: u32) -> bool {
        if born > self.frozen {
            self.dirty.sub(pages);
        }
        if born == self.epoch {
            self.fresh.sub(pages);
        }
        born < self.epoch
    }

    pub fn new_node(&mut self, body: NodeBody) -> Arc<Node> {
        self.admit(1);
        Node::new(self.epoch, OnceLock::new(), body)
    }

    /// A copy that may be changed. Blobs that are durable are left behind as pages.
    pub fn copy_node(&mut self, node: &Node) -> Arc<Node> {
        let body = match &node.body {
            NodeBody::Branch(branch) => NodeBody::Branch(branch.clone()),
            NodeBody::Leaf(leaf) => {
                let mut leaf = leaf.clone();
                let durable = self.durable;
                leaf.settle_blobs(|blob| blob.disk.get().copied().filter(|_| blob.born <= durable));
                NodeBody::Leaf(leaf)
            }
        };
        self.new_node(body)
    }

    pub fn new_blob(&mut self, bytes: Bytes) -> Arc<Blob> {
        self.blobs_made += 1;
        let blob = Blob { id: self.blobs_made, born: self.epoch, bytes, disk: OnceLock::new() };
        self.admit(blob.pages());
        Arc::new(blob)
    }

    /// A node that nobody shares is about to change in place.
    pub fn readmit_node(&mut self, node: &mut Node) {
        match node.disk.take() {
            Some(page) => self.retire_pages(PageRun::one(page.page)),
            None if node.born == self.epoch => return,
            None => panic!("a node of an earlier epoch is shared with the published root"),
        }
        node.born = self.epoch;
        self.admit(1);
    }

    /// The working root no longer reaches `node`.
    pub fn retire_node(&mut self, node: &Arc<Node>) {
        if let Some(page) = node.disk.get() {
            self.retire_pages(PageRun::one(page.page));
        } else if self.dismiss(node.born, 1) {
            self.unpublished.nodes.push(Arc::clone(node));
        }
    }

    /// The working root no longer reaches `blob`.
    pub fn retire_blob(&mut self, blob: &Arc<Blob>) {
        if let Some(run) = blob.run() {
            self.retire_pages(run);
        } else if self.dismiss(blob.born, blob.pages()) {
            self.unpublished.blobs.push(Arc::clone(blob));
        }
    }

    /// The working root no longer reaches the run that holds `payload_bytes`.
    pub fn retire_run(&mut self, first: PageRef, payload_bytes: usize) {
        self.retire_pages(run_of(first, payload_bytes));
    }

    pub fn retire_pages(&mut self, run: PageRun) {
        self.unpublished.runs.push(run);
    }

    /// The working root is published: returns what a checkpoint of it would write.
    pub fn publish(&mut self) -> Dirty {
        self.epoch += 1;
        self.fresh = Dirty::default();
        self.published.append(&mut self.unpublished, self.frozen);
        self.dirty
    }

    /// A checkpoint freezes the root of `sequence`, the newest published: returns the pages it does without.
    pub fn freeze(&mut self, sequence: u64) -> Vec<PageRun> {
        assert!(self.published.nodes.is_empty() && self.published.blobs.is_empty(), "one checkpoint at a time");
        self.frozen = sequence;
        self.dirty = self.fresh;
        std::mem::take(&mut self.published.runs)
    }

    /// The running checkpoint is durable.
    pub fn thaw(&mut self) {
        self.durable = self.frozen;
        self.published.resolve(self.frozen);
        self.unpublished.resolve(self.frozen);
    }
}
