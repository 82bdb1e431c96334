//! A cell in a few numbers: what tables show, results files hold and verdicts are made of.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    cell::Cell,
    measure::{Measured, Outcome},
    method::Method,
};
use crate::histogram::Latencies;

/// A cell and what came of it. Percentiles are absent where too few samples lie beyond them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// What was measured.
    #[serde(flatten)]
    pub cell: Cell,
    /// Why it wasn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_possible: Option<String>,
    /// Writes that became durable.
    #[serde(default)]
    pub flushes: u64,
    /// The same in a second.
    #[serde(default)]
    pub flushes_per_second: f64,
    /// The median.
    #[serde(default)]
    pub p50_us: Option<f64>,
    /// The 90th percentile.
    #[serde(default)]
    pub p90_us: Option<f64>,
    /// The 99th percentile.
    #[serde(default)]
    pub p99_us: Option<f64>,
    /// The 99.9th percentile.
    #[serde(default)]
    pub p999_us: Option<f64>,
    /// The longest.
    #[serde(default)]
    pub max_us: Option<f64>,
    /// The median of the write alone.
    #[serde(default)]
    pub write_p50_us: Option<f64>,
    /// The median of the sync alone.
    #[serde(default)]
    pub sync_p50_us: Option<f64>,
    /// CPU time for each durable write.
    #[serde(default)]
    pub cpu_us_per_flush: Option<f64>,
    /// Flushes that the device counted, if it counts any.
    #[serde(default)]
    pub device_flushes: Option<u64>,
    /// Operations of the neighbour in a second.
    #[serde(default)]
    pub neighbour_per_second: Option<f64>,
    /// Stolen time of the machine.
    #[serde(default)]
    pub steal_percent: Option<f64>,
    /// CPU time of programs that took no part, in percent of all cores' time.
    #[serde(default)]
    pub foreign_percent: Option<f64>,
}

impl Summary {
    /// Of what was measured.
    #[must_use]
    pub fn of(cell: Cell, outcome: &Outcome) -> Self {
        let nothing = Self {
            cell,
            not_possible: None,
            flushes: 0,
            flushes_per_second: 0.0,
            p50_us: None,
            p90_us: None,
            p99_us: None,
            p999_us: None,
            max_us: None,
            write_p50_us: None,
            sync_p50_us: None,
            cpu_us_per_flush: None,
            device_flushes: None,
            neighbour_per_second: None,
            steal_percent: None,
            foreign_percent: None,
        };
        let measured = match outcome {
            Outcome::Impossible(reason) => return Self { not_possible: Some(reason.clone()), ..nothing },
            Outcome::Measured(measured) => measured,
        };
        let tally = &measured.tally;
        let quantile = |quantile| tally.latencies.quantile_us(quantile);
        let flushes = tally.latencies.count();
        Self {
            flushes,
            flushes_per_second: flushes as f64 / tally.elapsed.as_secs_f64(),
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            max_us: (flushes > 0).then(|| tally.latencies.max_us()),
            write_p50_us: tally.writes.quantile_us(0.5),
            sync_p50_us: tally.syncs.quantile_us(0.5),
            cpu_us_per_flush: (flushes > 0).then(|| tally.cpu.as_secs_f64() * 1e6 / flushes as f64),
            device_flushes: measured.device_flushes,
            neighbour_per_second: measured.neighbour_per_second,
            steal_percent: Some(measured.disturbance.steal_percent),
            foreign_percent: Some(measured.disturbance.foreign_percent),
            ..nothing
        }
    }
}

/// A cell for a results file, with its series and its histograms.
#[must_use]
pub fn to_json(cell: Cell, outcome: &Outcome) -> Value {
    let mut json = serde_json::to_value(Summary::of(cell, outcome)).expect("plain data with names as keys");
    if let Outcome::Measured(measured) = outcome {
        add_samples(&mut json, cell.method, measured);
    }
    json
}

fn add_samples(json: &mut Value, method: Method, measured: &Measured) {
    let tally = &measured.tally;
    json["seconds"] = json!(tally.elapsed.as_secs_f64());
    json["flushes_of_each_second"] = json!(tally.series);
    json["latency_ns_and_count"] = tally.latencies.to_json();
    if method.has_two_parts() {
        let parts: [(&str, &Latencies); 2] = [("write", &tally.writes), ("sync", &tally.syncs)];
        for (name, latencies) in parts {
            json[format!("{name}_ns_and_count")] = latencies.to_json();
        }
    }
}
