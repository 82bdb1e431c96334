//! Gives watchers that are behind what they lack, from the trees.
//!
//! One task per executor works in passes. A pass begins with what the watcher needs first whose turn it is, and serves all others on its way that need
//! nothing below. It reads some changes of `log` in a slice, and values only of those that concern somebody; between slices other tasks run and
//! the newest root is taken. A pass ends at the end of a revision, so nobody gets half of one. Who has been given everything up to the root's
//! revision is synced: the feed goes on from there.

use std::sync::Arc;

use bytes::Bytes;
use plinth_base::{Revision, bug};
use plinth_env::{Env, PageSource};
use plinth_kv::{Budget, ChangeCursor, Event, KeyValue, LoggedChange, RecordMeta};
use plinth_tree::{Missing, View};

use super::{
    Hub, Occurrence,
    follow::{key_value, previous},
    watchers::{Found, Match, Watchers, Whom},
};
use crate::published::Root;

/// Changes that a slice looks at.
const SLICE_CHANGES: u32 = 512;

/// What a change costs of a slice that concerns somebody: its value is looked for and copied.
const MATCH_COST: u32 = 8;

pub(super) async fn catch_up<E: Env>(hub: Hub<E>) {
    loop {
        hub.lagging().await;
        while let Some(mut pass) = hub.with(Pass::begin) {
            let mut root = hub.root();
            loop {
                let slice = hub.with(|watchers| pass.slice(&root, watchers));
                match slice {
                    Ok(Slice::PassDone) => break,
                    Ok(Slice::More) => {
                        hub.env().yield_now().await;
                        root = hub.root();
                    }
                    Err(missing) => {
                        let load = hub.env().load_pages(root.snapshot.pages(), missing.wants);
                        if let Err(error) = load.await {
                            // The node says so to its operator; whoever watches waits, as for a slow disk.
                            plinth_base::log_error!("a page can't be read", "error" => plinth_base::log::Value::display(&error));
                            hub.env().sleep(std::time::Duration::from_secs(1)).await;
                            root = hub.root();
                        }
                    }
                }
            }
            hub.env().yield_now().await;
        }
    }
}

/// How a slice ended.
enum Slice {
    /// In the middle of a revision.
    More,
    /// At the end of the pass.
    PassDone,
}

/// A walk over changes for some watchers.
struct Pass {
    whom: Whom,
    start: i64,
    lag_count: u64,
    /// What comes next.
    at: Revision,
    found: Found,
    /// Of the revision under way.
    matches: Vec<Match>,
}

impl Pass {
    fn begin(watchers: &mut Watchers) -> Option<Self> {
        let (start, lag_count) = (watchers.next_lagging()?, watchers.lag_count());
        let whom = Whom::Served { start, lag_count };
        let at = Revision { main: start, sub: 0 };
        Some(Self { whom, start, lag_count, at, found: Found::default(), matches: Vec::new() })
    }

    /// Goes on. A slice that misses a page is called again with the same root when the page is there.
    fn slice<P: PageSource>(&mut self, root: &Arc<Root<P>>, watchers: &mut Watchers) -> Result<Slice, Missing> {
        let state = &root.state;
        watchers.end_all_compacted(state.compacted);
        // Never synced with a root that is older than what the hub has seen: the pages that it lacked took long.
        let is_newest = state.revision >= watchers.seen() || bug!(WatchLosesAtResync);
        if self.at.main < state.compacted {
            watchers.end_turn();
            return Ok(Slice::PassDone);
        }
        let view = root.snapshot.view();
        let mut budget = Budget::new(SLICE_CHANGES);
        let mut changes = ChangeCursor::new(view);
        let mut is_there = changes.seek(self.at)?;
        while is_there {
            let change = changes.change()?;
            let main = change.revision.main;
            if main > self.at.main {
                self.end_revision(state.revision, watchers);
                self.at = Revision { main, sub: 0 };
                if budget.is_spent() {
                    watchers.note_caught_up(self.start, self.lag_count, main - 1, false);
                    watchers.end_turn();
                    return Ok(Slice::PassDone);
                }
            } else if budget.is_spent() {
                return Ok(Slice::More);
            }
            self.look(&change, view, root, watchers, &mut budget)?;
            self.at = Revision { main, sub: change.revision.sub + 1 };
            budget.spend();
            is_there = changes.advance()?;
        }
        self.end_revision(state.revision, watchers);
        watchers.note_caught_up(self.start, self.lag_count, state.revision, is_newest);
        Ok(Slice::PassDone)
    }

    fn end_revision(&mut self, revision: i64, watchers: &mut Watchers) {
        watchers.give(self.whom, self.at.main, revision, &mut self.matches);
    }

    fn look<P: PageSource>(
        &mut self,
        change: &LoggedChange<'_>,
        view: View<'_, P>,
        root: &Root<P>,
        watchers: &Watchers,
        budget: &mut Budget,
    ) -> Result<(), Missing> {
        let found = &mut self.found;
        watchers.find(self.whom, change.key, change.revision.main, change.is_put, found);
        if found.watchers.is_empty() {
            return Ok(());
        }
        for _ in 0..MATCH_COST {
            budget.spend();
        }
        let key = Bytes::copy_from_slice(change.key);
        let kv = if change.is_put {
            // Not there if it ended in its own revision, through a gap in etcd's checks, and that is being swept.
            let Some(record) = change.written(view, root.state.revision)? else { return Ok(()) };
            key_value(key, &record)?
        } else {
            let meta = RecordMeta { modified: change.revision, ..RecordMeta::default() };
            KeyValue { key, meta, value: Bytes::new() }
        };
        let event = Event { revision: change.revision, is_put: change.is_put, previous: change.previous, kv };
        let prev_kv = if found.wants_prev { previous(&event, root)? } else { None };
        let occurrence = Occurrence::new(event, prev_kv);
        self.matches.extend(found.watchers.iter().map(|watcher| (*watcher, occurrence.clone())));
        Ok(())
    }
}
