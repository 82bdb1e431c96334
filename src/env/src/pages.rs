//! Pages of a tree file as readers see them: there at once, or *missing*.

use std::{fmt, io};

use plinth_base::{Corrupt, PageRun};

/// A page, or a run of overflow pages, and what its parent knows of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PageWant {
    /// Where it lies.
    pub run: PageRun,
    /// How many bytes from its start the checksum covers; at most the run's length.
    pub bytes: u32,
    /// CRC32C of those bytes.
    pub checksum: u32,
}

/// Why pages could not be loaded.
#[derive(Debug)]
pub enum PageError {
    /// The device failed.
    Io(io::Error),
    /// The bytes are not those that the parent's checksum names.
    Corrupt(Corrupt),
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "reading pages failed: {error}"),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl std::error::Error for PageError {}

/// The pages of one tree file, shared by all executors.
///
/// A page's bytes don't change while a root that reaches it is pinned: the tree hands a page out again only when no such
/// root is left. So a slice from `get` is good as long as the reader keeps its root.
pub trait PageSource: Send + Sync + 'static {
    /// The first `want.bytes` bytes, if they are in memory and were verified since they came there; else load them. Never blocks, never faults.
    fn get(&self, want: &PageWant) -> Option<&[u8]>;

    /// The bytes will be read in a moment, if they are in memory. Only a hint: what it does can't be seen but in time.
    fn prefetch(&self, _want: &PageWant) {}

    /// A checkpoint is about to write these pages: nothing that was known of them holds any longer.
    fn forget(&self, run: PageRun);

    /// A checkpoint wrote these pages through the page cache: they are in memory and right.
    fn note_written(&self, run: PageRun);
}
