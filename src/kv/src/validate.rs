//! Checks that need no data: done before a request is proposed, with etcd's rules and in etcd's order.

use std::collections::BTreeSet;

use crate::{DeleteRange, KvError, Op, Put, Txn, bounds::Upper};

impl Put {
    /// Checks that need no data.
    pub fn validate(&self) -> Result<(), KvError> {
        if self.key.is_empty() {
            return Err(KvError::EmptyKey);
        }
        if self.ignore_value && !self.value.is_empty() {
            return Err(KvError::ValueProvided);
        }
        if self.ignore_lease && self.lease != 0 {
            return Err(KvError::LeaseProvided);
        }
        Ok(())
    }
}

impl DeleteRange {
    /// Checks that need no data.
    pub fn validate(&self) -> Result<(), KvError> {
        if self.range.key.is_empty() { Err(KvError::EmptyKey) } else { Ok(()) }
    }
}

impl Txn {
    /// Checks that no key is written twice, in whichever branch.
    pub fn validate_writes(&self) -> Result<(), KvError> {
        let node = &self.nodes[0];
        written(self, &node.success)?;
        written(self, &node.failure)?;
        Ok(())
    }
}

/// The keys that one branch writes, nested branches included, and the ranges that it deletes.
#[derive(Default)]
struct Written<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Vec<(&'a [u8], Option<Upper<'a>>)>,
}

impl<'a> Written<'a> {
    fn deletes(&self, key: &[u8]) -> bool {
        self.deletes.iter().any(|&(from, to)| match to {
            None => key == from,
            // etcd takes the open end for the key "\0" here, so such a range covers nothing.
            Some(Upper::Open) => false,
            Some(Upper::Before(end)) => from <= key && key < end,
        })
    }

    fn put(&mut self, key: &'a [u8]) -> Result<(), KvError> {
        if self.deletes(key) || !self.puts.insert(key) { Err(KvError::DuplicateKey) } else { Ok(()) }
    }
}

fn written<'a>(txn: &'a Txn, branch: &'a [Op]) -> Result<Written<'a>, KvError> {
    let mut all = Written::default();
    for op in branch {
        if let Op::DeleteRange(DeleteRange { range, .. }) = op {
            all.deletes.push((&range.key, (!range.is_single()).then(|| range.upper())));
        }
    }
    for op in branch {
        let Op::Txn(nested) = op else { continue };
        let node = &txn.nodes[*nested as usize];
        let (success, failure) = (written(txn, &node.success)?, written(txn, &node.failure)?);
        for key in &success.puts {
            all.put(key)?;
        }
        // Only one of the two branches is taken, so both may write the same key, and one may delete what the other puts.
        for key in failure.puts.difference(&success.puts) {
            all.put(key)?;
        }
        all.deletes.extend(success.deletes.into_iter().chain(failure.deletes));
    }
    for op in branch {
        if let Op::Put(put) = op {
            all.put(&put.key)?;
        }
    }
    Ok(all)
}
