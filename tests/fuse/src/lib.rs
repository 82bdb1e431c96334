//! File systems of the tests' own: how they come into the host's name space and out of it again, and one that delays flushes.

pub mod direct;
pub mod mount;
pub mod slowfs;

pub use mount::{Mount, MountError, detach_all, detach_stale};
