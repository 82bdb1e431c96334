//! Follows a group's feed as long as there are watchers, and gives them what comes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use plinth_env::{Env, PageSource};
use plinth_kv::{Event, KeyValue, Record, visible_before};
use plinth_tree::Missing;

use super::{
    Hub, Occurrence, Subscription,
    feed::Chunk,
    watchers::{Found, Match, Watchers, Whom},
};
use crate::{message::Message, published::Root};

/// How long a hub waits when the shard's mailbox has no room for it.
const RETRY_AFTER: Duration = Duration::from_millis(10);

pub(super) async fn follow<E: Env>(hub: Hub<E>) {
    loop {
        hub.watched().await;
        let mut signal = hub.executor().signal();
        let subscription = Subscription::new(signal.reply_to());
        let group = hub.published().group;
        while hub.inbox().send(Message::Subscribe { group, subscription: Arc::clone(&subscription) }).is_err() {
            hub.env().sleep(RETRY_AFTER).await;
        }
        let mut follower = Follower::default();
        loop {
            signal.told().await;
            subscription.begin_look();
            let is_wanted = hub.with(|watchers| {
                follower.look(&subscription, &hub.root(), watchers);
                !watchers.is_empty()
            });
            if !is_wanted {
                break;
            }
        }
    }
}

/// Where a hub stands in the feed.
#[derive(Default)]
struct Follower {
    last: Option<Arc<Chunk>>,
    found: Found,
    matches: Vec<Match>,
}

impl Follower {
    /// Gives everything new to whom it concerns. `root` is not older than any of it: it is published first.
    fn look<P: PageSource>(&mut self, subscription: &Subscription, root: &Root<P>, watchers: &mut Watchers) {
        // The chunk at which to start may be the newest one of a list that was cut, so it is read like any other.
        let start = subscription.take_start();
        let mut next = start.or_else(|| self.last.as_ref().and_then(|last| last.next().cloned()));
        while let Some(chunk) = next {
            if chunk.after() > watchers.seen() {
                watchers.note_gap(chunk.after());
            }
            self.give(chunk.events(), root, watchers);
            watchers.note_seen(chunk.upto());
            next = chunk.next().cloned();
            self.last = Some(chunk);
        }
        watchers.tell_progress();
    }

    fn give<P: PageSource>(&mut self, events: &[Event], root: &Root<P>, watchers: &mut Watchers) {
        let seen = watchers.seen();
        let new = events.iter().filter(|event| event.revision.main > seen);
        let mut new = new.peekable();
        while let Some(event) = new.next() {
            let main = event.revision.main;
            let (whom, found) = (Whom::Synced, &mut self.found);
            watchers.find(whom, &event.kv.key, main, event.is_put, found);
            if !found.watchers.is_empty() {
                let prev_kv = if found.wants_prev { previous(event, root) } else { Ok(None) };
                match prev_kv {
                    Ok(prev_kv) => {
                        let occurrence = Occurrence::new(event.clone(), prev_kv);
                        self.matches.extend(found.watchers.iter().map(|watcher| (*watcher, occurrence.clone())));
                    }
                    // Whoever catches up waits for pages. The earlier events of the revision, if there are any, come from there too.
                    Err(_) => found.watchers.iter().for_each(|watcher| watchers.fall_behind(*watcher, main)),
                }
            }
            if new.peek().is_none_or(|next| next.revision.main != main) {
                watchers.give(whom, main, main, &mut self.matches);
            }
        }
    }
}

/// What the event's key was before; `None` if it wasn't there, or if that is compacted.
pub(super) fn previous<P: PageSource>(event: &Event, root: &Root<P>) -> Result<Option<KeyValue>, Missing> {
    let Some(previous) = event.previous.filter(|_| event.revision.main > root.state.compacted) else {
        return Ok(None);
    };
    let key = &event.kv.key;
    let record = visible_before(root.snapshot.view(), key, event.revision, previous)?;
    record.map(|record| key_value(key.clone(), &record)).transpose()
}

/// A copy of a version.
pub(super) fn key_value(key: Bytes, record: &Record<'_>) -> Result<KeyValue, Missing> {
    Ok(KeyValue { key, meta: record.meta(), value: Bytes::copy_from_slice(record.value()?) })
}
