//! A plain model of etcd's key space: what the real thing must be equal to.
//!
//! It keeps a whole map for every revision and does everything the obvious way, so that its rules can be read beside sections 2
//! to 7 of etcd's behaviour as plinth's contract has it. Slow, small, and without any idea of storage.
//!
//! Invariant: `states` has one map for each revision from the compacted one (or 1) to the current one; `writes` says of every revision what made it
//! differ from the one before.

mod agree;
mod range;
mod request;
mod txn;
mod validate;

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

pub use agree::agree;
pub use range::contains;
pub use request::{
    Compare, DeleteRange, KeyValue, Put, Range, Refused, Relation, Request, Response, SortOrder, SortTarget, Target,
    Txn,
};

/// What a key space holds at one revision.
pub type State = BTreeMap<Rc<[u8]>, Rc<KeyValue>>;

/// The state that consists of these pairs.
#[must_use]
pub fn state_of(kvs: impl IntoIterator<Item = KeyValue>) -> State {
    kvs.into_iter().map(|kv| (Rc::from(kv.key.as_slice()), Rc::new(kv))).collect()
}

/// What a change left of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// The key.
    pub key: Rc<[u8]>,
    /// What was put; `None` if it was deleted.
    pub kv: Option<Rc<KeyValue>>,
}

/// Operations that a transaction may have if nothing else is said, as with etcd.
pub const TXN_OPS_MAX: usize = 128;

/// The revision of an empty store.
const FIRST_REVISION: i64 = 1;

/// etcd's marker while nothing was ever compacted. It can be seen: a range at revision -1 in a transaction is accepted until then.
const NEVER_COMPACTED: i64 = -1;

/// A key space with all its revisions.
#[derive(Clone, Debug)]
pub struct Model {
    states: BTreeMap<i64, Rc<State>>,
    /// The changes of each revision, in their order.
    writes: BTreeMap<i64, Rc<[Written]>>,
    compacted: i64,
    leases: BTreeSet<i64>,
    txn_ops_max: usize,
}

impl Default for Model {
    fn default() -> Self {
        Self::new(TXN_OPS_MAX)
    }
}

impl Model {
    /// An empty key space whose transactions have at most `txn_ops_max` operations.
    #[must_use]
    pub fn new(txn_ops_max: usize) -> Self {
        let states = BTreeMap::from([(FIRST_REVISION, Rc::default())]);
        let (writes, leases) = (BTreeMap::new(), BTreeSet::new());
        Self { states, writes, compacted: NEVER_COMPACTED, leases, txn_ops_max }
    }

    /// The current revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        *self.states.last_key_value().expect("there is always a current revision").0
    }

    /// The compacted revision, -1 before the first compaction.
    #[must_use]
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// What was there at `revision`; none if it is compacted or in the future.
    #[must_use]
    pub fn state_at(&self, revision: i64) -> Option<&State> {
        self.states.get(&revision).map(Rc::as_ref)
    }

    /// What is there now.
    #[must_use]
    pub fn state(&self) -> &State {
        self.states.last_key_value().expect("there is always a current revision").1
    }

    /// All changes since the store was empty, compacted or not, in order: main revision, place in it, and what was written.
    pub fn writes(&self) -> impl Iterator<Item = (i64, u32, &Written)> {
        self.writes.iter().flat_map(|(main, writes)| (0..).zip(&**writes).map(|(sub, written)| (*main, sub, written)))
    }

    /// The keys that hang on a lease, in order.
    pub fn attached(&self, lease: i64) -> impl Iterator<Item = &Rc<[u8]>> {
        self.state().iter().filter(move |(_, kv)| kv.lease == lease && lease != 0).map(|(key, _)| key)
    }

    /// The model as it was when `revision` was the current one, but with today's leases and compaction.
    #[must_use]
    pub fn rewound_to(&self, revision: i64) -> Option<Self> {
        self.states.contains_key(&revision).then(|| {
            let states = self.states.range(..=revision).map(|(r, state)| (*r, Rc::clone(state))).collect();
            let writes = self.writes.range(..=revision).map(|(r, writes)| (*r, Rc::clone(writes))).collect();
            Self {
                states,
                writes,
                compacted: self.compacted,
                leases: self.leases.clone(),
                txn_ops_max: self.txn_ops_max,
            }
        })
    }

    /// Executes a request; one that is refused changes nothing.
    pub fn execute(&mut self, request: &Request) -> Result<Response, Refused> {
        validate::check(request, self.txn_ops_max)?;
        let mut change = Change::new(self);
        let response = match request {
            Request::Txn(txn) => change.txn(txn)?,
            other => change.apply(other)?,
        };
        let (state, writes) = (change.state, change.writes);
        self.advance(state, writes);
        Ok(response)
    }

    /// The next revision, if anything was written.
    fn advance(&mut self, state: State, writes: Vec<Written>) {
        if !writes.is_empty() {
            let revision = self.revision() + 1;
            self.states.insert(revision, Rc::new(state));
            self.writes.insert(revision, writes.into());
        }
    }

    /// Compacts up to `revision`, which stays readable.
    pub fn compact(&mut self, revision: i64) -> Result<(), Refused> {
        if revision <= self.compacted {
            return Err(Refused::Compacted);
        }
        if revision > self.revision() {
            return Err(Refused::FutureRevision);
        }
        self.compacted = revision;
        self.states.retain(|r, _| *r >= revision);
        Ok(())
    }

    /// Makes a lease known; false if it was.
    pub fn grant_lease(&mut self, lease: i64) -> bool {
        self.leases.insert(lease)
    }

    /// Makes a lease unknown, whatever hangs on it.
    pub fn forget_lease(&mut self, lease: i64) {
        self.leases.remove(&lease);
    }

    /// Ends a lease and deletes, at one revision, the keys that hang on it.
    pub fn revoke_lease(&mut self, lease: i64) -> Result<(), Refused> {
        if !self.leases.remove(&lease) {
            return Err(Refused::LeaseNotFound);
        }
        let mut state = self.state().clone();
        let keys: Vec<Rc<[u8]>> = self.attached(lease).cloned().collect();
        for key in &keys {
            state.remove(key);
        }
        self.advance(state, keys.into_iter().map(|key| Written { key, kv: None }).collect());
        Ok(())
    }
}

