//! The `plinth` server, as a library so that its parts can be tested and benched apart from the binary.
//!
//! From a command line to a configuration: `startup` → `flags` → `config`; who the node is and what it owns:
//! `first_start`, `identity`, `data_dir` (`lock`, `marker`); how it shows itself: `conn` (sockets and gRPC), `peers` (other members), `routes` (HTTP),
//! `metrics`, `log`, `banner`.

pub mod banner;
pub mod config;
pub mod conn;
pub mod data_dir;
pub mod first_start;
pub mod flags;
pub mod go_duration;
pub mod identity;
pub mod lock;
pub mod log;
pub mod marker;
pub mod metrics;
pub mod peers;
pub mod routes;
pub mod run;
pub mod start_error;
pub mod startup;
pub mod version;
