//! The CPUs of the machine: what was stolen from it, and what others used.

use std::{collections::BTreeMap, fs, io, time::Duration};

use super::{stat_field, stat_fields, ticks};

/// The parent of all threads of the kernel.
const KTHREADD: u64 = 2;
/// A run with more than this was disturbed, in percent of all cores' time.
const STEAL_PERCENT_MAX: f64 = 2.0;
const FOREIGN_PERCENT_MAX: f64 = 7.0;

/// What the machine's CPUs have done so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CpuSample {
    /// Time in which the hypervisor ran somebody else.
    steal: Duration,
    /// All time, idle and stolen time included, over all cores.
    total: Duration,
    /// CPU time of each process outside the kernel. (The kernel's threads work for whoever does I/O: they are nobody's foreigners.)
    processes: BTreeMap<u32, Used>,
}

/// CPU time of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Used {
    parent: u32,
    cpu: Duration,
}

/// How far others got in the way between two samples.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Disturbance {
    /// Stolen time in percent of all cores' time.
    pub steal_percent: f64,
    /// CPU time of processes that took no part, in percent of all cores' time.
    pub foreign_percent: f64,
}

impl CpuSample {
    /// Reads it all. Processes that end before the next look are not seen.
    pub fn read() -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let (steal, total) = parse_total(&stat)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/stat is not as proc(5) says"))?;
        let mut processes = BTreeMap::new();
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            if let Some(used) = parse_process(&stat) {
                processes.insert(pid, used);
            }
        }
        Ok(Self { steal, total, processes })
    }

    /// What happened since `before`; the processes of `taking_part` belong there, and so do those that they started.
    #[must_use]
    pub fn since(&self, before: &Self, taking_part: &[u32]) -> Disturbance {
        let foreign: Duration = self
            .processes
            .iter()
            .filter(|(pid, used)| !taking_part.contains(pid) && !taking_part.contains(&used.parent))
            // One that is new counts whole: its life fell into the run.
            .map(|(pid, used)| {
                used.cpu.saturating_sub(before.processes.get(pid).map_or(Duration::ZERO, |used| used.cpu))
            })
            .sum();
        let total = self.total.saturating_sub(before.total).as_secs_f64().max(f64::MIN_POSITIVE);
        Disturbance {
            steal_percent: 100.0 * self.steal.saturating_sub(before.steal).as_secs_f64() / total,
            foreign_percent: 100.0 * foreign.as_secs_f64() / total,
        }
    }
}

impl Disturbance {
    /// Whether the hypervisor took too much.
    #[must_use]
    pub fn is_stolen_from(&self) -> bool {
        self.steal_percent > STEAL_PERCENT_MAX
    }

    /// Whether the run doesn't count.
    #[must_use]
    pub fn is_too_much(&self) -> bool {
        self.steal_percent > STEAL_PERCENT_MAX || self.foreign_percent > FOREIGN_PERCENT_MAX
    }
}

/// Stolen and all time from the first line of /proc/stat.
fn parse_total(stat: &str) -> Option<(Duration, Duration)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = line.split_ascii_whitespace().filter_map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest time is part of user time.
    let total = fields.get(..8)?.iter().sum();
    Some((ticks(fields[7]), ticks(total)))
}

/// CPU time of a process; `None` for the kernel's own.
fn parse_process(stat: &str) -> Option<Used> {
    let fields = stat_fields(stat)?;
    let (pid, parent) = (stat.split(' ').next()?.parse::<u64>().ok()?, stat_field(&fields, 4)?);
    let is_kernel = pid == KTHREADD || parent == KTHREADD;
    let cpu = ticks(stat_field(&fields, 14)? + stat_field(&fields, 15)?);
    (!is_kernel).then_some(Used { parent: u32::try_from(parent).ok()?, cpu })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parent of a process is a tenth of its number.
    fn sample(steal: u64, total: u64, processes: &[(u32, u64)]) -> CpuSample {
        let used = |(pid, cpu): &(u32, u64)| (*pid, Used { parent: pid / 10, cpu: ticks(*cpu) });
        let processes = processes.iter().map(used).collect();
        CpuSample { steal: ticks(steal), total: ticks(total), processes }
    }

    #[test]
    fn steal_and_strangers_disturb_and_those_who_take_part_do_not() {
        let before = sample(10, 1000, &[(1, 50), (2, 500)]);
        let after = sample(13, 1200, &[(1, 60), (2, 690), (3, 6)]);
        let found = after.since(&before, &[2]);
        assert_eq!((found.steal_percent, found.foreign_percent), (1.5, 8.0));
        assert!(found.is_too_much());
        assert!(!after.since(&before, &[1, 2]).is_too_much());
        let child = sample(10, 1200, &[(2, 500), (21, 100)]).since(&before, &[2]);
        assert_eq!(child.foreign_percent, 0.0, "a process that takes part started it");
    }

    #[test]
    fn totals_leave_guest_time_out_and_kernel_threads_are_no_processes() {
        let stat = "cpu  10 20 30 40 50 60 70 80 5 5\ncpu0 1 2\n";
        assert_eq!(parse_total(stat), Some((ticks(80), ticks(360))));
        let process = |parent| format!("9 (kworker) S {parent} 0 0 0 0 0 0 0 0 0 7 8 0 0");
        assert_eq!(parse_process(&process(1)), Some(Used { parent: 1, cpu: ticks(15) }));
        assert_eq!(parse_process(&process(2)), None);
    }
}
