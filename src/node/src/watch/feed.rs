//! The events of one group, from its shard to the hubs of all executors.
//!
//! A linked list of immutable chunks that grows at its end. A hub holds the chunk it has read last; chunks that every hub has passed are freed. Hubs that
//! don't keep up can't make it grow without bound: beyond a limit the shard goes on with a new list, and they find a gap.

use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use plinth_kv::{Event, Recorded};

use crate::message::ReplyTo;

/// Bytes of events that wait for the slowest hub.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// The events of one publish.
#[derive(Debug)]
pub(crate) struct Chunk {
    recorded: Recorded,
    next: OnceLock<Arc<Self>>,
    /// Bytes of all chunks of the same list that are in memory.
    waiting_bytes: Arc<AtomicUsize>,
}

impl Chunk {
    fn new(recorded: Recorded, waiting_bytes: &Arc<AtomicUsize>) -> Arc<Self> {
        waiting_bytes.fetch_add(recorded.bytes, Ordering::Relaxed);
        Arc::new(Self { recorded, next: OnceLock::new(), waiting_bytes: Arc::clone(waiting_bytes) })
    }

    /// It holds all events above this revision...
    pub(crate) fn after(&self) -> i64 {
        self.recorded.after
    }

    /// ...and up to this one.
    pub(crate) fn upto(&self) -> i64 {
        self.recorded.upto
    }

    /// The events, by ascending revision.
    pub(crate) fn events(&self) -> &[Event] {
        &self.recorded.events
    }

    /// The chunk behind it, if there is one yet.
    pub(crate) fn next(&self) -> Option<&Arc<Self>> {
        self.next.get()
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.waiting_bytes.fetch_sub(self.recorded.bytes, Ordering::Relaxed);
        // One after the other: a long list must not use up the stack.
        let mut next = self.next.take();
        while let Some(mut chunk) = next.and_then(Arc::into_inner) {
            next = chunk.next.take();
        }
    }
}

/// A hub's place at the feed, shared with the shard. The shard takes it off when the hub has dropped its own.
#[derive(Debug)]
pub struct Subscription {
    reply_to: ReplyTo,
    /// The hub knows that there is something new.
    is_told: AtomicBool,
    /// Where the hub has to begin, or to begin anew. Locked for a few instructions, when a subscription starts and when a list was cut.
    start: Mutex<Option<Arc<Chunk>>>,
}

impl Subscription {
    /// Of the hub that is told at `reply_to`.
    pub(crate) fn new(reply_to: ReplyTo) -> Arc<Self> {
        Arc::new(Self { reply_to, is_told: AtomicBool::new(false), start: Mutex::default() })
    }

    /// The hub is about to look.
    pub(crate) fn begin_look(&self) {
        self.is_told.store(false, Ordering::SeqCst);
    }

    /// Where to go on, if not behind the chunk that was read last.
    pub(crate) fn take_start(&self) -> Option<Arc<Chunk>> {
        self.start.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set_start(&self, chunk: &Arc<Chunk>) {
        *self.start.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(chunk));
    }
}

/// The shard's end.
#[derive(Debug)]
pub(crate) struct Feed {
    last: Arc<Chunk>,
    waiting_bytes: Arc<AtomicUsize>,
    subscriptions: Vec<Arc<Subscription>>,
}

impl Feed {
    /// Of a group at `revision`.
    pub(crate) fn new(revision: i64) -> Self {
        let waiting_bytes = Arc::default();
        let last = Chunk::new(Recorded { after: revision, upto: revision, ..Recorded::default() }, &waiting_bytes);
        Self { last, waiting_bytes, subscriptions: Vec::new() }
    }

    /// Whether any hub follows it.
    pub(crate) fn is_watched(&mut self) -> bool {
        self.subscriptions.retain(|subscription| Arc::strong_count(subscription) > 1);
        !self.subscriptions.is_empty()
    }

    /// Begins a subscription behind what is published, at `revision`; says at once that there is something to look at.
    pub(crate) fn subscribe(&mut self, subscription: Arc<Subscription>, revision: i64, tell: impl FnMut(ReplyTo)) {
        // While nobody watched, nothing was appended.
        if self.last.upto() != revision {
            self.begin_list(Recorded { after: revision, upto: revision, ..Recorded::default() });
        }
        subscription.set_start(&self.last);
        self.subscriptions.push(subscription);
        self.tell(tell);
    }

