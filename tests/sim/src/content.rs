//! The hash of a store's content, computed from the model.

use std::{collections::BTreeMap, rc::Rc};

use plinth_base::Revision;
use plinth_kv::{RecordMeta, change_hash};

use crate::model::{KeyValue, Model};

/// What the state record of a store must say that holds what `model` does, was compacted to `compacted` and is swept: the sum over all changes, but for
/// versions that were superseded at `compacted` or before, and deletions before it. Changes that nobody can tell apart otherwise, such as the order of keys
/// in a revision, count too.
#[must_use]
pub fn content_hash(model: &Model, compacted: i64) -> u64 {
    let mut sum = 0_u64;
    // The version that a key has, with its hash.
    let mut live: BTreeMap<&[u8], u64> = BTreeMap::new();
    for (main, sub, written) in model.writes() {
        let revision = Revision { main, sub };
        let superseded = match &written.kv {
            Some(kv) => {
                let hash = change_hash(revision, &written.key, Some((&meta(kv, revision), &kv.value)));
                sum = sum.wrapping_add(hash);
                live.insert(&written.key, hash)
            }
            None => {
                if main >= compacted {
                    sum = sum.wrapping_add(change_hash(revision, &written.key, None));
                }
                live.remove(&*written.key)
            }
        };
        if let Some(hash) = superseded.filter(|_| main <= compacted) {
            sum = sum.wrapping_sub(hash);
        }
    }
    sum
}

fn meta(kv: &Rc<KeyValue>, modified: Revision) -> RecordMeta {
    RecordMeta { create: kv.create_revision, modified, version: kv.version, lease: kv.lease }
}
