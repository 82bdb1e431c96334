//! Clusters of real processes, each member in a network namespace of its own, under clients whose history is checked.
//!
//! A case is a few lines: [`trial::run`] starts a cluster and its load, the case does something to it, and then all is made well again and
//! [`verdict`] is given.

mod caller;
pub(crate) mod cases;
mod leases;
mod load;
mod log_disk;
mod member;
mod members;
mod net;
mod proxy;
mod recording;
pub(crate) mod stalls;
mod trial;
mod verdict;
