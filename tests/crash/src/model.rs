//! The plainest key-value store with etcd's revisions: what the server must be equal to.

use std::collections::BTreeMap;

use bytes::Bytes;

/// A change of one key or a range of keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Sets a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Removes `key`, or all keys of `key..end` if `end` is not empty.
    Delete {
        /// The key, or the first of the range.
        key: Bytes,
        /// The first key behind the range; empty for a single key.
        end: Bytes,
    },
}

/// One request of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// A Put or DeleteRange call.
    One(Change),
    /// A Txn call that looks whether a key exists.
    Txn {
        /// The key that is looked for.
        guard: Bytes,
        /// What is done if it exists.
        present: Vec<Change>,
        /// What is done if it doesn't.
        absent: Vec<Change>,
    },
    /// A Put call that attaches the key to a lease.
    Leased {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// The lease, which is there.
        lease: i64,
    },
    /// A LeaseRevoke call: all keys of the lease go.
    Revoke {
        /// The lease.
        lease: i64,
    },
}

/// What a request did, as its answer says it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Outcome {
    /// Whether a transaction's guard existed.
    pub present: bool,
    /// How many keys each deletion removed, in order.
    pub deleted: Vec<i64>,
    /// How many keys were set.
    pub puts: usize,
}

impl Outcome {
    /// Whether it made a revision.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.puts > 0 || self.deleted.iter().any(|n| *n > 0)
    }
}

/// A key's value and history, as a range returns it.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The value.
    pub value: Bytes,
    /// The revision that created the key.
    pub created: i64,
    /// The revision that last changed it.
    pub modified: i64,
    /// Changes since its creation, 1 for the creation itself.
    pub version: i64,
    /// The lease that it hangs on, 0 for none.
    pub lease: i64,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let head = String::from_utf8_lossy(&self.value[..self.value.len().min(24)]).into_owned();
        let Self { created, modified, version, lease, value } = self;
        write!(f, "{{created {created}, modified {modified}, version {version}, lease {lease}, ")?;
        write!(f, "{} bytes {head:?}}}", value.len())
    }
}

/// All keys at one revision.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct State(pub BTreeMap<Bytes, Record>);

impl State {
    /// Applies a request as revision `revision` and says what it did.
    pub fn apply(&mut self, op: &Op, revision: i64) -> Outcome {
        self.apply_noting(op, revision, &mut Vec::new())
    }

    /// The same; adds the keys that it set or removed to `touched`, some of them perhaps more than once.
    pub fn apply_noting(&mut self, op: &Op, revision: i64, touched: &mut Vec<Bytes>) -> Outcome {
        let mut outcome = Outcome::default();
        let changes = match op {
            Op::One(change) => std::slice::from_ref(change),
            Op::Txn { guard, present, absent } => {
                outcome.present = self.0.contains_key(guard);
                if outcome.present { present } else { absent }
            }
            Op::Leased { key, value, lease } => {
                self.put(key, value, *lease, revision);
                touched.push(key.clone());
                outcome.puts += 1;
                &[]
            }
            Op::Revoke { lease } => {
                let attached = self.0.extract_if(.., |_, record| record.lease == *lease).map(|(key, _)| key);
                let before = touched.len();
                touched.extend(attached);
                outcome.deleted.push((touched.len() - before) as i64);
                &[]
            }
        };
        for change in changes {
            match change {
                Change::Put { key, value } => {
                    self.put(key, value, 0, revision);
                    touched.push(key.clone());
                    outcome.puts += 1;
                }
                Change::Delete { key, end } => outcome.deleted.push(self.delete(key, end, touched)),
            }
        }
        outcome
    }

    fn put(&mut self, key: &Bytes, value: &Bytes, lease: i64, revision: i64) {
        let (created, versions) = self.0.get(key).map_or((revision, 0), |before| (before.created, before.version));
        let record = Record { value: value.clone(), created, modified: revision, version: versions + 1, lease };
        self.0.insert(key.clone(), record);
    }

    fn delete(&mut self, key: &Bytes, end: &Bytes, touched: &mut Vec<Bytes>) -> i64 {
        let doomed: Vec<Bytes> = if end.is_empty() {
            self.0.get_key_value(key).map(|(key, _)| key.clone()).into_iter().collect()
        } else {
            self.0.range(key.clone()..end.clone()).map(|(key, _)| key.clone()).collect()
        };
        doomed.iter().for_each(|key| drop(self.0.remove(key)));
        let deleted = doomed.len() as i64;
        touched.extend(doomed);
        deleted
    }

    /// The first difference to what the server has, in words; `None` if there is none.
    #[must_use]
    pub fn difference(&self, server: &Self) -> Option<String> {
        let keys = self.0.keys().chain(server.0.keys());
        let key = keys.filter(|key| self.0.get(*key) != server.0.get(*key)).min()?;
        let say = |record: Option<&Record>| record.map_or_else(|| "nothing".to_owned(), |record| format!("{record:?}"));
        let name = String::from_utf8_lossy(key);
        Some(format!("key {name:?}: expected {}, the server has {}", say(self.0.get(key)), say(server.0.get(key))))
    }
}
