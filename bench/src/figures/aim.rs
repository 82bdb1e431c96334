//! What a figure is held to.

use serde::{Deserialize, Serialize};

/// A limit, and what came of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Aim {
    /// What is measured, its unit included.
    pub what: String,
    /// What it should stay at or below, or be at or above.
    pub limit: f64,
    /// Whether it should be at or above.
    is_least: bool,
    /// What it is; nothing if it could not be told.
    pub value: Option<f64>,
    /// Whether it does.
    pub is_reached: bool,
}

impl Aim {
    /// `value` should be at most `limit`. Something that is no number reaches nothing.
    pub fn at_most(what: impl Into<String>, limit: f64, value: f64) -> Self {
        Self::new(what, limit, value, value <= limit, false)
    }

    /// `value` should be at least `limit`.
    pub fn at_least(what: impl Into<String>, limit: f64, value: f64) -> Self {
        Self::new(what, limit, value, value >= limit, true)
    }

    fn new(what: impl Into<String>, limit: f64, value: f64, is_reached: bool, is_least: bool) -> Self {
        // JSON has no word for what is no number.
        Self { what: what.into(), limit, is_least, value: Some(value).filter(|value| value.is_finite()), is_reached }
    }
}

/// A table in Markdown.
pub fn to_text(aims: &[Aim]) -> String {
    let mut text = "| aim | limit | measured | |\n|---|---|---|---|\n".to_owned();
    for Aim { what, limit, is_least, value, is_reached } in aims {
        let least = if *is_least { "at least " } else { "" };
        let verdict = if *is_reached { "reached" } else { "NOT reached" };
        let value = value.map_or_else(|| "-".to_owned(), short);
        text += &format!("| {what} | {least}{limit} | {value} | {verdict} |\n");
    }
    let reached = aims.iter().filter(|aim| aim.is_reached).count();
    text + &format!("{reached} aims reached, {} not reached\n", aims.len() - reached)
}

/// Three digits that matter.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_itself_is_reached_and_no_number_is_not() {
        assert!(Aim::at_most("a", 1.0, 1.0).is_reached);
        assert!(!Aim::at_most("a", 1.0, 1.1).is_reached && !Aim::at_most("a", 1.0, f64::NAN).is_reached);
        assert!(Aim::at_least("a", 1.0, 1.0).is_reached && !Aim::at_least("a", 1.0, 0.9).is_reached);
        assert!(!Aim::at_least("a", 1.0, f64::NAN).is_reached);
        let text = to_text(&[Aim::at_most("CPU, %", 0.5, 0.25)]);
        assert!(text.ends_with("| CPU, % | 0.5 | 0.250 | reached |\n1 aims reached, 0 not reached\n"), "{text}");
        let text = to_text(&[Aim::at_most("CPU, %", 0.5, f64::NAN)]);
        assert!(text.contains("| CPU, % | 0.5 | - | NOT reached |\n"), "{text}");
    }
}
