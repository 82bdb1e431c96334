//! Findings and what they mean, as text.

use serde::Deserialize;

use super::{
    diagnosis::{Diagnosis, diagnose},
    findings::{CallFacts, Calls, Findings, Metered, Server},
};
use crate::{
    failure::Failure,
    metrics::{Spread, Within},
    results::{self, Document},
};

const MIB: f64 = (1 << 20) as f64;

#[derive(Deserialize)]
struct Told {
    findings: Findings,
}

/// A whole probe as it was printed.
pub fn text_of(document: &Document) -> Result<String, Failure> {
    let Told { findings } = results::decode(&document.results, "results")?;
    Ok(text(&findings))
}

/// Findings as they are printed.
pub fn text(findings: &Findings) -> String {
    let parts = [
        server_text(&findings.server),
        calls_text(&findings.calls),
        metered_text(findings.metered.as_ref()),
        database_text(findings),
        put_text(findings),
    ];
    let diagnosis = diagnose(findings);
    format!("{}\n{}", parts.concat(), warnings_text(&diagnosis))
}

fn server_text(server: &Server) -> String {
    let Server { name, version, endpoint, member, leader, members, .. } = server;
    let version = if name == "etcd" { format!("etcd {version}") } else { format!("{name} (API of etcd {version})") };
    let role = match *leader {
        0 => "without a leader".to_owned(),
        leader if leader == *member => "the leader".to_owned(),
        leader => format!("a follower of {leader:x}"),
    };
    let of = if *members == 1 { "the only member".to_owned() } else { format!("one of {members} members") };
    format!("{version} at {endpoint}: member {member:x}, {of}, {role}\n\n")
}

fn calls_text(calls: &Calls) -> String {
    let rows = [
        ("empty call", Some(calls.empty)),
        ("serializable read", Some(calls.serializable)),
        ("linearizable read", calls.linearizable),
        ("put", calls.put),
        ("watch event, from its put on", calls.event),
    ];
    let mut text =
        "| one at a time | calls | mean, µs | p50, µs | p99, µs | max, µs |\n|---|---|---|---|---|---|\n".to_owned();
    for (name, facts) in rows {
        text += &match facts {
            Some(CallFacts { calls, mean_us, p50_us, p99_us, max_us }) => {
                let us = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |us| format!("{us:.0}"));
                format!("| {name} | {calls} | {mean_us:.0} | {} | {} | {max_us:.0} |\n", us(p50_us), us(p99_us))
            }
            None => format!("| {name} | - | - | - | - | - |\n"),
        };
    }
    text + "\n"
}

fn metered_text(metered: Option<&Metered>) -> String {
    let Some(metered) = metered else {
        return "no /metrics at this endpoint: how long its disk takes is unknown\n".to_owned();
    };
    let line = |name, spread: Option<Spread>| match spread {
        None => format!("{name}: none meanwhile\n"),
        Some(Spread { count, mean_us, p50, p99 }) => {
            let p99 = p99.map_or_else(|| "unknown of so few".to_owned(), within);
            format!("{name}: {count}, mean {}, p50 {}, p99 {p99}\n", time(mean_us), within(p50))
        }
    };
    let Metered { leader_changes, leader_changes_meanwhile, .. } = metered;
    format!(
        "{}{}leader changes: {leader_changes} since its start, {leader_changes_meanwhile} meanwhile\n",
        line("flushes of the log, by its own histogram", metered.flush),
        line("commits of the database", metered.commit)
    )
}

fn within(Within { low_us, high_us, .. }: Within) -> String {
    match high_us {
        Some(high) if low_us == 0.0 => format!("below {}", time(high)),
        Some(high) => format!("{} to {}", time(low_us), time(high)),
        None => format!("over {}", time(low_us)),
    }
}

fn time(us: f64) -> String {
    if us < 1000.0 { format!("{us:.0} µs") } else { format!("{:.1} ms", us / 1e3) }
}

fn database_text(findings: &Findings) -> String {
    let Server { db_bytes, db_in_use_bytes, .. } = findings.server;
    let mib = |bytes: u64| bytes as f64 / MIB;
    let quota = findings.quota_bytes().map_or_else(
        || "its quota is unknown".to_owned(),
        |quota| format!("{:.1} % of its quota of {:.0} MiB", 100.0 * db_bytes as f64 / quota as f64, mib(quota)),
    );
    format!("database: {:.1} MiB, {:.1} MiB of it in use; {quota}\n", mib(db_bytes), mib(db_in_use_bytes))
}

fn put_text(findings: &Findings) -> String {
    let Diagnosis { parts, .. } = diagnose(findings);
    let (Some((largest, _)), Some(put)) = (parts.first(), findings.calls.put) else { return String::new() };
    let mut text = format!("\na put takes {} in the mean:\n", time(put.mean_us));
    for (part, us) in &parts {
        text += &format!("  {:>3.0} %  {:<8}  {}\n", 100.0 * us / put.mean_us, time(*us), part.name());
    }
    let is_flush_known = findings.metered.as_ref().is_some_and(|metered| metered.flush.is_some());
    text + &format!("what takes longest is {}: {}\n", largest.name(), largest.advice(is_flush_known))
}

fn warnings_text(Diagnosis { warnings, .. }: &Diagnosis) -> String {
    if warnings.is_empty() {
        return "nothing to warn of\n".to_owned();
    }
    warnings.iter().map(|warning| format!("WARNING: {warning}\n")).collect()
}
