//! What the kernel counts: for processes, block devices and the whole machine. All of it is read twice and subtracted.
//!
//! Parsing is apart from reading, and tested on text.

mod disk;
mod files;
mod machine;
mod process;

pub use disk::{Disk, DiskSample};
pub use files::written_directory;
pub use machine::{CpuSample, Disturbance};
pub use process::{ProcessSample, memory_bytes};

use std::time::Duration;

/// The unit of CPU times under /proc (USER_HZ): 10 ms on every architecture that Linux runs servers on.
const TICKS_PER_SECOND: u64 = 100;

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * (1000 / TICKS_PER_SECOND))
}

/// The fields of a `stat` file behind the name of the program, which stands in parentheses and may hold anything. The first one is
/// number 3 in proc(5).
fn stat_fields(stat: &str) -> Option<Vec<&str>> {
    Some(stat.rsplit_once(')')?.1.split_ascii_whitespace().collect())
}

/// Field `number` of proc(5).
fn stat_field(fields: &[&str], number: usize) -> Option<u64> {
    fields.get(number - 3)?.parse().ok()
}
