//! What a comparison gave: figures of each turn, and ratios of pairs with their intervals. Tables are made of what a results file has.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Pairs, Turn};
use crate::{
    load::Outcome,
    stats::{PairedRatio, median},
};

const MIB: f64 = (1 << 20) as f64;

/// A figure that each turn gives.
type Figure = fn(&Turn) -> Option<f64>;

const CPU: &str = "server CPU per request, µs";
const PER_BARE: &str = "p50 in parts of two round trips and one write";
/// Every figure, its name in tables, and the digits that it is told with.
const FIGURES: [(&str, usize, Figure); 18] = [
    ("requests per second", 0, |turn| Some(turn.outcome.per_second())),
    ("p50, µs", 0, |turn| turn.outcome.latencies.quantile_us(0.5)),
    ("p99, µs", 0, |turn| turn.outcome.latencies.quantile_us(0.99)),
    ("p99.9, µs", 0, |turn| turn.outcome.latencies.quantile_us(0.999)),
    ("event p50, µs", 0, |turn| turn.outcome.events.quantile_us(0.5)),
    ("event p99, µs", 0, |turn| turn.outcome.events.quantile_us(0.99)),
    (CPU, 2, |turn| turn.outcome.server_us_per_request()),
    ("of that the leader's, µs", 2, leader_us_per_request),
    ("memory, MiB", 1, |turn| Some(turn.outcome.server?.memory_bytes as f64 / MIB)),
    ("context switches per request", 3, |turn| per_request(&turn.outcome, turn.outcome.server?.switches)),
    ("flushes per request", 4, |turn| per_request(&turn.outcome, turn.outcome.server?.disk?.flushes)),
    ("bytes written per request", 0, |turn| per_request(&turn.outcome, turn.outcome.server?.disk?.written_bytes)),
    ("start on the filled database, ms", 0, |turn| Some(turn.start.as_secs_f64() * 1e3)),
    ("database afterwards, MiB", 1, |turn| Some(turn.db_bytes as f64 / MIB)),
    ("bare round trip p50, µs", 1, |turn| turn.bare.map(|bare| bare.round_trip_us)),
    ("bare durable write p50, µs", 1, |turn| turn.bare.map(|bare| bare.write_us)),
    ("the same by three at once, µs", 1, |turn| turn.bare.map(|bare| bare.write_together_us)),
    (PER_BARE, 2, |turn| Some(turn.outcome.latencies.quantile_us(0.5)? / turn.bare?.put_us())),
];

/// Of a cluster. The leader is looked at first.
fn leader_us_per_request(turn: &Turn) -> Option<f64> {
    let server = turn.outcome.server.filter(|_| turn.is_cluster)?;
    Some(turn.outcome.us_per_request(server.first_cpu))
}

fn per_request(outcome: &Outcome, count: u64) -> Option<f64> {
    Some(count as f64 / outcome.requests().max(1) as f64)
}

/// All turns of two servers with one load.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Comparison {
    title: String,
    description: String,
    sides: [String; 2],
    pairs: usize,
    /// Pairs that were thrown away.
    repeated: usize,
    /// Pairs that count and were disturbed.
    disturbed: usize,
    rows: Vec<Row>,
    /// Every turn of A and of B, with histogram and series.
    turns: [Vec<Value>; 2],
}

/// A figure of all turns.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Row {
    name: String,
    digits: usize,
    a: Vec<Option<f64>>,
    b: Vec<Option<f64>>,
    ratio: Option<PairedRatio>,
}

impl Comparison {
    /// Of pairs that were taken.
    pub fn of(title: &str, description: &str, sides: [&str; 2], pairs: &Pairs<Turn>) -> Self {
        let row = |(name, digits, figure): &(&str, usize, Figure)| {
            let of = |side: usize| pairs.turns.iter().map(|pair| figure(&pair[side])).collect();
            Row::new(name, *digits, of(0), of(1))
        };
        let turns = [0, 1].map(|side| pairs.turns.iter().map(|pair| pair[side].to_json()).collect());
        Self {
            title: title.to_owned(),
            description: description.to_owned(),
            sides: sides.map(str::to_owned),
            pairs: pairs.turns.len(),
            repeated: pairs.repeated,
            disturbed: pairs.disturbed,
            rows: FIGURES.iter().map(row).filter(Row::is_told).collect(),
            turns,
        }
    }

