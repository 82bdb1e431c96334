//! Watches: who wants to know of changes, and how they are told.
//!
//! A shard records the events of what it applies, if anybody watches, and appends them to the *feed* of its group, a list of immutable chunks that
//! all executors read (`feed.rs`). On each executor a *hub* follows the feed (`follow.rs`) and hands every event to the watchers whose keys it
//! concerns (`interest.rs`), by putting a reference to it into the *outbox* of each watcher's stream (`outbox.rs`). The stream's own task encodes
//! and sends at the pace of its client.
//!
//! A watcher is in one of three states. *Synced*: it has been given everything that the hub has seen. *Lagging*: it is behind, because it started at
//! an older revision, because the feed has a gap, or because its client was slow; a task of the executor reads what it lacks from the trees, in
//! slices (`catch_up.rs`). *Stalled*: it is behind and its stream's outbox is full; once there is room it lags.
//!
//! Invariants:
//! - apply never waits for a watcher: the shard appends to the feed, and cuts it if a hub is too far behind;
//! - the events of one main revision are given to a watcher together or not at all, each once, in the order of (main, sub);
//! - what has been given to a watcher is everything below its `next`, and of a synced watcher also everything up to the hub's `seen`;
//! - bytes in all outboxes of an executor are bounded: the fullest is emptied and its watchers lag.

mod catch_up;
mod feed;
mod follow;
mod hub;
mod interest;
mod intervals;
mod metrics;
mod outbox;
mod slots;
mod watchers;

pub(crate) use feed::{Feed, Subscription};
pub(crate) use hub::{Hub, StreamGuard};
pub use metrics::WatchMetrics;
pub(crate) use outbox::{Delivery, Item, Occurrence};
pub(crate) use watchers::Create;
pub use watchers::WatchLimits;

/// A watcher of a hub.
type WatcherKey = slots::SlotKey;

/// A stream of a hub.
type StreamKey = slots::SlotKey;
