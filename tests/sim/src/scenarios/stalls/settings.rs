//! What the members are set to: limits of stalls, and sizes so small that who was away for a moment needs a snapshot.

use std::time::Duration;

use plinth_base::Prng;
use plinth_node::ShardOptions;

use crate::scenarios::cluster::Settings;

/// When a batch of the log is late, and when it is stuck.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) soft: Duration,
    pub(super) hard: Duration,
}

/// In eighths of the election timeout. What is left beyond the hard limit is for the hand-over.
const LIMITS: [(u32, u32); 5] = [(4, 6), (4, 6), (2, 4), (3, 6), (4, 4)];

pub(super) fn draw(prng: &mut Prng) -> (Settings, Limits) {
    let election_timeout = Duration::from_millis([400, 1_000, 1_000, 2_000][prng.index(4)]);
    let settings = Settings {
        election_timeout,
        heartbeat_interval: election_timeout / [10, 10, 5][prng.index(3)],
        quota_bytes: None,
        // What is claimed is exact.
        drift_millionths: 0,
    };
    let (soft, hard) = LIMITS[prng.index(LIMITS.len())];
    (settings, Limits { soft: election_timeout * soft / 8, hard: election_timeout * hard / 8 })
}

/// Sizes that all members have in common.
pub(super) struct Sizes {
    segment_bytes: u64,
    catch_up_log_bytes: u64,
    checkpoint_log_bytes: u64,
    checkpoint_age: Duration,
    append_bytes_max: usize,
    window_bytes: usize,
}

impl Sizes {
    /// Under load of so many bytes in a second, for which the log reaches back a few seconds: a snapshot whose transfer takes longer than twice that is of no use when
    /// it has come.
    pub(super) fn draw(prng: &mut Prng, load: u64) -> Self {
        Self {
            segment_bytes: [64 << 10, 128 << 10][prng.index(2)],
            catch_up_log_bytes: load * [1, 2][prng.index(2)],
            checkpoint_log_bytes: [64 << 10, 128 << 10][prng.index(2)],
            checkpoint_age: Duration::from_millis([500, 2_000][prng.index(2)]),
            append_bytes_max: [20_000, 512 << 10][prng.index(2)],
            window_bytes: [64 << 10, 4 << 20][prng.index(2)],
        }
    }

    /// The rest is each member's own.
    pub(super) fn apply(&self, options: &mut ShardOptions, limits: Limits) {
        (options.stall_soft, options.stall_hard) = (limits.soft, limits.hard);
        options.segment_bytes = self.segment_bytes;
        options.catch_up_log_bytes = self.catch_up_log_bytes;
        options.checkpoint_log_bytes = self.checkpoint_log_bytes;
        options.checkpoint_age = self.checkpoint_age;
        options.append_bytes_max = self.append_bytes_max;
        options.window_bytes = self.window_bytes;
        options.tail_bytes_max = 64 << 20;
        // Not what this is about.
        options.scrub_interval = Duration::from_secs(6);
        options.apply_budget = options.apply_budget.max(64);
    }
}
