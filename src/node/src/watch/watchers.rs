//! The watchers of one executor and their streams: who gets which event. Synchronous; the tasks around it are in `hub.rs`.

mod giving;
mod lagging;
mod progress;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    task::{Context, Poll},
};

use plinth_kv::KeyRange;

use super::{
    StreamKey, WatcherKey,
    interest::Interest,
    metrics::WatchMetrics,
    outbox::{Item, Load, Outbox},
    slots::Slots,
};

pub(super) use giving::{Found, Match, Whom};

/// What may wait for clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WatchLimits {
    /// Bytes in the outbox of one stream before its watchers stall. What one revision adds comes on top.
    pub outbox_bytes: usize,
    /// Bytes in all outboxes of an executor before the fullest is emptied, but for one item that each may have.
    pub outboxes_bytes: usize,
}

impl Default for WatchLimits {
    fn default() -> Self {
        Self { outbox_bytes: 512 << 10, outboxes_bytes: 64 << 20 }
    }
}

/// Bytes that watchers themselves may take on one executor.
const WATCHERS_BYTES_MAX: usize = 256 << 20;

/// What a watcher takes beside its keys, which are held twice, about.
const WATCHER_BYTES: usize = 400;

/// What a client wants to watch.
#[derive(Clone, Debug)]
pub(crate) struct Create {
    /// The id that it chose, 0 for any.
    pub(crate) watch_id: i64,
    /// Which keys; not empty.
    pub(crate) range: KeyRange,
    /// The first revision, 0 for the next one.
    pub(crate) start: i64,
    pub(crate) without_puts: bool,
    pub(crate) without_deletes: bool,
    pub(crate) with_prev: bool,
    pub(crate) may_split: bool,
    /// Whether it wants to be told now and then that nothing happened.
    pub(crate) wants_progress: bool,
}

impl Create {
    fn bytes(&self) -> usize {
        WATCHER_BYTES + 2 * (self.range.key.len() + self.range.end.len())
    }
}

/// How far a watcher is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pace {
    /// It gets events as they come.
    Synced,
    /// It has to be given what it lacks.
    Lagging,
    /// The same, but its stream has no room.
    Stalled,
}

#[derive(Debug)]
struct Watcher {
    stream: StreamKey,
    watch_id: i64,
    create: Create,
    pace: Pace,
    /// Everything below was given to it.
    next: i64,
    /// The revision of which it was given events last, and the place of that delivery in its stream's outbox.
    open: Option<(i64, u64)>,
    /// Nothing was given to it since it was last told of progress.
    is_quiet: bool,
    /// It stands in the queue of those that lag.
    is_queued: bool,
    /// Tells whether it lagged already when a pass began.
    behind_since: u64,
}

#[derive(Debug, Default)]
struct Stream {
    outbox: Outbox,
    /// By their ids. `None` for one that a compaction ended: its id stays in use until the client cancels it.
    watchers: BTreeMap<i64, Option<WatcherKey>>,
    /// Where the search for an unused id begins.
    next_id: i64,
    stalled: Vec<WatcherKey>,
    /// Watchers that are not synced.
    behind: usize,
    /// It wants to be told when everything up to this revision was sent.
    awaits: Option<i64>,
}

pub(super) struct Watchers {
    watchers: Slots<Watcher>,
    streams: Slots<Stream>,
    synced: Interest,
    lagging: Interest,
    /// All that lag, in the order in which slices begin with them; some may have ended or caught up since.
    queue: VecDeque<WatcherKey>,
    /// How often a watcher began to lag.
    began_to_lag: u64,
    /// The feed was followed up to this revision.
    seen: i64,
    /// Streams that await progress.
    awaiting: Vec<StreamKey>,
    /// In all outboxes.
    load: Load,
    watcher_bytes: usize,
    limits: WatchLimits,
    metrics: Arc<WatchMetrics>,
}