    /// A figure of A in parts of B's.
    #[must_use]
    pub fn ratio(&self, name: &str) -> Option<PairedRatio> {
        self.rows.iter().find(|row| row.name == name)?.ratio
    }

    /// A's CPU per request in parts of B's.
    #[must_use]
    pub fn cpu_ratio(&self) -> Option<f64> {
        self.ratio(CPU).map(|ratio| ratio.center)
    }

    /// A's median latency in parts of what was measured beside it: two round trips and a durable write. The median over its turns.
    #[must_use]
    pub fn p50_per_bare(&self) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.name == PER_BARE)?;
        median(&all(&row.a)?)
    }

    /// A table in Markdown, with what it is about above it.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { title, sides: [a, b], pairs, repeated, disturbed, .. } = self;
        let about = if self.description.is_empty() { String::new() } else { format!("\n{}:\n", self.description) };
        let mut text = format!("{about}\n| {title} | {a} | {b} | {a} / {b} (95 % interval) |\n|---|---|---|---|\n");
        text.extend(self.rows.iter().map(Row::to_text));
        if *disturbed > 0 {
            text += &format!("\nDISTURBED: {disturbed} of {pairs} pairs\n");
        }
        if *repeated > 0 {
            text += &format!("\n{repeated} disturbed pairs were thrown away and taken again\n");
        }
        text
    }
}

impl Row {
    /// Whether any turn gave it.
    fn is_told(&self) -> bool {
        self.a.iter().chain(&self.b).any(Option::is_some)
    }

    fn new(name: &str, digits: usize, a: Vec<Option<f64>>, b: Vec<Option<f64>>) -> Self {
        let ratio = all(&a).zip(all(&b)).and_then(|(a, b)| PairedRatio::of(&a, &b));
        Self { name: name.to_owned(), digits, a, b, ratio }
    }

    fn to_text(&self) -> String {
        let told = |values: &[Option<f64>]| {
            let middle = all(values).and_then(|values| median(&values));
            middle.map_or_else(|| "-".to_owned(), |value| format!("{value:.*}", self.digits))
        };
        let ratio = self.ratio.map_or_else(|| "-".to_owned(), |ratio| ratio.to_string());
        format!("| {} | {} | {} | {ratio} |\n", self.name, told(&self.a), told(&self.b))
    }
}

/// The figure of every turn, if each has one.
fn all(values: &[Option<f64>]) -> Option<Vec<f64>> {
    values.iter().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results;

    fn comparison() -> Comparison {
        let values = |values: &[f64]| values.iter().copied().map(Some).collect::<Vec<_>>();
        Comparison {
            title: "put-1".to_owned(),
            description: "Puts".to_owned(),
            sides: ["plinth", "etcd"].map(str::to_owned),
            pairs: 3,
            repeated: 0,
            disturbed: 0,
            rows: vec![
                Row::new("requests per second", 0, values(&[30.0, 10.0, 20.0]), values(&[15.0, 5.0, 10.0])),
                Row::new("p99, µs", 1, vec![Some(1.0), None, Some(1.0)], values(&[1.0, 1.0, 1.0])),
                Row::new("flushes per request", 4, values(&[0.0; 3]), values(&[0.0; 3])),
            ],
            turns: [Vec::new(), Vec::new()],
        }
    }

    #[test]
    fn medians_stand_beside_each_other_and_what_cannot_be_told_is_a_dash() {
        let text = "\nPuts:\n\n| put-1 | plinth | etcd | plinth / etcd (95 % interval) |\n|---|---|---|---|\n\
                    | requests per second | 20 | 10 | 2.000 (2.000 to 2.000) |\n| p99, µs | - | 1.0 | - |\n\
                    | flushes per request | 0.0000 | 0.0000 | - |\n";
        assert_eq!(comparison().to_text(), text);
        let disturbed = Comparison { disturbed: 1, repeated: 2, ..comparison() }.to_text();
        assert!(disturbed.contains("\nDISTURBED: 1 of 3 pairs\n\n2 disturbed pairs were thrown away"), "{disturbed}");
    }

    #[test]
    fn the_same_table_comes_of_a_results_file() {
        let made = comparison();
        let kept: Comparison = results::decode(&results::encode(&made), "results").expect("its own");
        assert_eq!((kept.to_text(), &kept), (made.to_text(), &made));
    }
}
