//! Checkpoints: the newest published root becomes durable while the writer goes on.
//!
//! Begun without a look at the trees: the root is immutable anyway, and what was freed is noted already. A task then walks
//! what has no page, children first, gives each node a page, and writes. Pages it writes were reached by neither durable
//! meta. The meta, written after a sync, makes the generation count; after a second sync the older generation's pages may
//! be reused by the checkpoint after the next.
//!
//! A crash in the middle leaves both durable metas, or the newer one of them, as they were.

use std::sync::Arc;

use bytes::Bytes;
use plinth_base::{PageId, bug};
use plinth_env::Env;

use crate::{
    error::TreeError,
    layout::{Kind, run_pages},
    ledger::Dirty,
    meta::Meta,
    node::{Blob, Link, Node, NodeBody, TreeRoot},
    pins::Pin,
    settle::Settling,
    space::Space,
    store::Store,
    view::{Published, Trees},
    writer::PageWriter,
};

/// What the store remembers of the running checkpoint.
pub(crate) struct Frozen {
    pub dirty: Dirty,
    pub bitmap_pages: u32,
    /// Of the newest generation that is durable.
    pub pin: Pin,
}

/// A checkpoint that was begun: run it as a background task and hand the result to `Store::finish_checkpoint`.
#[must_use = "the store can't begin another one before this is finished"]
pub struct Checkpoint<E: Env> {
    root: Arc<Published>,
    space: Space,
    writer: PageWriter<E>,
    written_pages: u64,
}

/// A checkpoint that was run.
#[must_use = "goes to Store::finish_checkpoint"]
pub struct CheckpointDone {
    space: Space,
    written_pages: u64,
    result: Result<Meta, TreeError>,
}

/// The owner's records in the durable checkpoints.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckpointStates {
    /// In the older usable one: what is needed to go on from it must be kept. The newest one if there is only that.
    pub older: Bytes,
    /// In the newest one.
    pub newest: Bytes,
    /// The newest one's generation.
    pub generation: u64,
}

impl<E: Env> Store<E> {
    /// Freezes the newest published root. None if there is nothing new in it, a checkpoint is running already, or
    /// the store is poisoned.
    pub fn begin_checkpoint(&mut self) -> Option<Checkpoint<E>> {
        if self.poisoned || self.newest_change <= self.ledger.frozen {
            return None;
        }
        self.release_pages();
        let mut space = self.space.take()?;
        let generation = self.newest.generation + 1;
        for run in self.ledger.freeze(self.published.sequence) {
            space.free(generation, run);
        }
        space.free(generation, self.newest.bitmap_run());
        if bug!(PageReusedEarly) {
            space.release(generation, &[]);
        }
        let pin = self.pins.pin();
        self.pins.advance(generation);
        space.begin(generation, &self.pins.held());
        self.settling = None;
        self.growth.leave(&space);
        let bitmap_pages = run_pages(Meta::bitmap_bytes(space.pages()));
        self.frozen = Some(Frozen { dirty: self.published_dirty, bitmap_pages, pin });
        let pages = Some(Arc::clone(&self.pages));
        let writer = PageWriter::new(self.env.clone(), self.file.clone(), pages, self.file_id, generation);
        Some(Checkpoint { root: Arc::clone(&self.published), space, writer, written_pages: 0 })
    }

    /// Takes a checkpoint's result over and returns its generation. An error is fatal: the store is poisoned.
    pub fn finish_checkpoint(&mut self, done: CheckpointDone) -> Result<u64, TreeError> {
        let frozen = self.frozen.take().expect("a checkpoint is finished once");
        self.space = Some(done.space);
        let meta = match done.result {
            Ok(meta) => meta,
            Err(error) => {
                self.poisoned = true;
                return Err(error);
            }
        };
        // Room was found for what was counted as dirty; one page more might not have fitted.
        assert!(done.written_pages <= frozen.dirty.pages, "{} pages written, {:?}", done.written_pages, frozen.dirty);
        debug_assert_eq!(done.written_pages, frozen.dirty.pages, "every dirty page is counted once");
        let generation = meta.generation;
        self.older = Some(std::mem::replace(&mut self.newest, meta));
        self.growth.note_need(frozen.dirty.pages + u64::from(frozen.bitmap_pages) + self.ledger.dirty.pages);
        self.ledger.thaw();
        self.finish_growth();
        self.release_pages();
        self.settling = Some(Settling::default());
        self.unsettled_pages += frozen.dirty.pages;
        Ok(generation)
    }

    /// A pin of the newest durable generation: what is published while a checkpoint runs pins the one that it will be.
    pub(crate) fn pin_newest(&self) -> Pin {
        self.frozen.as_ref().map_or_else(|| self.pins.pin(), |frozen| frozen.pin.clone())
    }

