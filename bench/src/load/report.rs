//! A run as text and as JSON.

use std::fmt::Write;

use plinth_client::Code;
use serde_json::{Value, json};

use super::{Outcome, ServerUse};

/// The percentiles that are told, if there are samples enough.
const QUANTILES: [(f64, &str); 4] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")];
const MIB: f64 = (1 << 20) as f64;

/// A run on a few lines.
#[must_use]
pub fn to_text(outcome: &Outcome) -> String {
    let plan = &outcome.plan;
    let mut text = format!(
        "{} at {}, {} (connections x streams), {:.1} s after {:.1} s of warm-up\n",
        plan.op.name(),
        plan.endpoint,
        plan.clients,
        outcome.elapsed.as_secs_f64(),
        plan.warmup.as_secs_f64()
    );
    let mut line = |name: &str, value: String| {
        writeln!(text, "  {name:<10}{value}").expect("a string takes everything");
    };
    line("requests", format!("{}, {:.0}/s", outcome.requests(), outcome.per_second()));
    line("latency", latencies(outcome));
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

fn latencies(outcome: &Outcome) -> String {
    let told = QUANTILES
        .iter()
        .filter_map(|(quantile, name)| outcome.latencies.quantile_us(*quantile).map(|us| format!("{name} {us:.0} µs")));
    told.chain([format!("max {:.0} µs", outcome.latencies.max_us())]).collect::<Vec<_>>().join(", ")
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

/// A run with its histogram.
#[must_use]
pub fn to_json(outcome: &Outcome) -> Value {
    let plan = &outcome.plan;
    let quantile = |quantile| outcome.latencies.quantile_us(quantile);
    json!({
        "op": plan.op.name(),
        "connections": plan.clients.connections,
        "streams": plan.clients.streams,
        "keys": plan.shape.keys,
        "key_bytes": plan.shape.key_bytes,
        "value_bytes": plan.shape.value_bytes,
        "seed": plan.seed,
        "warmup_seconds": plan.warmup.as_secs_f64(),
        "seconds": outcome.elapsed.as_secs_f64(),
        "requests": outcome.requests(),
        "requests_per_second": outcome.per_second(),
        "p50_us": quantile(0.5),
        "p90_us": quantile(0.9),
        "p99_us": quantile(0.99),
        "p999_us": quantile(0.999),
        "max_us": outcome.latencies.max_us(),
        "errors": outcome.errors.iter().map(|errors| json!({
            "code": Code(errors.code).to_string(), "count": errors.count, "message": errors.message,
        })).collect::<Vec<_>>(),
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
        "latency_ns_and_count": outcome.latencies.to_json(),
    })
}
