//! A run as results files keep it, and as text.

use std::fmt::Write;

use plinth_client::Code;
use serde::{Deserialize, Serialize};

use super::{Outcome, Pace, Plan, ServerUse, Watchers};
use crate::{
    failure::Failure,
    histogram::Latencies,
    results::{self, Document},
};

const MIB: f64 = (1 << 20) as f64;

/// A run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Told {
    op: String,
    endpoints: Vec<String>,
    connections: usize,
    streams: usize,
    /// Requests per second of an open loop.
    rate: Option<f64>,
    watchers: Option<WatchersTold>,
    keys: u64,
    key_bytes: usize,
    value_bytes: usize,
    distribution: String,
    limit: i64,
    seed: u64,
    warmup_seconds: f64,
    seconds: f64,
    requests: u64,
    requests_per_second: f64,
    latency: LatencyTold,
    kinds: Vec<KindTold>,
    events: Option<LatencyTold>,
    delayed: u64,
    unanswered: u64,
    errors: Vec<ErrorTold>,
    answer_bytes: u64,
    load_cpu_us_per_request: f64,
    server: Option<ServerTold>,
    steal_percent: f64,
    foreign_percent: f64,
    is_disturbed: bool,
    requests_of_each_second: Vec<u64>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct WatchersTold {
    count: u64,
    all_keys: bool,
}

