//! What a shard does beside its turns: checkpoints, what only time changes, the clean stop.
//!
//! Each is a task in the background queue whose end is a completion. A checkpoint starts when the log or the dirty pages have grown enough, when the last one
//! is old, or when its group holds the oldest segment of a long log; it is begun only if its pages surely fit into the file.

use std::{sync::Arc, time::Duration};

use plinth_base::{Instant, LogIndex, Mark, bug};
use plinth_env::{Env, TaskQueue};
use plinth_kv::{AlarmKind, State};
use plinth_raft::{HardState, Input};
use plinth_tree::{CheckpointDone, CheckpointStates, PAGE_BYTES};

use super::{
    Completion, Shard,
    defragment::Defragmentation,
    memory_pace::MemoryPace,
    pace::SegmentPace,
    proposals::{AskedAlarm, Held},
    relocation::TailWalk,
    scrub::Scrub,
    send_answer,
};
use crate::{
    bootstrap::NodeError,
    budget::Use,
    group::Group,
    message::{Refusal, Reply, ReplyTo},
};

/// Nodes that one slice moves from memory to their pages after a checkpoint.
const SETTLE_NODES: usize = 256;

/// With so much to be freed by it a checkpoint is made although there is nothing to write.
const PENDING_BYTES_MAX: u64 = 1 << 20;

/// How long after a checkpoint the next one comes of a store that nobody writes to, if pages wait for it to be free. Two of them free what was removed.
const IDLE_CHECKPOINT_AGE: Duration = Duration::from_secs(5);

/// How long settling waits for a long command that is half done.
const SETTLE_PAUSE: Duration = Duration::from_millis(1);

/// The log may be so many times the bytes that start a checkpoint before the group that holds its oldest segment is forced.
const LOG_FACTOR_MAX: u64 = 3;

/// A member that doesn't lead keeps less of the log for the others, by this.
const FOLLOWER_KEEPS_DIVISOR: u64 = 16;

/// A group's background work.
pub(crate) struct BackgroundWork {
    /// Bytes of the log since the last checkpoint began.
    pub(crate) log_bytes: u64,
    /// The newest hard state that is durable.
    pub(crate) durable_hard_state: HardState,
    /// The file is about to be full: proposals wait until it has grown, or can't.
    pub(crate) is_short: bool,
    /// Since when what is compacted is being removed.
    pub(super) sweep_began: Option<Instant>,
    /// What was applied at the last slice of it.
    pub(super) swept_at: LogIndex,
    /// Who waits for that: to which revision it was compacted.
    pub(super) awaiting_sweep: Vec<(i64, ReplyTo)>,
    /// What lies in the tail of the file is moved to the front.
    pub(super) tail_walk: TailWalk,
    /// Somebody has asked for all free space to be given back.
    pub(super) defragmentation: Option<Defragmentation>,
    pub(super) is_punching: bool,
    /// The file can't grow.
    pub(crate) is_disk_full: bool,
    /// A checkpoint is due, and waits until the log is as far as what is applied.
    pub(crate) checkpoint_is_held: bool,
    /// Another tree is about to take this one's place: nothing new begins on it.
    pub(crate) is_closed: bool,
    /// It does so now: raft hears nothing.
    pub(crate) is_placing: bool,
    /// What both checkpoints hold.
    checkpointed: LogIndex,
    /// Up to here the log was told that nobody needs it.
    released: LogIndex,
    pub(super) no_space_alarm: AskedAlarm,
    pub(super) corrupt_alarm: AskedAlarm,
    /// Its file is proven all over again, all the time.
    pub(super) scrub: Scrub,
    /// The newest checkpoint is known to be whole. Until then nothing replaces the older one, and the log behind it stays.
    is_verified: bool,
    /// Proving it begins when this entry is applied: what the last process logged comes first, because clients wait for it.
    verify_after: Option<LogIndex>,
    pub(super) checkpoint_began: Option<Instant>,
    pub(super) memory_pace: MemoryPace,
    last_checkpoint: Instant,
    pub(super) grow_retry_at: Instant,
    pub(super) is_growing: bool,
    is_settling: bool,
}

impl BackgroundWork {
    /// `last`: the newest entry in the log. `is_verified`: the last stop was clean.
    pub(crate) fn new(hard_state: HardState, last: LogIndex, now: Instant, is_verified: bool) -> Self {
        Self {
            log_bytes: 0,
            durable_hard_state: hard_state,
            is_short: false,
            sweep_began: None,
            swept_at: LogIndex(0),
            awaiting_sweep: Vec::new(),
            tail_walk: TailWalk::default(),
            defragmentation: None,
            is_punching: false,
            is_disk_full: false,
            checkpoint_is_held: false,
            is_closed: false,
            is_placing: false,
            checkpointed: LogIndex(0),
            released: LogIndex(0),
            no_space_alarm: AskedAlarm::default(),
            corrupt_alarm: AskedAlarm::default(),
            scrub: Scrub::default(),
            is_verified,
            verify_after: (!is_verified).then_some(last),
            checkpoint_began: None,
            memory_pace: MemoryPace::default(),
            last_checkpoint: now,
            grow_retry_at: Instant::default(),
            is_growing: false,
            is_settling: false,
        }
    }

