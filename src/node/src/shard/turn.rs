//! One turn.

use std::time::Duration;

use bytes::Bytes;
use plinth_base::{Instant, Mark};
use plinth_env::{Env, TaskQueue};
use plinth_kv::{AlarmAction, AlarmKind, Budget, Command, Envelope};
use plinth_raft::{HardState, Input, Position};
use plinth_wal::{Durable, Entry};

use super::{Completion, MESSAGES_PER_TURN_MAX, Shard, send_answer};
use crate::{
    bootstrap::NodeError,
    group::{Applied, TailEntry},
    message::{HELD_PROPOSALS_MAX, Message, Refusal, Reply, ReplyTo},
};

/// When proposals that wait for memory are looked at again. What makes room says so by itself; this is for what time alone allows.
const PACED_PAUSE: Duration = Duration::from_millis(1);

/// Ticket of proposals that nobody waits for.
const NO_TICKET: u64 = u64::MAX;

impl<E: Env> Shard<E> {
    /// One turn. True if there is more to do at once.
    pub(super) fn turn(&mut self) -> Result<bool, NodeError> {
        let began = self.env.now();
        self.now = began;
        self.take_completions()?;
        self.stall.look(began, &self.metrics);
        self.note_room();
        self.take_messages();
        self.finish_steps();
        self.start_flush();
        let is_busy = self.apply()?;
        for group in &mut self.groups {
            let (replies, touched) = (&self.replies, &mut self.touched);
            group.publish(|to, reply| send_answer(replies, touched, to, reply));
        }
        self.start_background();
        self.stop_if_settled();
        for (executor, touched) in self.touched.iter_mut().enumerate() {
            if std::mem::take(touched) {
                self.replies[executor].wake();
            }
        }
        self.metrics.turn.observe_duration(self.env.now().since(began));
        Ok(is_busy || !self.inbox.is_empty())
    }

    /// Every group asks for votes; with one voter it leads as soon as its own vote is durable.
    pub(super) fn campaign(&mut self) {
        for at in 0..self.groups.len() {
            self.step(at, Input::Campaign);
        }
        self.start_flush();
    }

    fn take_completions(&mut self) -> Result<(), NodeError> {
        while let Some(completion) = self.completions.take() {
            match completion {
                Completion::Flushed(done) => self.handle_flushed(done)?,
                Completion::Maintained(done) => self.handle_maintained(done)?,
                Completion::Loaded(at, result) => {
                    result?;
                    self.groups[at].is_fetching = false;
                }
                // What can't be read is told when its entry is applied.
                Completion::LoadedAhead(at) => self.groups[at].note_loaded_ahead(),
                Completion::ReadBack(at, entries) => {
                    self.groups[at].push_replayed(entries?);
                    self.groups[at].is_fetching = false;
                }
                Completion::Checkpointed(at, done) => self.handle_checkpoint(at, done)?,
                Completion::Settle(at) => self.settle(at),
                Completion::Paced => self.is_paced = false,
                Completion::Sweep(at) => self.sweep(at),
                Completion::Grown(at, done) => self.handle_growth(at, done)?,
                Completion::Punched(at, done) => self.handle_punched(at, done)?,
                Completion::Defragment(at) => self.defragment(at),
                Completion::Verified(at, pages) => self.handle_verified(at, pages?),
                Completion::LoadedForRelocation(at, result) => self.handle_loaded_for_relocation(at, result),
                Completion::LoadedForRenewal(at, lease, reply) => self.renew_lease(at, lease, reply),
                Completion::Tick => self.handle_tick(),
            }
        }
        Ok(())
    }

