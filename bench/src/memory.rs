//! How much larger a process becomes while something is done to it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_takes_is_seen_and_a_process_that_is_not_there_is_an_error() {
        let (taken, mib) = growth_during(std::process::id(), || Ok(vec![1_u8; 64 << 20])).expect("it is there");
        assert!(taken.len() == 64 << 20 && mib > 60.0, "{mib}");
        assert!(growth_during(0, || Ok(())).is_err(), "there is no such process");
    }
}
