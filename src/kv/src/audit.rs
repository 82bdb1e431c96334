//! The audit: proves that the trees of one root tell the same story. For tests and for offline checks.
//!
//! Every change in `log` must have its version in `live` or `past`, there must be no other versions, and the hash of them all must be
//! the one in the state record.

use plinth_base::Revision;
use plinth_tree::{Missing, PageSource, ValueRef, View};

use crate::{
    Budget, State,
    apply::{OP_PUT, content_hash},
    bounds::successor,
    history::ended,
    keys::{REVISION_BYTES, log_key, parse_log_key, past_key},
    record::{Record, sound},
    trees::{LIVE, LOG, PAST},
};

/// What an audit has proven.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Audited {
    /// Changes in `log`.
    pub changes: u64,
    /// Versions of keys, superseded ones included.
    pub versions: u64,
    /// The hash of all changes.
    pub content_hash: u64,
}

/// Why an audit stopped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuditError {
    /// Load these pages and call again.
    Missing(Missing),
    /// The trees contradict each other.
    Contradiction(String),
}

impl From<Missing> for AuditError {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

fn contradiction<T>(what: String) -> Result<T, AuditError> {
    Err(AuditError::Contradiction(what))
}

/// An audit under way, of one root that was never compacted.
#[derive(Debug, Default)]
pub struct Audit {
    /// The first key of `log` not looked at yet.
    resume: Vec<u8>,
    so_far: Audited,
}

impl Audit {
    /// Does one slice over the root that `view` and `state` show, always the same one. `None` when the budget ran out.
    ///
    /// # Errors
    /// A missing page, or the first thing that is wrong.
    pub fn step<P: PageSource>(
        &mut self,
        view: View<'_, P>,
        state: &State,
        budget: &mut Budget,
    ) -> Result<Option<Audited>, AuditError> {
        let mut log = view.cursor(LOG);
        let mut found = log.seek(&self.resume)?;
        while found {
            if !budget.spend() {
                return Ok(None);
            }
            let revision = sound(parse_log_key(log.key()?));
            let hash = Self::change(view, state, revision, &log.value())?;
            self.so_far.content_hash = self.so_far.content_hash.wrapping_add(hash);
            self.so_far.changes += 1;
            self.so_far.versions += u64::from(is_put(&log.value()));
            self.resume = successor(&log_key(revision));
            found = log.next()?;
        }
        self.conclude(view, state).map(Some)
    }

    /// Proves one change and returns its hash.
    fn change<P: PageSource>(
        view: View<'_, P>,
        state: &State,
        revision: Revision,
        change: &ValueRef<'_>,
    ) -> Result<u64, AuditError> {
        if revision.main > state.revision {
            return contradiction(format!("a change at {revision:?} above the current revision {}", state.revision));
        }
        let key = change.body()?;
        if !is_put(change) {
            return Ok(content_hash(revision, key, None));
        }
        let mut at = Vec::new();
        past_key(key, revision, &mut at);
        if let Some(old) = view.get(PAST, &at)? {
            if ended(&old) <= revision {
                return contradiction(format!("the version {revision:?} of {key:?} ended before it began"));
            }
            return Ok(content_hash(revision, key, Some((&old.head()[REVISION_BYTES..], old.body()?))));
        }
        match view.get(LIVE, key)? {
            Some(live) if sound(Record::parse(live, 0)).meta().modified == revision => {
                Ok(content_hash(revision, key, Some((live.head(), live.body()?))))
            }
            _ => contradiction(format!("the version {revision:?} of {key:?} is nowhere")),
        }
    }

    fn conclude<P: PageSource>(&self, view: View<'_, P>, state: &State) -> Result<Audited, AuditError> {
        let versions = view.totals(LIVE, &[], None)?.entries + view.totals(PAST, &[], None)?.entries;
        if versions != self.so_far.versions {
            let known = self.so_far.versions;
            return contradiction(format!("{versions} versions are stored, the log of changes knows {known}"));
        }
        if self.so_far.content_hash != state.content_hash {
            let (want, got) = (self.so_far.content_hash, state.content_hash);
            return contradiction(format!("the content's hash is {want:016x}, the state record says {got:016x}"));
        }
        Ok(self.so_far)
    }
}

fn is_put(change: &ValueRef<'_>) -> bool {
    change.head().first() == Some(&OP_PUT)
}
