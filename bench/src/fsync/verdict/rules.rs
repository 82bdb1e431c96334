//! etcd's rule for disks, and plinth's own limits.

use super::{Finding, Record, time};
use crate::fsync::{
    cell::{BLOCK, Cell, FileKind, Neighbour},
    method::Method,
    summary::Summary,
};

const ETCD: (&str, &str) = ("etcd-rule", "etcd's rule: p99 of write and fdatasync below 10 ms");
const PLINTH: (&str, &str) = ("plinth-limits", "plinth's limits");

/// etcd's documentation of hardware asks for this.
const ETCD_P99_US: f64 = 10_000.0;
/// Defaults of plinth and etcd: --heartbeat-interval, and half of --election-timeout, after which plinth's log counts as stalled.
const HEARTBEAT_US: f64 = 100_000.0;
const STALL_US: f64 = 500_000.0;

pub(super) fn etcd(record: Record<'_>) -> Finding {
    let Some(cell) = record.plain(Method::BufferedFdatasync) else {
        return Finding::unknown(ETCD, "write and fdatasync has too few samples");
    };
    if let Some(p99) = cell.p99_us {
        let answer = if p99 < ETCD_P99_US { "met" } else { "not met" };
        return Finding::new(ETCD, answer, format!("p99 is {}", time(p99)));
    }
    // A lower percentile that is too high already decides it too.
    let lower = [("p90", cell.p90_us), ("p50", cell.p50_us)];
    let lower = lower.into_iter().find_map(|(name, us)| Some((name, us.filter(|us| *us >= ETCD_P99_US)?)));
    match lower {
        Some((name, us)) => Finding::new(ETCD, "not met", format!("{name} is {} already", time(us))),
        None => {
            let reason = format!("{} samples are too few for a p99: give --seconds more", cell.flushes);
            Finding::unknown(ETCD, reason)
        }
    }
}

pub(super) fn plinth(record: Record<'_>) -> Finding {
    // What plinth's log does: whole blocks, into segments that were written before.
    let is_plinths = |summary: &&Summary| {
        let Cell { method, bytes, file, .. } = summary.cell;
        method.flag().is_some() && bytes >= BLOCK && file == FileKind::Recycled
    };
    let longest = |neighbour: Neighbour| {
        let cells = record.cells.iter().filter(is_plinths).filter(|summary| summary.cell.neighbour == neighbour);
        cells.filter_map(|summary| summary.max_us).max_by(f64::total_cmp)
    };
    let (alone, beside) = (longest(Neighbour::None), longest(Neighbour::Writes));
    let Some(max) = [alone, beside].into_iter().flatten().max_by(f64::total_cmp) else {
        return Finding::unknown(PLINTH, "none of plinth's methods could be measured here");
    };
    let told = |name: &str, us: Option<f64>| us.map(|us| format!("{} {name}", time(us)));
    let told = [told("alone", alone), told("beside a neighbour that writes", beside)];
    let told = format!("the longest flush took {}", told.into_iter().flatten().collect::<Vec<_>>().join(", "));
    match max {
        max if max >= STALL_US => Finding::new(
            PLINTH,
            "broken",
            format!("{told}: after 500 ms the log counts as stalled, writes wait and /readyz fails"),
        ),
        max if max >= HEARTBEAT_US => Finding::new(
            PLINTH,
            "near",
            format!("{told}: longer than a heartbeat (100 ms), shorter than a stall (500 ms); clients will see it"),
        ),
        _ => Finding::new(PLINTH, "kept", format!("{told}: below a heartbeat (100 ms) and a stall (500 ms)")),
    }
}
