//! A machine's monotonic clock: as fast as virtual time, or a little faster or slower. It never goes back.

use std::rc::Rc;

use plinth_base::Instant;

use crate::exec::World;

/// The rate of a clock that is right, in millionths.
pub(crate) const RIGHT: u64 = 1_000_000;

/// What a machine's clock shows, and how fast it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostClock {
    /// Virtual time when the rate was set.
    since_ns: u64,
    /// What it showed then.
    shown_ns: u64,
    rate_millionths: u64,
}

impl HostClock {
    pub(crate) const fn new(now_ns: u64) -> Self {
        Self { since_ns: now_ns, shown_ns: now_ns, rate_millionths: RIGHT }
    }

    /// What it shows at a moment of virtual time.
    pub(crate) fn shown(self, world_ns: u64) -> u64 {
        let passed = u128::from(world_ns - self.since_ns) * u128::from(self.rate_millionths) / u128::from(RIGHT);
        self.shown_ns.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// The first moment of virtual time at which it shows `shown_ns`, if its rate stays.
    pub(crate) fn when(self, shown_ns: u64) -> u64 {
        let left = u128::from(shown_ns.saturating_sub(self.shown_ns)) * u128::from(RIGHT);
        let passed = left.div_ceil(u128::from(self.rate_millionths));
        self.since_ns.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    pub(crate) fn set_rate(&mut self, world_ns: u64, rate_millionths: u64) {
        assert!(rate_millionths > 0, "a clock that stands still wakes nobody");
        *self = Self { since_ns: world_ns, shown_ns: self.shown(world_ns), rate_millionths };
    }
}

/// Virtual time itself, for those who look on from outside: no machine's clock has any part in it.
#[derive(Clone)]
pub struct SimClock(pub(crate) Rc<World>);

impl SimClock {
    /// The same as all machines' clocks show that were never made faster or slower.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.now()
    }
}

impl std::fmt::Debug for SimClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SimClock").field(&self.now()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_found_again_at_every_rate() {
        for rate in [RIGHT, 950_000, 1_050_000, 999_999, 3] {
            let mut clock = HostClock::new(3_600);
            clock.set_rate(5_000, rate);
            for shown in [5_000, 5_001, 6_789, 1 << 40] {
                let at = clock.when(shown);
                assert!(clock.shown(at) >= shown, "{shown} at {rate}");
                assert!(at == 5_000 || clock.shown(at - 1) < shown, "{shown} at {rate}");
            }
        }
    }

    #[test]
    fn a_new_rate_changes_nothing_that_was_shown() {
        let mut clock = HostClock::new(0);
        clock.set_rate(0, 2 * RIGHT);
        assert_eq!(clock.shown(100), 200);
        clock.set_rate(100, RIGHT / 2);
        assert_eq!((clock.shown(100), clock.shown(120)), (200, 210));
        assert_eq!(clock.when(u64::MAX), u64::MAX);
    }
}
