//! What the members of a seed's cluster are set to, and the times that follow from it.

use std::time::Duration;

use plinth_base::Prng;
use plinth_node::api::request_timeout;

/// The same for all members, as etcd wants it.
#[derive(Clone, Copy, Debug)]
pub(in crate::scenarios) struct Settings {
    pub(in crate::scenarios) election_timeout: Duration,
    pub(in crate::scenarios) heartbeat_interval: Duration,
    /// The space quota, in bytes of the tree file.
    pub(in crate::scenarios) quota_bytes: Option<u64>,
    /// The members' clocks are right up to so many millionths.
    pub(in crate::scenarios) drift_millionths: u32,
}

impl Settings {
    pub(in crate::scenarios) fn draw(prng: &mut Prng) -> Self {
        let election_timeout = Duration::from_millis([400, 1_000, 1_000, 2_000][prng.index(4)]);
        Self {
            election_timeout,
            heartbeat_interval: election_timeout / [10, 10, 4][prng.index(3)],
            quota_bytes: [None, None, None, Some(600 << 10)][prng.index(4)],
            drift_millionths: [0, 0, 1_000, 50_000][prng.index(4)],
        }
    }

    pub(in crate::scenarios) fn request_timeout(&self) -> Duration {
        request_timeout(self.election_timeout)
    }

    /// When nothing goes wrong any more, every member takes writes within this.
    pub(in crate::scenarios) fn progress_max(&self) -> Duration {
        Duration::from_secs(14) + 6 * self.election_timeout
    }

    /// Whoever was away is connected again, and has spoken with everybody, after this.
    pub(in crate::scenarios) fn back_within(&self) -> Duration {
        (self.election_timeout * 3 / 2).max(Duration::from_millis(1_500))
    }

    /// What was under way when the clients ended has come to its end after this.
    pub(in crate::scenarios) fn settled_after(&self) -> Duration {
        self.request_timeout() + Duration::from_secs(2)
    }
}
