//! A node of one member on the simulated machine, in cases that the random simulation would need long to find.

mod compaction;
mod leases;
mod maintenance;
mod memory;
mod ranges;
mod scrub;
mod stall;
mod support;
mod verify;
mod watch_client;
mod watches;
