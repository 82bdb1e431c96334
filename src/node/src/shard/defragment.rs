//! Defragment: what the background does with free space when there is time, done now, and somebody told when it is through.
//!
//! Pages that were freed can be used again when both checkpoints know of it, what lies in the tail moves to the front, and long free runs are given back
//! when two more checkpoints know of these. Reads and writes go on meanwhile: nothing here is more than a slice.
//!
//! A crash loses the request and nothing else.

use std::time::Duration;

use plinth_base::Instant;
use plinth_env::{Env, TaskQueue};

use super::{Completion, Shard};
use crate::message::{Refusal, Reply, ReplyTo};

/// After so long whoever asked is told that it is done, though the work goes on: all of a large file may have to be read.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Checkpoints after which what was freed before can be used.
const CHECKPOINTS_TO_FREE: u32 = 2;

/// Checkpoints that it takes at most to write what was moved, to free where it lay, and to give that back.
const CHECKPOINTS_TO_GIVE_BACK: u32 = 5;

/// A defragmentation under way.
pub(crate) struct Defragmentation {
    stage: Stage,
    /// Who is told of its end, and when at the latest.
    waiting: Vec<(Instant, ReplyTo)>,
}

#[derive(Clone, Copy)]
enum Stage {
    /// So many checkpoints are left until it is known what is free.
    Free(u32),
    /// The tail is being emptied.
    Walk,
    /// So many checkpoints are left, if it takes them.
    GiveBack(u32),
}

impl<E: Env> Shard<E> {
    /// Begins one, or joins the one under way.
    pub(super) fn begin_defragmentation(&mut self, at: usize, reply: ReplyTo) {
        let until = self.env.now() + WAIT_MAX;
        let new = || Defragmentation { stage: Stage::Free(CHECKPOINTS_TO_FREE), waiting: Vec::new() };
        self.groups[at].work.defragmentation.get_or_insert_with(new).waiting.push((until, reply));
        self.defragment(at);
    }

    /// Goes on as far as it can: to be called whenever something ended that it may wait for.
    pub(super) fn defragment(&mut self, at: usize) {
        self.answer_impatient(at);
        let group = &self.groups[at];
        let Some(Defragmentation { stage, .. }) = group.work.defragmentation else { return };
        let is_busy = group.work.checkpoint_began.is_some() || group.work.is_punching;
        if is_busy || !group.machine.may_publish() || self.stopping.is_some() {
            return;
        }
        let has_pending = group.store.pending_bytes() > 0 || group.store.dirty_bytes() > 0;
        let has_more = has_pending || group.store.has_holes_waiting();
        let next = match stage {
            Stage::Free(left @ 1..) if has_pending => Stage::Free(left - 1),
            Stage::Free(_) => {
                self.begin_tail_walk(at, self.options.grow_bytes);
                Stage::Walk
            }
            Stage::Walk if self.groups[at].work.tail_walk.is_under_way() => Stage::Walk,
            Stage::Walk => {
                self.groups[at].store.forget_needs();
                Stage::GiveBack(CHECKPOINTS_TO_GIVE_BACK)
            }
            // The first one finds out what can be given back.
            Stage::GiveBack(left @ 1..) if has_more || left == CHECKPOINTS_TO_GIVE_BACK => Stage::GiveBack(left - 1),
            Stage::GiveBack(_) => return self.end_defragmentation(at),
        };
        if let Some(defragmentation) = &mut self.groups[at].work.defragmentation {
            defragmentation.stage = next;
        }
        match next {
            Stage::Free(_) => self.checkpoint_now(at),
            Stage::Walk => {
                self.relocate(at);
                self.defragment_later(at);
            }
            Stage::GiveBack(CHECKPOINTS_TO_GIVE_BACK) => self.defragment_later(at),
            Stage::GiveBack(_) => self.checkpoint_now(at),
        }
    }

    /// A checkpoint, whether or not there is anything to write.
    fn checkpoint_now(&mut self, at: usize) {
        self.groups[at].publish_root();
        self.start_checkpoint(at);
    }

    /// Asks for the next slice, when background work has its turn. What is being loaded asks by itself.
    fn defragment_later(&self, at: usize) {
        if self.groups[at].work.tail_walk.is_loading() {
            return;
        }
        let completions = self.completions.clone();
        self.env.spawn(TaskQueue::Background, async move { completions.push(Completion::Defragment(at)) });
    }

    /// Tells those whose time is over; the work goes on.
    fn answer_impatient(&mut self, at: usize) {
        let now = self.env.now();
        let Some(defragmentation) = &mut self.groups[at].work.defragmentation else { return };
        let late: Vec<_> = defragmentation.waiting.extract_if(.., |(until, _)| *until <= now).collect();
        self.groups[at].note_sizes();
        late.into_iter().for_each(|(_, reply)| self.answer(reply, Reply::ReadReady));
    }

    fn end_defragmentation(&mut self, at: usize) {
        let Some(ended) = self.groups[at].work.defragmentation.take() else { return };
        let group = &mut self.groups[at];
        group.note_sizes();
        let sizes = group.store.sizes();
        plinth_base::log_info!(
            "a tree file was defragmented",
            "group" => group.id.0,
            "bytes" => sizes.total_bytes,
            "in_use_bytes" => sizes.in_use_bytes
        );
        ended.waiting.into_iter().for_each(|(_, reply)| self.answer(reply, Reply::ReadReady));
    }

    /// On the way down nobody waits any longer.
    pub(super) fn refuse_defragmentation(&mut self, at: usize) {
        if let Some(ended) = self.groups[at].work.defragmentation.take() {
            ended.waiting.into_iter().for_each(|(_, reply)| self.refuse(reply, Refusal::Stopping));
        }
    }
}
