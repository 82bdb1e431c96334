//! Writing pages: encoded into one buffer and written as few long runs.

use std::sync::Arc;

use plinth_base::{AlignedBuf, PageId, PageRun, crc32c, limits::IO_BYTES_MAX};
use plinth_env::{Env, File, PageSource};

use crate::{
    error::TreeError,
    layout::{Kind, NO_TREE, PAGE_BYTES, PAGE_HEADER_BYTES, PageHeader},
    meta::Meta,
    node::{Node, NodeBody, PageRef},
    store::TreeSpec,
};

/// Pages in one write.
const BATCH_PAGES_MAX: usize = IO_BYTES_MAX / PAGE_BYTES;

/// Writes the pages of one generation.
pub(crate) struct PageWriter<E: Env> {
    pub env: E,
    pub file: E::File,
    /// Whom to tell what is written; None while the file is created.
    pub pages: Option<Arc<E::Pages>>,
    pub file_id: u64,
    pub generation: u64,
    /// `count` pages; it keeps its memory and never has more than it needs, because new pages in it are zeroed.
    batch: AlignedBuf,
    first: PageId,
    count: usize,
}

impl<E: Env> PageWriter<E> {
    pub fn new(env: E, file: E::File, pages: Option<Arc<E::Pages>>, file_id: u64, generation: u64) -> Self {
        let batch = AlignedBuf::zeroed(0);
        Self { env, file, pages, file_id, generation, batch, first: PageId(0), count: 0 }
    }

    fn header(&self, kind: Kind, page: PageId) -> PageHeader {
        let (generation, file_id) = (self.generation, self.file_id);
        PageHeader { kind, tree: NO_TREE, level: 0, count: 0, page, generation, file_id }
    }

    /// Zeroed room for `page` in the batch; what is there is written first if it doesn't join on or is full.
    async fn slot(&mut self, page: PageId, pace: &mut impl AsyncFnMut(usize)) -> Result<&mut [u8], TreeError> {
        if self.count == BATCH_PAGES_MAX || page.0 != self.first.0 + self.count as u64 {
            self.flush(pace).await?;
            self.first = page;
        }
        self.count += 1;
        self.batch.resize(self.count * PAGE_BYTES);
        Ok(&mut self.batch.as_mut_slice()[(self.count - 1) * PAGE_BYTES..][..PAGE_BYTES])
    }

    /// Writes what is in the batch.
    pub async fn flush(&mut self, pace: &mut impl AsyncFnMut(usize)) -> Result<(), TreeError> {
        let Ok(count) = u32::try_from(self.count) else { panic!("a batch has at most {BATCH_PAGES_MAX} pages") };
        if count == 0 {
            return Ok(());
        }
        let run = PageRun { first: self.first, count };
        let batch = std::mem::replace(&mut self.batch, AlignedBuf::zeroed(0));
        if let Some(pages) = &self.pages {
            pages.forget(run);
        }
        let (result, mut batch) = self.file.write_at(run.first.0 * PAGE_BYTES as u64, batch).await;
        result?;
        if let Some(pages) = &self.pages {
            pages.note_written(run);
        }
        batch.resize(0);
        self.batch = batch;
        self.count = 0;
        pace(run.count as usize * PAGE_BYTES).await;
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
        self.file.sync().await?;
        let mut page = AlignedBuf::zeroed(PAGE_BYTES);
        page.as_mut_slice().copy_from_slice(&meta.encode(specs));
        self.file.write_at(meta.slot().0 * PAGE_BYTES as u64, page).await.0?;
        self.file.sync().await?;
        Ok(())
    }
}