    /// What those who wait for the work of `before` wait for goes on here.
    pub(crate) fn take_over(&mut self, before: &mut Self) {
        self.awaiting_sweep = std::mem::take(&mut before.awaiting_sweep);
        self.defragmentation = before.defragmentation.take();
        self.scrub.take_over(&before.scrub);
    }

    /// Has the newest checkpoint proven before everything is applied.
    pub(super) fn verify_now(&mut self) {
        if let Some(after) = &mut self.verify_after {
            *after = LogIndex(0);
        }
    }

    /// Nothing is under way on the tree's file.
    pub(super) fn is_quiet(&self) -> bool {
        let is_writing = self.checkpoint_began.is_some() || self.is_growing || self.is_punching;
        self.is_verified && !is_writing && !self.tail_walk.is_loading() && !self.is_settling
    }

    /// Whether its file may be scrubbed. A slice reads a file of its own and is in nobody's way: it counts for nothing here.
    pub(super) fn may_scrub(&self) -> bool {
        self.is_verified && !self.is_closed && !self.is_placing
    }

    /// Whether something is under way after which fewer pages are in memory.
    pub(super) fn makes_room(&self) -> bool {
        !self.is_verified || self.checkpoint_began.is_some() || self.is_settling
    }
}

impl<E: Env> Shard<E> {
    /// What a task calls with the bytes of each piece that it reads or writes: the log goes first.
    pub(super) fn paced(&self, what: Use) -> impl AsyncFnMut(usize) + use<E> {
        let (env, budget) = (self.env.clone(), Arc::clone(&self.budget));
        async move |bytes: usize| env.sleep(budget.take(env.now(), what, bytes as u64)).await
    }

    /// Starts what is due, as the end of a turn.
    pub(super) fn start_background(&mut self) {
        if let Some(maintenance) = self.wal.begin_maintenance() {
            let (env, completions) = (self.env.clone(), self.completions.clone());
            let mut pace = SegmentPace::new(&self.budget);
            self.env.spawn(TaskQueue::Background, async move {
                let paced = async |bytes: u64| env.sleep(pace.pause(env.now(), bytes)).await;
                completions.push(Completion::Maintained(maintenance.run(paced).await));
            });
        }
        for at in 0..self.groups.len() {
            self.verify_if_due(at);
            self.sweep_if_due(at);
            let group = &self.groups[at];
            let is_due = group.work.log_bytes >= self.options.checkpoint_log_bytes
                || group.store.dirty_bytes() >= self.options.checkpoint_dirty_bytes;
            // It would end the settling, and what is left of that stays in memory until the settling after it.
            if is_due && !group.work.is_settling {
                self.start_checkpoint(at);
            }
        }
    }

    /// After anything but a clean stop, the pages of the newest checkpoint are read and proven beside the work.
    fn verify_if_due(&mut self, at: usize) {
        let group = &mut self.groups[at];
        let applied = group.applied();
        if group.work.verify_after.take_if(|last| *last <= applied).is_none() {
            return;
        }
        let verify = group.store.begin_verify();
        // No checkpoint begins before it has ended: it must not take longer than one.
        let (completions, paced) = (self.completions.clone(), self.paced(Use::Checkpoint));
        self.env.spawn(TaskQueue::Background, async move {
            completions.push(Completion::Verified(at, verify.run(paced).await));
        });
    }

    pub(super) fn handle_verified(&mut self, at: usize, pages: u64) {
        self.groups[at].work.is_verified = true;
        plinth_base::log_info!("the newest checkpoint is whole", "pages" => pages);
    }

