//! What can go wrong: a page that is not in memory, and errors that end the use of the file.

use std::{fmt, io, path::PathBuf};

use plinth_base::Corrupt;
use plinth_env::{PageError, PageWant};

use crate::node::PageRef;

/// The operation needs pages that are not in memory. It had no effect: load them and call it again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    /// What to hand to `Env::load_pages`: at least the page that is needed first; scans add some that come next.
    pub wants: Vec<PageWant>,
}

impl Missing {
    /// Bytes that are loaded for it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.wants.iter().map(|want| want.bytes as usize).sum()
    }

    pub(crate) fn one(want: PageWant) -> Self {
        Self { wants: vec![want] }
    }

    /// For a page whose bytes are what its parent's checksum names and still can't be decoded: it is wanted with a
    /// checksum that it can't have, so that loading it reports the corruption with file and offset.
    pub(crate) fn malformed(page: PageRef) -> Self {
        let mut want = page.want();
        want.checksum = !want.checksum;
        Self::one(want)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pages are not in memory", self.wants.len())
    }
}

impl std::error::Error for Missing {}

/// Why a tree file can't be used, or can't be used any longer.
#[derive(Debug)]
pub enum TreeError {
    /// The device failed. After a write or a sync the store is poisoned.
    Io(io::Error),
    /// The device is full. The store goes on; what was asked for did not happen.
    StorageFull,
    /// Stored bytes that can't be right.
    Corrupt(Corrupt),
    /// Neither meta page begins as one of a tree file does.
    NotATree {
        /// The file as it was opened.
        file: PathBuf,
    },
    /// A format that this program can't read.
    Version {
        /// The file as it was opened.
        file: PathBuf,
        /// The version it has.
        got: u32,
        /// The version that can be read.
        want: u32,
    },
    /// The file holds other trees than those asked for.
    Trees {
        /// The file as it was opened.
        file: PathBuf,
        /// Names in the file.
        got: Vec<String>,
    },
    /// An earlier write or sync failed. Nothing more is written.
    Poisoned,
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "tree file: {error}"),
            Self::StorageFull => write!(f, "no space left for the tree file"),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
            Self::NotATree { file } => write!(f, "{} is not a plinth tree file", file.display()),
            Self::Version { file, got, want } => {
                write!(f, "{} has tree format {got}, this program reads format {want}", file.display())
            }
            Self::Trees { file, got } => write!(f, "{} holds other trees: {}", file.display(), got.join(", ")),
            Self::Poisoned => write!(f, "an earlier write to the tree file failed"),
        }
    }
}

impl std::error::Error for TreeError {}

impl From<io::Error> for TreeError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::StorageFull { Self::StorageFull } else { Self::Io(error) }
    }
}

impl From<Corrupt> for TreeError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

impl From<PageError> for TreeError {
    fn from(error: PageError) -> Self {
        match error {
            PageError::Io(error) => Self::Io(error),
            PageError::Corrupt(corrupt) => Self::Corrupt(corrupt),
        }
    }
}
