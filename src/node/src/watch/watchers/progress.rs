//! Saying that nothing more is to come up to a revision.

use super::{Pace, StreamKey, Watchers};
use crate::watch::outbox::Item;
use plinth_base::bug;

impl Watchers {
    /// A stream asks to be told when everything up to `revision`, the newest one, has been sent. It isn't if a watcher is behind, or waits for a revision
    /// to come.
    pub(in crate::watch) fn request_progress(&mut self, key: StreamKey, revision: i64) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let mut alive = stream.watchers.values().flatten().peekable();
        if (stream.behind > 0 && !bug!(WatchProgressAhead)) || alive.peek().is_none() {
            return;
        }
        if alive.any(|watcher| self.watchers.get(*watcher).is_some_and(|watcher| watcher.next > revision + 1)) {
            return;
        }
        if stream.awaits.replace(revision).is_none() {
            self.awaiting.push(key);
        }
        self.tell_progress();
    }

    /// Tells those streams of progress that were waiting for what has been seen by now.
    pub(in crate::watch) fn tell_progress(&mut self) {
        let seen = self.seen;
        for key in std::mem::take(&mut self.awaiting) {
            let Some(stream) = self.streams.get_mut(key) else { continue };
            match stream.awaits {
                Some(revision) if revision <= seen => {
                    stream.awaits = None;
                    if stream.behind == 0 || bug!(WatchProgressAhead) {
                        self.push(key, Item::Progress { watch_id: -1, revision: seen });
                    }
                }
                Some(_) => self.awaiting.push(key),
                None => {}
            }
        }
    }

    /// The time has come to tell a stream's watchers of progress: those that want to know it, and have heard nothing since the last time.
    pub(in crate::watch) fn notify_progress(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get(key) else { return };
        let (seen, mut quiet) = (self.seen, Vec::new());
        for watcher in stream.watchers.values().flatten() {
            let watcher = self.watchers.get_mut(*watcher).expect("an id that is in use");
            if !watcher.create.wants_progress || !std::mem::replace(&mut watcher.is_quiet, true) {
                continue;
            }
            if watcher.pace == Pace::Synced && watcher.next <= seen + 1 {
                quiet.push(watcher.watch_id);
            }
        }
        for watch_id in quiet {
            self.push(key, Item::Progress { watch_id, revision: seen });
        }
    }
}
