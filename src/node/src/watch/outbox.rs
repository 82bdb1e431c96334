//! What a stream still has to send.
//!
//! Events are references: an event that concerns many watchers is in memory, and encoded, once per executor.

use std::{
    cell::OnceCell,
    collections::VecDeque,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use plinth_kv::{Event, KeyValue};

use super::WatcherKey;

/// Revisions that one response may carry.
const REVISIONS_MAX: usize = 1000;

/// Bytes of events behind which a response is not made longer with another revision.
const RESPONSE_BYTES: usize = 64 << 10;

/// What an item takes beside its events, and each reference to an event, about.
const ITEM_BYTES: usize = 96;

/// An event on its way to any number of watchers.
#[derive(Debug)]
pub(crate) struct Occurrence {
    /// The event.
    pub(crate) event: Event,
    /// The version before it, if any watcher asked for it and it is still to be had.
    pub(crate) prev_kv: Option<KeyValue>,
    /// The event's message without `prev_kv`, and that field; made when the first stream sends it.
    pub(crate) encoded: OnceCell<(Bytes, Bytes)>,
}

impl Occurrence {
    pub(super) fn new(event: Event, prev_kv: Option<KeyValue>) -> Rc<Self> {
        Rc::new(Self { event, prev_kv, encoded: OnceCell::new() })
    }

    fn bytes(&self) -> usize {
        self.event.bytes() + self.prev_kv.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len())
    }
}

/// Whole revisions for one watcher.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(super) watcher: WatcherKey,
    /// The watcher's id on its stream.
    pub(crate) watch_id: i64,
    /// For the header.
    pub(crate) revision: i64,
    /// Whether `prev_kv` is sent.
    pub(crate) with_prev: bool,
    /// Whether it may be sent in several responses.
    pub(crate) may_split: bool,
    /// In order.
    pub(crate) events: Vec<Rc<Occurrence>>,
    revisions: usize,
    bytes: usize,
}

impl Delivery {
    pub(super) fn first_revision(&self) -> i64 {
        self.events.first().map_or(i64::MAX, |first| first.event.revision.main)
    }
}

/// One response, or what is split into several.
#[derive(Debug)]
pub(crate) enum Item {
    /// A watcher exists from now on.
    Created { watch_id: i64, revision: i64 },
    /// None was made.
    Refused { reason: &'static str, revision: i64 },
    /// It ended, because its client wanted that.
    Canceled { watch_id: i64, revision: i64 },
    /// It ended, because what it needs is compacted.
    Compacted { watch_id: i64, compacted: i64 },
    /// Everything up to the revision has been sent: to one watcher, or to all of the stream (-1).
    Progress { watch_id: i64, revision: i64 },
    /// Events.
    Events(Delivery),
}

impl Item {
    fn load(&self) -> Load {
        match self {
            Self::Events(delivery) => {
                let bytes = ITEM_BYTES + delivery.bytes;
                Load { bytes, events: delivery.events.len(), event_bytes: bytes }
            }
            _ => Load { bytes: ITEM_BYTES, ..Load::default() },
        }
    }
}

/// What waits in one or several outboxes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Load {
    pub(super) bytes: usize,
    /// References to events.
    pub(super) events: usize,
    /// What of the bytes belongs to events.
    pub(super) event_bytes: usize,
}

impl Load {
    pub(super) fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.events += other.events;
        self.event_bytes += other.event_bytes;
    }

    pub(super) fn subtract(&mut self, other: Self) {
        self.bytes -= other.bytes;
        self.events -= other.events;
        self.event_bytes -= other.event_bytes;
    }
}

/// The queue of one stream.
#[derive(Default, Debug)]
pub(super) struct Outbox {
    items: VecDeque<Item>,
    /// Items taken so far: the place of the first one in the queue.
    taken: u64,
    load: Load,
    bytes_max: usize,
    sender: Option<Waker>,
    receiver: Option<Waker>,
}

