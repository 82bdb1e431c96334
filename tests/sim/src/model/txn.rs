//! Transactions: all compares of the path first, then the checks of the path, then its operations.

use std::{cmp::Ordering, collections::VecDeque};

use super::{Change, Compare, KeyValue, Range, Refused, Relation, Request, Response, Target, Txn, range};

/// Which branch each transaction on the path takes, in the order in which execution meets them.
type Path = VecDeque<bool>;

impl Change<'_> {
    /// Executes a transaction.
    pub(super) fn txn(&mut self, txn: &Txn) -> Result<Response, Refused> {
        let mut path = Path::new();
        self.choose(txn, &mut path);
        self.check_branch(txn, &mut path.clone())?;
        let (succeeded, responses) = self.run(txn, &mut path)?;
        Ok(Response::Txn { revision: self.revision(), succeeded, responses })
    }

    /// Evaluates the compares of a transaction and of those nested in the branch it takes, before anything is changed.
    fn choose(&self, txn: &Txn, path: &mut Path) {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        path.push_back(succeeded);
        for request in branch(txn, succeeded) {
            if let Request::Txn(nested) = request {
                self.choose(nested, path);
            }
        }
    }

    fn check_branch(&self, txn: &Txn, path: &mut Path) -> Result<(), Refused> {
        for request in branch(txn, next(path)) {
            match request {
                Request::Put(put) => self.check_put(put)?,
                Request::Range(range) => self.check_range(range)?,
                Request::Txn(nested) => self.check_branch(nested, path)?,
                Request::DeleteRange(_) | Request::Empty => {}
            }
        }
        Ok(())
    }

    /// In a transaction only 0 means "latest"; a negative revision lies below the compacted one, but for -1 before the first compaction.
    fn check_range(&self, range: &Range) -> Result<(), Refused> {
        match range.revision {
            0 => Ok(()),
            revision if revision > self.begin => Err(Refused::FutureRevision),
            revision if revision < self.model.compacted => Err(Refused::Compacted),
            _ => Ok(()),
        }
    }

    fn run(&mut self, txn: &Txn, path: &mut Path) -> Result<(bool, Vec<Response>), Refused> {
        let succeeded = next(path);
        let mut responses = Vec::new();
        for request in branch(txn, succeeded) {
            responses.push(match request {
                Request::Txn(nested) => {
                    let (succeeded, responses) = self.run(nested, path)?;
                    // The header of a nested transaction is there, and empty.
                    Response::Txn { revision: 0, succeeded, responses }
                }
                other => self.apply(other)?,
            });
        }
        Ok((succeeded, responses))
    }

    fn holds(&self, compare: &Compare) -> bool {
        let mut found = range::keys(&self.state, &compare.key, &compare.range_end).peekable();
        if found.peek().is_none() {
            // An absent key counts as zeroes, but has no value that anything could be said of.
            return !matches!(compare.target, Target::Value(_)) && holds_for(compare, &KeyValue::default());
        }
        found.all(|kv| holds_for(compare, kv))
    }
}

fn branch(txn: &Txn, succeeded: bool) -> &[Request] {
    if succeeded { &txn.success } else { &txn.failure }
}

fn next(path: &mut Path) -> bool {
    path.pop_front().expect("execution meets the transactions that were chosen, in that order")
}

fn holds_for(compare: &Compare, kv: &KeyValue) -> bool {
    let ordering = match &compare.target {
        Target::Version(given) => kv.version.cmp(given),
        Target::Create(given) => kv.create_revision.cmp(given),
        Target::Mod(given) => kv.mod_revision.cmp(given),
        Target::Value(given) => kv.value.cmp(given),
        Target::Lease(given) => kv.lease.cmp(given),
    };
    match compare.relation {
        Relation::Equal => ordering == Ordering::Equal,
        Relation::Greater => ordering == Ordering::Greater,
        Relation::Less => ordering == Ordering::Less,
        Relation::NotEqual => ordering != Ordering::Equal,
        Relation::Unknown => true,
    }
}
