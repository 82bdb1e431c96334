//! Why a subcommand gives up: always one line for the user.

use std::{fmt, io, path::Path};

/// The kinds that differ in their exit code.
#[derive(Debug)]
pub enum Failure {
    /// The command line is wrong. Exit code 2.
    Usage(String),
    /// Something else is. Exit code 1.
    Trouble(String),
}

impl Failure {
    /// An operation on a file failed.
    pub fn file(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Trouble(format!("{what} {}: {error}", path.display()))
    }

    /// What the process exits with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Trouble(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Trouble(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}
