//! Crash tests of the real server binary: it is killed, or loses its power, under load; afterwards every acknowledged
//! write must be there and nothing that nobody wrote.
//!
//! `powerfs` is the disk that loses power, `server` the process under test, `workload`, `steward` and `witness` its clients, `history` and `model` the
//! judge, `run` one run of all of it.

pub mod cleanup;
pub mod disk;
pub mod history;
pub mod model;
pub mod options;
pub mod powerfs;
pub mod run;
pub mod server;
pub mod steward;
pub mod witness;
pub mod workload;
