//! The simulator's harness: scenarios that run plinth's real code on simulated machines, a runner over seeds, and the plain
//! model that results are compared with.
//!
//! Invariant: a seed and a scenario determine a run whole; what fails once fails again.

pub mod call;
pub mod cli;
pub mod content;
pub mod history;
pub mod known_bugs;
pub mod model;
pub mod runner;
pub mod scenario;
pub mod scenarios;
pub mod watch;
pub mod wire;
pub mod workload;
