//! Writes one key.

use bytes::Bytes;
use plinth_tree::{Env, Missing, PageSource, Store, View};

use super::change::{Change, Changes};
use crate::{KeyValue, KvError, Put, Record, lease::granted_ttl, outcome::OpOutcome, record::sound, trees::LIVE};

/// A put under way.
#[derive(Debug)]
pub(crate) struct PutRun {
    put: Put,
    is_checked: bool,
    started: Option<Started>,
}

#[derive(Debug)]
struct Started {
    change: Change,
    prev_kv: Option<KeyValue>,
}

impl PutRun {
    pub(crate) fn new(put: Put) -> Self {
        Self { put, is_checked: false, started: None }
    }

    /// A put of a transaction, whose lease and key were looked up before its first operation. If an earlier operation of the transaction deleted
    /// the key since (etcd's check for that has gaps), there is nothing left to keep: the put creates the key anew, empty.
    pub(crate) fn checked(put: Put) -> Self {
        Self { put, is_checked: true, started: None }
    }

    pub(crate) fn step<E: Env>(
        &mut self,
        store: &mut Store<E>,
        changes: &mut Changes,
    ) -> Result<Result<OpOutcome, KvError>, Missing> {
        if self.started.is_none() {
            match self.start(store, changes)? {
                Ok(started) => self.started = Some(started),
                Err(error) => return Ok(Err(error)),
            }
        }
        let started = self.started.as_mut().expect("started above");
        started.change.run(store, changes)?;
        Ok(Ok(OpOutcome::Put { prev_kv: started.prev_kv.take() }))
    }

    /// Checks what depends on data and decides what will be written; changes nothing.
    fn start<E: Env>(&self, store: &Store<E>, changes: &mut Changes) -> Result<Result<Started, KvError>, Missing> {
        let put = &self.put;
        if !self.is_checked
            && let Err(error) = check_put(store.view(), put)?
        {
            return Ok(Err(error));
        }
        let needs_old = put.ignore_value || put.prev_kv;
        let old = if needs_old { store.view().get(LIVE, &put.key)? } else { None };
        let old = old.map(|value| sound(Record::parse(value, 0)));
        // The old version moves to `past` with its value, so a value that is kept is written a second time.
        let value = match old {
            Some(record) if put.ignore_value => Bytes::copy_from_slice(record.value()?),
            _ => put.value.clone(),
        };
        let prev_kv = match old {
            Some(record) if put.prev_kv => Some(KeyValue {
                key: put.key.clone(),
                meta: record.meta(),
                value: Bytes::copy_from_slice(record.value()?),
            }),
            _ => None,
        };
        let lease = (!put.ignore_lease).then_some(put.lease);
        let change = Change::put(put.key.clone(), changes.next(), value, lease);
        Ok(Ok(Started { change, prev_kv }))
    }
}

/// What a put needs to find: its lease, and its key if it keeps something of it.
pub(crate) fn check_put<P: PageSource>(view: View<'_, P>, put: &Put) -> Result<Result<(), KvError>, Missing> {
    if put.lease != 0 && granted_ttl(view, put.lease)?.is_none() {
        return Ok(Err(KvError::LeaseNotFound));
    }
    if (put.ignore_value || put.ignore_lease) && view.get(LIVE, &put.key)?.is_none() {
        return Ok(Err(KvError::KeyNotFound));
    }
    Ok(Ok(()))
}