    /// The owner's records in both durable checkpoints.
    #[must_use]
    pub fn checkpoints(&self) -> CheckpointStates {
        let newest = self.newest.trees.state.clone();
        let older = self.older.as_ref().map_or_else(|| newest.clone(), |meta| meta.trees.state.clone());
        CheckpointStates { older, newest, generation: self.newest.generation }
    }
}

impl<E: Env> Checkpoint<E> {
    /// The generation it will be.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.writer.generation
    }

    /// Writes everything. After each write `pace` is called with its bytes; the next one waits for it.
    pub async fn run(mut self, mut pace: impl AsyncFnMut(usize)) -> CheckpointDone {
        let result = self.write(&mut pace).await;
        CheckpointDone { space: self.space, written_pages: self.written_pages, result }
    }

    async fn write(&mut self, pace: &mut impl AsyncFnMut(usize)) -> Result<Meta, TreeError> {
        let root = Arc::clone(&self.root);
        for (tree, root) in (0u8..).zip(&root.trees.roots) {
            let mut walk = Walk::of(root);
            while let Some((node, level)) = walk.next() {
                for (_, blob) in node_blobs(&node) {
                    self.write_blob(blob, pace).await?;
                }
                let page = self.allocate(1)?;
                self.written_pages += 1;
                self.writer.write_node(&node, tree, level, page, pace).await?;
            }
        }
        let meta = self.write_bitmap(pace).await?;
        self.writer.write_meta(&meta, root.specs, pace).await?;
        Ok(meta)
    }

    fn allocate(&mut self, pages: u32) -> Result<PageId, TreeError> {
        Ok(self.space.allocate(pages).ok_or(TreeError::StorageFull)?.first)
    }

    async fn write_blob(&mut self, blob: &Blob, pace: &mut impl AsyncFnMut(usize)) -> Result<(), TreeError> {
        if blob.disk.get().is_some() {
            return Ok(());
        }
        let page = self.allocate(blob.pages())?;
        self.written_pages += u64::from(blob.pages());
        // Named at once: whoever drops the blob from now on frees these pages for the next generation.
        let disk = self.writer.write_run(Kind::Overflow, page, &blob.bytes, pace).await?;
        blob.disk.set(disk).expect("a blob is written once");
        Ok(())
    }

    async fn write_bitmap(&mut self, pace: &mut impl AsyncFnMut(usize)) -> Result<Meta, TreeError> {
        let pages = self.space.pages();
        let first = self.allocate(run_pages(Meta::bitmap_bytes(pages)))?;
        let bitmap = self.writer.write_run(Kind::Bitmap, first, &stored_bitmaps(&self.space), pace).await?;
        let (generation, file_id) = (self.writer.generation, self.writer.file_id);
        Ok(Meta { generation, file_id, pages, bitmap, trees: durable(&self.root.trees) })
    }
}

/// Both bitmaps as they are stored.
pub(crate) fn stored_bitmaps(space: &Space) -> Vec<u8> {
    let mut out = Vec::with_capacity(Meta::bitmap_bytes(space.pages()));
    space.used().store(&mut out);
    space.holes().store(&mut out);
    out
}

/// The roots as a meta names them: pages only.
fn durable(trees: &Trees) -> Trees {
    let roots = trees.roots.iter().map(|root| {
        let link = root
            .link
            .as_ref()
            .map(|link| Link::of_page(link.disk().expect("the root is written before the meta"), link.totals));
        TreeRoot { link, depth: root.depth }
    });
    Trees { roots: roots.collect(), state: trees.state.clone() }
}

fn node_blobs(node: &Node) -> &[(u64, Arc<Blob>)] {
    match &node.body {
        NodeBody::Leaf(leaf) => leaf.blobs(),
        NodeBody::Branch(branch) => branch.blobs(),
    }
}

/// Nodes without a page, children before parents.
struct Walk {
    /// The way from the root, with the next child to look at.
    stack: Vec<(Arc<Node>, usize)>,
    depth: usize,
}

impl Walk {
    fn of(root: &TreeRoot) -> Self {
        let top = root.link.as_ref().and_then(Link::unwritten);
        Self { stack: top.map(|node| (Arc::clone(node), 0)).into_iter().collect(), depth: root.depth }
    }

    /// The next node and its level.
    fn next(&mut self) -> Option<(Arc<Node>, usize)> {
        loop {
            let (node, at) = self.stack.last_mut()?;
            let NodeBody::Branch(branch) = &node.body else { break };
            let Some(child) = branch.children.get(*at) else { break };
            *at += 1;
            if let Some(child) = child.unwritten() {
                let child = Arc::clone(child);
                self.stack.push((child, 0));
            }
        }
        let (node, _) = self.stack.pop()?;
        Some((node, self.depth - 1 - self.stack.len()))
    }
}
