//! What stops a start: one line for the operator and the exit code.

use std::fmt;

/// Exit code for a command line that can't be read, as Go programs have it.
const EXIT_USAGE: u8 = 2;
/// Exit code for everything else that stops a start.
const EXIT_FAILED: u8 = 1;

/// Why the server doesn't start. Its text is one line that says what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartError {
    exit_code: u8,
    message: String,
}

impl StartError {
    /// The command line, or a variable that stands for it, can't be read.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit_code: EXIT_USAGE, message: message.into() }
    }

    /// It can be read, but not be done.
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        Self { exit_code: EXIT_FAILED, message: message.into() }
    }

    /// What the process exits with; never 0.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StartError {}
