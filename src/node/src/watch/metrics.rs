//! What watches count, over all executors.

use plinth_base::metrics::{Counter, Gauge};

/// Of one group.
#[derive(Default, Debug)]
pub struct WatchMetrics {
    /// Streams that are open.
    pub streams: Gauge,
    /// Watchers.
    pub watchers: Gauge,
    /// Those that are behind.
    pub behind: Gauge,
    /// Events that streams have not sent.
    pub pending: Gauge,
    /// Events handed to streams.
    pub events: Counter,
}
