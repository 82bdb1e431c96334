//! What the kernel is told and asked about a thread: where and how it runs, what it has used.
#![allow(unsafe_code)]

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::counters::ExecutorCounters;

/// How a helper thread competes with the executors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// Runs as soon as it is woken.
    Prompt,
    /// Waits for its turn (SCHED_BATCH). A thread that loads pages also evicts others; if it interrupted an executor between
    /// the look at a page and its touch, it could evict that very page.
    Patient,
}

/// Restricts the calling thread to `cores` and sets its class. Refusals are harmless: it then runs as the process does.
pub(crate) fn enter(class: Class, cores: &[usize]) {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    if !cores.is_empty() {
        let _ = sched_setaffinity(None, &set);
    }
    if class == Class::Patient {
        let param = libc::sched_param { sched_priority: 0 };
        // SAFETY: the pointer is to a live sched_param; 0 names the calling thread.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const param) };
    }
}

/// Reads the usage of the calling thread into its counters.
pub(crate) fn sample(counters: &ExecutorCounters) {
    // SAFETY: rusage is plain numbers; all zero is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live rusage, which is all that getrusage writes.
    let result = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    if result != 0 {
        return;
    }
    let micros = |time: libc::timeval| number(time.tv_sec) * 1_000_000 + number(time.tv_usec);
    counters.major_faults.set(number(usage.ru_majflt));
    counters.voluntary_switches.set(number(usage.ru_nvcsw));
    counters.involuntary_switches.set(number(usage.ru_nivcsw));
    counters.cpu_us.set(micros(usage.ru_utime) + micros(usage.ru_stime));
}

fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
