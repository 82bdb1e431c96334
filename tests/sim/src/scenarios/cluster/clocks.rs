//! Clocks that are wrong: the wall clock jumps, the monotonic one is too fast or too slow.

use std::time::Duration;

use super::Run;

/// Of a clock that is right, in millionths.
const RIGHT: u64 = 1_000_000;

/// How far the wall clock is set forward or back, at most.
const JUMP_SECONDS_MAX: u64 = 400 * 24 * 3600;

impl Run {
    pub(super) fn disturb_clock(&mut self, host: usize) {
        if self.settings.drift_millionths == 0 || self.prng.chance(1, 2) {
            self.observed.note("clock set");
            let unix = self.prng.below(2 * JUMP_SECONDS_MAX) + 1_700_000_000 - JUMP_SECONDS_MAX;
            self.sim.host(host).set_unix_time(Duration::from_secs(unix));
        } else {
            self.observed.note("clock drifts");
            self.drift(host);
        }
    }

    /// Its monotonic clock is as fast as may be, as slow, or something in between.
    pub(super) fn drift(&mut self, host: usize) {
        let most = u64::from(self.settings.drift_millionths);
        let offset = match self.prng.below(3) {
            0 => 0,
            1 => 2 * most,
            _ => self.prng.below(2 * most + 1),
        };
        self.sim.host(host).set_clock_rate(RIGHT - most + offset);
    }
}
