//! Removing what compactions leave behind, in the background.
//!
//! A slice removes a few changes, then the shard turns to others. While much is dirty it removes only about as many changes as were written
//! since the last slice: so a compaction of a large history hardly makes writes wait for checkpoints, and writes that never leave memory free
//! can't keep it from its end, or the history would grow for as long as they go on. It waits while a long read is under way that began
//! before the compaction.

use std::time::Duration;

use plinth_env::{Env, TaskQueue};
use plinth_kv::Budget;
use plinth_tree::remove_pages_max;

use super::{Completion, Shard};
use crate::{
    budget::Use,
    message::{Reply, ReplyTo},
};

/// Steps of one slice.
const STEPS: usize = 32;

/// Changes that one step looks at: so few that the space reserved for removals is enough for them on a full disk.
const STEP_ENTRIES: u32 = 2;

/// What a change takes along: a version, its change, and the change itself if it is a deletion.
const REMOVALS_MAX: u64 = 3;

/// How long a sweep waits before it looks again whether it may go on.
const SWEEP_PAUSE: Duration = Duration::from_millis(20);

/// Above this part of the limit for changed pages in memory a sweep keeps step with the writes.
const HELD_DIVISOR: u64 = 2;

/// It may go beyond the limit by this part of it: writes, which may not, can't take all of the memory away from it.
const OVER_DIVISOR: u64 = 8;

/// How long it pauses between slices then, and the fewest and most steps of such a slice. A shard that is busy without a break comes to it every few
/// milliseconds: with fewer steps the sweep would fall behind.
const STEPPING_PAUSE: Duration = Duration::from_millis(1);
const IN_STEP_MIN: u64 = 8;
const IN_STEP_MAX: u64 = 96;

/// How long a compaction waits for reads that began before it. A read that takes longer is told that its revision was compacted.
const READERS_WAIT_MAX: Duration = Duration::from_secs(10);

impl<E: Env> Shard<E> {
    /// Begins to remove what is compacted.
    pub(super) fn sweep_if_due(&mut self, at: usize) {
        let now = self.env.now();
        let group = &mut self.groups[at];
        if group.machine.state().is_swept() || group.work.sweep_began.is_some() {
            return;
        }
        group.work.sweep_began = Some(now);
        self.sweep_after(Duration::ZERO, at);
    }

    /// Asks for a slice, when background work has its turn after `pause`.
    fn sweep_after(&self, pause: Duration, at: usize) {
        let (env, completions) = (self.env.clone(), self.completions.clone());
        self.env.spawn(TaskQueue::Background, async move {
            if !pause.is_zero() {
                env.sleep(pause).await;
            }
            completions.push(Completion::Sweep(at));
        });
    }

    /// A slice.
    pub(super) fn sweep(&mut self, at: usize) {
        if self.stopping.is_some() {
            return;
        }
        let (now, held_bytes_max) = (self.env.now(), self.options.dirty_bytes_max);
        let group = &mut self.groups[at];
        let compacted = group.machine.state().compacted;
        let is_read = group.published.readers.oldest().is_some_and(|oldest| oldest < compacted);
        let may_wait = group.work.sweep_began.is_some_and(|began| now.since(began) < READERS_WAIT_MAX);
        if group.machine.is_applying()
            || group.held_bytes() >= held_bytes_max + held_bytes_max / OVER_DIVISOR
            || is_read && may_wait
        {
            return self.sweep_after(SWEEP_PAUSE, at);
        }
        let swept = group.machine.state().swept;
        let applied = group.applied();
        let written = applied.0 - std::mem::replace(&mut group.work.swept_at, applied).0;
        let (mut steps, mut pause) = (STEPS, Duration::ZERO);
        if group.held_bytes() >= held_bytes_max / HELD_DIVISOR {
            let in_step = (written / u64::from(STEP_ENTRIES)).clamp(IN_STEP_MIN, IN_STEP_MAX);
            (steps, pause) = (in_step as usize, STEPPING_PAUSE);
        }
        let dirty_bytes = group.store.dirty_bytes();
        let step_pages = u64::from(STEP_ENTRIES) * REMOVALS_MAX * remove_pages_max();
        let mut result = Ok(false);
        for _ in 0..steps {
            if !group.store.room(0).admits_remove(step_pages) {
                break;
            }
            let mut budget = Budget::new(STEP_ENTRIES);
            result = group.machine.sweep(&mut group.store, &mut budget);
            self.metrics.swept_changes.add(u64::from(STEP_ENTRIES - budget.left()));
            if !matches!(result, Ok(false)) {
                break;
            }
        }
        let has_moved = group.machine.state().swept != swept;
        // What it makes dirty a checkpoint will have to write.
        let changed_bytes = group.store.dirty_bytes().saturating_sub(dirty_bytes);
        pause = pause.max(self.budget.take(now, Use::Compaction, changed_bytes));
        if has_moved {
            group.note_change();
        } else {
            self.grow_if_short(at);
        }
        match result {
            Ok(true) => {
                self.note_swept(at);
                self.answer_swept(at);
            }
            Ok(false) => self.sweep_after(if has_moved { pause } else { SWEEP_PAUSE }, at),
            Err(missing) => self.load_for_sweep(at, missing),
        }
    }

    fn note_swept(&mut self, at: usize) {
        let Some(began) = self.groups[at].work.sweep_began.take() else { return };
        let took_ms = self.env.now().since(began).as_millis();
        self.metrics.sweep.observe(u64::try_from(took_ms).unwrap_or(u64::MAX));
        self.metrics.last_sweep.set(i64::try_from(self.env.unix_time().as_secs()).unwrap_or(i64::MAX));
    }

    fn load_for_sweep(&self, at: usize, missing: plinth_tree::Missing) {
        let bytes = missing.bytes();
        let load = self.env.load_pages(self.groups[at].store.pages(), missing.wants);
        let (env, completions, mut paced) = (self.env.clone(), self.completions.clone(), self.paced(Use::Compaction));
        self.env.spawn(TaskQueue::Background, async move {
            paced(bytes).await;
            if let Err(error) = load.await {
                plinth_base::log_error!(
                    "a page of the history can't be read: what is compacted stays",
                    "error" => plinth_base::log::Value::display(&error)
                );
                // Not again and again at once: the page stays what it is.
                env.sleep(READERS_WAIT_MAX).await;
            }
            completions.push(Completion::Sweep(at));
        });
    }

    /// Answers when what is compacted up to `revision` is removed.
    pub(super) fn await_sweep(&mut self, at: usize, revision: i64, reply: ReplyTo) {
        self.groups[at].work.awaiting_sweep.push((revision, reply));
        self.answer_swept(at);
    }

    fn answer_swept(&mut self, at: usize) {
        let state = self.groups[at].machine.state();
        let (is_swept, compacted, swept) = (state.is_swept(), state.compacted, state.swept.main);
        let waiting = &mut self.groups[at].work.awaiting_sweep;
        let done = waiting.extract_if(.., |(revision, _)| *revision < swept || is_swept && *revision <= compacted);
        for (_, reply) in done.collect::<Vec<_>>() {
            self.answer(reply, Reply::ReadReady);
        }
    }
}
