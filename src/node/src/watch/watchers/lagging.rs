//! Watchers that are behind: whose turn it is, and how far they have come.

use plinth_base::Mark;

use super::{Pace, WATCHER_BYTES, Watcher, WatcherKey, Watchers};
use crate::watch::outbox::Item;

impl Watchers {
    pub(super) fn begin_to_lag(&mut self, key: WatcherKey) {
        let watcher = self.watchers.get_mut(key).expect("whoever sets its pace has seen it");
        self.began_to_lag += 1;
        watcher.behind_since = self.began_to_lag;
        self.lagging.insert(&watcher.create.range, key);
        if !std::mem::replace(&mut watcher.is_queued, true) {
            self.queue.push_back(key);
        }
    }

    /// How often watchers have begun to lag: a pass leaves out those that do after it has begun.
    pub(in crate::watch) fn lag_count(&self) -> u64 {
        self.began_to_lag
    }

    /// Everything above `seen` and up to `after` is not to be had from the feed: whoever may need it has to be caught up.
    pub(in crate::watch) fn note_gap(&mut self, after: i64) {
        let needs = |w: &Watcher| w.pace == Pace::Synced && w.next <= after;
        Mark::WatchGap.hit();
        let behind: Vec<_> = self.watchers.iter().filter(|(_, w)| needs(w)).map(|(key, w)| (key, w.next)).collect();
        for (key, next) in behind {
            self.set_pace(key, Pace::Lagging, next.max(self.seen + 1));
        }
        self.seen = after;
    }

    /// The feed was followed up to `upto`.
    pub(in crate::watch) fn note_seen(&mut self, upto: i64) {
        self.seen = self.seen.max(upto);
    }

    /// What the watcher needs first whose turn it is to be caught up; `None` if nobody lags.
    pub(in crate::watch) fn next_lagging(&mut self) -> Option<i64> {
        while let Some(key) = self.queue.front() {
            if let Some(watcher) = self.watchers.get_mut(*key) {
                if watcher.pace == Pace::Lagging {
                    return Some(watcher.next);
                }
                watcher.is_queued = false;
            }
            self.queue.pop_front();
        }
        None
    }

    /// Those whom a pass serves have been given everything up to `end`. If that is all there is, they are synced.
    pub(in crate::watch) fn note_caught_up(&mut self, start: i64, lag_count: u64, end: i64, is_all: bool) {
        let mut queue = std::mem::take(&mut self.queue);
        queue.retain(|key| {
            let Some(watcher) = self.watchers.get_mut(*key) else { return false };
            if watcher.pace != Pace::Lagging {
                watcher.is_queued = false;
                return false;
            }
            if watcher.next < start || watcher.behind_since > lag_count {
                return true;
            }
            watcher.next = watcher.next.max(end + 1);
            if is_all {
                watcher.is_queued = false;
                let next = watcher.next;
                self.set_pace(*key, Pace::Synced, next);
            }
            !is_all
        });
        queue.append(&mut self.queue);
        self.queue = queue;
    }

    /// It is another watcher's turn.
    pub(in crate::watch) fn end_turn(&mut self) {
        if !self.queue.is_empty() {
            self.queue.rotate_left(1);
        }
    }

    /// Ends a watcher that needs what is compacted. Its id stays in use.
    fn end_compacted(&mut self, watcher: WatcherKey, compacted: i64) {
        let Some(Watcher { stream: key, watch_id, .. }) = self.watchers.get(watcher) else { return };
        let (key, watch_id) = (*key, *watch_id);
        Mark::WatchCompacted.hit();
        self.remove(watcher);
        self.watcher_bytes += WATCHER_BYTES;
        self.streams.get_mut(key).expect("its watcher was there").watchers.insert(watch_id, None);
        self.push(key, Item::Compacted { watch_id, compacted });
    }

    /// Ends those of the queue that need what is compacted.
    pub(in crate::watch) fn end_all_compacted(&mut self, compacted: i64) {
        let is_over = |watcher: &WatcherKey| self.watchers.get(*watcher).is_some_and(|w| w.next < compacted);
        let over: Vec<_> = self.queue.iter().copied().filter(is_over).collect();
        for watcher in over {
            self.end_compacted(watcher, compacted);
        }
    }
}
