//! A simulated machine: the second implementation of [`plinth_env::Env`], in which every run is determined by a seed.
//!
//! [`Sim`] owns a single-threaded executor with a virtual clock and a disk. The next task to run, latencies, faults and what a
//! power cut leaves are drawn from the seed; the same seed and options give the same run, and [`Sim::trace_hash`] proves it.
//! See `docs/simulator.md` for what is modelled and what isn't.
//!
//! Invariant: no real clock, no real randomness, no thread, and no iteration over anything unordered.

mod clock;
mod disk;
mod env;
mod exec;
mod file;
mod meta_first;
mod net;
mod options;
mod pages;
mod sim;
mod trace;

use std::future::Future;

pub use clock::SimClock;
pub use env::SimEnv;
pub use exec::Stopped;
pub use file::SimFile;
pub use meta_first::{MetaFirst, MetaFirstFile};
pub use net::{NetOptions, SimPeers, url_of};
pub use options::{Chance, Faults, Latencies, Latency, OpKind, SimOptions};
pub use pages::SimPages;
pub use sim::{Limit, Sim, SimHost};

/// Runs one future on a new simulated machine with default options.
///
/// # Panics
///
/// When the future panics, or waits for something that never comes; the seed is printed.
pub fn run<T, F: Future<Output = T>>(seed: u64, main: impl FnOnce(SimEnv) -> F) -> T {
    let sim = Sim::new(seed, SimOptions::default());
    let main = main(sim.env());
    sim.block_on(main)
}
