//! How a case ends.

/// What a case returns.
pub(crate) type Outcome = Result<(), Ended>;

/// What a case that passed tells: a line of text, empty if there is nothing to tell.
pub(crate) trait Note {
    /// The line.
    fn into_note(self) -> String;
}

impl Note for () {
    fn into_note(self) -> String {
        String::new()
    }
}

impl Note for String {
    fn into_note(self) -> String {
        self
    }
}

/// Why a case did not pass.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The server, or the test itself, did something wrong.
    Failed(String),
    /// This machine lacks what it takes.
    Skipped(String),
}

impl From<String> for Ended {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl From<std::io::Error> for Ended {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Ends the case with a failure unless `holds`.
pub(crate) fn ensure(holds: bool, why: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(Ended::Failed(why())) }
}

/// Ends the case with a failure unless `text` contains all of `parts`.
pub(crate) fn ensure_contains(text: &str, parts: &[&str]) -> Outcome {
    match parts.iter().find(|part| !text.contains(**part)) {
        None => Ok(()),
        Some(part) => Err(Ended::Failed(format!("{part:?} is not in:\n{text}"))),
    }
}
