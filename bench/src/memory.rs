//! How much larger a process becomes while something is done to it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rustix::thread::{disable_transparent_huge_pages, transparent_huge_pages_are_disabled};

use crate::{failure::Failure, procfs::memory_bytes};

/// What is larger for a shorter time is not seen.
const INTERVAL: Duration = Duration::from_millis(5);
const MIB: f64 = (1 << 20) as f64;

/// Does `work`; gives what it gives, and the most that RssAnon + RssShmem of process `pid` were above where they began, in MiB.
pub fn growth_during<T>(pid: u32, work: impl FnOnce() -> Result<T, Failure>) -> Result<(T, f64), Failure> {
    let trouble = |error: std::io::Error| Failure::Trouble(format!("looking at the memory of process {pid}: {error}"));
    let before = memory_bytes(pid).map_err(trouble)?;
    let is_over = AtomicBool::new(false);
    let (given, peak) = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut peak = before;
            loop {
                // Read first: the last look comes after the work's end.
                let is_last = is_over.load(Ordering::Relaxed);
                peak = peak.max(memory_bytes(pid)?);
                if is_last {
                    return Ok(peak);
                }
                thread::sleep(INTERVAL);
            }
        });
        let given = work();
        is_over.store(true, Ordering::Relaxed);
        let peak = watch.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, Failure>((given?, peak.map_err(trouble)?))
    })?;
    Ok((given, (peak - before) as f64 / MIB))
}

/// While it lives, programs that are started get no huge pages: all 2 MiB of one count as soon as a byte of it is touched, and nobody could tell what a
/// program needs to some hundred KiB.
#[derive(Debug)]
pub struct SmallPages {
    was_so: bool,
}

impl SmallPages {
    /// From now on.
    pub fn begin() -> Result<Self, Failure> {
        let trouble = |error| Failure::Trouble(format!("doing without huge pages: {error}"));
        let was_so = transparent_huge_pages_are_disabled().map_err(trouble)?;
        disable_transparent_huge_pages(true).map_err(trouble)?;
        Ok(Self { was_so })
    }
}

impl Drop for SmallPages {
    fn drop(&mut self) {
        // What was allowed once is allowed again; of a refusal nothing but less memory would follow.
        let _ = disable_transparent_huge_pages(self.was_so);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_a_process_takes_is_seen_and_a_process_that_is_not_there_is_an_error() {
        let (taken, mib) = growth_during(std::process::id(), || Ok(vec![1_u8; 64 << 20])).expect("it is there");
        assert!(taken.len() == 64 << 20 && mib > 60.0, "{mib}");
        assert!(growth_during(0, || Ok(())).is_err(), "there is no such process");
    }

    #[test]
    fn programs_that_are_started_do_without_huge_pages_for_a_while() {
        let enabled = || {
            let status = Command::new("cat").arg("/proc/self/status").output().expect("it is there").stdout;
            let status = String::from_utf8(status).expect("text");
            status.lines().find_map(|line| line.strip_prefix("THP_enabled:")).expect("Linux tells").trim().to_owned()
        };
        let before = enabled();
        let small = SmallPages::begin().expect("no privilege is needed");
        assert_eq!(enabled(), "0");
        drop(small);
        assert_eq!(enabled(), before);
    }
}
