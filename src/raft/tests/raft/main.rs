//! Whole groups of [`plinth_raft::Raft`] on a disk and a network in memory: scenarios to read, and runs of random faults.

mod cluster;
mod differential;
mod figure;
mod opening;
mod random;
mod scenarios;
