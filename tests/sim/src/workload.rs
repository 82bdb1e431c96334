//! Random requests that reach the corners: few keys, so that they meet; lengths around the limits of pages and records; nested
//! transactions; revisions of the past and of the future.

use plinth_base::Prng;

use crate::{
    call::Call,
    model::{Compare, DeleteRange, Put, Range, Relation, Request, SortOrder, SortTarget, Target, Txn},
};

/// Depth to which transactions are nested.
const NESTING_MAX: u32 = 2;

/// Operations of one branch of a transaction.
const BRANCH_OPS_MAX: u64 = 4;

/// Leases that requests choose from: the newest ones.
const LEASES_MET: usize = 6;

/// A lease that was never granted.
const NO_LEASE: i64 = 1 << 60;

/// What a client that draws a call knows.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The highest revision.
    pub revision: i64,
    /// The compacted revision.
    pub compacted: i64,
    /// Leases that it granted or tried to, in that order; some may be gone.
    pub leases: &'a [i64],
    /// An id that no lease had.
    pub new_lease: i64,
}

/// What requests look like.
#[derive(Clone, Debug)]
pub struct Workload {
    /// How many keys there are.
    pub keys: u64,
    /// One key in so many is a long one.
    pub long_key_one_in: u64,
    /// The longest key, in bytes.
    pub key_bytes_max: usize,
    /// Value lengths in bytes: one of these, or a little less, is drawn.
    pub value_bytes: Vec<usize>,
    /// Reads in a hundred requests; the rest are writes.
    pub reads_percent: u64,
    /// One call in so many is a compaction.
    pub compact_one_in: u64,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            keys: 60,
            long_key_one_in: 8,
            key_bytes_max: 3000,
            // Most fit a page's cell; the others need overflow pages, one or many.
            value_bytes: vec![16, 16, 64, 64, 200, 1000, 1025, 5000, 40_000],
            reads_percent: 40,
            compact_one_in: 40,
        }
    }
}

impl Workload {
    /// The key with this number; the same for every workload with the same lengths.
    #[must_use]
    pub fn key(&self, number: u64) -> Vec<u8> {
        let mut key = format!("key/{number:04}").into_bytes();
        if self.long_key_one_in > 0 && number.is_multiple_of(self.long_key_one_in) {
            // Long keys share a long prefix, so that what tells them apart lies in overflow.
            key.splice(0..0, std::iter::repeat_n(b'k', self.key_bytes_max.saturating_sub(key.len())));
        }
        key
    }

    /// A request of a client that knows the store up to `revision`.
    #[must_use]
    pub fn request(&self, prng: &mut Prng, revision: i64) -> Request {
        if prng.chance(self.reads_percent, 100) {
            return Request::Range(self.range(prng, revision));
        }
        match prng.below(10) {
            0..6 => Request::Put(self.put(prng)),
            6 => Request::DeleteRange(self.delete(prng)),
            _ => Request::Txn(self.txn(prng, revision, NESTING_MAX)),
        }
    }

    /// A call of a client: most are requests, some of whose puts hang keys on leases.
    #[must_use]
    pub fn call(&self, prng: &mut Prng, known: Known<'_>) -> Call {
        let lease = self.lease(prng, known);
        if prng.chance(1, self.compact_one_in) {
            return self.compaction(prng, known);
        }
        match prng.below(40) {
            0..4 => Call::LeaseGrant { lease: known.new_lease, ttl: [-1, 0, 2, 2, 3, 4, 7, 3600][prng.index(8)] },
            4 => Call::LeaseRevoke { lease },
            5 | 6 => Call::LeaseKeepAlive { lease },
            7 | 8 => Call::LeaseTimeToLive { lease, keys: prng.chance(2, 3) },
            _ => {
                let mut request = self.request(prng, known.revision);
                if prng.chance(1, 2) {
                    attach(&mut request, lease);
                }
                Call::Kv(request)
            }
        }
    }

