//! The method to use: the lowest median. Medians within 5 % are the same, for two runs of one method differ by as much; then the method that
//! costs less CPU is the better one. (Higher percentiles need more samples than a short run has, and depend on what else the drive does.)

use super::{Finding, Record, UNKNOWN, time};
use crate::fsync::{cell::Cell, first_start::FirstStart, method::Method, summary::Summary};

const METHOD: (&str, &str) = ("sync-method", "the method to use");
const FLAG: (&str, &str) = ("plinth-sync-method", "plinth's --wal-sync-method");

/// Medians that differ by less are the same.
const SAME: f64 = 1.05;

/// The best method among the cells that compare them.
#[must_use]
pub fn best(cells: &[Summary]) -> Option<&Summary> {
    let plain = || cells.iter().filter(|summary| summary.cell == Cell::plain(summary.cell.method));
    let p50 = |summary: &&Summary| summary.p50_us;
    let lowest = plain().filter_map(|summary| p50(&summary)).min_by(f64::total_cmp)?;
    let cpu = |summary: &Summary| summary.cpu_us_per_flush.unwrap_or(f64::INFINITY);
    let same = plain().filter(|summary| p50(summary).is_some_and(|p50| p50 <= lowest * SAME));
    same.min_by(|a, b| cpu(a).total_cmp(&cpu(b)))
}

pub(super) fn method(record: Record<'_>) -> Finding {
    let Some(best) = best(record.cells) else { return Finding::unknown(METHOD, "no method has enough samples") };
    let told = |summary: &Summary| {
        let p50 = time(summary.p50_us.unwrap_or(f64::NAN));
        let cpu = summary.cpu_us_per_flush.map_or_else(String::new, |us| format!(" and {us:.0} µs of CPU"));
        format!("{} takes {p50}{cpu}", summary.cell.method.name())
    };
    let others: Vec<String> = Method::ALL
        .into_iter()
        .filter(|method| *method != best.cell.method)
        .filter_map(|method| Some(format!("{} {}", method.name(), time(record.plain_p50(method)?))))
        .collect();
    Finding::new(METHOD, best.cell.method.name(), format!("at the median {}; {}", told(best), others.join(", ")))
}

pub(super) fn flag(record: Record<'_>) -> Finding {
    let whose = "plinth's own measurement of a first start";
    let (write, linked, thread) = match record.first_start {
        FirstStart::Medians { write_dsync_us, linked_sync_us, thread_dsync_us } => {
            (time(*write_dsync_us), time(*linked_sync_us), time(*thread_dsync_us))
        }
        FirstStart::Trouble(trouble) => return Finding::unknown(FLAG, format!("{whose}: {trouble}")),
    };
    let reason = format!(
        "{whose}, with a checkpoint beside it: write-dsync {write}, linked-sync {linked}, thread-dsync {thread}; \
         write-dsync stays unless another one is more than 5 % faster"
    );
    Finding::new(FLAG, record.first_start.choice().unwrap_or(UNKNOWN), reason)
}
