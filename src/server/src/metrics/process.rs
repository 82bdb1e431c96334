//! What the kernel counts for this process, from /proc.

use std::fs;

use super::exposition::{
    Exposition,
    FamilyKind::{Counter, Gauge},
};

/// Clock ticks per second in /proc/self/stat. The kernel shows times to user space in this unit on every architecture
/// that plinth runs on (`USER_HZ`), whatever its own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

/// The process's numbers at one moment. What can't be read is 0.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct ProcessStats {
    cpu_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    open_fds: u64,
    max_fds: u64,
    start_unix_seconds: f64,
}

impl ProcessStats {
    /// Reads them now.
    #[must_use]
    pub fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let system = fs::read_to_string("/proc/stat").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let (cpu_seconds, started_after_boot) = parse_stat(&stat).unwrap_or_default();
        Self {
            cpu_seconds,
            resident_bytes: number_after(&status, "VmRSS:") << 10,
            virtual_bytes: number_after(&status, "VmSize:") << 10,
            open_fds: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
            max_fds: number_after(&limits, "Max open files"),
            start_unix_seconds: started_after_boot + parse_boot_seconds(&system),
        }
    }

    /// Writes the families that Prometheus's client libraries have, and etcd's own two about descriptors.
    pub fn render(&self, out: &mut Exposition) {
        let gauge = |out: &mut Exposition, name: &str, help: &str, value: u64| out.single(name, Gauge, help, value);
        out.single(
            "process_cpu_seconds_total",
            Counter,
            "Total user and system CPU time spent in seconds.",
            self.cpu_seconds,
        );
        out.single(
            "process_start_time_seconds",
            Gauge,
            "Start time of the process since unix epoch in seconds.",
            self.start_unix_seconds,
        );
        gauge(out, "process_resident_memory_bytes", "Resident memory size in bytes.", self.resident_bytes);
        gauge(out, "process_virtual_memory_bytes", "Virtual memory size in bytes.", self.virtual_bytes);
        gauge(out, "process_open_fds", "Number of open file descriptors.", self.open_fds);
        gauge(out, "process_max_fds", "Maximum number of open file descriptors.", self.max_fds);
        gauge(out, "os_fd_used", "The number of used file descriptors.", self.open_fds);
        gauge(out, "os_fd_limit", "The file descriptor limit.", self.max_fds);
    }
}

/// CPU seconds used, and seconds from boot to the process's start.
fn parse_stat(stat: &str) -> Option<(f64, f64)> {
    // The name of the program stands in parentheses and may hold anything; fields are counted behind it. Field 3 comes
    // first.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    Some(((ticks(14)? + ticks(15)?) / TICKS_PER_SECOND, ticks(22)? / TICKS_PER_SECOND))
}

fn parse_boot_seconds(system: &str) -> f64 {
    system.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or_default()
}

/// The first number behind `name` on the line that begins with it; 0 if there is none.
fn number_after(text: &str, name: &str) -> u64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    rest.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_program_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16 17 18 4200 20";
        assert_eq!(parse_stat(stat), Some((2.0, 42.0)));
        assert_eq!(parse_stat("7 (x"), None);
    }

    #[test]
    fn this_process_has_memory_descriptors_and_a_start() {
        let stats = ProcessStats::read();
        assert!(stats.resident_bytes > 1 << 16 && stats.virtual_bytes >= stats.resident_bytes);
        assert!(stats.open_fds >= 3 && stats.max_fds >= stats.open_fds);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        assert!((now - stats.start_unix_seconds).abs() < 3600.0, "{}", stats.start_unix_seconds);
    }
}
