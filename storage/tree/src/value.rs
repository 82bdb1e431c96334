//! Values as they go in and come out: a small head that always lies in the leaf, and a body that may lie in overflow pages.

use std::sync::Arc;

use bytes::Bytes;
use plinth_env::PageSource;

use crate::{
    error::Missing,
    key::{Runs, run_bytes},
    leaf::{Cell, CellBody},
    node::{Blob, PageRef},
};

/// A value to be put.
#[derive(Clone, Debug)]
pub struct NewValue<'a> {
    /// At most `HEAD_BYTES_MAX`; readable without loading overflow pages.
    pub head: &'a [u8],
    /// The rest.
    pub body: NewBody<'a>,
}

/// The body of a value to be put.
#[derive(Clone, Debug)]
pub enum NewBody<'a> {
    /// At most `BODY_BYTES_MAX`. A body too large for the leaf is kept by reference, not copied.
    Bytes(&'a Bytes),
    /// A body that was detached in the same tree file: its overflow pages get a new owner and are not written again.
    Moved(DetachedBody),
}

impl NewBody<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Moved(body) => body.len(),
        }
    }
}

/// A value taken out of its tree. Its body still owns overflow pages: before the next publish hand it to `Store::discard`, or put it
/// elsewhere as [`NewBody::Moved`]. Dropped, it leaves pages that nothing reaches and the checker complains of.
#[must_use = "its overflow pages leak unless it is discarded or moved"]
#[derive(Clone, Debug)]
pub struct Detached {
    /// The head.
    pub head: Bytes,
    /// The body.
    pub body: DetachedBody,
}

impl Detached {
    /// Bytes of the body.
    #[must_use]
    pub fn body_len(&self) -> usize {
        self.body.len()
    }
}

/// A body without an owner. Clones name the same pages: exactly one of them may be discarded or moved.
#[derive(Clone, Debug)]
pub struct DetachedBody(pub(crate) BodyPlace);

#[derive(Clone, Debug)]
pub(crate) enum BodyPlace {
    Inline(Bytes),
    Blob(Arc<Blob>),
    Pages(PageRef, usize),
}

impl DetachedBody {
    /// Bytes of the body.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            BodyPlace::Inline(bytes) => bytes.len(),
            BodyPlace::Blob(blob) => blob.bytes.len(),
            BodyPlace::Pages(_, len) => *len,
        }
    }

    /// Whether the body has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, if they are in memory.
    pub fn bytes<'a>(&'a self, pages: &'a dyn PageSource) -> Result<&'a [u8], Missing> {
        match &self.0 {
            BodyPlace::Inline(bytes) => Ok(bytes),
            BodyPlace::Blob(blob) => Ok(&blob.bytes),
            BodyPlace::Pages(first, len) => run_bytes(pages, *first, *len),
        }
    }
}

/// A value in a tree, read in place.
#[derive(Clone, Copy)]
pub struct ValueRef<'a> {
    head: &'a [u8],
    body: CellBody<'a>,
    runs: Runs<'a>,
}

impl<'a> ValueRef<'a> {
    pub(crate) fn of_cell(cell: &Cell<'a>, runs: Runs<'a>) -> Self {
        Self { head: cell.head, body: cell.body, runs }
    }

    /// The head.
    #[must_use]
    pub fn head(&self) -> &'a [u8] {
        self.head
    }

    /// Bytes of the body, known without loading it.
    #[must_use]
    pub fn body_len(&self) -> usize {
        self.body.len()
    }

    /// The body, in one piece.
    pub fn body(&self) -> Result<&'a [u8], Missing> {
        match self.body {
            CellBody::Inline(bytes) => Ok(bytes),
            CellBody::Run(run, len) => self.runs.bytes(run, len),
        }
    }
}