impl Outbox {
    /// With so many bytes it is full. What one revision adds comes on top.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    pub(super) fn load(&self) -> Load {
        self.load
    }

    pub(super) fn is_full(&self) -> bool {
        self.load.bytes >= self.bytes_max
    }

    /// There is so much room that watchers that stalled may go on.
    pub(super) fn has_room(&self) -> bool {
        self.load.bytes <= self.bytes_max / 2
    }

    pub(super) fn push(&mut self, item: Item) {
        self.load.add(item.load());
        self.items.push_back(item);
        if let Some(sender) = self.sender.take() {
            sender.wake();
        }
    }

    /// The place of the delivery to which the next revision of a watcher is added: the last one in the queue if it is this watcher's and not long yet.
    pub(super) fn begin(&mut self, empty: impl FnOnce() -> Delivery, watcher: WatcherKey) -> u64 {
        let goes_on = matches!(self.items.back(), Some(Item::Events(last))
            if last.watcher == watcher && last.revisions < REVISIONS_MAX && last.bytes < RESPONSE_BYTES);
        if !goes_on {
            self.push(Item::Events(empty()));
        }
        let place = self.taken + self.items.len() as u64 - 1;
        self.delivery(place).revisions += 1;
        place
    }

    pub(super) fn add(&mut self, place: u64, occurrence: Rc<Occurrence>, revision: i64) {
        let bytes = occurrence.bytes();
        let delivery = self.delivery(place);
        delivery.events.push(occurrence);
        delivery.bytes += bytes;
        delivery.revision = delivery.revision.max(revision);
        self.load.add(Load { bytes, events: 1, event_bytes: bytes });
    }

    fn delivery(&mut self, place: u64) -> &mut Delivery {
        let at = usize::try_from(place - self.taken).expect("the queue is in memory");
        match &mut self.items[at] {
            Item::Events(delivery) => delivery,
            other => unreachable!("events are added to events, not to {other:?}"),
        }
    }

    /// The next item, or the task of `cx` is woken when there is one.
    pub(super) fn poll_take(&mut self, cx: &Context<'_>) -> Poll<Item> {
        let Some(item) = self.items.pop_front() else {
            self.sender = Some(cx.waker().clone());
            return Poll::Pending;
        };
        self.taken += 1;
        self.load.subtract(item.load());
        if !self.is_full()
            && let Some(receiver) = self.receiver.take()
        {
            receiver.wake();
        }
        Poll::Ready(item)
    }

    /// Ready when another request may be looked at.
    pub(super) fn poll_room(&mut self, cx: &Context<'_>) -> Poll<()> {
        if !self.is_full() {
            return Poll::Ready(());
        }
        self.receiver = Some(cx.waker().clone());
        Poll::Pending
    }

    /// What [`Outbox::spill`] would take out, in bytes.
    pub(super) fn spillable_bytes(&self) -> usize {
        self.load.event_bytes - self.items.front().map_or(0, |first| first.load().event_bytes)
    }

    /// Takes the events out that are behind the first item, to be read again later, and with them whatever says that they were sent. The first item stays:
    /// the client gets on, however little room there is.
    pub(super) fn spill(&mut self, mut spilled: impl FnMut(&Delivery)) {
        let mut items = std::mem::take(&mut self.items).into_iter();
        self.items.extend(items.next());
        for item in items {
            match item {
                Item::Events(delivery) => spilled(&delivery),
                Item::Progress { .. } => {}
                // Places in the old queue mean nothing any more: whoever held one has stalled.
                item => self.items.push_back(item),
            }
        }
        self.load = Load::default();
        self.items.iter().for_each(|item| self.load.add(item.load()));
    }
}

impl Delivery {
    pub(super) fn new(watcher: WatcherKey, watch_id: i64, with_prev: bool, may_split: bool) -> Self {
        Self { watcher, watch_id, revision: 0, with_prev, may_split, events: Vec::new(), revisions: 0, bytes: 0 }
    }
}
