//! A process, all its threads together.

use std::{fs, io, time::Duration};

use super::{stat_field, stat_fields, ticks};

/// What a process has used so far, and what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProcessSample {
    /// User and system time of all its threads, those that ended included.
    pub cpu: Duration,
    /// RssAnon + RssShmem.
    pub memory_bytes: u64,
    /// Context switches, voluntary and not, of the threads that live.
    pub switches: u64,
}

impl ProcessSample {
    /// Two processes together.
    #[must_use]
    pub fn with(self, other: &Self) -> Self {
        Self {
            cpu: self.cpu + other.cpu,
            memory_bytes: self.memory_bytes + other.memory_bytes,
            switches: self.switches + other.switches,
        }
    }

    /// Reads it all.
    pub fn read(pid: u32) -> io::Result<Self> {
        let folder = format!("/proc/{pid}");
        let stat = fs::read_to_string(format!("{folder}/stat"))?;
        let status = fs::read_to_string(format!("{folder}/status"))?;
        Ok(Self {
            cpu: parse_cpu(&stat).ok_or_else(|| unreadable(&folder))?,
            memory_bytes: parse_memory(&status),
            switches: switches(pid)?,
        })
    }
}

/// RssAnon + RssShmem of a process; cheap enough to be asked for often.
pub fn memory_bytes(pid: u32) -> io::Result<u64> {
    Ok(parse_memory(&fs::read_to_string(format!("/proc/{pid}/status"))?))
}

fn parse_memory(status: &str) -> u64 {
    1024 * (status_number(status, "RssAnon:") + status_number(status, "RssShmem:"))
}

/// Context switches of all threads of a process. One that ends meanwhile is left out.
fn switches(pid: u32) -> io::Result<u64> {
    let mut switches = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(entry?.path().join("status")).unwrap_or_default();
        switches += status_number(&status, "voluntary_ctxt_switches:");
        switches += status_number(&status, "nonvoluntary_ctxt_switches:");
    }
    Ok(switches)
}

fn parse_cpu(stat: &str) -> Option<Duration> {
    let fields = stat_fields(stat)?;
    Some(ticks(stat_field(&fields, 14)? + stat_field(&fields, 15)?))
}

/// The number behind `name` on the line that begins with it; 0 if there is none.
fn status_number(status: &str, name: &str) -> u64 {
    let rest = status.lines().find_map(|line| line.strip_prefix(name));
    rest.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn unreadable(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{path}/stat is not as proc(5) says"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16 17 18 4200 20";
        assert_eq!(parse_cpu(stat), Some(Duration::from_secs(2)));
        assert_eq!(parse_cpu("7 (x"), None);
    }

    #[test]
    fn this_process_uses_memory_and_was_switched_to() {
        let pid = std::process::id();
        let sample = ProcessSample::read(pid).expect("it is there");
        assert!(sample.memory_bytes > 1 << 12 && sample.switches > 0);
        assert!(ProcessSample::read(0).is_err(), "there is no such process");
    }
}
