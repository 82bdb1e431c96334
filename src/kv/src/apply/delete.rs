//! Deletes the keys of a range, one after the other, in one revision.

use bytes::Bytes;
use plinth_tree::{Env, Missing, Store};

use super::change::{Change, Changes};
use crate::{Budget, DeleteRange, KeyValue, Record, outcome::OpOutcome, record::sound, trees::LIVE};

/// A deletion under way.
///
/// A key that was deleted is gone from `live`, so the next search from the same place finds the one behind it.
#[derive(Debug)]
pub(crate) struct DeleteRun {
    delete: DeleteRange,
    change: Option<Change>,
    count: i64,
    prev_kvs: Vec<KeyValue>,
    resume: Bytes,
}

impl DeleteRun {
    pub(crate) fn new(delete: DeleteRange) -> Self {
        let resume = delete.range.key.clone();
        Self { delete, change: None, count: 0, prev_kvs: Vec::new(), resume }
    }

    /// `None` when the budget ran out.
    pub(crate) fn step<E: Env>(
        &mut self,
        store: &mut Store<E>,
        changes: &mut Changes,
        budget: &mut Budget,
    ) -> Result<Option<OpOutcome>, Missing> {
        loop {
            if let Some(change) = &mut self.change {
                change.run(store, changes)?;
                self.change = None;
                self.count += 1;
            }
            if budget.is_spent() {
                return Ok(None);
            }
            let Some(change) = self.next(store, changes)? else { break };
            self.change = Some(change);
            budget.spend();
        }
        Ok(Some(OpOutcome::Deleted { count: self.count, prev_kvs: std::mem::take(&mut self.prev_kvs) }))
    }

    fn next<E: Env>(&mut self, store: &Store<E>, changes: &mut Changes) -> Result<Option<Change>, Missing> {
        let mut cursor = store.view().cursor(LIVE);
        if !cursor.seek(&self.resume)? || !self.delete.range.reaches(cursor.key()?) {
            return Ok(None);
        }
        let record = sound(Record::parse(cursor.value(), 0));
        let key = Bytes::copy_from_slice(cursor.key()?);
        if self.delete.prev_kv {
            let value = Bytes::copy_from_slice(record.value()?);
            self.prev_kvs.push(KeyValue { key: key.clone(), meta: record.meta(), value });
        }
        self.resume = key.clone();
        Ok(Some(Change::delete(key, changes.next(), record.meta().modified)))
    }
}
