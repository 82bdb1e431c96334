//! Room: space in the tree files ahead of need, free runs given back, and what a full disk does.

use std::{path::Path, time::Duration};

use plinth_env::{Env, TaskQueue};
use plinth_tree::{GrowDone, PAGE_BYTES, PunchDone, TreeError};
use plinth_wal::WalError;

use super::{Completion, Shard};
use crate::{bootstrap::NodeError, budget::Use};

/// The part of a file's step of growth that is kept ready beyond what is dirty.
const READY_DIVISOR: u64 = 2;

/// Below this part of it, proposals wait for the growth: what is accepted in the meantime must still fit.
const LOW_DIVISOR: u64 = 8;

/// The longest value or key that a run of overflow pages is kept ready for, in bytes.
pub(super) const RUN_BYTES_MAX: usize = 2 << 20;

/// A hole moves no data: what the file system writes for it is at most this part of it.
const PUNCH_DIVISOR: usize = 64;

/// After the disk was full, growing is tried again so often.
const GROW_RETRY: Duration = Duration::from_secs(1);

impl<E: Env> Shard<E> {
    pub(super) fn ready_pages(&self) -> u64 {
        self.options.grow_bytes / READY_DIVISOR / PAGE_BYTES as u64
    }

    fn low_pages(&self) -> u64 {
        self.options.grow_bytes / LOW_DIVISOR / PAGE_BYTES as u64
    }

    /// Looks, once a turn, whether what is dirty has come close to the end of the file's space.
    pub(super) fn note_room(&mut self) {
        let (low_pages, ready_pages) = (self.low_pages(), self.ready_pages());
        let mut held_bytes_max = 0;
        for at in 0..self.groups.len() {
            let group = &mut self.groups[at];
            held_bytes_max = group.held_bytes().max(held_bytes_max);
            let room = group.store.room(RUN_BYTES_MAX);
            group.work.is_short = !room.admits_put(low_pages) && !group.work.is_disk_full;
            // Not only at the next tick: by then a busy shard would have used up what is left, and writes would wait for the growth.
            if !room.admits_put(ready_pages) {
                self.grow_if_short(at);
            }
        }
        self.budget.note_memory(held_bytes_max, self.options.dirty_bytes_max);
    }

    /// Gives long free runs back to the file system, but what growing would soon ask for again.
    pub(super) fn punch(&mut self, at: usize) {
        let group = &mut self.groups[at];
        if group.work.is_closed {
            return;
        }
        let Some(punch) = group.store.begin_punch(self.options.grow_bytes, RUN_BYTES_MAX) else { return };
        group.work.is_punching = true;
        let (completions, mut paced) = (self.completions.clone(), self.paced(Use::GiveBack));
        let paced = async move |bytes: usize| paced(bytes / PUNCH_DIVISOR).await;
        self.env.spawn(TaskQueue::Background, async move {
            completions.push(Completion::Punched(at, punch.run(paced).await));
        });
    }

    pub(super) fn handle_punched(&mut self, at: usize, done: PunchDone) -> Result<(), NodeError> {
        let group = &mut self.groups[at];
        group.work.is_punching = false;
        group.store.finish_punch(done)?;
        self.defragment(at);
        Ok(())
    }

    /// Reserves space ahead of need, so that what is admitted surely fits.
    pub(super) fn grow_if_short(&mut self, at: usize) {
        let now = self.env.now();
        let (low_pages, ready_pages) = (self.low_pages(), self.ready_pages());
        let group = &mut self.groups[at];
        let room = group.store.room(RUN_BYTES_MAX);
        if room.admits_put(ready_pages) {
            group.work.is_disk_full = false;
            return;
        }
        if group.work.is_growing || group.work.is_closed || now < group.work.grow_retry_at {
            return;
        }
        let Some(grow) = group.store.begin_grow(ready_pages, RUN_BYTES_MAX) else {
            group.work.is_disk_full = !room.admits_put(low_pages);
            return;
        };
        group.work.is_growing = true;
        let completions = self.completions.clone();
        self.env.spawn(TaskQueue::Background, async move {
            completions.push(Completion::Grown(at, grow.run().await));
        });
    }

    pub(super) fn handle_growth(&mut self, at: usize, done: GrowDone) -> Result<(), NodeError> {
        let (now, low_pages) = (self.env.now(), self.low_pages());
        let group = &mut self.groups[at];
        group.work.is_growing = false;
        match group.store.finish_grow(done) {
            Ok(()) => {
                group.work.is_disk_full = false;
                self.grow_if_short(at);
                Ok(())
            }
            Err(TreeError::StorageFull) => {
                group.work.grow_retry_at = now + GROW_RETRY;
                // What was reserved earlier may still be enough for a while.
                if !group.store.room(RUN_BYTES_MAX).admits_put(low_pages) {
                    group.work.is_disk_full = true;
                    self.raise_no_space(at);
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The log can't get another segment. What is pending waits for one, nothing new that costs space is taken, and checkpoints are forced: they
    /// release segments that can be used again.
    pub(super) fn handle_full_log(&mut self, file: &Path) {
        if !std::mem::replace(&mut self.is_log_full, true) {
            plinth_base::log_warn!(
                "no room for another segment of the log: writes that cost space are refused",
                "file" => plinth_base::log::Value::display(&file.display())
            );
        }
    }

    /// Work on the log's files is done, or found the device full.
    pub(super) fn handle_maintained(&mut self, done: plinth_wal::MaintenanceDone<E>) -> Result<(), NodeError> {
        match self.wal.finish_maintenance(done) {
            Ok(()) => self.is_log_full = false,
            Err(WalError::NoSpace { file }) => self.handle_full_log(&file),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
