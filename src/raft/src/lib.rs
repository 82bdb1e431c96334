//! Consensus of one raft group as a pure state machine: inputs in, effects out.
//!
//! [`Raft::step`] takes one input and adds to [`Effects`] what the caller has to do: entries and hard state to be logged, messages to be sent,
//! what is committed, which reads may be served. [`Raft::finish`] ends a turn of any number of steps. Neither ever waits, reads a clock, or draws a number
//! that isn't given by the seed: that something is durable, was received, or is due comes as an input.
//!
//! What is built: Raft (Ongaro and Ousterhout, 2014; Ongaro's thesis) with pre-vote, leases and quorum checks, windows of entries in flight, log writes that
//! are answered later, learners, joint configurations, reads by rounds of heartbeats, transfer of leadership, snapshots. The parts of [`Raft`]
//! are files of `raft/`; `testdata/` tells it in scenarios.
//!
//! Invariants: `applied <= commit <= last`; a term or a vote is claimed only after it is durable; an entry of an
//! earlier term is committed only by one of the leader's own term behind it (Raft, section 5.4.2); what is committed is never replaced.

mod configuration;
mod effects;
mod log;
mod message;
mod progress;
mod raft;

pub use configuration::{Change, ChangeError, Configuration, Tally};
pub use effects::{Effects, Entry, Fetch, Fled, HardState, ReadReady, Reason, Rejected};
pub use log::Position;
pub use message::{Body, Lane, Message};
pub(crate) use progress::Mode;
pub use raft::{Input, Options, Raft, Replication, Role, Stall, Start};
