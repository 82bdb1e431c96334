//! Segments that are no longer needed, and the next one made ready ahead of need.
//!
//! A segment goes when every group has released all its entries there and before. Groups that are quiet hold none: a later
//! segment's state records carry them.
//!
//! Invariant: segments go one at a time, oldest first, each durable before the next, so that a crash never leaves a gap.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
};

use plinth_base::{GroupId, LogIndex, Mark};
use plinth_env::{Env, SyncMethod};

use crate::{
    commit::NO_SPACE_PAUSE,
    error::WalError,
    log::{NextSegment, Wal},
    segment,
};

/// The next segment is made ready once this part of the present one is used.
const PREPARE_AT_DIVISOR: u64 = 4;

enum Task {
    /// Make the next segment ready.
    Prepare { target: PathBuf, spare: Option<PathBuf>, segment_bytes: u64 },
    /// Keep a released segment for later.
    Recycle { from: PathBuf, to: PathBuf },
    /// Remove a released segment.
    Remove { path: PathBuf },
}

/// One piece of work on the log's files, apart from the log and its flushes; belongs in the background.
#[must_use = "the log starts no other maintenance, and perhaps no segment, before this one has ended"]
pub struct Maintenance<E: Env> {
    env: E,
    dir: PathBuf,
    sync_method: SyncMethod,
    task: Task,
}

/// What came of a [`Maintenance`]; goes to `Wal::finish_maintenance`.
#[must_use = "the log starts no other maintenance before it knows how this one ended"]
pub struct MaintenanceDone<E: Env> {
    task: Task,
    result: Result<Option<E::File>, WalError>,
}

impl<E: Env> Maintenance<E> {
    /// Does it; durable when it returns. After each write of a new segment's zeroes `pace` is called with its bytes; the next one waits for it.
    /// The log waits for the segment only when the one under way is full.
    pub async fn run(self, mut pace: impl AsyncFnMut(u64)) -> MaintenanceDone<E> {
        let Self { env, dir, sync_method, task } = self;
        let result = match &task {
            Task::Prepare { target, spare, segment_bytes } => {
                let spare = spare.as_deref();
                segment::prepare(&env, target, spare, *segment_bytes, sync_method, &mut pace).await.map(Some)
            }
            Task::Recycle { from, to } => {
                let renamed = env.rename(from, to).await.map_err(WalError::io(from, "renaming"));
                sync_after(&env, &dir, renamed).await
            }
            Task::Remove { path } => {
                let removed = env.remove_file(path).await.map_err(WalError::io(path, "removing"));
                sync_after(&env, &dir, removed).await
            }
        };
        MaintenanceDone { task, result }
    }
}

async fn sync_after<F, E: Env<File = F>>(
    env: &E,
    dir: &Path,
    change: Result<(), WalError>,
) -> Result<Option<F>, WalError> {
    change?;
    env.sync_dir(dir).await.map_err(WalError::io(dir, "syncing"))?;
    Ok(None)
}

impl<E: Env> Wal<E> {
    /// `group` needs its entries up to `through` no longer: they are in a durable checkpoint that nothing can take back. More than the
    /// durable log holds counts as all of it.
    pub fn release(&mut self, group: GroupId, through: LogIndex) {
        if let Some(state) = self.groups.get_mut(&group) {
            state.release(through);
        }
    }

    /// The group whose entries hold the oldest segment, and how many bytes of log are kept from there on. `None` if every entry has
    /// been released. A checkpoint of that group lets the log shrink.
    #[must_use]
    pub fn oldest_holder(&self) -> Option<(GroupId, u64)> {
        let holds = |(&group, state): (&GroupId, &crate::group::Group)| Some((state.oldest_segment_needed()?, group));
        let (oldest, group) = self.groups.iter().filter_map(holds).min()?;
        let kept = self.segments.iter().filter(|segment| segment.sequence >= oldest);
        Some((group, kept.map(|segment| segment.end.get()).sum()))
    }

    /// The first segment that must stay.
    fn oldest_needed(&self) -> u64 {
        let groups = self.groups.values().filter_map(crate::group::Group::oldest_segment_needed);
        let split = self.split_begin.map(|place| place.segment);
        groups.chain(split).chain([self.active().sequence]).min().expect("the one under way is always needed")
    }

    /// Takes the next piece of work on files, to be run in the background; `None` if there is none, or one is under way.
    pub fn begin_maintenance(&mut self) -> Option<Maintenance<E>> {
        if self.is_poisoned || self.maintenance.is_some() {
            return None;
        }
        let task = self.plan_prepare().or_else(|| self.plan_recycle())?;
        self.maintenance = Some(matches!(task, Task::Prepare { .. }));
        Some(Maintenance {
            env: self.env.clone(),
            dir: self.options.dir.clone(),
            sync_method: self.options.sync_method,
            task,
        })
    }

    fn plan_prepare(&mut self) -> Option<Task> {
        let active = self.active();
        // A log of one segment has nothing to recycle: should the disk fill up, it needs a second one to go on with what it releases.
        let is_alone = self.segments.len() == 1 && self.spares.is_empty();
        let is_due = self.must_rotate || is_alone || active.end.get() >= active.bytes / PREPARE_AT_DIVISOR;
        let is_beginning = self.in_flight.as_ref().is_some_and(|flight| flight.fresh.is_some());
        if self.next.is_some() || !is_due || is_beginning {
            return None;
        }
        let target = segment::segment_path(&self.options.dir, active.sequence + 1);
        let spare = self.spares.pop();
        if spare.is_none() && self.space_retry_at.is_some_and(|at| at > self.env.now()) {
            return None;
        }
        Some(Task::Prepare { target, spare, segment_bytes: self.options.segment_bytes })
    }

    fn plan_recycle(&mut self) -> Option<Task> {
        let oldest = self.segments.front()?;
        // A reader holds it too, or so does the log itself.
        if oldest.sequence >= self.oldest_needed() || Rc::strong_count(oldest) > 1 {
            return None;
        }
        let gone = self.segments.pop_front()?;
        for group in self.groups.values_mut() {
            group.forget_segment(gone.sequence);
        }
        if self.spares.len() < self.options.spares_max && gone.bytes == self.options.segment_bytes {
            let to = segment::spare_path(&self.options.dir, gone.sequence);
            Some(Task::Recycle { from: gone.path.clone(), to })
        } else {
            Some(Task::Remove { path: gone.path.clone() })
        }
    }

    /// Takes the outcome. `NoSpace` is no harm yet: the log tries again after a while, and needs the segment only when the present
    /// one is full. Every other error is final: the log is poisoned and the node must stop.
    pub fn finish_maintenance(&mut self, done: MaintenanceDone<E>) -> Result<(), WalError> {
        assert!(self.maintenance.take().is_some(), "maintenance was under way");
        let file = match done.result {
            Ok(file) => file,
            Err(error @ WalError::NoSpace { .. }) => {
                self.space_retry_at = Some(self.env.now() + NO_SPACE_PAUSE);
                return Err(error);
            }
            Err(error) => {
                self.is_poisoned = true;
                return Err(error);
            }
        };
        match done.task {
            Task::Prepare { spare, segment_bytes, .. } => {
                if spare.is_some() {
                    Mark::SegmentRecycled.hit();
                }
                self.space_retry_at = None;
                self.next = file.map(|file| NextSegment { file, bytes: segment_bytes });
            }
            Task::Recycle { to, .. } => self.spares.push(to),
            Task::Remove { .. } => self.space_retry_at = None,
        }
        Ok(())
    }
}
