//! The log on the simulated disk: power cuts, rot, full and failing devices, checked against a plain model.

mod corruption;
mod crash;
mod faults;
mod files;
mod fuzz;
mod model;
mod readback;
mod retention;
mod shard;