/// A revision in the making.
struct Change<'a> {
    model: &'a Model,
    /// The current revision when it began.
    begin: i64,
    state: State,
    writes: Vec<Written>,
}

impl<'a> Change<'a> {
    fn new(model: &'a Model) -> Self {
        Self { model, begin: model.revision(), state: model.state().clone(), writes: Vec::new() }
    }

    /// What a response says in its header after this operation.
    fn revision(&self) -> i64 {
        self.begin + i64::from(!self.writes.is_empty())
    }

    /// Applies one operation that isn't a transaction.
    fn apply(&mut self, request: &Request) -> Result<Response, Refused> {
        match request {
            Request::Range(range) => self.range(range),
            Request::Put(put) => self.put(put),
            Request::DeleteRange(delete) => Ok(self.delete_range(delete)),
            Request::Txn(_) => unreachable!("transactions have their own path"),
            Request::Empty => Err(Refused::KeyNotFound),
        }
    }

    fn range(&self, range: &Range) -> Result<Response, Refused> {
        let revision = self.revision();
        if range.revision <= 0 {
            return Ok(range::read(&self.state, revision, range));
        }
        if range.revision > self.begin {
            return Err(Refused::FutureRevision);
        }
        let state = self.model.state_at(range.revision).ok_or(Refused::Compacted)?;
        Ok(range::read(state, revision, range))
    }

    /// Whether a put's lease and its key, where it needs them, exist.
    fn check_put(&self, put: &Put) -> Result<(), Refused> {
        if put.lease != 0 && !self.model.leases.contains(&put.lease) {
            return Err(Refused::LeaseNotFound);
        }
        if (put.ignore_value || put.ignore_lease) && !self.state.contains_key(put.key.as_slice()) {
            return Err(Refused::KeyNotFound);
        }
        Ok(())
    }

    fn put(&mut self, put: &Put) -> Result<Response, Refused> {
        self.check_put(put)?;
        let revision = self.begin + 1;
        let previous = self.state.get(put.key.as_slice()).cloned();
        let mut kv = previous.as_deref().cloned().unwrap_or_else(|| KeyValue {
            key: put.key.clone(),
            create_revision: revision,
            ..KeyValue::default()
        });
        kv.mod_revision = revision;
        kv.version += 1;
        if !put.ignore_value {
            kv.value.clone_from(&put.value);
        }
        if !put.ignore_lease {
            kv.lease = put.lease;
        }
        let (key, kv): (Rc<[u8]>, _) = (put.key.as_slice().into(), Rc::new(kv));
        self.state.insert(Rc::clone(&key), Rc::clone(&kv));
        self.writes.push(Written { key, kv: Some(kv) });
        Ok(Response::Put { revision, prev_kv: previous.filter(|_| put.prev_kv).as_deref().cloned() })
    }

    fn delete_range(&mut self, delete: &DeleteRange) -> Response {
        let doomed: Vec<Rc<KeyValue>> =
            range::keys(&self.state, &delete.key, &delete.range_end).map(Rc::clone).collect();
        for kv in &doomed {
            self.state.remove(kv.key.as_slice());
            self.writes.push(Written { key: kv.key.as_slice().into(), kv: None });
        }
        let prev_kvs = if delete.prev_kv { doomed.iter().map(|kv| kv.as_ref().clone()).collect() } else { Vec::new() };
        Response::DeleteRange { revision: self.revision(), deleted: doomed.len() as i64, prev_kvs }
    }
}

#[cfg(test)]
mod tests;
