//! Events on their way into outboxes.

use std::{collections::BTreeMap, rc::Rc};

use plinth_base::{Mark, bug};

use super::{Create, Pace, Watcher, WatcherKey, Watchers};
use crate::watch::outbox::{Delivery, Occurrence};

/// The watchers that an event is looked at for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::watch) enum Whom {
    /// Those that are synced.
    Synced,
    /// Those that lag, need nothing below `start`, and did so when watchers had begun to lag `lag_count` times.
    Served { start: i64, lag_count: u64 },
}

impl Whom {
    /// Whether it is one of them. One that has stalled meanwhile and lags again isn't what it was.
    fn includes(self, watcher: &Watcher) -> bool {
        match self {
            Self::Synced => watcher.pace == Pace::Synced,
            Self::Served { start, lag_count } => {
                watcher.pace == Pace::Lagging && watcher.next >= start && watcher.behind_since <= lag_count
            }
        }
    }
}

/// An event that concerns a watcher.
pub(in crate::watch) type Match = (WatcherKey, Rc<Occurrence>);

/// Who of those that an event concerns wants what.
#[derive(Default, Debug)]
pub(in crate::watch) struct Found {
    pub(in crate::watch) watchers: Vec<WatcherKey>,
    /// One of them wants the version before.
    pub(in crate::watch) wants_prev: bool,
}

impl Watchers {
    /// Whom an event concerns, of those that are synced or of those whom a pass serves.
    pub(in crate::watch) fn find(&self, whom: Whom, key: &[u8], main: i64, is_put: bool, found: &mut Found) {
        found.watchers.clear();
        found.wants_prev = false;
        let interest = match whom {
            Whom::Synced => &self.synced,
            Whom::Served { .. } => &self.lagging,
        };
        interest.find(key, &mut found.watchers);
        found.watchers.retain(|watcher| {
            let watcher = self.watchers.get(*watcher).expect("who is interested is there");
            let create = &watcher.create;
            let is_unwanted = if is_put { create.without_puts } else { create.without_deletes };
            let is_meant = watcher.next <= main && whom.includes(watcher) && !is_unwanted;
            found.wants_prev |= is_meant && create.with_prev;
            is_meant
        });
    }

    /// A synced watcher needs something that is not in memory: it has to be caught up, from this revision on.
    pub(in crate::watch) fn fall_behind(&mut self, watcher: WatcherKey, main: i64) {
        if self.watchers.get(watcher).is_some_and(|watcher| watcher.pace == Pace::Synced) {
            self.set_pace(watcher, Pace::Lagging, main);
        }
    }

    /// Gives the events of a whole revision to those whom they concern and who still are what they were when they were found. A stream without room gets
    /// none of them, and its watcher stalls. `revision` is for the responses' headers.
    pub(in crate::watch) fn give(&mut self, whom: Whom, main: i64, revision: i64, matches: &mut Vec<Match>) {
        for (key, occurrence) in matches.drain(..) {
            let Some(watcher) = self.watchers.get_mut(key).filter(|watcher| whom.includes(watcher)) else { continue };
            let stream = self.streams.get_mut(watcher.stream).expect("a watcher has its stream");
            let before = stream.outbox.load();
            let place = match watcher.open {
                Some((open, place)) if open == main => place,
                _ if stream.outbox.is_full() => {
                    Mark::WatchStalled.hit();
                    self.set_pace(key, Pace::Stalled, main + i64::from(bug!(WatchDropsWhenFull)));
                    continue;
                }
                _ => {
                    let Watcher { watch_id, create: Create { with_prev, may_split, .. }, .. } = *watcher;
                    stream.outbox.begin(|| Delivery::new(key, watch_id, with_prev, may_split), key)
                }
            };
            watcher.open = Some((main, place));
            watcher.is_quiet = false;
            stream.outbox.add(place, occurrence, revision);
            let after = stream.outbox.load();
            self.note_load(before, after);
            self.metrics.events.inc();
        }
        while self.load.bytes > self.limits.outboxes_bytes && self.spill_fullest() {}
    }

    /// The fullest outbox gives its events back, but for its first item: its watchers are given them again when their stream has sent that. False if no outbox
    /// has more than one item.
    fn spill_fullest(&mut self) -> bool {
        let full = self.streams.iter().map(|(key, stream)| (stream.outbox.spillable_bytes(), key));
        let Some((_, key)) = full.max().filter(|(bytes, _)| *bytes > 0) else { return false };
        let stream = self.streams.get_mut(key).expect("found just now");
        let mut first = BTreeMap::new();
        Mark::WatchSpilled.hit();
        let before = stream.outbox.load();
        stream.outbox.spill(|delivery| {
            let at = first.entry(delivery.watcher).or_insert(i64::MAX);
            *at = delivery.first_revision().min(*at);
        });
        stream.awaits = None;
        let after = stream.outbox.load();
        self.note_load(before, after);
        for (watcher, next) in first {
            if self.watchers.get(watcher).is_some() {
                self.set_pace(watcher, Pace::Stalled, next);
            }
        }
        true
    }
}
