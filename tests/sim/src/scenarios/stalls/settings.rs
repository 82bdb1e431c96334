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

/// The least that goes in one part of a snapshot.
const PART_BYTES_LEAST: usize = 64 << 10;

/// Sizes that all members have in common.
pub(super) struct Sizes {
    segment_bytes: u64,
    catch_up_log_bytes: u64,
    checkpoint_log_bytes: u64,
    checkpoint_age: Duration,
    append_bytes_max: usize,
    window_bytes: usize,
    reads_pages: bool,
}

impl Sizes {
    /// Under load of so many bytes in a second. Records can't be those of a newer root on their way: if the log doesn't reach back so long when they have come, they
    /// are of no use. Pages can.
    pub(super) fn draw(prng: &mut Prng, load: u64) -> Self {
        let reads_pages = prng.chance(3, 4);
        let kept_millis = if reads_pages { [250, 500, 1_000, 2_000] } else { [3_000, 3_000, 4_000, 4_000] };
        Self {
            reads_pages,
            segment_bytes: [64 << 10, 128 << 10][prng.index(2)],
            catch_up_log_bytes: load * kept_millis[prng.index(4)] / 1_000,
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
        options.reads_pages = self.reads_pages;
        options.tail_bytes_max = 64 << 20;
        // Not all of a snapshot at once, and not so little that it takes longer than the log is kept.
        options.snapshot_part_bytes = options.snapshot_part_bytes.max(PART_BYTES_LEAST);
        // Not what this is about.
        options.scrub_interval = Duration::from_secs(6);
        options.apply_budget = options.apply_budget.max(64);
    }
}
