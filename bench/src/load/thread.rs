//! The thread of a load: one, pinned, so that pinning it pins nothing else.

use std::{num::NonZeroU64, thread, time::Duration};

use rustix::{
    thread::{CpuSet, sched_setaffinity, set_current_timer_slack},
    time::{ClockId, clock_gettime},
};

use crate::failure::Failure;

/// Does `work` on a thread of its own, pinned to `core` if there is one.
pub fn on_own_thread<T: Send>(
    core: Option<usize>,
    work: impl FnOnce() -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    let body = move || {
        if let Some(core) = core {
            pin(core)?;
        }
        // Requests of an open loop begin when they are due, and not up to 50 µs later. If the kernel doesn't want to, they are late.
        set_current_timer_slack(NonZeroU64::new(1)).ok();
        work()
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("load".to_owned()).spawn_scoped(scope, body);
        let thread = thread.map_err(|error| Failure::Trouble(format!("starting the load: {error}")))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Restricts the calling thread, and what it starts, to a core.
pub fn pin(core: usize) -> Result<(), Failure> {
    pin_to(&[core])
}

/// The same to several.
pub fn pin_to(cores: &[usize]) -> Result<(), Failure> {
    let refused = |text: String| {
        let names: Vec<String> = cores.iter().map(ToString::to_string).collect();
        Failure::Trouble(format!("cannot pin to core {}: {text}", names.join(" and ")))
    };
    if cores.iter().any(|core| *core >= CpuSet::MAX_CPU) {
        return Err(refused("there is no such core".to_owned()));
    }
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    sched_setaffinity(None, &set).map_err(|error| refused(error.to_string()))
}

/// CPU time of the calling thread.
pub fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
