//! What one request takes inside of the server: the kernel's tracepoints through perf, and plinth's own counters, each divided by the requests
//! that were served meanwhile.
//!
//! Tracepoints slow a server down, so nothing here is a latency.

use std::{process::Command, thread, time::Duration};

use serde_json::{Value, json};

use super::{Figures, Part};
use crate::{
    failure::Failure,
    lab::Lab,
    load::{self, Clients, Op, Plan},
    metrics::Metrics,
    procfs::ProcessSample,
    server::Server,
    versus::CLIENTS,
};

/// Name in the table, and perf's name.
const EVENTS: [(&str, &str); 5] = [
    ("system calls", "raw_syscalls:sys_enter"),
    ("io_uring_enter", "syscalls:sys_enter_io_uring_enter"),
    ("SQEs", "io_uring:io_uring_submit_req"),
    ("wakes of other threads", "sched:sched_wakeup"),
    ("context switches", "sched:sched_switch"),
];
/// Name in the table, and the counter.
const COUNTERS: [(&str, &str); 9] = [
    ("log flushes", "plinth_wal_flushes_total"),
    ("storage ring: enters", "plinth_executor_ring_enters_total"),
    ("storage ring: SQEs", "plinth_executor_ring_sqes_total"),
    ("storage ring: wakes", "plinth_executor_ring_wakeups_total"),
    ("socket reads", "plinth_executor_socket_reads_total"),
    ("socket writes", "plinth_executor_socket_writes_total"),
    ("shard turns", "plinth_shard_turn_duration_seconds_count"),
    ("timer ticks", "plinth_executor_heartbeat_ticks_total"),
    ("helper jobs", "plinth_executor_helper_jobs_total"),
];
/// The load runs for so much longer than perf watches, at both ends.
const MARGIN: Duration = Duration::from_millis(500);

/// A row's name and its value per request.
type Row = (String, f64);

pub(super) fn run(figures: &mut Figures) -> Result<Part, Failure> {
    let lab = &figures.lab;
    let filled = lab.fill("path", &lab.plinth, lab.method.shape)?;
    let mut columns = Vec::new();
    for op in [Op::Put, Op::Range { serializable: false }] {
        for clients in CLIENTS {
            eprintln!("path: {}, {clients}", op.name());
            let server = lab.start_on_copy(&lab.plinth, &filled, &[lab.server_core])?;
            columns.push((format!("{} {clients}", op.name()), measure(lab, &server, op, clients)?));
            server.stop()?;
        }
    }
    let json = columns.iter().map(|(name, rows)| (name.clone(), json!(rows))).collect();
    Ok(Part { text: table(&columns), json: Value::Object(json), aims: Vec::new() })
}

fn measure(lab: &Lab, server: &Server, op: Op, clients: Clients) -> Result<Vec<Row>, Failure> {
    let plan = lab.plan(server, op, clients);
    let load = Plan { warmup: plan.warmup + MARGIN, measured: plan.measured + MARGIN, ..plan };
    thread::scope(|scope| {
        let running = scope.spawn(|| load::run(&load));
        thread::sleep(load.warmup);
        let rows = watch(lab, server);
        let outcome = running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        outcome.expect_no_errors()?;
        rows
    })
}

/// Everything counted while perf watches, per request.
fn watch(lab: &Lab, server: &Server) -> Result<Vec<Row>, Failure> {
    let trouble = |error: std::io::Error| Failure::Trouble(format!("looking at the server: {error}"));
    let before = Metrics(server.metrics()?);
    let events = perf(server.pid(), lab.method.measured.saturating_sub(MARGIN));
    let after = Metrics(server.metrics()?);
    let requests = after.since(&before, "plinth_executor_requests_total").max(1.0);
    let mut rows: Vec<Row> = events.into_iter().map(|(name, count)| (name, count / requests)).collect();
    rows.extend(COUNTERS.map(|(name, counter)| (name.to_owned(), after.since(&before, counter) / requests)));
    let memory = ProcessSample::read(server.pid()).map_err(trouble)?.memory_bytes;
    rows.push(("memory, MiB".to_owned(), memory as f64 / (1 << 20) as f64));
    Ok(rows)
}

/// What perf counts in a process. An event that this kernel or this user can't have is NaN.
fn perf(pid: u32, duration: Duration) -> Vec<Row> {
    let names = EVENTS.map(|(_, event)| event).join(",");
    let seconds = duration.as_secs_f64().max(0.1).to_string();
    let output = Command::new("perf")
        .args(["stat", "-x", ";", "-e", &names, "-p", &pid.to_string(), "--", "sleep", &seconds])
        .output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default();
    let count = |event: &str| parse_event(&text, event).unwrap_or(f64::NAN);
    EVENTS.iter().map(|(name, event)| ((*name).to_owned(), count(event))).collect()
}

/// A line is `count;unit;event;...`.
fn parse_event(text: &str, event: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.split(';').nth(2) == Some(event))?;
    line.split(';').next()?.parse().ok()
}

fn table(columns: &[(String, Vec<Row>)]) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let mut text = format!("| per request | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(columns.len()));
    let rows = columns.first().map_or(0, |(_, rows)| rows.len());
    for row in 0..rows {
        let cells: Vec<String> = columns
            .iter()
            .map(|(_, rows)| if rows[row].1.is_nan() { "-".to_owned() } else { format!("{:.3}", rows[row].1) })
            .collect();
        text += &format!("| {} | {} |\n", columns[0].1[row].0, cells.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_was_not_counted_is_no_number() {
        let text = "12;;raw_syscalls:sys_enter;100;1.0;;\n<not supported>;;sched:sched_switch;0;100.00;;\n";
        assert_eq!(parse_event(text, "raw_syscalls:sys_enter"), Some(12.0));
        assert_eq!(parse_event(text, "sched:sched_switch"), None);
        assert_eq!(parse_event(text, "sched:sched_wakeup"), None);
    }
}
