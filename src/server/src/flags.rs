//! The flags of the server: one table ([`table::FLAGS`]) from which parsing, the environment, `--help` and the log
//! lines about flags without effect are derived.
//!
//! Invariant: every flag that etcd knows is in the table, so that no manifest or unit file fails on a name; a flag that
//! plinth can't honour and that must not be dropped silently (TLS) is refused with a line that says
//! so.

mod help;
mod parse;
mod table;

pub use help::help;
pub use parse::{Invocation, Setting, Settings, Source, parse};
pub use table::FLAGS;

/// What values a flag takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `--x`, `--x=true`, `--x=false`.
    Bool,
    /// A whole number, may be negative.
    Int,
    /// A whole number, not negative.
    Uint,
    /// A whole number below 2^32.
    Uint32,
    /// Go's notation: `1h30m`, `500ms`, `0`.
    Duration,
    /// Any text.
    Text,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// etcd accepts it with any value or none and does nothing.
    Relic,
}

impl Kind {
    /// Whether the flag can stand without a value.
    #[must_use]
    pub fn is_bare(self) -> bool {
        matches!(self, Self::Bool | Self::Relic)
    }
}

/// What plinth does with a flag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// What it says is done.
    Honoured,
    /// Accepted; it means nothing here, and why. Said in the log when it is set.
    Ignored(&'static str),
    /// Accepted, for a later release. Said in the log when it is set.
    Later,
    /// Anything but the default stops the start: ignoring it would do harm. The text ends the sentence "--x ...".
    Refused(&'static str),
    /// Accepted without a word, as etcd does.
    Silent,
}

/// One flag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flag {
    /// Its name without dashes.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// What holds when it isn't given, as text.
    pub default: &'static str,
    /// What plinth does with it.
    pub status: Status,
    /// What it is for, one line.
    pub help: &'static str,
}

impl Flag {
    /// The variable that sets it too: `ETCD_` and the name in capitals with `_` for `-`.
    #[must_use]
    pub fn env_name(&self) -> String {
        format!("ETCD_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }
}

/// The flag of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

/// etcd 3.6's `--experimental-x`, where it became `--x` later: the flag `x`.
#[must_use]
pub fn experimental_twin(name: &str) -> Option<&'static Flag> {
    name.strip_prefix("experimental-").and_then(find)
}

/// How far a misspelt name may be from a known one to be suggested, in edits per character of it.
const SUGGESTION_EDITS_PER_CHAR_MAX: f64 = 0.34;

/// The known name that is nearest to `name`, if one is near.
#[must_use]
pub fn nearest(name: &str) -> Option<&'static str> {
    let best = FLAGS.iter().map(|flag| (edit_distance(name, flag.name), flag.name)).min()?;
    #[expect(clippy::cast_precision_loss, reason = "names are short")]
    let near = best.0 as f64 <= name.len() as f64 * SUGGESTION_EDITS_PER_CHAR_MAX;
    near.then_some(best.1)
}

/// Levenshtein's distance between two names, in bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