    fn handle_flushed(&mut self, done: plinth_wal::FlushDone<E>) -> Result<(), NodeError> {
        self.stall.note_end(self.env.now(), &self.metrics);
        match self.wal.finish_flush(done) {
            Ok(durable) => self.handle_durable(&durable),
            // The records wait; the next tick tries again.
            Err(plinth_wal::WalError::NoSpace { file }) => self.handle_full_log(&file),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn handle_durable(&mut self, durable: &Durable) {
        self.is_log_full &= !durable.rotated;
        self.metrics.wal_flush.observe(durable.flush_ns);
        self.log_pace.note_flush(self.env.now(), durable.flush_ns, durable.bytes);
        self.metrics.wal_flushes.inc();
        self.metrics.wal_write_bytes.add(durable.bytes);
        for part in &durable.groups {
            let at = self.position(part.group);
            let group = &mut self.groups[at];
            group.work.log_bytes += durable.bytes;
            if let Some(last) = part.last {
                group.durable = group.durable.max(last.index);
            }
            let hard_state = part.hard_state.map(from_wal);
            if let Some(hard_state) = hard_state {
                group.work.durable_hard_state = hard_state;
            }
            let last = part.last.map(|last| Position { index: last.index, term: last.term });
            self.step(at, Input::Durable { last, hard_state });
        }
    }

    fn take_messages(&mut self) {
        let now = self.env.now();
        // What waits for room goes first, so that nothing overtakes it.
        while self.may_accept(now) {
            let Some((since, message)) = self.held.pop_front() else { break };
            match message {
                // Its client was told so already.
                Message::Propose { reply, .. } if now.since(since) >= self.options.request_timeout => {
                    self.refuse(reply, Refusal::TimedOut);
                }
                message => self.handle_message(message),
            }
        }
        let mut messages = std::mem::take(&mut self.messages);
        self.inbox.drain(MESSAGES_PER_TURN_MAX, &mut messages);
        for message in messages.drain(..) {
            let is_proposal = matches!(message, Message::Propose { .. });
            if !is_proposal || (self.held.is_empty() && self.may_accept(now)) {
                self.handle_message(message);
            } else if self.held.len() < HELD_PROPOSALS_MAX {
                self.metrics.throttled.inc();
                self.held.push_back((now, message));
            } else if let Message::Propose { reply, .. } = message {
                self.refuse(reply, Refusal::TooManyRequests);
            }
        }
        self.messages = messages;
        if !self.held.is_empty() && !self.stall.is_stalled() && !std::mem::replace(&mut self.is_paced, true) {
            let (env, completions) = (self.env.clone(), self.completions.clone());
            self.env.spawn(TaskQueue::Consensus, async move {
                env.sleep(PACED_PAUSE).await;
                completions.push(Completion::Paced);
            });
        }
    }

    /// Whether the log's device answers, and there is memory for another proposal's entry and for the pages that it will dirty.
    fn may_accept(&self, now: Instant) -> bool {
        !self.stall.is_stalled()
            && self.groups.iter().all(|group| {
                group.tail_bytes < self.options.tail_bytes_max
                    && group.held_bytes() < group.work.memory_pace.allowed_bytes(now, self.options.dirty_bytes_max)
                    && !group.work.is_short
            })
    }

    fn handle_message(&mut self, message: Message) {
        match message {
            Message::Propose { group, payload, cost_bytes, reply } => {
                if self.stopping.is_some() {
                    return self.refuse(reply, Refusal::Stopping);
                }
                let at = self.position(group);
                if let Err(refusal) = self.admit(at, &payload, cost_bytes) {
                    return self.refuse(reply, refusal);
                }
                self.propose(at, payload, Some(reply));
            }
            Message::ReadIndex { group, reply } => {
                let at = self.position(group);
                let ticket = self.groups[at].begin_read(reply);
                self.step(at, Input::ReadIndex { ticket });
            }
            Message::LeaseRenew { group, lease, reply } => self.renew_lease(self.position(group), lease, reply),
            Message::LeasesRemaining { group, leases, reply } => {
                self.tell_leases(self.position(group), &leases, reply);
            }
            Message::AwaitSweep { group, revision, reply } => self.await_sweep(self.position(group), revision, reply),
            Message::Subscribe { group, subscription } => {
                let at = self.position(group);
                let (replies, touched) = (&self.replies, &mut self.touched);
                self.groups[at].subscribe(subscription, |to, reply| send_answer(replies, touched, to, reply));
            }
            Message::Defragment { group, reply } => self.begin_defragmentation(self.position(group), reply),
            Message::Stop { reply } => self.stopping = Some(reply),
        }
    }

    /// One input for a group.
    fn step(&mut self, at: usize, input: Input) {
        self.groups[at].step(self.now, input, &mut self.effects);
        self.log_effects_of(at);
    }

    /// What the turn's inputs have made worth doing together.
    fn finish_steps(&mut self) {
        for at in 0..self.groups.len() {
            self.groups[at].raft.finish(self.now, &mut self.effects);
            self.log_effects_of(at);
        }
    }

    fn propose(&mut self, at: usize, payload: Bytes, reply: Option<ReplyTo>) {
        self.groups[at].step(self.now, Input::Propose { ticket: NO_TICKET, payload }, &mut self.effects);
        if self.effects.rejected.pop().is_some() {
            if let Some(reply) = reply {
                self.refuse(reply, Refusal::NoLeader);
            }
        } else if let (Some((_, index)), Some(reply)) = (self.effects.accepted.pop(), reply) {
            self.groups[at].accept(index, reply);
        }
        self.log_effects_of(at);
    }

    /// Room on the disk: what costs none always goes through, so that deletions can make room.
    fn admit(&mut self, at: usize, payload: &[u8], cost_bytes: u64) -> Result<(), Refusal> {
        let group = &self.groups[at];
        let alarms = &group.machine.state().alarms;
        if alarms.iter().any(|(_, kind)| *kind == AlarmKind::Corrupt) && Envelope::is_about_keys(payload) {
            return Err(Refusal::Corrupt);
        }
        if cost_bytes == 0 {
            return Ok(());
        }
        if alarms.iter().any(|(_, kind)| *kind == AlarmKind::NoSpace) {
            return Err(Refusal::NoSpace);
        }
        if self.is_log_full || group.work.is_disk_full {
            self.raise_no_space(at);
            return Err(Refusal::NoSpace);
        }
        Ok(())
    }

    /// Raises the alarm through the log, so that it survives a restart and every member knows it.
    pub(super) fn raise_no_space(&mut self, at: usize) {
        let command = Command::Alarm { action: AlarmAction::Activate, member: self.member, alarm: AlarmKind::NoSpace };
        if std::mem::replace(&mut self.groups[at].work.alarm_is_proposed, true) {
            return;
        }
        plinth_base::log_warn!("no space left for writes: raising the alarm NOSPACE", "group" => self.groups[at].id.0);
        self.propose_own(at, command);
    }

    /// Proposes something that nobody waits for.
    pub(super) fn propose_own(&mut self, at: usize, command: Command) {
        let payload = Envelope { proposal: NO_TICKET, command }.encode();
        self.propose(at, payload, None);
    }

    pub(super) fn refuse(&mut self, reply: ReplyTo, refusal: Refusal) {
        if refusal != Refusal::Stopping {
            self.metrics.proposals_failed.inc();
        }
        send_answer(&self.replies, &mut self.touched, reply, Reply::Refused(refusal));
    }

    /// Hands what a group's step produced to the log, in memory; the next batch carries it.
    fn log_effects_of(&mut self, at: usize) {
        let group = &mut self.groups[at];
        if let Some(hard_state) = self.effects.hard_state.take() {
            self.wal.set_hard_state(group.id, to_wal(hard_state));
        }
        for entry in self.effects.entries.drain(..) {
            self.metrics.wal_entries.inc();
            let plinth_raft::Entry { index, term, is_change, payload } = entry;
            group.push_tail(TailEntry { index, term, payload: payload.clone() });
            self.wal.append(Entry { group: group.id, index, term, is_change, payload });
        }
        for ready in self.effects.reads.drain(..) {
            if let Some(reply) = group.end_read(ready.ticket) {
                group.wait_for_read(ready.index, reply);
            }
        }
        while let Some(rejected) = self.effects.rejected.pop() {
            if let Some(reply) = self.groups[at].end_read(rejected.ticket) {
                self.refuse(reply, Refusal::NoLeader);
            }
        }
        self.effects.clear();
    }

    /// One batch for all groups, if the last one is durable.
    pub(super) fn start_flush(&mut self) {
        let Some(flush) = self.wal.begin_flush() else { return };
        self.last_logged = self.env.now();
        self.run_flush(flush);
    }

    pub(super) fn run_flush(&mut self, flush: plinth_wal::Flush<E>) {
        self.stall.note_begin(self.env.now());
        let completions = self.completions.clone();
        self.env.spawn(TaskQueue::Consensus, async move {
            completions.push(Completion::Flushed(flush.run().await));
        });
    }

    /// A slice for every group. True if one has more to do.
    fn apply(&mut self) -> Result<bool, NodeError> {
        let mut is_busy = false;
        let env = self.env.clone();
        for at in 0..self.groups.len() {
            if self.waits_for_memory(at) {
                continue;
            }
            let mut budget = Budget::new(self.options.apply_budget);
            match self.groups[at].apply(|| env.now(), &mut budget, &self.metrics)? {
                Applied::All => {}
                Applied::More => is_busy = true,
                Applied::Missing(missing) => self.load_pages(at, missing),
                Applied::NotInMemory(from, before) => self.read_back(at, from, before),
            }
            self.load_ahead(at);
            for configuration in std::mem::take(&mut self.groups[at].reconfigured) {
                self.step(at, Input::Configured(configuration));
            }
            let index = self.groups[at].applied();
            self.step(at, Input::Applied { index });
        }
        Ok(is_busy)
    }

    /// Entries that were accepted, or logged by the last process, may change more pages than there is memory for: the next one waits as long as
    /// something is under way that makes room.
    fn waits_for_memory(&mut self, at: usize) -> bool {
        let group = &mut self.groups[at];
        if group.held_bytes() < self.options.dirty_bytes_max || group.is_applying() {
            return false;
        }
        Mark::ApplyWaited.hit();
        group.work.verify_now();
        group.work.makes_room()
    }
}

fn to_wal(HardState { term, vote, commit, is_doubtful }: HardState) -> plinth_wal::HardState {
    plinth_wal::HardState { term, vote, commit, is_doubtful }
}

pub(crate) fn from_wal(plinth_wal::HardState { term, vote, commit, is_doubtful }: plinth_wal::HardState) -> HardState {
    HardState { term, vote, commit, is_doubtful }
}
