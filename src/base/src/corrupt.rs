//! The error of every decoder: what was found where, and what should have been there.

use std::{fmt, path::PathBuf};

/// Stored bytes that can't be right. Decoders return it; they never panic on what they read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Corrupt {
    /// The file as it was opened.
    pub file: PathBuf,
    /// Byte offset in the file.
    pub offset: u64,
    /// What a sound file has there.
    pub want: String,
    /// What this file has there.
    pub got: String,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is corrupt at offset {}: expected {}, found {}",
            self.file.display(),
            self.offset,
            self.want,
            self.got
        )
    }
}

impl std::error::Error for Corrupt {}
