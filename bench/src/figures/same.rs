//! A server against itself: intervals of ratios should hold 1 as often as they promise.

use serde_json::json;

use super::{Figures, Part, aim::Aim};
use crate::{
    failure::Failure,
    load::{Clients, Op},
    stats::PairedRatio,
    versus::compare,
};

const CLIENTS: Clients = Clients { connections: 8, streams: 64 };
const RUNS: usize = 20;
/// As many as an interval of 95 % misses with a chance of 1 in 13.
const HELD_MIN: f64 = 18.0;
const FIGURES: [&str; 3] = ["requests per second", "p50, µs", "server CPU per request, µs"];

pub(super) fn run(figures: &mut Figures) -> Result<Part, Failure> {
    let lab = &figures.lab;
    let runs = if lab.is_quick { 1 } else { RUNS };
    let filled = lab.fill("same", &lab.plinth, lab.method.shape)?;
    let side = (&lab.plinth, filled.as_path());
    let mut found = FIGURES.map(|_| Vec::new());
    for number in 1..=runs {
        eprintln!("same: run {number} of {runs}");
        let comparison = compare(lab, [side, side], Op::Put, CLIENTS)?;
        for (name, found) in FIGURES.iter().zip(&mut found) {
            found.push(comparison.ratio(name));
        }
    }
    let holds = |ratio: &Option<PairedRatio>| {
        ratio.and_then(|ratio| ratio.interval).is_some_and(|interval| interval.holds(1.0))
    };
    let mut text = format!("| {runs} runs, puts {CLIENTS} | hold 1 | widest interval |\n|---|---|---|\n");
    let mut aims = Vec::new();
    for (name, found) in FIGURES.iter().zip(&found) {
        let held = found.iter().filter(|ratio| holds(ratio)).count();
        let width = |ratio: &PairedRatio| ratio.interval.map_or(f64::NAN, |interval| interval.high - interval.low);
        let widest = found.iter().flatten().max_by(|a, b| width(a).total_cmp(&width(b)));
        let widest = widest.map_or_else(|| "-".to_owned(), ToString::to_string);
        text += &format!("| {name} | {held} | {widest} |\n");
        if !lab.is_quick {
            let what = format!("intervals of {name} against itself that hold 1, of {runs}");
            aims.push(Aim::at_least(what, HELD_MIN, held as f64));
        }
    }
    Ok(Part { text, json: json!(found), aims })
}