    /// One of the newest leases, now and then one that isn't there.
    fn lease(&self, prng: &mut Prng, known: Known<'_>) -> i64 {
        let newest = &known.leases[known.leases.len().saturating_sub(LEASES_MET)..];
        if newest.is_empty() || prng.chance(1, 20) { NO_LEASE } else { newest[prng.index(newest.len())] }
    }

    /// Most often one that succeeds.
    fn compaction(&self, prng: &mut Prng, known: Known<'_>) -> Call {
        let last = known.compacted.max(1);
        let ahead = (known.revision - last).max(0).unsigned_abs();
        let revision = match prng.below(8) {
            0 => last,
            // Far away: none that is made while the call is under way.
            1 => known.revision + 100_000,
            2 => known.revision,
            _ => last + prng.below(ahead + 1) as i64,
        };
        Call::Compact { revision, physical: prng.chance(1, 2) }
    }

    fn any_key(&self, prng: &mut Prng) -> Vec<u8> {
        self.key(prng.below(self.keys))
    }

    /// A key and a range end, most often of few keys.
    pub fn any_range(&self, prng: &mut Prng, all_one_in: u64) -> (Vec<u8>, Vec<u8>) {
        let first = prng.below(self.keys);
        match prng.below(all_one_in) {
            0 => (vec![0], vec![0]),
            1 => (self.key(first), vec![0]),
            2..5 => (self.key(first), self.key(first + prng.below(6))),
            _ => (self.key(first), Vec::new()),
        }
    }

    fn range(&self, prng: &mut Prng, revision: i64) -> Range {
        let (key, range_end) = self.any_range(prng, 12);
        let some = |prng: &mut Prng, one_in: u64, below: i64| {
            if prng.chance(1, one_in) { 1 + prng.below(below.max(1).unsigned_abs()) as i64 } else { 0 }
        };
        Range {
            key,
            range_end,
            limit: some(prng, 4, 10),
            // Now and then one above the current revision.
            revision: some(prng, 4, revision + revision / 50),
            sort_order: [SortOrder::None, SortOrder::None, SortOrder::Ascend, SortOrder::Descend][prng.index(4)],
            sort_target: match prng.below(12) {
                0 => SortTarget::Version,
                1 => SortTarget::Create,
                2 => SortTarget::Mod,
                3 => SortTarget::Value,
                _ => SortTarget::Key,
            },
            keys_only: prng.chance(1, 8),
            count_only: prng.chance(1, 8),
            min_mod_revision: some(prng, 20, revision),
            max_mod_revision: some(prng, 20, revision),
            min_create_revision: some(prng, 20, revision),
            max_create_revision: some(prng, 20, revision),
        }
    }

    fn value(&self, prng: &mut Prng) -> Vec<u8> {
        let bytes_max = self.value_bytes[prng.index(self.value_bytes.len())];
        let mut value = vec![0; bytes_max.saturating_sub(prng.index(9))];
        prng.fill(&mut value);
        value
    }

    fn put(&self, prng: &mut Prng) -> Put {
        let ignore_value = prng.chance(1, 20);
        Put {
            key: self.any_key(prng),
            value: if ignore_value { Vec::new() } else { self.value(prng) },
            lease: 0,
            prev_kv: prng.chance(1, 4),
            ignore_value,
            ignore_lease: prng.chance(1, 20),
        }
    }

    fn delete(&self, prng: &mut Prng) -> DeleteRange {
        let (key, range_end) = self.any_range(prng, 40);
        DeleteRange { key, range_end, prev_kv: prng.chance(1, 4) }
    }

