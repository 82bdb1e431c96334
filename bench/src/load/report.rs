//! A run as text and as JSON.

use std::fmt::Write;

use plinth_client::Code;
use serde_json::{Value, json};

use super::{Kind, Outcome, Pace, Plan, ServerUse};
use crate::histogram::Latencies;

/// The percentiles that are told, if there are samples enough.
const QUANTILES: [(f64, &str); 4] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")];
const MIB: f64 = (1 << 20) as f64;

/// A run on a few lines.
#[must_use]
pub fn to_text(outcome: &Outcome) -> String {
    let plan = &outcome.plan;
    let mut text = format!(
        "{} at {}, {}, {:.1} s after {:.1} s of warm-up\n",
        plan.name(),
        plan.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "),
        clients(plan),
        outcome.elapsed.as_secs_f64(),
        plan.warmup.as_secs_f64()
    );
    let mut line = |name: &str, value: String| {
        writeln!(text, "  {name:<10}{value}").expect("a string takes everything");
    };
    line("requests", format!("{}, {:.0}/s", outcome.requests(), outcome.per_second()));
    line("latency", latencies(&outcome.latencies));
    if outcome.kinds.len() > 1 || outcome.kinds.iter().any(|kind| kind.conflicts > 0) {
        for kind in &outcome.kinds {
            let conflicts = conflicts(kind);
            line("", format!("{}: {}{conflicts}, {}", kind.name, kind.latencies.count(), latencies(&kind.latencies)));
        }
    }
    if let Pace::Open { rate } = plan.pace {
        let Outcome { delayed, unanswered, .. } = outcome;
        line("open loop", format!("{rate}/s, {delayed} had to wait for a free client, {unanswered} without an answer"));
    }
    if outcome.events.count() > 0 {
        let rate = outcome.events.count() as f64 / outcome.elapsed.as_secs_f64();
        line("events", format!("{}, {rate:.0}/s, {}", outcome.events.count(), latencies(&outcome.events)));
    }
    line("errors", errors(outcome));
    line("load", format!("{:.2} µs of CPU per request", outcome.us_per_request(outcome.own_cpu)));
    if let Some(server) = &outcome.server {
        line("server", server_text(outcome, server));
    }
    let others = outcome.disturbance;
    let verdict = if others.is_too_much() { ": DISTURBED" } else { "" };
    line(
        "others",
        format!("steal {:.1} %, foreign CPU {:.1} %{verdict}", others.steal_percent, others.foreign_percent),
    );
    text
}

fn clients(plan: &Plan) -> String {
    let watchers = plan.watchers.map_or_else(String::new, |watchers| {
        let what = if watchers.all_keys { "all keys" } else { "a key each" };
        format!(" and {} watchers of {what}", watchers.count)
    });
    format!("{} (connections x streams){watchers}", plan.clients)
}

fn latencies(latencies: &Latencies) -> String {
    let told = QUANTILES
        .iter()
        .filter_map(|(quantile, name)| latencies.quantile_us(*quantile).map(|us| format!("{name} {us:.0} µs")));
    told.chain([format!("max {:.0} µs", latencies.max_us())]).collect::<Vec<_>>().join(", ")
}

fn conflicts(kind: &Kind) -> String {
    match kind.conflicts {
        0 => String::new(),
        count => format!(" ({count} lost to others)"),
    }
}

fn errors(outcome: &Outcome) -> String {
    if outcome.errors.is_empty() {
        return "none".to_owned();
    }
    let each =
        outcome.errors.iter().map(|errors| format!("{} {} {:?}", errors.count, Code(errors.code), errors.message));
    each.collect::<Vec<_>>().join(", ")
}

fn server_text(outcome: &Outcome, server: &ServerUse) -> String {
    let requests = outcome.requests().max(1) as f64;
    let mut text = format!(
        "{:.2} µs of CPU per request ({:.0} % of a core), {:.1} MiB, {:.3} context switches per request",
        outcome.us_per_request(server.cpu),
        100.0 * server.cpu.as_secs_f64() / outcome.elapsed.as_secs_f64(),
        server.memory_bytes as f64 / MIB,
        server.switches as f64 / requests,
    );
    if let Some(disk) = server.disk {
        let (flushes, bytes) = (disk.flushes as f64 / requests, disk.written_bytes as f64 / requests);
        write!(text, ", {flushes:.4} flushes and {bytes:.0} bytes written per request").expect("a string takes it");
    }
    text
}

/// A run with its histograms.
#[must_use]
pub fn to_json(outcome: &Outcome) -> Value {
    let plan = &outcome.plan;
    let mut json = json!({
        "op": plan.name(),
        "endpoints": plan.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "connections": plan.clients.connections,
        "streams": plan.clients.streams,
        "rate": match plan.pace { Pace::Closed => None, Pace::Open { rate } => Some(rate) },
        "watchers": plan.watchers.map(|watchers| json!({ "count": watchers.count, "all_keys": watchers.all_keys })),
        "keys": plan.shape.keys,
        "key_bytes": plan.shape.key_bytes,
        "value_bytes": plan.shape.value_bytes,
        "distribution": plan.distribution.name(),
        "limit": plan.limit,
        "seed": plan.seed,
        "warmup_seconds": plan.warmup.as_secs_f64(),
        "seconds": outcome.elapsed.as_secs_f64(),
        "requests": outcome.requests(),
        "requests_per_second": outcome.per_second(),
        "delayed": outcome.delayed,
        "unanswered": outcome.unanswered,
        "errors": outcome.errors.iter().map(|errors| json!({
            "code": Code(errors.code).to_string(), "count": errors.count, "message": errors.message,
        })).collect::<Vec<_>>(),
        "answer_bytes": outcome.answer_bytes,
        "load_cpu_us_per_request": outcome.us_per_request(outcome.own_cpu),
        "server": outcome.server.map(|server| json!({
            "cpu_us_per_request": outcome.us_per_request(server.cpu),
            "memory_bytes": server.memory_bytes,
            "context_switches": server.switches,
            "flushes": server.disk.map(|disk| disk.flushes),
            "writes": server.disk.map(|disk| disk.writes),
            "written_bytes": server.disk.map(|disk| disk.written_bytes),
        })),
        "steal_percent": outcome.disturbance.steal_percent,
        "foreign_percent": outcome.disturbance.foreign_percent,
        "requests_of_each_second": outcome.series,
        "kinds": outcome.kinds.iter().map(|kind| {
            let mut json = json!({ "name": kind.name, "conflicts": kind.conflicts });
            put_latencies(&mut json, &kind.latencies);
            json
        }).collect::<Vec<_>>(),
    });
    put_latencies(&mut json, &outcome.latencies);
    if outcome.events.count() > 0 {
        json["events"] = json!({ "count": outcome.events.count() });
        put_latencies(&mut json["events"], &outcome.events);
    }
    json
}

fn put_latencies(json: &mut Value, latencies: &Latencies) {
    for (quantile, name) in QUANTILES {
        json[format!("{}_us", name.replace('.', ""))] = json!(latencies.quantile_us(quantile));
    }
    json["max_us"] = json!(latencies.max_us());
    json["latency_ns_and_count"] = latencies.to_json();
}
