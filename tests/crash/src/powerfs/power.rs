//! The disk and its power: on, with an image that requests change, or off for good.
//!
//! Invariant: one lock guards the image, the power and the syncs under way; a request is answered either wholly before the
//! cut or, failing with EIO, wholly after it. A sync takes effect when it is answered.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fuser::Errno;

use super::{
    Stats, Survivor,
    image::{FsError, Image},
};

/// A thread's writes with O_DSYNC whose FUSE_FSYNC has not come yet, by inode and thread.
pub(super) type DsyncWrites = BTreeMap<(u64, u32), Vec<Range<u64>>>;

enum Power {
    On(Image),
    /// What survived, until it is fetched.
    Off(Option<Survivor>),
}

struct State {
    power: Power,
    dsync_writes: DsyncWrites,
    /// Changes until the power goes by itself, and the seed of that cut.
    countdown: Option<(u64, u64)>,
    stats: Stats,
}

/// The disk behind a mount.
pub(super) struct Disk {
    state: Mutex<State>,
    sync_delay_ns: AtomicU64,
}

impl Disk {
    pub(super) fn new(image: Image) -> Self {
        let state =
            State { power: Power::On(image), dsync_writes: BTreeMap::new(), countdown: None, stats: Stats::default() };
        Self { state: Mutex::new(state), sync_delay_ns: AtomicU64::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn cut(&self, seed: u64) -> Survivor {
        let mut state = self.state();
        state.cut(seed);
        match &mut state.power {
            Power::Off(survivor) => survivor.take().expect("the survivor of a cut is fetched once"),
            Power::On(_) => unreachable!("the power was just cut"),
        }
    }

    pub(super) fn cut_after(&self, changes: u64, seed: u64) {
        self.state().countdown = Some((changes, seed));
    }

    pub(super) fn is_cut(&self) -> bool {
        matches!(self.state().power, Power::Off(_))
    }

    pub(super) fn set_sync_delay(&self, delay: Duration) {
        self.sync_delay_ns.store(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn set_capacity(&self, bytes: u64) {
        if let Power::On(image) = &mut self.state().power {
            image.set_capacity(bytes);
        }
    }

    pub(super) fn stats(&self) -> Stats {
        self.state().stats
    }

    /// An operation that changes nothing.
    pub(super) fn look<T>(&self, op: impl FnOnce(&Image) -> Result<T, FsError>) -> Result<T, Errno> {
        match &self.state().power {
            Power::On(image) => Ok(op(image)?),
            Power::Off(_) => Err(Errno::EIO),
        }
    }

    /// An operation that changes or syncs something; the power may go before it.
    pub(super) fn change<T>(
        &self,
        op: impl FnOnce(&mut Image, &mut DsyncWrites, &mut Stats) -> Result<T, FsError>,
    ) -> Result<T, Errno> {
        let mut state = self.state();
        state.count_down();
        let State { power, dsync_writes, stats, .. } = &mut *state;
        match power {
            Power::On(image) => Ok(op(image, dsync_writes, stats)?),
            Power::Off(_) => Err(Errno::EIO),
        }
    }

    pub(super) fn sync<T>(
        &self,
        op: impl FnOnce(&mut Image, &mut DsyncWrites, &mut Stats) -> Result<T, FsError>,
    ) -> Result<T, Errno> {
        let delay = Duration::from_nanos(self.sync_delay_ns.load(Ordering::Relaxed));
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        self.change(op)
    }
}

impl State {
    fn cut(&mut self, seed: u64) {
        if let Power::On(image) = &mut self.power {
            let (image, report) = std::mem::take(image).cut(seed);
            self.power = Power::Off(Some(Survivor { image, report }));
        }
    }

    fn count_down(&mut self) {
        if let Some((left, seed)) = &mut self.countdown {
            *left = left.saturating_sub(1);
            if *left == 0 {
                let seed = *seed;
                self.cut(seed);
            }
        }
    }
}
