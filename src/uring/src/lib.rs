//! The real [`plinth_env::Env`]: pinned executors on io_uring, mapped pages, sockets, signals.
//!
//! Nearly all unsafe code of plinth is here, in modules that allow it one by one, each block with its proof.
//!
//! Invariants: an executor never blocks on a disk, a lock or a page fault; a buffer the kernel may touch is owned by the
//! ring until the kernel has answered; an operation that was started goes to its end.

mod cgroup;
pub mod cores;
mod counters;
mod env;
mod exec;
mod file;
mod heartbeat;
mod helpers;
mod memory;
pub mod net;
mod pages;
pub mod probe;
mod program;
mod ring;
mod runtime;
mod scheduler;
pub mod signals;
mod sync_method;
mod thread;
mod write_ring;

pub use counters::{Counter, ExecutorCounters};
pub use env::UringEnv;
pub use file::UringFile;
pub use heartbeat::InFlight;
pub use memory::memory_bytes;
pub use pages::MappedPages;
pub use probe::{Features, StartError};
pub use program::hold_program;
pub use runtime::{ExecutorContext, run, run_on};
pub use scheduler::Runtime;
pub use sync_method::{MeasureError, SCRATCH_FILES, SyncMedians, measure_sync_methods};
pub use write_ring::{Durable, WRITES_MAX, WriteRing};
