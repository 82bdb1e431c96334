//! A run as text and as JSON.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    cell::{Cell, FileKind, Neighbour},
    first_start::FirstStart,
    measure::Outcome,
    options::Options,
    summary::{Summary, to_json},
    verdict::{self, Finding, time},
};
use crate::{
    facts::Facts,
    failure::Failure,
    results::{self, Document},
};

const HEAD: &str = "\
| method | bytes | depth | file | neighbour | flushes/s | p50, µs | p99, µs | p99.9, µs | max, µs | CPU, µs | device flushes |
|---|---|---|---|---|---|---|---|---|---|---|---|
";

/// The cells as a table in Markdown. CPU and flushes of the device are for each durable write.
#[must_use]
pub fn table(summaries: &[Summary]) -> String {
    let mut text = HEAD.to_owned();
    for summary in summaries {
        let Cell { method, bytes, depth, file, neighbour } = summary.cell;
        let situation = format!("{} | {bytes} | {depth} | {} | {}", method.name(), file.name(), neighbour.name());
        match &summary.not_possible {
            Some(reason) => text += &format!("| {situation} | not possible here: {reason} | | | | | | |\n"),
            None => text += &format!("| {situation} | {} |\n", figures(summary)),
        }
    }
    text
}

fn figures(summary: &Summary) -> String {
    let per_flush = |count: u64| count as f64 / summary.flushes.max(1) as f64;
    let cells = [
        told(Some(summary.flushes_per_second), 0),
        microseconds(summary.p50_us),
        microseconds(summary.p99_us),
        microseconds(summary.p999_us),
        microseconds(summary.max_us),
        told(summary.cpu_us_per_flush, 1),
        told(summary.device_flushes.map(per_flush), 2),
    ];
    cells.join(" | ")
}

fn microseconds(value: Option<f64>) -> String {
    told(value, if value.is_some_and(|us| us < 100.0) { 1 } else { 0 })
}

fn told(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// Where a durable write's time goes, for methods of two calls.
#[must_use]
pub fn parts(summaries: &[Summary]) -> String {
    let mut text = String::new();
    for summary in summaries {
        let is_plain = summary.cell == Cell::plain(summary.cell.method);
        if let (true, Some(write), Some(sync)) = (is_plain, summary.write_p50_us, summary.sync_p50_us) {
            let name = summary.cell.method.name();
            text +=
                &format!("{name}: the write alone takes {}, the sync alone {} (medians)\n", time(write), time(sync));
        }
    }
    text
}

/// The findings, a paragraph each.
#[must_use]
pub fn findings(findings: &[Finding]) -> String {
    findings
        .iter()
        .map(|finding| format!("- {}: **{}** ({})\n", finding.question, finding.answer, finding.reason))
        .collect()
}

/// How it was measured, for a results file.
#[must_use]
pub fn method(options: &Options) -> Value {
    json!({
        "seconds": options.duration.as_secs_f64(),
        "rounds": { "methods": options.rounds.0, "others": options.rounds.1 },
        "file_bytes": options.sizes.file,
        "neighbour_bytes": options.sizes.neighbour,
        "is_full": options.is_full,
        "is_quick": options.is_quick,
        "core": options.core,
    })
}

/// What came of it, for a results file.
#[must_use]
pub fn results(cells: &[(Cell, Outcome)], first_start: &FirstStart, findings: &[Finding]) -> Value {
    json!({
        "cells": cells.iter().map(|(cell, outcome)| to_json(*cell, outcome)).collect::<Vec<_>>(),
        "first_start": first_start,
        "verdict": findings,
    })
}

/// What was measured, and what follows from it: judged again, from what was recorded.
pub fn of_document(document: &Document) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Recorded {
        cells: Vec<Summary>,
        first_start: FirstStart,
    }
    let facts: Facts = results::decode(&document.machine.facts, "facts")?;
    let Recorded { cells, first_start } = results::decode(&document.results, "results")?;
    let is_full = document.method["is_full"].as_bool().unwrap_or(false);
    let told: Vec<Summary> = cells.iter().filter(|summary| !is_full || is_telling(summary.cell)).cloned().collect();
    let verdict = findings(&verdict::judge(&facts, &cells, &first_start));
    Ok(format!("{}\n{}\n{verdict}\n", table(&told), parts(&told)))
}

/// Whether a cell is in the short table of a full run.
#[must_use]
pub fn is_telling(cell: Cell) -> bool {
    cell.file == FileKind::Recycled && cell.neighbour == Neighbour::None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsync::method::Method;

    #[test]
    fn a_table_says_what_could_not_be_measured_and_leaves_out_what_has_too_few_samples() {
        let cell = Cell::plain(Method::DirectDsync);
        let impossible = Summary::of(cell, &Outcome::Impossible("no reason".to_owned()));
        let slow = Summary { not_possible: None, flushes: 30, max_us: Some(1000.0), ..impossible.clone() };
        let slow = Summary { flushes_per_second: 100.0, device_flushes: Some(60), ..slow };
        let text = table(&[impossible, slow]);
        assert!(text.contains("| 4096 | 1 | recycled | - | not possible here: no reason |"), "{text}");
        assert!(text.ends_with("| 100 | - | - | - | 1000 | - | 2.00 |\n"), "{text}");
    }
}
