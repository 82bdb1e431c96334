//! Writing pages: encoded, gathered into runs, and the runs of a batch written side by side.
//!
//! In a file whose free pages lie scattered most runs are short. Written one after the other each would wait for the executor's turn, and a
//! checkpoint that writes must wait for would take as long as there are runs.

use std::sync::Arc;

use futures_util::future::join_all;
use plinth_base::{AlignedBuf, PageId, PageRun, bug, crc32c, limits::IO_BYTES_MAX};
use plinth_env::{Env, File, PageSource};

use crate::{
    error::TreeError,
    layout::{Kind, NO_TREE, PAGE_BYTES, PAGE_HEADER_BYTES, PageHeader},
    meta::Meta,
    node::{Node, NodeBody, PageRef},
    store::TreeSpec,
};

/// Pages in one batch.
const BATCH_PAGES_MAX: usize = IO_BYTES_MAX / PAGE_BYTES;

/// Runs in one batch: as many writes are under way at once.
const BATCH_RUNS_MAX: usize = 32;

/// Pages of a run whose buffer is used again.
const SPARE_PAGES_MAX: u32 = 16;

/// Writes the pages of one generation.
pub(crate) struct PageWriter<E: Env> {
    pub env: E,
    pub file: E::File,
    /// Whom to tell what is written; None while the file is created.
    pub pages: Option<Arc<E::Pages>>,
    pub file_id: u64,
    pub generation: u64,
    /// The runs that are not written yet, in the order of their making, and their pages.
    batch: Vec<Run>,
    pages_in_batch: usize,
    /// Buffers of earlier batches, empty.
    spare: Vec<AlignedBuf>,
}

/// Pages that lie in a row.
struct Run {
    first: PageId,
    bytes: AlignedBuf,
}

impl Run {
    fn pages(&self) -> PageRun {
        let count = u32::try_from(self.bytes.len() / PAGE_BYTES).expect("a batch has a few hundred pages at most");
        PageRun { first: self.first, count }
    }
}

impl<E: Env> PageWriter<E> {
    pub fn new(env: E, file: E::File, pages: Option<Arc<E::Pages>>, file_id: u64, generation: u64) -> Self {
        Self { env, file, pages, file_id, generation, batch: Vec::new(), pages_in_batch: 0, spare: Vec::new() }
    }

    fn header(&self, kind: Kind, page: PageId) -> PageHeader {
        let (generation, file_id) = (self.generation, self.file_id);
        PageHeader { kind, tree: NO_TREE, level: 0, count: 0, page, generation, file_id }
    }

    /// Zeroed room for `page` in the batch; what is there is written first if that is full.
    async fn slot(&mut self, page: PageId, pace: &mut impl AsyncFnMut(usize)) -> Result<&mut [u8], TreeError> {
        let joins_on = self.batch.last().is_some_and(|last| last.pages().end() == page);
        if self.pages_in_batch == BATCH_PAGES_MAX || (!joins_on && self.batch.len() == BATCH_RUNS_MAX) {
            self.flush(pace).await?;
        }
        if self.batch.is_empty() || !joins_on {
            let bytes = self.spare.pop().unwrap_or_else(|| AlignedBuf::zeroed(0));
            self.batch.push(Run { first: page, bytes });
        }
        self.pages_in_batch += 1;
        let bytes = &mut self.batch.last_mut().expect("it was just made").bytes;
        let before = bytes.len();
        bytes.resize(before + PAGE_BYTES);
        Ok(&mut bytes.as_mut_slice()[before..])
    }

    /// Writes what is in the batch.
    pub async fn flush(&mut self, pace: &mut impl AsyncFnMut(usize)) -> Result<(), TreeError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let runs: Vec<PageRun> = self.batch.iter().map(Run::pages).collect();
        if let Some(pages) = &self.pages {
            runs.iter().for_each(|run| pages.forget(*run));
        }
        let write = |run: Run| self.file.write_at(run.first.0 * PAGE_BYTES as u64, run.bytes);
        let done = join_all(self.batch.drain(..).map(write)).await;
        for (run, (result, mut bytes)) in runs.iter().zip(done) {
            result?;
            if let Some(pages) = &self.pages {
                pages.note_written(*run);
            }
            bytes.resize(0);
            // Short runs come in great numbers; the memory of long ones is given back but for one.
            if run.count <= SPARE_PAGES_MAX || self.spare.is_empty() {
                self.spare.push(bytes);
            }
        }
        pace(std::mem::take(&mut self.pages_in_batch) * PAGE_BYTES).await;
        self.env.yield_now().await;
        Ok(())
    }

    /// Writes a leaf or branch to `page`; everything below it has its pages.
    pub async fn write_node(
        &mut self,
        node: &Node,
        tree: u8,
        level: usize,
        page: PageId,
        pace: &mut impl AsyncFnMut(usize),
    ) -> Result<(), TreeError> {
        let (kind, count) = match &node.body {
            NodeBody::Leaf(leaf) => (Kind::Leaf, leaf.count()),
            NodeBody::Branch(branch) => (Kind::Branch, branch.children.len()),
        };
        let header = PageHeader {
            tree,
            level: u8::try_from(level).expect("levels are below DEPTH_MAX"),
            count: u16::try_from(count).expect("cells of a page"),
            ..self.header(kind, page)
        };
        let out = self.slot(page, pace).await?;
        match &node.body {
            NodeBody::Leaf(leaf) => leaf.encode_into(out),
            NodeBody::Branch(branch) => branch.encode_into(out),
        }
        header.encode_into(out);
        let checksum = crc32c(0, out);
        node.disk.set(PageRef { page, checksum }).expect("a node is written once");
        Ok(())
    }

    /// Writes `payload` to the run that begins at `page`, behind one header.
    pub async fn write_run(
        &mut self,
        kind: Kind,
        page: PageId,
        payload: &[u8],
        pace: &mut impl AsyncFnMut(usize),
    ) -> Result<PageRef, TreeError> {
        let mut header = [0; PAGE_HEADER_BYTES];
        self.header(kind, page).encode_into(&mut header);
        let (in_first, rest) = payload.split_at(payload.len().min(PAGE_BYTES - PAGE_HEADER_BYTES));
        let out = self.slot(page, pace).await?;
        out[..PAGE_HEADER_BYTES].copy_from_slice(&header);
        out[PAGE_HEADER_BYTES..][..in_first.len()].copy_from_slice(in_first);
        for (at, chunk) in rest.chunks(PAGE_BYTES).enumerate() {
            let out = self.slot(PageId(page.0 + 1 + at as u64), pace).await?;
            out[..chunk.len()].copy_from_slice(chunk);
        }
        Ok(PageRef { page, checksum: crc32c(crc32c(0, &header), payload) })
    }

    /// Makes everything written so far durable, then the meta.
    pub async fn write_meta(
        &mut self,
        meta: &Meta,
        specs: &[TreeSpec],
        pace: &mut impl AsyncFnMut(usize),
    ) -> Result<(), TreeError> {
        self.flush(pace).await?;
        // The meta must not reach the device before the pages that it names.
        self.sync().await?;
        let mut page = AlignedBuf::zeroed(PAGE_BYTES);
        page.as_mut_slice().copy_from_slice(&meta.encode(specs));
        self.file.write_at(meta.slot().0 * PAGE_BYTES as u64, page).await.0?;
        self.sync().await
    }

    async fn sync(&self) -> Result<(), TreeError> {
        let synced = self.file.sync().await;
        if synced.is_err() && bug!(FlushRetried) {
            return Ok(self.file.sync().await?);
        }
        Ok(synced?)
    }
}
