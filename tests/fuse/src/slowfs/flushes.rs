//! What a flush has to go through before it is carried out.

use std::{
    collections::HashSet,
    io,
    ops::RangeInclusive,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use fuser::Errno;
use plinth_base::Prng;

use super::Stats;

/// Slowness is drawn from this, so that a run is like the one before.
const SEED: u64 = 1;

struct State {
    /// No flush ends before that.
    stuck_until: Option<Instant>,
    /// The next flush takes so long.
    next: Option<Duration>,
    /// Each flush takes so much longer.
    slowness: Option<RangeInclusive<Duration>>,
    /// Flushes fail.
    is_broken: bool,
    /// How often the disk was made sound; flushes that began before wait no longer.
    heals: u64,
    waiting: usize,
    /// Files, by number, and the threads that wrote to them with O_DSYNC: these writes are flushed.
    dsync_writers: HashSet<(u64, u32)>,
    prng: Prng,
    stats: Stats,
}

/// See the module.
pub(super) struct Flushes {
    state: Mutex<State>,
    changed: Condvar,
}

/// A flush under way.
pub(super) struct Flush {
    /// It doesn't end before that, whatever holds for all.
    due: Option<Instant>,
    heals: u64,
}

impl Default for Flushes {
    fn default() -> Self {
        let state = State {
            stuck_until: None,
            next: None,
            slowness: None,
            is_broken: false,
            heals: 0,
            waiting: 0,
            dsync_writers: HashSet::new(),
            prng: Prng::new(SEED),
            stats: Stats::default(),
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl State {
    /// When this flush may end, if that is later than `now`.
    fn due(&self, flush: &Flush, now: Instant) -> Option<Instant> {
        if self.heals != flush.heals {
            return None;
        }
        flush.due.max(self.stuck_until).filter(|due| *due > now)
    }
}

impl Flushes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stick(&self, duration: Duration) {
        self.state().stuck_until = Some(Instant::now() + duration);
        self.changed.notify_all();
    }

    pub(super) fn stick_next(&self, duration: Duration) {
        self.state().next = Some(duration);
    }

    pub(super) fn slow_down(&self, by: RangeInclusive<Duration>) {
        self.state().slowness = Some(by);
    }

    pub(super) fn fail(&self) {
        self.state().is_broken = true;
    }

    pub(super) fn heal(&self) {
        let mut state = self.state();
        (state.stuck_until, state.next, state.slowness, state.is_broken) = (None, None, None, false);
        state.heals += 1;
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn waiting(&self) -> usize {
        self.state().waiting
    }

    pub(super) fn stats(&self) -> Stats {
        self.state().stats
    }

    pub(super) fn note_write(&self, is_dsync: bool) {
        let stats = &mut self.state().stats;
        stats.writes += 1;
        stats.dsync_writes += u64::from(is_dsync);
    }

    /// A thread's write with O_DSYNC is flushed and about to be answered.
    pub(super) fn note_dsync(&self, by: (u64, u32)) {
        self.state().dsync_writers.insert(by);
    }

    /// Whether a thread's sync of a file is the one that the kernel sends behind its write with O_DSYNC, which is flushed.
    pub(super) fn take_dsync(&self, by: (u64, u32)) -> bool {
        self.state().dsync_writers.remove(&by)
    }

    /// A flush arrives; it also says whether it has to wait.
    pub(super) fn begin(&self) -> (Flush, bool) {
        let mut state = self.state();
        let (now, state) = (Instant::now(), &mut *state);
        let slowness = state.slowness.as_ref().map(|range| drawn(range, &mut state.prng));
        let longest = slowness.max(state.next.take());
        let flush = Flush { due: longest.map(|longest| now + longest), heals: state.heals };
        let has_to_wait = state.due(&flush, now).is_some();
        (flush, has_to_wait)
    }

    /// Waits until a flush may end.
    pub(super) fn wait(&self, flush: &Flush) {
        let mut state = self.state();
        state.waiting += 1;
        loop {
            let now = Instant::now();
            let Some(due) = state.due(flush, now) else { break };
            state = self.changed.wait_timeout(state, due - now).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.waiting -= 1;
    }

    /// Carries out a flush whose time has come, unless flushes fail.
    pub(super) fn finish(&self, sync: impl FnOnce() -> io::Result<()>) -> Result<(), Errno> {
        let is_broken = self.state().is_broken;
        let outcome = if is_broken { Err(Errno::EIO) } else { sync().map_err(Errno::from) };
        let stats = &mut self.state().stats;
        *(if outcome.is_ok() { &mut stats.flushes } else { &mut stats.flushes_failed }) += 1;
        outcome
    }
}

/// A time within the range, to the microsecond.
fn drawn(range: &RangeInclusive<Duration>, prng: &mut Prng) -> Duration {
    let width_us = range.end().saturating_sub(*range.start()).as_micros();
    let width_us = u64::try_from(width_us).expect("no flush takes centuries");
    *range.start() + Duration::from_micros(prng.below(width_us + 1))
}
