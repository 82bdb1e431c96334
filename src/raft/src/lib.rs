//! Consensus of one raft group as a pure state machine: inputs in, effects out.
//!
//! [`Raft::step`] takes one input and appends to [`Effects`] what the caller has to do: entries and hard state to be logged,
//! what is committed, which reads may be served. It never waits: that something is durable comes back as an input.
//!
//! The group has one voter at present, the member itself; the path of an entry (proposed, logged, durable, committed, applied)
//! and the order of effects are those of a group of any size.
//!
//! Invariants: `applied <= commit <= last`; a term or a vote is acted on only after it is durable; an entry of an
//! earlier term is committed only by one of the leader's own term behind it (Raft, section 5.4.2).

mod effects;
mod log_tail;
mod raft;

pub use effects::{Effects, Entry, HardState, ReadReady, Rejected};
pub use log_tail::LogTail;
pub use raft::{Input, Raft, Role, Start};
