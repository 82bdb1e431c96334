//! What can be set about connections.

use std::time::Duration;

/// Limits and times of every connection. The defaults are etcd's where etcd has one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnConfig {
    /// The largest message that is taken, in bytes: `--max-request-bytes` and 512 KiB.
    pub message_bytes_max: usize,
    /// Concurrent calls per connection, `--max-concurrent-streams`; more than [`STREAMS_MAX`] counts as that.
    pub streams_max: u32,
    /// A connection silent for so long is pinged: `--grpc-keepalive-interval`.
    pub keepalive_interval: Duration,
    /// It is closed when it stays silent for so long after the ping: `--grpc-keepalive-timeout`.
    pub keepalive_timeout: Duration,
    /// Clients that ping more often are sent away: `--grpc-keepalive-min-time`.
    pub keepalive_min_time: Duration,
    /// A new connection must have said what it speaks by then.
    pub sniff_timeout: Duration,
    /// An HTTP/1 connection must have sent the head of its next request by then.
    pub http1_idle: Duration,
    /// Calls under way get so long to end when the server stops.
    pub drain_timeout: Duration,
}

/// Concurrent calls per connection that plinth goes along with. etcd's default is "no limit"; here each call costs memory, and an
/// open stream without one is what a hostile client would ask for.
pub const STREAMS_MAX: u32 = 64 << 10;

impl Default for ConnConfig {
    fn default() -> Self {
        Self {
            message_bytes_max: (1536 << 10) + (512 << 10),
            streams_max: STREAMS_MAX,
            keepalive_interval: Duration::from_secs(2 * 3600),
            keepalive_timeout: Duration::from_secs(20),
            keepalive_min_time: Duration::from_secs(5),
            sniff_timeout: Duration::from_secs(30),
            http1_idle: Duration::from_secs(300),
            drain_timeout: Duration::from_secs(5),
        }
    }
}