/// In µs; what too few samples lie beyond is left out.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct LatencyTold {
    count: u64,
    p50_us: Option<f64>,
    p90_us: Option<f64>,
    p99_us: Option<f64>,
    p999_us: Option<f64>,
    max_us: f64,
    ns_and_count: serde_json::Value,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct KindTold {
    name: String,
    /// Compares that didn't hold.
    conflicts: u64,
    latency: LatencyTold,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct ErrorTold {
    code: String,
    count: u64,
    message: String,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct ServerTold {
    cpu_us_per_request: f64,
    /// Of a core.
    cpu_percent: f64,
    memory_bytes: u64,
    context_switches: u64,
    disk: Option<DiskTold>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct DiskTold {
    flushes: u64,
    writes: u64,
    written_bytes: u64,
}

impl LatencyTold {
    fn of(latencies: &Latencies) -> Self {
        Self {
            count: latencies.count(),
            p50_us: latencies.quantile_us(0.5),
            p90_us: latencies.quantile_us(0.9),
            p99_us: latencies.quantile_us(0.99),
            p999_us: latencies.quantile_us(0.999),
            max_us: latencies.max_us(),
            ns_and_count: latencies.to_json(),
        }
    }

    fn to_text(&self) -> String {
        let quantiles = [("p50", self.p50_us), ("p90", self.p90_us), ("p99", self.p99_us), ("p99.9", self.p999_us)];
        let told = quantiles.iter().filter_map(|(name, us)| us.map(|us| format!("{name} {us:.0} µs")));
        told.chain([format!("max {:.0} µs", self.max_us)]).collect::<Vec<_>>().join(", ")
    }
}

impl ServerTold {
    fn of(outcome: &Outcome, server: &ServerUse) -> Self {
        Self {
            cpu_us_per_request: outcome.us_per_request(server.cpu),
            cpu_percent: 100.0 * server.cpu.as_secs_f64() / outcome.elapsed.as_secs_f64(),
            memory_bytes: server.memory_bytes,
            context_switches: server.switches,
            disk: server.disk.map(|disk| DiskTold {
                flushes: disk.flushes,
                writes: disk.writes,
                written_bytes: disk.written_bytes,
            }),
        }
    }

    fn to_text(&self, requests: u64) -> String {
        let per_request = |count: u64| count as f64 / requests.max(1) as f64;
        let mut text = format!(
            "{:.2} µs of CPU per request ({:.0} % of a core), {:.1} MiB, {:.3} context switches per request",
            self.cpu_us_per_request,
            self.cpu_percent,
            self.memory_bytes as f64 / MIB,
            per_request(self.context_switches),
        );
        if let Some(disk) = &self.disk {
            let (flushes, bytes) = (per_request(disk.flushes), per_request(disk.written_bytes));
            write!(text, ", {flushes:.4} flushes and {bytes:.0} bytes written per request").expect("a string takes it");
        }
        text
    }
}

impl Told {
    /// Everything that a run gave.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        let Plan { clients, shape, distribution, limit, seed, .. } = outcome.plan;
        let plan = &outcome.plan;
        Self {
            op: plan.name(),
            endpoints: plan.endpoints.iter().map(ToString::to_string).collect(),
            connections: clients.connections,
            streams: clients.streams,
            rate: match plan.pace {
                Pace::Closed => None,
                Pace::Open { rate } => Some(rate),
            },
            watchers: plan.watchers.map(|Watchers { count, all_keys, .. }| WatchersTold { count, all_keys }),
            keys: shape.keys,
            key_bytes: shape.key_bytes,
            value_bytes: shape.value_bytes,
            distribution: distribution.name().to_owned(),
            limit,
            seed,
            warmup_seconds: plan.warmup.as_secs_f64(),
            seconds: outcome.elapsed.as_secs_f64(),
            requests: outcome.requests(),
            requests_per_second: outcome.per_second(),
            latency: LatencyTold::of(&outcome.latencies),
            kinds: outcome
                .kinds
                .iter()
                .map(|kind| KindTold {
                    name: kind.name.to_owned(),
                    conflicts: kind.conflicts,
                    latency: LatencyTold::of(&kind.latencies),
                })
                .collect(),
            events: Some(LatencyTold::of(&outcome.events)).filter(|events| events.count > 0),
            delayed: outcome.delayed,
            unanswered: outcome.unanswered,
            errors: outcome
                .errors
                .iter()
                .map(|errors| ErrorTold {
                    code: Code(errors.code).to_string(),
                    count: errors.count,
                    message: errors.message.clone(),
                })
                .collect(),
            answer_bytes: outcome.answer_bytes,
            load_cpu_us_per_request: outcome.us_per_request(outcome.own_cpu),
            server: outcome.server.as_ref().map(|server| ServerTold::of(outcome, server)),
            steal_percent: outcome.disturbance.steal_percent,
            foreign_percent: outcome.disturbance.foreign_percent,
            // Nobody said which process the server is: what it uses is foreign, too.
            is_disturbed: if plan.watched.is_empty() {
                outcome.disturbance.is_stolen_from()
            } else {
                outcome.disturbance.is_too_much()
            },
            requests_of_each_second: outcome.series.clone(),
        }
    }

    /// On a few lines.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{} at {}, {} x {} (connections x streams){}, {:.1} s after {:.1} s of warm-up\n",
            self.op,
            self.endpoints.join(" and "),
            self.connections,
            self.streams,
            self.watchers_text(),
            self.seconds,
            self.warmup_seconds
        );
        let mut line = |name: &str, value: String| {
            writeln!(text, "  {name:<10}{value}").expect("a string takes everything");
        };
        line("requests", format!("{}, {:.0}/s", self.requests, self.requests_per_second));
        line("latency", self.latency.to_text());
        if self.kinds.len() > 1 || self.kinds.iter().any(|kind| kind.conflicts > 0) {
            self.kinds.iter().for_each(|kind| line("", kind.to_text()));
        }
        if let Some(rate) = self.rate {
            let (delayed, unanswered) = (self.delayed, self.unanswered);
            line(
                "open loop",
                format!("{rate}/s, {delayed} had to wait for a free client, {unanswered} without an answer"),
            );
        }
        if let Some(events) = &self.events {
            line(
                "events",
                format!("{}, {:.0}/s, {}", events.count, events.count as f64 / self.seconds, events.to_text()),
            );
        }
        line("errors", self.errors_text());
        line("load", format!("{:.2} µs of CPU per request", self.load_cpu_us_per_request));
        if let Some(server) = &self.server {
            line("server", server.to_text(self.requests));
        }
        let server = if self.server.is_none() { " with the server's" } else { "" };
        let verdict = if self.is_disturbed { ": DISTURBED" } else { "" };
        line(
            "others",
            format!("steal {:.1} %, foreign CPU{server} {:.1} %{verdict}", self.steal_percent, self.foreign_percent),
        );
        text
    }

    fn watchers_text(&self) -> String {
        self.watchers.as_ref().map_or_else(String::new, |WatchersTold { count, all_keys }| {
            format!(" and {count} watchers of {}", if *all_keys { "all keys" } else { "a key each" })
        })
    }

    fn errors_text(&self) -> String {
        if self.errors.is_empty() {
            return "none".to_owned();
        }
        let each = self.errors.iter().map(|ErrorTold { code, count, message }| format!("{count} {code} {message:?}"));
        each.collect::<Vec<_>>().join(", ")
    }
}

impl KindTold {
    fn to_text(&self) -> String {
        let conflicts = match self.conflicts {
            0 => String::new(),
            count => format!(" ({count} lost to others)"),
        };
        format!("{}: {}{conflicts}, {}", self.name, self.latency.count, self.latency.to_text())
    }
}

/// What `load` prints of its results.
pub fn text_of(document: &Document) -> Result<String, Failure> {
    let told: Told = results::decode(&document.results, "results")?;
    Ok(told.to_text())
}
