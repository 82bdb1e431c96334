//! The state machine of one group: etcd's multi-version key-value store over the trees of one file.
//!
//! Synchronous and deterministic: an entry of the log goes in, the same bytes come out on every member. No clock, no file,
//! no randomness. [`Machine::apply`] works in slices, so that no command can hold up a shard; a slice that needs a page which isn't in
//! memory says which, has had no effect, and is called again when the page is there.
//!
//! Invariants: a change touches `live`, `past` and `log` in one publish; the state record in the root names the newest
//! applied entry, so an entry is never applied twice; revisions grow by one per entry that changed something.

mod apply;
mod audit;
mod bounds;
mod codec;
mod command;
mod error;
mod event;
mod export;
mod history;
mod keys;
mod lease;
mod lessor;
mod logged;
mod machine;
mod member;
mod outcome;
mod prefetch;
pub mod query;
mod read_txn;
mod record;
mod state;
mod sweep;
pub mod trees;
mod validate;

pub use apply::Step;
pub use audit::{Audit, AuditError, Audited, change_hash};
pub use bounds::{KeyRange, Upper};
pub use command::{
    AlarmAction, AlarmKind, Command, CommandKind, Compare, CompareResult, CompareTarget, DeleteRange, Envelope, Op,
    ProposalId, Put, Txn, TxnNode,
};
pub use error::KvError;
pub use event::{Event, Recorded};
pub use export::{Export, ExportEntry, ExportSink, ExportSpan};
pub use lease::{ByTtl, attached_keys, granted_leases, granted_ttl, leases_by_ttl};
pub use lessor::{Due, Lessor};
pub use logged::{ChangeCursor, LoggedChange, visible_before};
pub use machine::{ApplyError, Machine, all_members, bootstrap, bootstrap_joining, member, members};
pub use member::{Electorate, MemberRecord, MembersChange, Standing};
pub use outcome::{KeyValue, OpOutcome, Outcome, TxnOutcome};
pub use prefetch::add_wants;
pub use query::{AnyKey, Query, QueryResult, QueryRun, SortOrder, SortTarget};
pub use read_txn::ReadTxn;
pub use record::{Record, RecordMeta};
pub use state::State;

/// How much one slice of a command or scan may do: entries visited.
///
/// A slice ends when it is used up, so a turn's length is bounded by the budget and not by the command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    left: u32,
}

impl Budget {
    /// A budget of `entries` entries.
    #[must_use]
    pub fn new(entries: u32) -> Self {
        Self { left: entries }
    }

    /// Whether anything is left.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// What is left.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.left
    }

    /// Takes one entry off; false if none was left.
    pub fn spend(&mut self) -> bool {
        let had = self.left > 0;
        self.left = self.left.saturating_sub(1);
        had
    }
}