    fn compare(&self, prng: &mut Prng, revision: i64) -> Compare {
        let number = prng.below(revision.max(1).unsigned_abs()) as i64;
        let (key, range_end) = self.any_range(prng, 30);
        Compare {
            key,
            range_end,
            target: match prng.below(5) {
                0 => Target::Version(prng.below(4) as i64),
                1 => Target::Create(number),
                2 => Target::Mod(number),
                3 => Target::Value(self.value(prng)),
                _ => Target::Lease(0),
            },
            relation: [Relation::Equal, Relation::Greater, Relation::Less, Relation::NotEqual][prng.index(4)],
        }
    }

    fn txn(&self, prng: &mut Prng, revision: i64, nesting: u32) -> Txn {
        let compares = prng.below(3);
        Txn {
            compare: (0..compares).map(|_| self.compare(prng, revision)).collect(),
            success: self.branch(prng, revision, nesting),
            failure: self.branch(prng, revision, nesting),
        }
    }

    fn branch(&self, prng: &mut Prng, revision: i64, nesting: u32) -> Vec<Request> {
        let ops = prng.below(BRANCH_OPS_MAX + 1);
        (0..ops)
            .map(|_| match prng.below(10) {
                0..3 => Request::Range(Range { revision: 0, ..self.range(prng, revision) }),
                3..7 => Request::Put(Put { ignore_value: false, ignore_lease: false, ..self.put(prng) }),
                7 | 8 => Request::DeleteRange(self.delete_in_txn(prng)),
                _ if nesting > 0 => Request::Txn(self.txn(prng, revision, nesting - 1)),
                _ => Request::Put(Put { ignore_value: false, ignore_lease: false, ..self.put(prng) }),
            })
            .collect()
    }

    /// Never "from this key on": etcd doesn't notice that such a delete covers a put of the same transaction, and what a key that is
    /// written twice at one revision should be is nobody's promise.
    fn delete_in_txn(&self, prng: &mut Prng) -> DeleteRange {
        let mut delete = self.delete(prng);
        if delete.range_end == [0] {
            delete.range_end.clear();
        }
        delete
    }
}

/// Hangs the keys that a request puts on a lease, all on the same.
fn attach(request: &mut Request, lease: i64) {
    match request {
        Request::Put(put) if !put.ignore_lease => put.lease = lease,
        Request::Txn(txn) => {
            txn.success.iter_mut().chain(&mut txn.failure).for_each(|request| attach(request, lease));
            for compare in &mut txn.compare {
                if let Target::Lease(compared) = &mut compare.target {
                    *compared = lease;
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Model, Refused, Response};

    #[test]
    fn workload_changes_the_store_and_is_seldom_refused() {
        let (mut prng, workload, mut model) = (Prng::new(1), Workload::default(), Model::default());
        let (mut refused, mut nested, mut taken) = (std::collections::BTreeMap::<Refused, u64>::new(), 0, [0, 0]);
        for _ in 0..2000 {
            let request = workload.request(&mut prng, model.revision());
            match model.execute(&request) {
                Ok(Response::Txn { succeeded, responses, .. }) => {
                    taken[usize::from(succeeded)] += 1;
                    nested += u64::from(responses.iter().any(|response| matches!(response, Response::Txn { .. })));
                }
                Ok(_) => {}
                Err(error) => *refused.entry(error).or_default() += 1,
            }
        }
        assert!(model.revision() > 500, "{}", model.revision());
        assert!(model.state().len() > 20);
        assert!(nested > 10 && taken.iter().all(|count| *count > 50), "{nested} nested, branches {taken:?}");
        assert!(refused.values().sum::<u64>() < 200, "{refused:?}");
        assert!(refused.contains_key(&Refused::FutureRevision) && refused.contains_key(&Refused::DuplicateKey));
    }

    #[test]
    fn long_keys_share_a_long_prefix() {
        let workload = Workload::default();
        let (a, b) = (workload.key(8), workload.key(16));
        assert_eq!((a.len(), b.len()), (3000, 3000));
        assert_eq!(a[..2990], b[..2990]);
        assert_ne!(a, b);
    }
}
