//! What is counted of each peer. The executor of the shard writes; a scrape on any executor reads.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use plinth_base::{
    MemberId,
    metrics::{Counter, Gauge, Histogram, HistogramSnapshot, LATENESS_NS, ROUND_TRIP_NS},
};

/// Of one peer.
#[derive(Debug)]
pub struct PeerCounts {
    /// Bytes of frames that were written.
    pub sent_bytes: Counter,
    /// Bytes of frames that came.
    pub received_bytes: Counter,
    /// Frames that found no room, and attempts to connect that failed.
    pub sent_failures: Counter,
    /// Connections on which came what is no frame.
    pub received_failures: Counter,
    /// How often the connection for what is urgent broke.
    pub disconnected: Counter,
    /// Whether there is one.
    pub is_active: Gauge,
    /// From a question to its answer: nanoseconds, in [`ROUND_TRIP_NS`].
    pub round_trip: Histogram,
    /// From when heartbeats were due until they were written: nanoseconds, in [`LATENESS_NS`].
    pub heartbeat_lateness: Histogram,
    /// Heartbeats that were late by more than their interval.
    pub late_heartbeats: Counter,
}

impl Default for PeerCounts {
    fn default() -> Self {
        Self {
            sent_bytes: Counter::default(),
            received_bytes: Counter::default(),
            sent_failures: Counter::default(),
            received_failures: Counter::default(),
            disconnected: Counter::default(),
            is_active: Gauge::default(),
            round_trip: Histogram::new(ROUND_TRIP_NS),
            heartbeat_lateness: Histogram::new(LATENESS_NS),
            late_heartbeats: Counter::default(),
        }
    }
}

/// Of all peers there are. Clones are the same.
#[derive(Clone, Default, Debug)]
pub struct AllCounts(Arc<Mutex<BTreeMap<MemberId, Arc<PeerCounts>>>>);

/// What a scrape shows of one peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerFigures {
    /// Which one.
    pub id: MemberId,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// What couldn't be sent.
    pub sent_failures: u64,
    /// What couldn't be read.
    pub received_failures: u64,
    /// How often it was lost.
    pub disconnected: u64,
    /// Whether it is connected.
    pub is_active: bool,
    /// There and back: nanoseconds, in [`ROUND_TRIP_NS`].
    pub round_trip: HistogramSnapshot,
    /// From when heartbeats were due until they were written: nanoseconds, in [`LATENESS_NS`].
    pub heartbeat_lateness: HistogramSnapshot,
    /// Heartbeats that were late by more than their interval.
    pub late_heartbeats: u64,
}

impl AllCounts {
    fn all(&self) -> MutexGuard<'_, BTreeMap<MemberId, Arc<PeerCounts>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of one peer, from 0 if it is new.
    pub(super) fn of(&self, peer: MemberId) -> Arc<PeerCounts> {
        Arc::clone(self.all().entry(peer).or_default())
    }

    /// Forgets all peers but these.
    pub(super) fn retain(&self, is_known: impl Fn(MemberId) -> bool) {
        self.all().retain(|id, _| is_known(*id));
    }

    /// As they are now, by ascending id.
    #[must_use]
    pub fn figures(&self) -> Vec<PeerFigures> {
        let figures = |(id, counts): (&MemberId, &Arc<PeerCounts>)| PeerFigures {
            id: *id,
            sent_bytes: counts.sent_bytes.get(),
            received_bytes: counts.received_bytes.get(),
            sent_failures: counts.sent_failures.get(),
            received_failures: counts.received_failures.get(),
            disconnected: counts.disconnected.get(),
            is_active: counts.is_active.get() > 0,
            round_trip: counts.round_trip.snapshot(),
            heartbeat_lateness: counts.heartbeat_lateness.snapshot(),
            late_heartbeats: counts.late_heartbeats.get(),
        };
        self.all().iter().map(figures).collect()
    }
}
