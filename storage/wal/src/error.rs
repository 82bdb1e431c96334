//! What can go wrong with the log.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use plinth_base::{Corrupt, LogIndex};

/// Why the log refused or failed.
#[derive(Debug)]
pub enum WalError {
    /// The device or file system failed. Fatal when it came from a flush: the log takes nothing more.
    Io {
        /// The file or directory.
        file: PathBuf,
        /// What was being done.
        what: &'static str,
        /// The system's answer.
        error: io::Error,
    },
    /// No room for another segment. Nothing was lost; the same records go out with a later flush.
    NoSpace {
        /// The segment that could not be made.
        file: PathBuf,
    },
    /// The log on disk can't be right. Nothing on disk was changed.
    Corrupt(Corrupt),
    /// A segment between the first and the last is not there. Nothing on disk was changed.
    MissingSegment {
        /// The file that should be there.
        file: PathBuf,
    },
    /// A segment was written by another version of plinth. Nothing on disk was changed.
    UnknownVersion {
        /// The segment.
        file: PathBuf,
        /// The format version it names.
        found: u16,
    },
    /// The directory holds no log.
    NoLog {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory holds a log already.
    LogExists {
        /// The directory.
        dir: PathBuf,
    },
    /// Entries that were asked for have been released and are gone, or belong to no group.
    Gone {
        /// The first index that can still be read.
        first: LogIndex,
    },
    /// An earlier write or flush failed: what is durable is not known, so nothing more is taken.
    Poisoned,
}

/// What an operator can do about a log that can't be right.
const ADVICE: &str = "restore the member from a backup";

impl WalError {
    /// A closure for `map_err` that names file and operation.
    pub(crate) fn io(file: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { file: file.to_path_buf(), what, error }
    }

    pub(crate) fn corrupt(file: &Path, offset: u64, want: impl Into<String>, got: impl Into<String>) -> Self {
        Self::Corrupt(Corrupt { file: file.to_path_buf(), offset, want: want.into(), got: got.into() })
    }
}

impl fmt::Display for WalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { file, what, error } => write!(f, "{what} of {} failed: {error}", file.display()),
            Self::NoSpace { file } => write!(f, "no space left for log segment {}", file.display()),
            Self::Corrupt(corrupt) => write!(f, "{corrupt}: nothing was changed; {ADVICE}"),
            Self::MissingSegment { file } => {
                write!(f, "log segment {} is missing: nothing was changed; {ADVICE}", file.display())
            }
            Self::UnknownVersion { file, found } => write!(
                f,
                "{} has log format version {found}, this plinth reads version {}",
                file.display(),
                crate::format::FORMAT_VERSION
            ),
            Self::NoLog { dir } => write!(f, "{} holds no write-ahead log", dir.display()),
            Self::LogExists { dir } => write!(f, "{} holds a write-ahead log already", dir.display()),
            Self::Gone { first } => write!(f, "entries before index {first} are no longer in the log"),
            Self::Poisoned => f.write_str("an earlier write of the log failed, it takes nothing more"),
        }
    }
}

impl std::error::Error for WalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::Corrupt(corrupt) => Some(corrupt),
            _ => None,
        }
    }
}
