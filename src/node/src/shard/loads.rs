//! What applying misses: pages of the trees, and entries that are no longer in memory.

use plinth_base::{GroupId, LogIndex};
use plinth_env::{Env, TaskQueue};
use plinth_wal::Entry;

use super::{Completion, Shard};
use crate::group::TailEntry;

/// Bytes of entries read back from the log at once.
const READ_BACK_BYTES_MAX: usize = 4 << 20;

impl<E: Env> Shard<E> {
    pub(super) fn load_ahead(&mut self, at: usize) {
        let Some(missing) = self.groups[at].wants_ahead() else { return };
        let load = self.env.load_pages(self.groups[at].store.pages(), missing.wants);
        let completions = self.completions.clone();
        self.env.spawn(TaskQueue::Consensus, async move {
            // Failures come up again where they matter.
            let _ = load.await;
            completions.push(Completion::LoadedAhead(at));
        });
    }

    pub(super) fn load_pages(&mut self, at: usize, missing: plinth_tree::Missing) {
        self.metrics.apply_page_loads.inc();
        self.groups[at].is_fetching = true;
        let load = self.env.load_pages(self.groups[at].store.pages(), missing.wants);
        let completions = self.completions.clone();
        self.env.spawn(TaskQueue::Consensus, async move {
            completions.push(Completion::Loaded(at, load.await));
        });
    }

    /// Fetches entries that were logged before this start.
    pub(super) fn read_back(&mut self, at: usize, from: LogIndex, before: Option<LogIndex>) {
        let group: GroupId = self.groups[at].id;
        self.groups[at].is_fetching = true;
        let read = self.wal.read(group, from, READ_BACK_BYTES_MAX);
        let completions = self.completions.clone();
        self.env.spawn(TaskQueue::Consensus, async move {
            let entries = read.await.map(|entries| {
                let older = entries.into_iter().take_while(|entry| before.is_none_or(|before| entry.index < before));
                older.map(|Entry { index, term, payload, .. }| TailEntry { index, term, payload }).collect()
            });
            completions.push(Completion::ReadBack(at, entries));
        });
    }
}
