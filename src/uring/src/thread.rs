//! What the kernel is told and asked about a thread: where and how it runs, what it has used.
#![allow(unsafe_code)]

use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::counters::ExecutorCounters;

/// How a thread competes with others for its cores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// An executor: it runs sooner than others that are ready with it, and for a shorter time at once. In the long run it gets no more than they do.
    Executor,
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
    if class == Class::Executor {
        shorten_slice();
    }
    if class == Class::Patient {
        let param = libc::sched_param { sched_priority: 0 };
        // SAFETY: the pointer is to a live sched_param; 0 names the calling thread.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const param) };
    }
}

/// What an executor runs at once when others wait for its core. The kernel's own value is some milliseconds: behind a few threads that compute, a heartbeat
/// would be late by as many times that.
const EXECUTOR_SLICE: Duration = Duration::from_micros(500);

/// The kernel's `struct sched_attr`, as far as it has been the same since Linux 3.14.
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// `SCHED_FLAG_RESET_ON_FORK`: threads that the kernel makes for this one's requests are ordinary ones.
const RESET_ON_FORK: u64 = 1;

/// Gives the calling thread a slice of its own, where the kernel knows that (since 6.12); older ones take the request and do nothing.
fn shorten_slice() {
    let mut now = SchedAttr { size: size_of::<SchedAttr>() as u32, ..SchedAttr::default() };
    // SAFETY: the pointer is to a live struct of the size that is given; 0 names the calling thread.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut now, now.size, 0) };
    if got != 0 || now.policy != libc::SCHED_OTHER as u32 {
        // Somebody has chosen another one for this process.
        return;
    }
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: now.policy,
        flags: RESET_ON_FORK,
        nice: now.nice,
        runtime: EXECUTOR_SLICE.as_nanos() as u64,
        ..SchedAttr::default()
    };
    // SAFETY: the pointer is to a live struct of the size that it names; 0 names the calling thread.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executor_keeps_its_niceness_and_gets_its_slice_where_there_is_one() {
        let thread = std::thread::spawn(|| {
            enter(Class::Executor, &[]);
            let mut attr = SchedAttr { size: size_of::<SchedAttr>() as u32, ..SchedAttr::default() };
            // SAFETY: as above.
            let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, attr.size, 0) };
            (got, attr.policy, attr.nice, attr.runtime)
        });
        let (got, policy, nice, runtime) = thread.join().expect("it ends");
        // SAFETY: 0 names the calling process.
        let own_nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        assert_eq!((got, policy, nice), (0, libc::SCHED_OTHER as u32, own_nice));
        assert!([0, EXECUTOR_SLICE.as_nanos() as u64].contains(&runtime), "{runtime}");
    }
}
