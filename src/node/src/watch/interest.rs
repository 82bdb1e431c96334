//! Which watchers a key concerns.

use std::collections::BTreeMap;

use bytes::Bytes;
use plinth_kv::{KeyRange, Upper};

use super::{
    WatcherKey,
    intervals::{End, Intervals},
};

/// Watchers by what they watch: single keys and ranges.
#[derive(Default, Debug)]
pub(super) struct Interest {
    keys: BTreeMap<Bytes, Vec<WatcherKey>>,
    ranges: Intervals,
}

impl Interest {
    pub(super) fn insert(&mut self, range: &KeyRange, watcher: WatcherKey) {
        match end_of(range) {
            None => self.keys.entry(range.key.clone()).or_default().push(watcher),
            Some(end) => self.ranges.insert(&range.key, &end, watcher),
        }
    }

    pub(super) fn remove(&mut self, range: &KeyRange, watcher: WatcherKey) {
        if let Some(end) = end_of(range) {
            self.ranges.remove(&range.key, &end, watcher);
        } else if let Some(watchers) = self.keys.get_mut(&range.key) {
            watchers.retain(|other| *other != watcher);
            if watchers.is_empty() {
                self.keys.remove(&range.key);
            }
        }
    }

    /// Appends the watchers of `key`.
    pub(super) fn find(&self, key: &[u8], found: &mut Vec<WatcherKey>) {
        if let Some(watchers) = self.keys.get(key) {
            found.extend_from_slice(watchers);
        }
        self.ranges.find(key, found);
    }
}

/// `None` of a single key.
fn end_of(range: &KeyRange) -> Option<End> {
    if range.is_single() {
        return None;
    }
    Some(match range.upper() {
        Upper::Open => End::Never,
        Upper::Before(_) => End::Before(range.end.clone()),
    })
}
