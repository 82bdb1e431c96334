//! The audit: proves that the trees of one root tell the same story. For tests and for offline checks.
//!
//! Keys and leases must name each other. What a change in `log` superseded must be in `past`, ended by that change; what was never superseded must be
//! in `live`; there must be as many versions as puts, what was swept must be gone, and the hash of them all must be the one in the state record.

use plinth_base::Revision;
use plinth_tree::{Missing, PageSource, ValueRef, View};

use crate::{
    Budget, RecordMeta, State,
    apply::content_hash,
    bounds::successor,
    history::ended,
    keys::{REVISION_BYTES, epoch, log_key, parse_log_key, past_key},
    lease::{LeaseEntry, attached_key, granted_ttl},
    logged::ChangeHead,
    record::{Head, Record, sound},
    trees::{LEASE, LIVE, LOG, PAST},
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

/// What a change at `revision` adds to [`State::content_hash`], for those who know a store's changes from elsewhere: `put` is what it wrote, and `None` a
/// deletion.
#[must_use]
pub fn change_hash(revision: Revision, key: &[u8], put: Option<(&RecordMeta, &[u8])>) -> u64 {
    match put {
        Some((meta, value)) => content_hash(revision, key, Some((Head::new(meta, value.len()).as_slice(), value))),
        None => content_hash(revision, key, None),
    }
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

/// An audit under way, of one root.
#[derive(Debug, Default)]
pub struct Audit {
    stage: Stage,
    /// The first key of the stage's tree not looked at yet.
    resume: Vec<u8>,
    /// The last change that was looked at.
    last: Option<Revision>,
    /// Puts in `log`.
    puts: u64,
    /// Live keys with a lease.
    attached: u64,
    so_far: Audited,
}

#[derive(Clone, Copy, Default, Debug)]
enum Stage {
    /// Each change, and the version that it ended.
    #[default]
    Log,
    /// Each version that nothing has ended.
    Live,
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
        let view = view.passing();
        if matches!(self.stage, Stage::Log) {
            let mut log = view.cursor(LOG);
            let mut found = log.seek(&self.resume)?;
            while found {
                if !budget.spend() {
                    return Ok(None);
                }
                let revision = sound(parse_log_key(log.key()?));
                self.change(view, state, revision, &log.value())?;
                self.resume = successor(&log_key(revision));
                found = log.next()?;
            }
            (self.stage, self.resume) = (Stage::Live, Vec::new());
        }
        let mut live = view.cursor(LIVE);
        let mut found = live.seek(&self.resume)?;
        while found {
            if !budget.spend() {
                return Ok(None);
            }
            let (key, value) = (live.key()?, live.value());
            let meta = sound(Record::parse(value, 0)).meta();
            let body = value.body()?;
            if meta.lease != 0 {
                self.attachment(view, meta.lease, key)?;
            }
            self.version(meta.modified, key, value.head(), body);
            self.resume = successor(key);
            found = live.next()?;
        }
        self.conclude(view, state).map(Some)
    }

    /// Proves one change, and the version that it ended.
    fn change<P: PageSource>(
        &mut self,
        view: View<'_, P>,
        state: &State,
        revision: Revision,
        change: &ValueRef<'_>,
    ) -> Result<(), AuditError> {
        if revision.main > state.revision {
            return contradiction(format!("a change at {revision:?} above the current revision {}", state.revision));
        }
        let key = change.body()?;
        let ChangeHead { is_put, previous, .. } = ChangeHead::parse(change.head());
        if previous != Revision::default() {
            let mut at = Vec::new();
            past_key(epoch(revision.main), key, previous, &mut at);
            let old = view.get(PAST, &at)?;
            let is_swept = revision < state.swept || state.is_swept() && revision.main <= state.compacted;
            if is_swept && old.is_some() {
                return contradiction(format!("the version {previous:?} of {key:?} was swept, and is still there"));
            }
            if is_swept {
                self.count(revision, key, is_put);
                return Ok(());
            }
            if old.is_none() && self.may_be_swept(revision, state) {
                // Of two removals a missing page may have come between.
                self.puts -= u64::from(view.get(LOG, &log_key(previous))?.is_some());
                self.count(revision, key, is_put);
                return Ok(());
            }
            let Some(old) = old else {
                return contradiction(format!(
                    "the version {previous:?} of {key:?}, ended by {revision:?}, is nowhere"
                ));
            };
            if ended(&old) != revision {
                return contradiction(format!(
                    "the version {previous:?} of {key:?} was ended by {revision:?}, it says otherwise"
                ));
            }
            self.version(previous, key, &old.head()[REVISION_BYTES..], old.body()?);
        }
        self.count(revision, key, is_put);
        Ok(())
    }

    /// Whether a change behind the cursor of the sweep may have been dealt with all the same: the next one, as far as the sweep came with it, and
    /// those of the revision at which the sweep before this one ended, and this one began.
    fn may_be_swept(&self, revision: Revision, state: &State) -> bool {
        let is_next = self.last.is_none_or(|last| last < state.swept);
        !state.is_swept() && (is_next || revision.main == state.swept.main)
    }

    /// Comes after all that can fail: a change is counted once.
    fn count(&mut self, revision: Revision, key: &[u8], is_put: bool) {
        if is_put {
            self.puts += 1;
        } else {
            self.add(content_hash(revision, key, None));
        }
        self.so_far.changes += 1;
        self.last = Some(revision);
    }

    /// A live key names its lease, and the lease the key.
    fn attachment<P: PageSource>(&mut self, view: View<'_, P>, lease: i64, key: &[u8]) -> Result<(), AuditError> {
        if granted_ttl(view, lease)?.is_none() || view.get(LEASE, &attached_key(lease, key))?.is_none() {
            return contradiction(format!("{key:?} names the lease {lease}, which doesn't know it"));
        }
        self.attached += 1;
        Ok(())
    }

    fn version(&mut self, revision: Revision, key: &[u8], head: &[u8], value: &[u8]) {
        self.so_far.versions += 1;
        self.add(content_hash(revision, key, Some((head, value))));
    }

    fn add(&mut self, hash: u64) {
        self.so_far.content_hash = self.so_far.content_hash.wrapping_add(hash);
    }

    fn conclude<P: PageSource>(&self, view: View<'_, P>, state: &State) -> Result<Audited, AuditError> {
        let versions = view.totals(LIVE, &[], None)?.entries + view.totals(PAST, &[], None)?.entries;
        let (found, puts) = (self.so_far.versions, self.puts);
        if versions != found || found != puts {
            return contradiction(format!("{versions} versions are stored, {found} are known, {puts} were put"));
        }
        let leases = |kind: LeaseEntry| view.totals(LEASE, &[kind as u8], Some(&[kind as u8 + 1]));
        let granted = leases(LeaseEntry::Granted)?.entries;
        let (attached, by_ttl) = (leases(LeaseEntry::Attached)?.entries, leases(LeaseEntry::ByTtl)?.entries);
        if attached != self.attached || by_ttl != granted {
            return contradiction(format!(
                "{granted} leases, {by_ttl} by TTL; {attached} keys attached to them, {} that name one",
                self.attached
            ));
        }
        if self.so_far.content_hash != state.content_hash {
            let (want, got) = (self.so_far.content_hash, state.content_hash);
            return contradiction(format!("the content's hash is {want:016x}, the state record says {got:016x}"));
        }
        Ok(self.so_far)
    }
}