impl Watchers {
    pub(super) fn new(limits: WatchLimits, metrics: Arc<WatchMetrics>) -> Self {
        Self {
            watchers: Slots::default(),
            streams: Slots::default(),
            synced: Interest::default(),
            lagging: Interest::default(),
            queue: VecDeque::new(),
            began_to_lag: 0,
            seen: 0,
            awaiting: Vec::new(),
            load: Load::default(),
            watcher_bytes: 0,
            limits,
            metrics,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    pub(super) fn has_lagging(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn seen(&self) -> i64 {
        self.seen
    }

    pub(super) fn open(&mut self) -> StreamKey {
        self.metrics.streams.add(1);
        self.streams.insert(Stream { outbox: Outbox::new(self.limits.outbox_bytes), ..Stream::default() })
    }

    pub(super) fn close(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get(key) else { return };
        for watcher in stream.watchers.values().copied().collect::<Vec<_>>() {
            match watcher {
                Some(watcher) => self.remove(watcher),
                None => self.watcher_bytes -= WATCHER_BYTES,
            }
        }
        let stream = self.streams.remove(key).expect("looked at above");
        self.note_load(stream.outbox.load(), Load::default());
        self.metrics.streams.add(-1);
    }

    /// Makes a watcher, in a store at `revision`. The answer goes into the stream's outbox, in front of any event.
    pub(super) fn create(&mut self, key: StreamKey, create: Create, revision: i64) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if let Some(reason) = refusal(&create, stream, self.watcher_bytes) {
            return self.push(key, Item::Refused { reason, revision });
        }
        let watch_id = if create.watch_id == 0 { stream.some_id() } else { create.watch_id };
        if self.watchers.is_empty() {
            // Nobody has followed the feed; whoever is first needs nothing below.
            self.seen = revision;
        }
        let next = if create.start == 0 { revision + 1 } else { create.start };
        let pace = if next > self.seen { Pace::Synced } else { Pace::Lagging };
        self.watcher_bytes += create.bytes();
        self.metrics.watchers.add(1);
        let range = create.range.clone();
        let watcher = Watcher {
            stream: key,
            watch_id,
            create,
            pace,
            next,
            open: None,
            is_quiet: true,
            is_queued: false,
            behind_since: 0,
        };
        let watcher = self.watchers.insert(watcher);
        let stream = self.streams.get_mut(key).expect("looked at above");
        stream.watchers.insert(watch_id, Some(watcher));
        self.push(key, Item::Created { watch_id, revision });
        match pace {
            Pace::Synced => self.synced.insert(&range, watcher),
            Pace::Lagging | Pace::Stalled => {
                self.note_behind(key, 1);
                self.begin_to_lag(watcher);
            }
        }
    }

    /// Ends the watcher of an id, if there is one, and says so.
    pub(super) fn cancel(&mut self, key: StreamKey, watch_id: i64, revision: i64) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Some(ended) = stream.watchers.remove(&watch_id) else { return };
        match ended {
            Some(watcher) => self.remove(watcher),
            None => self.watcher_bytes -= WATCHER_BYTES,
        }
        self.push(key, Item::Canceled { watch_id, revision });
    }

    /// Takes a watcher out of everything but its stream's ids.
    fn remove(&mut self, key: WatcherKey) {
        let Some(watcher) = self.watchers.remove(key) else { return };
        match watcher.pace {
            Pace::Synced => self.synced.remove(&watcher.create.range, key),
            Pace::Lagging => self.lagging.remove(&watcher.create.range, key),
            Pace::Stalled => {}
        }
        if watcher.pace != Pace::Synced {
            self.note_behind(watcher.stream, -1);
        }
        self.watcher_bytes -= watcher.create.bytes();
        self.metrics.watchers.add(-1);
    }

    fn note_behind(&mut self, stream: StreamKey, change: isize) {
        let stream = self.streams.get_mut(stream).expect("a watcher has its stream");
        stream.behind = stream.behind.checked_add_signed(change).expect("counted up before it is counted down");
        self.metrics.behind.add(change as i64);
    }

    /// An outbox's load has changed.
    fn note_load(&mut self, before: Load, after: Load) {
        self.load.add(after);
        self.load.subtract(before);
        if after.events != before.events {
            self.metrics.pending.add(after.events as i64 - before.events as i64);
        }
    }

    /// Brings a watcher from one pace to another; it needs everything from `next` on.
    fn set_pace(&mut self, key: WatcherKey, pace: Pace, next: i64) {
        let watcher = self.watchers.get_mut(key).expect("whoever sets its pace has seen it");
        let before = std::mem::replace(&mut watcher.pace, pace);
        watcher.next = next;
        watcher.open = None;
        if before == pace {
            return;
        }
        let (stream, range) = (watcher.stream, &watcher.create.range);
        match before {
            Pace::Synced => self.synced.remove(range, key),
            Pace::Lagging => self.lagging.remove(range, key),
            Pace::Stalled => {}
        }
        match pace {
            Pace::Synced => self.synced.insert(range, key),
            Pace::Lagging => self.begin_to_lag(key),
            Pace::Stalled => {
                self.streams.get_mut(stream).expect("a watcher has its stream").stalled.push(key);
            }
        }
        match (before, pace) {
            (Pace::Synced, _) => self.note_behind(stream, 1),
            (_, Pace::Synced) => self.note_behind(stream, -1),
            _ => {}
        }
    }

    fn push(&mut self, key: StreamKey, item: Item) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let before = stream.outbox.load();
        stream.outbox.push(item);
        let after = stream.outbox.load();
        self.note_load(before, after);
    }

    /// What a stream sends next. If that makes room, its watchers that had stalled lag.
    pub(super) fn poll_take(&mut self, key: StreamKey, cx: &Context<'_>) -> Poll<Item> {
        let stream = self.streams.get_mut(key).expect("a stream is asked for items while it is open");
        let before = stream.outbox.load();
        let item = stream.outbox.poll_take(cx);
        let after = stream.outbox.load();
        self.note_load(before, after);
        let stream = self.streams.get_mut(key).expect("looked at above");
        if stream.outbox.has_room() && !stream.stalled.is_empty() {
            for watcher in std::mem::take(&mut stream.stalled) {
                if let Some(Watcher { pace: Pace::Stalled, next, .. }) = self.watchers.get(watcher) {
                    self.set_pace(watcher, Pace::Lagging, *next);
                }
            }
        }
        item
    }

    /// Ready when another request of a stream may be looked at.
    pub(super) fn poll_room(&mut self, key: StreamKey, cx: &Context<'_>) -> Poll<()> {
        self.streams.get_mut(key).expect("a stream takes requests while it is open").outbox.poll_room(cx)
    }
}

impl Stream {
    /// The next id that nobody uses.
    fn some_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }
}

/// Why a watcher can't be made.
fn refusal(create: &Create, stream: &Stream, watcher_bytes: usize) -> Option<&'static str> {
    let range = &create.range;
    if create.start < 0 {
        Some("etcdserver: mvcc: required revision has been compacted")
    } else if !range.is_single() && !range.upper().is_above(&range.key) {
        Some("mvcc: watcher range is empty")
    } else if create.watch_id != 0 && stream.watchers.contains_key(&create.watch_id) {
        Some("mvcc: duplicate watch ID provided on the WatchStream")
    } else if watcher_bytes + create.bytes() > WATCHERS_BYTES_MAX {
        Some("etcdserver: too many requests")
    } else {
        None
    }
}
