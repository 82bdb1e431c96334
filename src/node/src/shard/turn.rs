//! One turn.

use plinth_base::Mark;
use plinth_env::{Env, TaskQueue};
use plinth_kv::Budget;
use plinth_raft::Input;

use super::{AskedChange, Completion, Shard, send_answer};
use crate::{
    bootstrap::NodeError,
    group::{Applied, Asked, LeaseQuestion},
    message::{Message, Refusal},
};

impl<E: Env> Shard<E> {
    /// One turn. True if there is more to do at once.
    pub(super) fn turn(&mut self) -> Result<bool, NodeError> {
        let began = self.env.now();
        self.now = began;
        self.take_completions()?;
        self.watch_stall();
        self.note_room();
        self.take_peer_events();
        // Whoever leads no longer learns that before it promises anything.
        self.tick_groups();
        self.ask_again();
        self.take_messages();
        self.finish_steps();
        self.start_flush();
        let is_busy = self.apply()?;
        for group in &mut self.groups {
            let (replies, touched) = (&self.replies, &mut self.touched);
            group.publish(|to, reply| send_answer(replies, touched, to, reply));
        }
        self.answer_about_leases();
        self.force_new_cluster();
        self.read_members();
        self.install_if_whole();
        self.start_background();
        self.stop_if_settled();
        self.set_alarm();
        self.leave_if_removed()?;
        for (executor, touched) in self.touched.iter_mut().enumerate() {
            if std::mem::take(touched) {
                self.replies[executor].wake();
            }
        }
        self.metrics.turn.observe_duration(self.env.now().since(began));
        Ok(is_busy || !self.inbox.is_empty())
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
                Completion::Scrubbed(at, slice, done) => self.handle_scrubbed(at, slice, done),
                Completion::LoadedForRelocation(at, result) => self.handle_loaded_for_relocation(at, result),
                Completion::LoadedForLeases(at, question, asker) => self.answer_question(at, question, asker),
                Completion::Fetched { at, peer, from, entries } => self.handle_fetched(at, peer, from, entries)?,
                Completion::PartRead(peer, frame) => self.send_part(peer, frame),
                Completion::SnapshotMoved(at, whose, moved) => self.handle_snapshot_moved(at, whose, moved),
                Completion::PartBuilt(at, session, built) => self.handle_built(at, session, built),
                Completion::Placed(at, placed) => self.handle_placed(at, placed)?,
                Completion::ResidentFound(at, asked, found) => self.handle_resident(at, asked, found),
                Completion::Members(at, members) => self.handle_members(at, members?),
                Completion::Alarm(at) => self.handle_alarm(at),
                Completion::Tick => self.handle_tick(),
            }
        }
        Ok(())
    }

    fn handle_flushed(&mut self, done: plinth_wal::FlushDone<E>) -> Result<(), NodeError> {
        self.stall.note_end(self.env.now());
        match self.wal.finish_flush(done) {
            Ok(durable) => self.handle_durable(&durable),
            // The records wait; the next tick tries again.
            Err(plinth_wal::WalError::NoSpace { file }) => self.handle_full_log(&file),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    pub(super) fn handle_message(&mut self, message: Message) {
        match message {
            Message::Propose { group, proposal, payload, cost_bytes, reply } => {
                if self.stopping.is_some() {
                    return self.refuse(reply, Refusal::Stopping);
                }
                let at = self.position(group);
                if let Err(refusal) = self.admit(at, &payload, cost_bytes) {
                    return self.refuse(reply, refusal);
                }
                self.propose(at, payload, Some((proposal, reply)));
            }
            Message::ReadIndex { group, reply } => {
                self.ask(self.position(group), Asked::Read(reply));
            }
            Message::LeaseRenew { group, lease, reply } => {
                self.ask_about_leases(self.position(group), LeaseQuestion::Renew(lease), reply);
            }
            Message::LeasesRemaining { group, leases, reply } => {
                self.ask_about_leases(self.position(group), LeaseQuestion::Remaining(leases), reply);
            }
            Message::AwaitSweep { group, revision, reply } => self.await_sweep(self.position(group), revision, reply),
            Message::Subscribe { group, subscription } => {
                let at = self.position(group);
                let (replies, touched) = (&self.replies, &mut self.touched);
                self.groups[at].subscribe(subscription, |to, reply| send_answer(replies, touched, to, reply));
            }
            Message::Defragment { group, reply } => self.begin_defragmentation(self.position(group), reply),
            Message::ChangeMembers { group, proposal, change, is_strict, reply } => {
                let asked = AskedChange { proposal, change, reply };
                self.change_members(self.position(group), asked, is_strict);
            }
            Message::MoveLeader { group, to, reply } => self.move_leader(self.position(group), to, reply),
            Message::Stop { reply } => self.begin_stop(reply),
        }
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
            let waits = self.waits_for_memory(at);
            let group = &mut self.groups[at];
            // What is half done is done: it has changed pages already.
            if waits && !group.is_applying() {
                continue;
            }
            let mut budget = Budget::new(self.options.apply_budget);
            match group.apply(|| env.now(), &mut budget, !waits, &self.metrics)? {
                Applied::All => {}
                Applied::More => is_busy = true,
                Applied::Missing(missing) => self.load_pages(at, missing),
                Applied::NotInMemory(from, before) => self.read_back(at, from, before),
            }
            self.load_ahead(at);
            for configuration in std::mem::take(&mut self.groups[at].reconfigured) {
                self.configure(at, configuration);
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
        if group.held_bytes() < self.options.dirty_bytes_max {
            return false;
        }
        Mark::ApplyWaited.hit();
        group.work.verify_now();
        group.work.makes_room()
    }
}
