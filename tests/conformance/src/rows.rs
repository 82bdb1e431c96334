//! The rows of the contract that must have a case: `rows.txt`.
//!
//! Each line is an id and what it means, in our own words; ids are stable, cases refer to them.

use std::collections::BTreeSet;

use crate::case::Case;

/// One fact that a client can observe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Short and stable.
    pub id: String,
    /// What it says.
    pub meaning: String,
}

/// All rows in `text`, or the line that is none.
pub fn parse_rows(text: &str) -> Result<Vec<Row>, String> {
    let mut rows: Vec<Row> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let (id, meaning) = line.split_once(char::is_whitespace).ok_or_else(|| format!("{line:?} says nothing"))?;
        if rows.iter().any(|row| row.id == id) {
            return Err(format!("{id} is there twice"));
        }
        rows.push(Row { id: id.to_owned(), meaning: meaning.trim().to_owned() });
    }
    Ok(rows)
}

/// Rows that no case names, and names in cases that are no rows; both should be empty.
#[must_use]
pub fn uncovered_rows(rows: &[Row], cases: &[Case]) -> (Vec<String>, Vec<String>) {
    let known: BTreeSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    let deviations = cases.iter().flat_map(|case| &case.steps).filter_map(|step| step.deviation.as_ref());
    let proven: BTreeSet<&str> = cases.iter().flat_map(|case| &case.rows).map(String::as_str).collect();
    let named = proven.iter().copied().chain(deviations.map(|deviation| deviation.row.as_str()));
    let unknown: BTreeSet<&str> = named.filter(|id| !known.contains(id)).collect();
    let owned = |ids: Vec<&str>| ids.into_iter().map(str::to_owned).collect();
    (owned(known.difference(&proven).copied().collect()), owned(unknown.into_iter().collect()))
}
