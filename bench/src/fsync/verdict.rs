//! What the figures mean: a pure function of recorded facts and recorded cells. Each finding has a short answer and the reason for it, and
//! "unknown" is an answer.
//!
//! | module | what it answers |
//! |---|---|
//! | `choice` | the method to use |
//! | `rules` | etcd's rule, and plinth's own limits |
//! | `power` | what a power cut does: protection, and flushes that do nothing |
//! | `cost` | what files, sizes and neighbours cost |
//! | `around` | what else on this machine makes flushes slower |

mod around;
mod choice;
mod cost;
mod power;
mod rules;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use self::choice::best;
use super::{cell::Cell, first_start::FirstStart, method::Method, summary::Summary};
use crate::facts::Facts;

/// The answer where nothing is known.
pub const UNKNOWN: &str = "unknown";

/// One answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What it answers, for programs.
    pub topic: &'static str,
    /// The same for people.
    pub question: &'static str,
    /// In a word or two.
    pub answer: String,
    /// Why.
    pub reason: String,
}

impl Finding {
    fn new(
        (topic, question): (&'static str, &'static str),
        answer: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self { topic, question, answer: answer.into(), reason: reason.into() }
    }

    fn unknown(topic: (&'static str, &'static str), reason: impl Into<String>) -> Self {
        Self::new(topic, UNKNOWN, reason)
    }
}

/// What was recorded.
#[derive(Clone, Copy)]
struct Record<'a> {
    facts: &'a Facts,
    cells: &'a [Summary],
    first_start: &'a FirstStart,
}

impl Record<'_> {
    /// A cell that was measured often enough for a median.
    fn cell(&self, wanted: Cell) -> Option<&Summary> {
        self.cells.iter().find(|summary| summary.cell == wanted && summary.p50_us.is_some())
    }

    fn plain(&self, method: Method) -> Option<&Summary> {
        self.cell(Cell::plain(method))
    }

    fn plain_p50(&self, method: Method) -> Option<f64> {
        self.plain(method)?.p50_us
    }
}

/// All findings.
#[must_use]
pub fn judge(facts: &Facts, cells: &[Summary], first_start: &FirstStart) -> Vec<Finding> {
    let record = Record { facts, cells, first_start };
    let mut findings = vec![choice::method(record), choice::flag(record), rules::etcd(record), rules::plinth(record)];
    findings.extend([power::protection(record), power::lies(record)]);
    findings.extend([cost::recycling(record), cost::block(record), cost::neighbours(record)]);
    findings.extend([around::scheduler(record), around::sleep(record), around::numa(record)]);
    findings.extend([around::limits(record), around::others(record)]);
    findings
}

/// A time with three digits that matter.
#[must_use]
pub fn time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{:.2} s", us / 1e6),
        us if us >= 100_000.0 => format!("{:.0} ms", us / 1e3),
        us if us >= 10_000.0 => format!("{:.1} ms", us / 1e3),
        us if us >= 1000.0 => format!("{:.2} ms", us / 1e3),
        us if us >= 100.0 => format!("{us:.0} µs"),
        us => format!("{us:.1} µs"),
    }
}
