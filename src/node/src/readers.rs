//! Revisions at which long reads are under way: a sweep waits for them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Counts of reads by revision. A read that ends within one slice never comes here: the root that it holds keeps its pages.
#[derive(Default, Debug)]
pub struct Readers(Mutex<BTreeMap<i64, usize>>);

impl Readers {
    /// A read at `revision` goes on for as long as the guard lives.
    #[must_use]
    pub fn enter(self: &Arc<Self>, revision: i64) -> Reading {
        *self.counts().entry(revision).or_default() += 1;
        Reading { readers: Arc::clone(self), revision }
    }

    /// The oldest revision that is read.
    #[must_use]
    pub fn oldest(&self) -> Option<i64> {
        self.counts().first_key_value().map(|(revision, _)| *revision)
    }

    /// Held for a few instructions.
    fn counts(&self) -> MutexGuard<'_, BTreeMap<i64, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A long read.
#[derive(Debug)]
pub struct Reading {
    readers: Arc<Readers>,
    revision: i64,
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut counts = self.readers.counts();
        if let Some(count) = counts.get_mut(&self.revision) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.revision);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_revision_that_anybody_reads_is_known() {
        let readers = Arc::new(Readers::default());
        assert_eq!(readers.oldest(), None);
        let (first, second, third) = (readers.enter(7), readers.enter(5), readers.enter(5));
        assert_eq!(readers.oldest(), Some(5));
        drop(second);
        assert_eq!(readers.oldest(), Some(5));
        drop(third);
        assert_eq!(readers.oldest(), Some(7));
        drop(first);
        assert_eq!(readers.oldest(), None);
    }
}
