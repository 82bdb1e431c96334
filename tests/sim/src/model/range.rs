//! Reading a range of one state.

use std::{cmp::Ordering, rc::Rc};

use super::{KeyValue, Range, Response, SortOrder, SortTarget, State};

/// Whether `key` lies in the range that `first` and `range_end` name.
#[must_use]
pub fn contains(first: &[u8], range_end: &[u8], key: &[u8]) -> bool {
    match range_end {
        [] => key == first,
        [0] => key >= first,
        end => first <= key && key < end,
    }
}

/// The pairs of a range, in key order.
pub(super) fn keys<'a>(
    state: &'a State,
    first: &'a [u8],
    range_end: &'a [u8],
) -> impl Iterator<Item = &'a Rc<KeyValue>> {
    state.iter().filter(move |(key, _)| contains(first, range_end, key)).map(|(_, kv)| kv)
}

fn passes(range: &Range, kv: &KeyValue) -> bool {
    let within = |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
    within(kv.mod_revision, range.min_mod_revision, range.max_mod_revision)
        && within(kv.create_revision, range.min_create_revision, range.max_create_revision)
}

fn has_filter(range: &Range) -> bool {
    [range.min_mod_revision, range.max_mod_revision, range.min_create_revision, range.max_create_revision]
        .iter()
        .any(|bound| *bound != 0)
}

/// How two pairs stand in a sort.
pub(super) fn compare(target: SortTarget, a: &KeyValue, b: &KeyValue) -> Ordering {
    match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    }
}

/// The response of a range at a state; ties of a sort stay in key order, where etcd leaves their order open.
pub(super) fn read(state: &State, revision: i64, range: &Range) -> Response {
    let mut found: Vec<&Rc<KeyValue>> = keys(state, &range.key, &range.range_end).collect();
    let count = found.len() as i64;
    if range.count_only {
        return Response::Range { revision, kvs: Vec::new(), more: false, count };
    }
    let limit = usize::try_from(range.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    // Without an order or a filter etcd fetches no more than it needs to know whether there is more, even if it sorts afterwards.
    if range.sort_order == SortOrder::None && !has_filter(range) {
        found.truncate(limit.saturating_add(1));
    }
    found.retain(|kv| passes(range, kv));
    match range.sort_order {
        SortOrder::None | SortOrder::Ascend => found.sort_by(|a, b| compare(range.sort_target, a, b)),
        SortOrder::Descend => found.sort_by(|a, b| compare(range.sort_target, b, a)),
    }
    let more = found.len() > limit;
    found.truncate(limit);
    let kvs = found.into_iter().map(|kv| present(range, kv)).collect();
    Response::Range { revision, kvs, more, count }
}

/// A pair as the response shows it.
fn present(range: &Range, kv: &KeyValue) -> KeyValue {
    let mut kv = kv.clone();
    if range.keys_only {
        kv.value.clear();
        // etcd 3.7 answers from its index, which knows no leases, unless it had to read the values to sort by them.
        if range.sort_target != SortTarget::Value {
            kv.lease = 0;
        }
    }
    kv
}