    /// What only time changes.
    pub(super) fn handle_tick(&mut self) {
        let now = self.env.now();
        self.start_flush();
        let quiet = now.since(self.last_logged);
        if quiet >= self.options.seal_after
            && let Some(seal) = self.wal.begin_seal()
        {
            self.run_flush(seal);
        }
        self.force_oldest();
        self.look_after_outgoing();
        self.look_after_recovering();
        self.note_catch_ups();
        self.look_after_incoming();
        self.dismiss_members();
        let forgotten =
            Instant(now.0.saturating_sub(u64::try_from(self.options.request_timeout.as_nanos()).unwrap_or(u64::MAX)));
        for at in 0..self.groups.len() {
            self.release_log(at);
            let group = &mut self.groups[at];
            group.forget(forgotten);
            group.store.release_pages();
            group.published.status.set_pending(group.store.pending_bytes());
            group.note_sizes();
            let raised = group.machine.state().alarms.iter().any(|(_, kind)| *kind == AlarmKind::NoSpace);
            if raised {
                group.work.no_space_alarm.forget();
            }
            let age = now.since(group.work.last_checkpoint);
            // Also with changes that are not written yet, if they are the last ones: what a sweep leaves behind, for example.
            let is_idle = group.store.dirty_bytes() == 0 || quiet >= IDLE_CHECKPOINT_AGE;
            let age_max = self.options.checkpoint_age.min(if is_idle { IDLE_CHECKPOINT_AGE } else { Duration::MAX });
            if age >= age_max {
                self.start_aged_checkpoint(at);
            }
            self.expire_leases(at);
            self.relocate(at);
            self.defragment(at);
            self.grow_if_short(at);
            self.scrub_if_due(at);
            self.raise_corrupt_if_owed(at);
            if self.groups[at].store.branch_bytes() > self.options.branch_bytes_max {
                self.begin_settling(at);
            }
        }
        self.note_memory();
    }

    fn note_memory(&self) {
        let sum =
            |bytes: fn(&Group<E>) -> u64| i64::try_from(self.groups.iter().map(bytes).sum::<u64>()).unwrap_or(i64::MAX);
        self.metrics.changed_page_bytes.set(sum(Group::held_bytes));
        self.metrics.branch_bytes.set(sum(|group| group.store.branch_bytes()));
    }

    /// A group that changes little can hold the log's oldest segment for long: its trees are written although nothing much is in them. So are those
    /// of any group when the log can't grow.
    fn force_oldest(&mut self) {
        if !self.is_log_full && self.wal.stats().disk_bytes < LOG_FACTOR_MAX * self.options.checkpoint_log_bytes {
            return;
        }
        let Some((group, _)) = self.wal.oldest_holder() else { return };
        let at = self.position(group);
        let group = &mut self.groups[at];
        if group.work.released < group.work.checkpointed {
            // Both checkpoints have more: it is kept for other members.
            return;
        }
        if group.work.checkpoint_began.is_none() && group.machine.may_publish() {
            // Both checkpoints have to move, so there is something to write even if nothing was changed.
            group.publish_root();
            self.start_checkpoint(at);
        }
    }

    /// Writes what has waited for long.
    fn start_aged_checkpoint(&mut self, at: usize) {
        let group = &mut self.groups[at];
        if group.work.checkpoint_began.is_some() || !group.work.is_verified {
            return;
        }
        if group.store.dirty_bytes() == 0 {
            // Pages are free, and holes are punched, when both checkpoints know of them, also if nobody writes any more.
            let is_waited_for = group.store.has_holes_waiting() || group.store.pending_bytes() >= PENDING_BYTES_MAX;
            if !is_waited_for || !group.machine.may_publish() {
                return;
            }
            group.publish_root();
        }
        self.start_checkpoint(at);
    }

    pub(super) fn start_checkpoint(&mut self, at: usize) {
        let group = &mut self.groups[at];
        if group.work.checkpoint_began.is_some() || !group.work.is_verified || group.work.is_closed {
            return;
        }
        // Longer runs than those that are dirty already don't matter here.
        if !group.store.room(0).admits_remove(0) {
            return self.grow_if_short(at);
        }
        let published = group.published.root().state.applied;
        group.work.checkpoint_is_held = published > group.raft.durable() && !bug!(CheckpointAheadOfLog);
        if group.work.checkpoint_is_held {
            // It would hold what the log could still lose. Nothing more is applied until the log has caught up.
            Mark::CheckpointWaitedForLog.hit();
            return;
        }
        let Some(checkpoint) = group.store.begin_checkpoint() else { return };
        let now = self.env.now();
        group.work.checkpoint_began = Some(now);
        let pages = group.store.frozen_bytes() / PAGE_BYTES as u64;
        group.work.memory_pace.begin(now, pages, group.held_bytes());
        group.work.last_checkpoint = now;
        group.work.log_bytes = 0;
        let (completions, paced) = (self.completions.clone(), self.paced(Use::Checkpoint));
        self.env.spawn(TaskQueue::Background, async move {
            completions.push(Completion::Checkpointed(at, checkpoint.run(paced).await));
        });
    }

