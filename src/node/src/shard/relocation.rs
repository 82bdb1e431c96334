//! Emptying the tail of a tree file beside the work, so that what a group doesn't need any more goes back to the file system.
//!
//! When much of a file is free, a walk over all leaves marks as changed what lies behind the size that would do. The next checkpoint writes it
//! to the front, the tail becomes one free run, and punching gives that back. A slice looks at few leaves and loads at most what one of
//! them misses; between slices the group goes on as if nothing were.
//!
//! A crash loses a walk and nothing else: it changes where things lie, never what is said.

use std::time::Duration;

use plinth_base::{Instant, Mark};
use plinth_env::{Env, PageError, TaskQueue};
use plinth_tree::{Missing, Relocation};

use super::{Completion, Shard, growth::RUN_BYTES_MAX};
use crate::budget::Use;

/// Leaves of one slice.
const LEAVES_PER_SLICE: usize = 64;

/// A slice ends when it has made so much dirty: a leaf can hang on many long values.
const SLICE_BYTES_MAX: u64 = 1 << 20;

/// A walk reads every leaf, so the next one comes no sooner than so long after it.
const PAUSE: Duration = Duration::from_secs(600);

/// After a leaf was loaded, the walk rests: it must not fill the device's queue.
const LOAD_PAUSE: Duration = Duration::from_millis(1);

/// A group's walk.
#[derive(Default)]
pub(crate) struct TailWalk {
    relocation: Option<Relocation>,
    /// When the last one began.
    began: Option<Instant>,
    is_loading: bool,
    has_moved: bool,
}

impl TailWalk {
    pub(super) fn is_under_way(&self) -> bool {
        self.relocation.is_some()
    }

    pub(super) fn is_loading(&self) -> bool {
        self.is_loading
    }
}

impl<E: Env> Shard<E> {
    /// Begins a walk if it is worth it. To be called after a checkpoint: only then is it known what is free.
    pub(super) fn begin_relocation(&mut self, at: usize) {
        let now = self.env.now();
        let group = &mut self.groups[at];
        let sizes = group.store.sizes();
        let free_bytes = sizes.total_bytes.saturating_sub(sizes.in_use_bytes);
        let slack_bytes = self.options.tail_free_bytes_max;
        let is_worth_it = free_bytes > slack_bytes
            && free_bytes.saturating_mul(100) > sizes.total_bytes.saturating_mul(self.options.tail_free_percent_max);
        let walk = &mut group.work.tail_walk;
        let is_due = walk.relocation.is_none() && walk.began.is_none_or(|began| now.since(began) >= PAUSE);
        if !is_due || !is_worth_it {
            return;
        }
        self.begin_tail_walk(at, slack_bytes);
    }

    /// Begins a walk if anything lies behind the size that would do and `slack_bytes` more, and none is under way.
    pub(super) fn begin_tail_walk(&mut self, at: usize, slack_bytes: u64) {
        let now = self.env.now();
        let group = &mut self.groups[at];
        let walk = &mut group.work.tail_walk;
        if walk.relocation.is_some() {
            return;
        }
        walk.relocation = group.store.begin_relocation(slack_bytes);
        if walk.relocation.is_some() {
            (walk.began, walk.has_moved) = (Some(now), false);
        }
    }

    /// A slice, if there is a walk and nothing speaks against it: a checkpoint under way, a long command half done, more dirty pages than
    /// a checkpoint waits for, or so little room that it would be taken from writes.
    pub(super) fn relocate(&mut self, at: usize) {
        let ready_pages = self.ready_pages();
        let group = &mut self.groups[at];
        let dirty_bytes = group.store.dirty_bytes();
        let has_room = group.store.room(RUN_BYTES_MAX).admits_put(ready_pages);
        let walk = &mut group.work.tail_walk;
        let Some(relocation) = &mut walk.relocation else { return };
        if self.stopping.is_some()
            || walk.is_loading
            || group.work.is_closed
            || group.work.checkpoint_began.is_some()
            || !group.machine.may_publish()
            || dirty_bytes >= self.options.checkpoint_dirty_bytes
            || !has_room
        {
            return;
        }
        let mut result = Ok(false);
        for _ in 0..LEAVES_PER_SLICE {
            result = group.store.relocate(relocation, 1);
            let moved_bytes = group.store.dirty_bytes().saturating_sub(dirty_bytes);
            if !matches!(result, Ok(false)) || moved_bytes >= SLICE_BYTES_MAX {
                break;
            }
        }
        let has_moved = group.store.dirty_bytes() > dirty_bytes;
        walk.has_moved |= has_moved;
        if matches!(result, Ok(true)) {
            walk.relocation = None;
            if walk.has_moved {
                Mark::TailRelocated.hit();
                plinth_base::log_info!("the tail of a tree file was emptied", "group" => group.id.0);
            }
        }
        if has_moved {
            // A checkpoint writes what is published.
            group.publish_root();
        }
        if let Err(missing) = result {
            self.load_for_relocation(at, missing);
        }
    }

    fn load_for_relocation(&mut self, at: usize, missing: Missing) {
        let group = &mut self.groups[at];
        group.work.tail_walk.is_loading = true;
        let bytes = missing.bytes();
        let load = self.env.load_pages(group.store.pages(), missing.wants);
        let (env, completions, mut paced) = (self.env.clone(), self.completions.clone(), self.paced(Use::GiveBack));
        self.env.spawn(TaskQueue::Background, async move {
            env.sleep(LOAD_PAUSE).await;
            paced(bytes).await;
            completions.push(Completion::LoadedForRelocation(at, load.await));
        });
    }

    /// Goes on with what was loaded. What can't be read stays where it is, and the walk ends: whoever needs that page will say so, and the scrub
    /// if it is rotten on the disk.
    pub(super) fn handle_loaded_for_relocation(&mut self, at: usize, result: Result<(), PageError>) {
        let work = &mut self.groups[at].work;
        let is_awaited = work.defragmentation.is_some();
        let walk = &mut work.tail_walk;
        walk.is_loading = false;
        match result {
            Ok(()) if is_awaited => self.defragment(at),
            Ok(()) => self.relocate(at),
            Err(error) => {
                walk.relocation = None;
                let is_rotten = matches!(error, PageError::Corrupt(_));
                plinth_base::log_warn!(
                    "the tail of a tree file can't be emptied: a page can't be read",
                    "error" => plinth_base::log::Value::display(&error)
                );
                if is_rotten {
                    self.scrub_now(at);
                }
            }
        }
    }
}
