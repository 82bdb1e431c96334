//! What it costs not to recycle files, to write small blocks, and to have neighbours.

use super::{Finding, Record, choice, time};
use crate::fsync::cell::{BLOCK, Cell, FileKind, Neighbour};

const RECYCLING: (&str, &str) = ("recycling", "files that were written before are faster");
const BLOCK_SIZE: (&str, &str) = ("block", "the smallest write worth making");
const NEIGHBOURS: (&str, &str) = ("neighbours", "what a neighbour costs");

/// So many times as long is more than chance.
const MATTERS: f64 = 1.2;
/// What neighbours cost, in times: from here on some, and much.
const SOME: f64 = 1.5;
const MUCH: f64 = 4.0;

/// The best method's cell with a change, and how many times its median the plain one's is.
struct Compared {
    p50_us: f64,
    times: f64,
}

fn compare(record: Record<'_>, change: impl Fn(Cell) -> Cell) -> Option<Compared> {
    let plain = choice::best(record.cells)?;
    let p50_us = record.cell(change(plain.cell))?.p50_us?;
    Some(Compared { p50_us, times: p50_us / plain.p50_us? })
}

pub(super) fn recycling(record: Record<'_>) -> Finding {
    let kinds = [FileKind::Preallocated, FileKind::Growing];
    let found: Vec<(FileKind, Compared)> =
        kinds.into_iter().filter_map(|file| Some((file, compare(record, |cell| Cell { file, ..cell })?))).collect();
    if found.is_empty() {
        return Finding::unknown(RECYCLING, "neither a preallocated nor a growing file was measured");
    }
    let told = |(file, Compared { p50_us, times }): &(FileKind, Compared)| {
        format!("{times:.1} times a recycled one's median in a {} file ({})", file.name(), time(*p50_us))
    };
    let reason = found.iter().map(told).collect::<Vec<_>>().join(", ");
    let matters = found.iter().any(|(_, compared)| compared.times >= MATTERS);
    Finding::new(RECYCLING, if matters { "yes" } else { "no" }, reason)
}

pub(super) fn block(record: Record<'_>) -> Finding {
    let small = record.cells.iter().map(|summary| summary.cell.bytes).filter(|bytes| *bytes < BLOCK).min();
    let Some(bytes) = small else { return Finding::unknown(BLOCK_SIZE, "nothing smaller than 4096 bytes was tried") };
    let Some(Compared { p50_us, times }) = compare(record, |cell| Cell { bytes, ..cell }) else {
        let reason = format!("writes of {bytes} bytes are not possible here");
        return Finding::new(BLOCK_SIZE, BLOCK.to_string(), reason);
    };
    let reason = format!("{bytes} bytes take {}, {times:.2} times 4096 bytes", time(p50_us));
    // If it isn't faster, the whole block is free.
    let is_worth_it = times * MATTERS <= 1.0;
    Finding::new(BLOCK_SIZE, if is_worth_it { bytes } else { BLOCK }.to_string(), reason)
}

pub(super) fn neighbours(record: Record<'_>) -> Finding {
    let kinds = [Neighbour::Writes, Neighbour::Reads];
    let found: Vec<(Neighbour, Compared)> = kinds
        .into_iter()
        .filter_map(|neighbour| Some((neighbour, compare(record, |cell| Cell { neighbour, ..cell })?)))
        .collect();
    let Some(worst) = found.iter().map(|(_, compared)| compared.times).max_by(f64::total_cmp) else {
        return Finding::unknown(NEIGHBOURS, "no neighbour was measured");
    };
    let told = |(neighbour, Compared { p50_us, times }): &(Neighbour, Compared)| {
        format!("{} beside one that {} ({times:.1} times)", time(*p50_us), neighbour.name())
    };
    let reason = format!("the median is {}", found.iter().map(told).collect::<Vec<_>>().join(", "));
    let answer = match worst {
        worst if worst >= MUCH => "much",
        worst if worst >= SOME => "some",
        _ => "little",
    };
    Finding::new(NEIGHBOURS, answer, reason)
}
