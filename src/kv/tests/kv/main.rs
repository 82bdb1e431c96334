//! The state machine through its public API, on the simulated disk: random commands against a plain model, and facts that once were
//! bugs, each with a test that would fail again.

mod bed;
mod convert;
mod export;
mod facts;
mod leases;
mod random;
