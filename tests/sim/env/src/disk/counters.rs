//! How often each kind of fault struck.

use std::collections::BTreeMap;

/// Counts by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters(BTreeMap<&'static str, u64>);

impl Counters {
    pub(crate) fn add(&mut self, kind: &'static str) {
        *self.0.entry(kind).or_insert(0) += 1;
    }

    /// Sorted by name.
    pub(crate) fn list(&self) -> Vec<(&'static str, u64)> {
        self.0.iter().map(|(kind, count)| (*kind, *count)).collect()
    }
}
