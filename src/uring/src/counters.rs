//! What an executor counts about itself: cheap enough to be always on, read by `/metrics` on any executor.
//!
//! Each counter has one writer, the executor it belongs to, so a relaxed addition is enough.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of one executor, running since its start.
        #[derive(Debug, Default)]
        pub struct ExecutorCounters { $($(#[$doc])* pub $name: Counter,)* }

        impl ExecutorCounters {
            /// All counters with their names, for exposition.
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

counters! {
    /// io_uring_enter calls of the storage ring.
    ring_enters,
    /// Submission entries handed to the storage ring.
    ring_sqes,
    /// Completions taken from the storage ring.
    ring_cqes,
    /// Times the storage ring's eventfd woke its task.
    ring_wakeups,
    /// Ticks of the permanent timer.
    heartbeat_ticks,
    /// Requests that began.
    requests,
    /// Connections that were accepted.
    accepts,
    /// Times accept failed and was paused.
    accept_errors,
    /// Reads from sockets that returned bytes.
    socket_reads,
    /// Writes to sockets that took bytes.
    socket_writes,
    /// Jobs handed to helper threads.
    helper_jobs,
    /// Page faults of the executor's thread that had to read a device; sampled every `SAMPLE_NS`.
    major_faults,
    /// Voluntary context switches of the thread: how often it went to sleep; sampled.
    voluntary_switches,
    /// Involuntary context switches of the thread; sampled.
    involuntary_switches,
    /// CPU time of the thread in user and system mode, in microseconds; sampled.
    cpu_us,
}

/// A counter with one writing thread.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        // One writer: a load and a store cost less than a locked addition.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_names_every_counter() {
        let counters = ExecutorCounters::default();
        counters.ring_enters.add(2);
        let snapshot = counters.snapshot();
        assert!(snapshot.contains(&("ring_enters", 2)));
        assert!(snapshot.contains(&("cpu_us", 0)));
    }
}