    /// Adds what was published, and says so to the hubs that don't know yet that there is something.
    pub(crate) fn append(&mut self, recorded: Recorded, tell: impl FnMut(ReplyTo)) {
        if recorded.upto == self.last.upto() {
            return;
        }
        if self.waiting_bytes.load(Ordering::Relaxed) > WAITING_BYTES_MAX {
            self.begin_list(recorded);
            self.subscriptions.iter().for_each(|subscription| subscription.set_start(&self.last));
        } else {
            let chunk = Chunk::new(recorded, &self.waiting_bytes);
            self.last.next.set(Arc::clone(&chunk)).expect("only the last chunk has none behind it");
            self.last = chunk;
        }
        self.tell(tell);
    }

    /// What happened up to `revision` is not told: hubs find a gap there, and catch up in the trees.
    pub(crate) fn skip_to(&mut self, revision: i64) {
        self.begin_list(Recorded { after: revision, upto: revision, ..Recorded::default() });
        self.subscriptions.iter().for_each(|subscription| subscription.set_start(&self.last));
    }

    fn begin_list(&mut self, recorded: Recorded) {
        self.waiting_bytes = Arc::default();
        self.last = Chunk::new(recorded, &self.waiting_bytes);
    }

    pub(crate) fn tell(&self, mut tell: impl FnMut(ReplyTo)) {
        for subscription in &self.subscriptions {
            if !subscription.is_told.swap(true, Ordering::SeqCst) {
                tell(subscription.reply_to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use plinth_base::Revision;
    use plinth_kv::{KeyValue, RecordMeta};

    use super::*;

    const HUB: ReplyTo = ReplyTo { executor: 0, ticket: 7 };

    fn recorded(after: i64, upto: i64, value_bytes: usize) -> Recorded {
        let event = |main| {
            let revision = Revision { main, sub: 0 };
            let kv = KeyValue { key: "k".into(), meta: RecordMeta::default(), value: vec![0; value_bytes].into() };
            Event { revision, is_put: true, previous: None, kv }
        };
        let events: Vec<_> = (after + 1..=upto).map(event).collect();
        Recorded { after, upto, bytes: events.iter().map(Event::bytes).sum(), events }
    }

    fn revisions(mut at: Arc<Chunk>) -> (Vec<i64>, Arc<Chunk>) {
        let mut found = Vec::new();
        while let Some(next) = at.next().cloned() {
            found.extend(next.events().iter().map(|event| event.revision.main));
            at = next;
        }
        (found, at)
    }

    #[test]
    fn a_hub_is_told_once_and_finds_everything_since_it_looked() {
        let mut feed = Feed::new(1);
        assert!(!feed.is_watched());
        let subscription = Subscription::new(HUB);
        let mut told = 0;
        feed.subscribe(Arc::clone(&subscription), 5, |_| told += 1);
        let start = subscription.take_start().expect("a subscription begins somewhere");
        assert_eq!((start.upto(), told), (5, 1));
        feed.append(recorded(5, 6, 10), |_| told += 1);
        feed.append(recorded(6, 6, 10), |_| told += 1);
        feed.append(recorded(6, 8, 10), |_| told += 1);
        assert_eq!(told, 1, "it hasn't looked yet");
        subscription.begin_look();
        let (found, last) = revisions(start);
        assert_eq!(found, [6, 7, 8]);
        feed.append(recorded(8, 9, 10), |_| told += 1);
        assert_eq!((told, revisions(last).0), (2, vec![9]));
        drop(subscription);
        assert!(!feed.is_watched());
    }

    #[test]
    fn a_hub_that_does_not_look_finds_a_gap_and_what_it_held_is_freed() {
        let mut feed = Feed::new(0);
        let (slow, quick) = (Subscription::new(HUB), Subscription::new(HUB));
        feed.subscribe(Arc::clone(&slow), 0, |_| {});
        feed.subscribe(Arc::clone(&quick), 0, |_| {});
        let held = slow.take_start().expect("it begins");
        let old_list = Arc::clone(&feed.waiting_bytes);
        quick.take_start();
        let chunk_bytes = 1 << 20;
        for revision in 0..3 * (WAITING_BYTES_MAX as i64 >> 20) {
            feed.append(recorded(revision, revision + 1, chunk_bytes), |_| {});
            assert!(feed.waiting_bytes.load(Ordering::Relaxed) <= WAITING_BYTES_MAX + 2 * chunk_bytes);
        }
        let start = slow.take_start().expect("the list was cut");
        let (found, _) = revisions(Arc::clone(&held));
        assert!(start.after() > *found.last().expect("the beginning is still there"), "there is a gap");
        drop(held);
        assert_eq!(old_list.load(Ordering::Relaxed), 0);
    }
}
