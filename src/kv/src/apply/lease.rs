//! Leases granted and revoked.

use plinth_base::{Mark, bug};
use plinth_tree::{Env, Missing, Store};

use super::change::{Change, Changes, body_value, discard};
use crate::{
    Budget, KvError, Record,
    lease::{attached_key, by_ttl_key, encode_ttl, first_attached, granted_key, granted_ttl},
    outcome::OpOutcome,
    record::sound,
    trees::{LEASE, LIVE},
};

/// A lease being granted.
#[derive(Debug)]
pub(crate) struct GrantRun {
    id: i64,
    ttl: i64,
    has_begun: bool,
}

impl GrantRun {
    pub(crate) fn new(id: i64, ttl: i64) -> Self {
        Self { id, ttl, has_begun: false }
    }

    pub(crate) fn step<E: Env>(
        &mut self,
        store: &mut Store<E>,
        changes: &mut Changes,
    ) -> Result<Result<OpOutcome, KvError>, Missing> {
        let Self { id, ttl, .. } = *self;
        if !self.has_begun {
            if granted_ttl(store.view(), id)?.is_some() {
                return Ok(Err(KvError::LeaseExists));
            }
            let none = store.put(LEASE, &granted_key(id), body_value(&encode_ttl(ttl)))?;
            assert!(none.is_none(), "looked at above");
            self.has_begun = true;
            changes.begin();
        }
        let old = store.put(LEASE, &by_ttl_key(ttl, id), body_value(&bytes::Bytes::new()))?;
        discard(store, old);
        Ok(Ok(OpOutcome::LeaseGranted { id, ttl }))
    }
}

/// Leases being revoked: of each, its keys are deleted in order in one revision, then the lease itself.
#[derive(Debug)]
pub(crate) struct RevokeRun {
    ids: Vec<i64>,
    /// The one under way.
    at: usize,
    stage: Stage,
    /// How many were there.
    found: usize,
}

#[derive(Debug)]
enum Stage {
    Find,
    Keys { ttl: i64 },
    Delete { ttl: i64, change: Box<Change> },
    ByTtl { ttl: i64 },
    Granted,
}

impl RevokeRun {
    pub(crate) fn new(ids: Vec<i64>) -> Self {
        Self { ids, at: 0, stage: Stage::Find, found: 0 }
    }

    /// `None` when the budget ran out.
    pub(crate) fn step<E: Env>(
        &mut self,
        store: &mut Store<E>,
        changes: &mut Changes,
        budget: &mut Budget,
    ) -> Result<Option<OpOutcome>, Missing> {
        while let Some(&id) = self.ids.get(self.at) {
            match &mut self.stage {
                Stage::Find => {
                    if !budget.spend() {
                        return Ok(None);
                    }
                    match granted_ttl(store.view(), id)? {
                        Some(ttl) => self.stage = Stage::Keys { ttl },
                        None => self.at += 1,
                    }
                }
                Stage::Keys { ttl } => {
                    let ttl = *ttl;
                    let has_deleted = changes.next().sub > 0;
                    let next = first_attached(store.view(), id)?;
                    let Some(key) = next.filter(|_| !(bug!(RevokeLeavesKeys) && has_deleted)) else {
                        self.stage = Stage::ByTtl { ttl };
                        continue;
                    };
                    if !budget.spend() {
                        if has_deleted {
                            Mark::LeaseRevokeSliced.hit();
                        }
                        return Ok(None);
                    }
                    let live = store.view().get(LIVE, &key)?.expect("an attached key is there");
                    let modified = sound(Record::parse(live, 0)).meta().modified;
                    // Takes the attachment away too.
                    self.stage = Stage::Delete { ttl, change: Box::new(Change::delete(key, changes.next(), modified)) };
                }
                Stage::Delete { ttl, change } => {
                    change.run(store, changes)?;
                    self.stage = Stage::Keys { ttl: *ttl };
                }
                Stage::ByTtl { ttl } => {
                    let old = store.remove(LEASE, &by_ttl_key(*ttl, id))?;
                    discard(store, old);
                    changes.begin();
                    self.stage = Stage::Granted;
                }
                Stage::Granted => {
                    let old = store.remove(LEASE, &granted_key(id))?;
                    discard(store, old);
                    changes.end_revision();
                    self.found += 1;
                    self.stage = Stage::Find;
                    self.at += 1;
                }
            }
        }
        Ok(Some(OpOutcome::LeasesRevoked { ids: std::mem::take(&mut self.ids), found: self.found }))
    }
}

/// A key changes its lease, or loses it, or gets its first one.
#[derive(Debug)]
pub(crate) struct Reattach {
    pub(crate) old: i64,
    pub(crate) new: i64,
}

impl Reattach {
    /// Goes on to the end, or to the next missing page.
    pub(crate) fn run<E: Env>(&mut self, store: &mut Store<E>, key: &[u8]) -> Result<(), Missing> {
        if self.old == self.new {
            return Ok(());
        }
        if self.old != 0 {
            let old = store.remove(LEASE, &attached_key(self.old, key))?;
            discard(store, old);
            self.old = 0;
        }
        if self.new != 0 {
            let old = store.put(LEASE, &attached_key(self.new, key), body_value(&bytes::Bytes::new()))?;
            discard(store, old);
            self.new = 0;
        }
        Ok(())
    }
}