    pub(super) fn handle_checkpoint(&mut self, at: usize, done: CheckpointDone) -> Result<(), NodeError> {
        let now = self.env.now();
        let group = &mut self.groups[at];
        group.store.finish_checkpoint(done)?;
        let began = group.work.checkpoint_began.take().expect("one checkpoint runs at a time");
        self.metrics.checkpoint.observe_duration(now.since(began));
        let applied = |record: &[u8]| State::decode(record).map_or(LogIndex(0), |state| state.applied);
        let CheckpointStates { older, newest, .. } = group.store.checkpoints();
        assert!(applied(&newest) <= group.raft.durable(), "a checkpoint holds nothing that the own log can still lose");
        group.work.checkpointed = applied(&older);
        self.release_log(at);
        self.begin_settling(at);
        self.punch(at);
        self.begin_relocation(at);
        self.grow_if_short(at);
        self.defragment(at);
        Ok(())
    }

    /// Lets go of entries that no tree and no peer needs. Peers count only as far as the log stays small: whoever lacks more gets a snapshot.
    pub(super) fn release_log(&mut self, at: usize) {
        let group = &self.groups[at];
        let (needed, kept_bytes_max) = match group.raft.matched_by_all() {
            Some(matched) => (matched, self.options.catch_up_log_bytes),
            None if group.raft.is_alone() => (LogIndex(u64::MAX), 0),
            // Who knows what the others have? If this member leads one day, it will be asked for some of it.
            None => (LogIndex(0), self.options.catch_up_log_bytes / FOLLOWER_KEEPS_DIVISOR),
        };
        let log_bytes = self.wal.stats().disk_bytes;
        let is_large = self.is_log_full || log_bytes > kept_bytes_max;
        // What lies behind a snapshot is needed when it has arrived: if that went meanwhile, the next one would be needed at once.
        let is_too_large = self.is_log_full || log_bytes > 2 * kept_bytes_max;
        let in_snapshots = self.entries_in_snapshots(at).filter(|_| !is_too_large).unwrap_or(LogIndex(u64::MAX));
        let needed = if is_large { LogIndex(u64::MAX) } else { needed };
        let through = group.work.checkpointed.min(needed).min(in_snapshots);
        self.wal.release(group.id, through);
        self.groups[at].work.released = through;
        let group = &self.groups[at];
        if let Some(first) = self.wal.first_index(group.id) {
            self.step(at, Input::Released { through: LogIndex(first.0.saturating_sub(1)) });
        }
    }

    /// Asks for a slice of settling, when background work has its turn after `pause`.
    fn settle_after(&self, pause: Duration, at: usize) {
        let (env, completions) = (self.env.clone(), self.completions.clone());
        self.env.spawn(TaskQueue::Background, async move {
            if !pause.is_zero() {
                env.sleep(pause).await;
            }
            completions.push(Completion::Settle(at));
        });
    }

    fn begin_settling(&mut self, at: usize) {
        if !self.groups[at].work.is_closed && !std::mem::replace(&mut self.groups[at].work.is_settling, true) {
            self.settle_after(Duration::ZERO, at);
        }
    }

    /// Lets go of some of the nodes that the last checkpoint wrote, then of some branches if they are too many.
    pub(super) fn settle(&mut self, at: usize) {
        let group = &mut self.groups[at];
        if !group.machine.may_publish() {
            return self.settle_after(SETTLE_PAUSE, at);
        }
        let is_done = group.store.settle(SETTLE_NODES) && group.store.trim(self.options.branch_bytes_max, SETTLE_NODES);
        if !is_done {
            return self.settle_after(Duration::ZERO, at);
        }
        group.work.is_settling = false;
        group.work.memory_pace.end(self.env.now());
        group.publish_settled();
    }

    /// On the way down: everything accepted is applied, a last checkpoint holds it, the log is sealed.
    pub(super) fn stop_if_settled(&mut self) {
        let Some(reply) = self.stopping else { return };
        while let Some((_, message)) = self.held.pop_front() {
            if let Held::Own(message) = message {
                self.refuse_held(&message, Refusal::Stopping);
            }
        }
        if self.stop_waits_for_leader()
            || self.wal.in_flight()
            || self.wal.pending_bytes() > 0
            || !self.groups.iter().all(crate::group::Group::is_settled)
        {
            return;
        }
        for at in 0..self.groups.len() {
            self.start_checkpoint(at);
        }
        if self.groups.iter().any(|group| group.work.checkpoint_began.is_some() || !group.work.is_verified) {
            return;
        }
        if let Some(seal) = self.wal.begin_seal() {
            self.run_flush(seal);
            return;
        }
        (0..self.groups.len()).for_each(|at| self.refuse_defragmentation(at));
        self.has_stopped = true;
        for group in &mut self.groups {
            let (replies, touched) = (&self.replies, &mut self.touched);
            group.refuse_all(|to, refusal| send_answer(replies, touched, to, refusal));
            for (_, to) in group.work.awaiting_sweep.drain(..) {
                send_answer(replies, touched, to, Reply::Refused(Refusal::Stopping));
            }
        }
        self.stopped_for = Some(reply);
    }
}
