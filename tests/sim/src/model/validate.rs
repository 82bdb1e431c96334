//! What makes a request invalid whatever the store holds.

use std::collections::BTreeSet;

use super::{DeleteRange, Put, Refused, Request, Txn, range};

/// Checks a request; a transaction may have at most `ops_max` operations.
pub(super) fn check(request: &Request, ops_max: usize) -> Result<(), Refused> {
    check_op(request, ops_max)?;
    if let Request::Txn(txn) = request {
        written_by(&txn.success)?;
        written_by(&txn.failure)?;
    }
    Ok(())
}

fn check_op(request: &Request, ops_max: usize) -> Result<(), Refused> {
    match request {
        Request::Range(range) => check_key(&range.key),
        Request::DeleteRange(delete) => check_key(&delete.key),
        Request::Put(put) => check_put(put),
        Request::Txn(txn) => check_txn(txn, ops_max),
        Request::Empty => Err(Refused::KeyNotFound),
    }
}

fn check_key(key: &[u8]) -> Result<(), Refused> {
    if key.is_empty() { Err(Refused::KeyNotProvided) } else { Ok(()) }
}

fn check_put(put: &Put) -> Result<(), Refused> {
    check_key(&put.key)?;
    if put.ignore_value && !put.value.is_empty() {
        return Err(Refused::ValueProvided);
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(Refused::LeaseProvided);
    }
    Ok(())
}

fn check_txn(txn: &Txn, ops_max: usize) -> Result<(), Refused> {
    let ops = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    // What this level takes, nested ones can't.
    let left = ops_max.checked_sub(ops).ok_or(Refused::TooManyOps)?;
    for compare in &txn.compare {
        check_key(&compare.key)?;
    }
    for request in txn.success.iter().chain(&txn.failure) {
        check_op(request, left)?;
    }
    Ok(())
}

/// Keys put and ranges deleted by a branch and what is nested in it.
#[derive(Default)]
struct Written<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Vec<&'a DeleteRange>,
}

impl<'a> Written<'a> {
    fn deletes_key(&self, key: &[u8]) -> bool {
        // etcd takes a delete "from this key on" for an empty interval here.
        self.deletes.iter().any(|d| d.range_end != [0] && range::contains(&d.key, &d.range_end, key))
    }

    fn add_put(&mut self, key: &'a [u8]) -> Result<(), Refused> {
        if self.deletes_key(key) || !self.puts.insert(key) {
            return Err(Refused::DuplicateKey);
        }
        Ok(())
    }
}

/// Collects what a branch writes and refuses a key that is written twice. What etcd's own check overlooks is accepted: a delete in
/// a later nested transaction that covers a put of an earlier one.
fn written_by(branch: &[Request]) -> Result<Written<'_>, Refused> {
    let mut written = Written::default();
    for request in branch {
        if let Request::DeleteRange(delete) = request {
            written.deletes.push(delete);
        }
    }
    for request in branch {
        if let Request::Txn(nested) = request {
            let (then, otherwise) = (written_by(&nested.success)?, written_by(&nested.failure)?);
            // Only one of the two branches runs, so a key may be in both.
            for key in then.puts.union(&otherwise.puts) {
                written.add_put(key)?;
            }
            written.deletes.extend(then.deletes);
            written.deletes.extend(otherwise.deletes);
        }
    }
    for request in branch {
        if let Request::Put(put) = request {
            written.add_put(&put.key)?;
        }
    }
    Ok(written)
}
