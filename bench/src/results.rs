//! Results files: one JSON document for every command, so that whoever compares or shows results has one thing to read.
//!
//! A command makes its tables of the document's `results` and of nothing else: `show` prints the same text from the file.

mod utc;

use std::{fs, io::Write, os::unix::fs::PermissionsExt, path::Path, time::SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::failure::Failure;

/// What each results file begins with; its version stands behind it.
const FORMAT_NAME: &str = "plinth-bench results ";
/// Readers refuse another one.
const FORMAT_VERSION: u32 = 2;
const PROGRAM_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a command found out, where and how.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Document {
    format: String,
    /// The subcommand that made it.
    pub command: String,
    /// When, in RFC 3339, UTC.
    pub made: String,
    /// The version of the program that made it.
    pub plinth_bench: String,
    /// The machine that it was made on.
    pub machine: Machine,
    /// The programs that were looked at.
    pub programs: Vec<ProgramFacts>,
    /// How it was made: as the command tells it.
    pub method: Value,
    /// What came out: as the command tells it.
    pub results: Value,
}

/// Where results were made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// As it is told in front of tables.
    pub text: String,
    /// The same as single facts.
    pub facts: Value,
}

/// A program that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProgramFacts {
    /// What the tables call it.
    pub name: String,
    /// What it calls itself.
    pub version: String,
    /// Where it was.
    pub path: String,
}

impl Document {
    /// One of now.
    pub fn new(command: &str, machine: Machine, programs: Vec<ProgramFacts>, method: Value, results: Value) -> Self {
        Self {
            format: format!("{FORMAT_NAME}{FORMAT_VERSION}"),
            command: command.to_owned(),
            made: utc::rfc3339(SystemTime::now()),
            plinth_bench: PROGRAM_VERSION.to_owned(),
            machine,
            programs,
            method,
            results,
        }
    }

    /// As it lies in a file.
    #[must_use]
    pub fn to_json(&self) -> String {
        // A document is plain data with text keys: nothing in it can't be JSON.
        serde_json::to_string(self).expect("plain data")
    }
}

/// Fails unless a results file can be made at `path`: better said before the work than after it.
pub fn expect_writable(path: &Path) -> Result<(), Failure> {
    if path.is_dir() {
        return Err(Failure::Trouble(format!("{} is a directory: results go to a file", path.display())));
    }
    temporary_beside(path)?;
    Ok(())
}

/// Writes a document: whoever reads the file meanwhile sees the old one or the new one, whole.
pub fn write(path: &Path, document: &Document) -> Result<(), Failure> {
    let mut file = temporary_beside(path)?;
    let written = writeln!(file, "{}", document.to_json()).and_then(|()| file.as_file().sync_all());
    written.map_err(Failure::file(path, "writing"))?;
    file.persist(path).map_err(|error| Failure::file(path, "writing")(error.error))?;
    Ok(())
}

fn temporary_beside(path: &Path) -> Result<NamedTempFile, Failure> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(Failure::file(parent, "making"))?;
    let readable = fs::Permissions::from_mode(0o644);
    let made = tempfile::Builder::new().prefix(".plinth-bench-").permissions(readable).tempfile_in(parent);
    made.map_err(Failure::file(parent, "making a file in"))
}

/// Reads a document.
///
/// # Errors
/// One line that names the file: it isn't there, is cut off, is something else, or is of another version.
pub fn read(path: &Path) -> Result<Document, Failure> {
    let bytes = fs::read(path).map_err(Failure::file(path, "reading"))?;
    parse(&bytes).map_err(|why| Failure::Trouble(format!("{} {why}", path.display())))
}

/// What is wrong is the rest of a sentence that begins with the file.
fn parse(bytes: &[u8]) -> Result<Document, String> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err("is empty: make the results again".to_owned());
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        if error.is_eof() {
            format!("is cut off after {} bytes: make the results again", bytes.len())
        } else {
            format!("is no results file of plinth-bench: no JSON ({error})")
        }
    })?;
    let format = value.get("format").and_then(Value::as_str);
    let Some(version) = format.and_then(|format| format.strip_prefix(FORMAT_NAME)) else {
        return Err(format!(
            "is no results file of plinth-bench: its \"format\" is not \"{FORMAT_NAME}{FORMAT_VERSION}\""
        ));
    };
    if version != FORMAT_VERSION.to_string() {
        return Err(format!(
            "has results of version {version}, and plinth-bench {PROGRAM_VERSION} reads version {FORMAT_VERSION}: make the results again, \
             or read them with the plinth-bench that made them"
        ));
    }
    serde_json::from_value(value).map_err(|error| format!("is damaged, {error}: make the results again"))
}

/// What a command keeps in a document's `method` or `results`, as it keeps it.
pub fn decode<T: for<'a> Deserialize<'a>>(value: &Value, what: &str) -> Result<T, Failure> {
    T::deserialize(value)
        .map_err(|error| Failure::Trouble(format!("these {what} are damaged, {error}: make them again")))
}

/// The other way round.
pub fn encode(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("plain data with text keys")
}

#[cfg(test)]
mod tests;
