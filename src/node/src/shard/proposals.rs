//! Proposals on their way in: which are taken, which wait, and which are refused.

use std::time::Duration;

use plinth_base::Instant;
use plinth_env::{Env, PeerLane, TaskQueue};
use plinth_kv::{AlarmAction, AlarmKind, Command, Envelope, ProposalId};
use plinth_raft::{Input, Role};

use super::{Completion, MESSAGES_PER_TURN_MAX, Shard, send_answer};
use crate::message::{HELD_PROPOSALS_MAX, Message, Refusal, Reply, ReplyTo};

/// When proposals that wait for memory are looked at again. What makes room says so by itself; this is for what time alone allows.
const PACED_PAUSE: Duration = Duration::from_millis(1);

/// An alarm that this member raises, on its way through the log.
#[derive(Default)]
pub(crate) struct AskedAlarm(Option<Instant>);

impl AskedAlarm {
    /// Whether to propose it: not while it may still come. What a leader was given that is gone is lost, and nobody says so.
    fn ask(&mut self, now: Instant, again_after: Duration) -> bool {
        let is_due = self.0.is_none_or(|asked| now.since(asked) >= again_after);
        if is_due {
            self.0 = Some(now);
        }
        is_due
    }

    /// It stands.
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }
}

/// Something that waits for room, for the log's device, or for a leader.
pub(super) enum Held {
    /// Of a client of this member.
    Own(Message),
    /// Of a client of another one, for the group at this place.
    Forwarded(usize, plinth_raft::Message),
}

impl<E: Env> Shard<E> {
    pub(super) fn take_messages(&mut self) {
        let now = self.env.now();
        // Nobody waits for these any more: their clients were told so.
        while let Some((_, late)) =
            self.held.pop_front_if(|(since, _)| now.since(*since) >= self.options.request_timeout)
        {
            if let Held::Own(message) = late {
                self.refuse_held(&message, Refusal::TimedOut);
            }
        }
        // What waits for room goes first, so that nothing overtakes it.
        while self.may_accept(now) {
            let Some((_, held)) = self.held.pop_front() else { break };
            match held {
                Held::Own(message) => self.handle_message(message),
                Held::Forwarded(at, message) => self.step(at, Input::Received(message)),
            }
        }
        let mut messages = std::mem::take(&mut self.messages);
        self.inbox.drain(MESSAGES_PER_TURN_MAX, &mut messages);
        for message in messages.drain(..) {
            let waits = match message {
                Message::Propose { .. } => !self.held.is_empty() || !self.may_accept(now),
                // Only a leader can answer it.
                Message::LeaseRenew { .. } | Message::LeasesRemaining { .. } => !self.has_leaders(),
                _ => false,
            };
            if !waits {
                self.handle_message(message);
            } else if self.held.len() < HELD_PROPOSALS_MAX {
                self.metrics.throttled.inc();
                self.held.push_back((now, Held::Own(message)));
            } else {
                self.refuse_held(&message, Refusal::TooManyRequests);
            }
        }
        self.messages = messages;
        if !self.held.is_empty()
            && !self.stall.is_stalled()
            && self.has_leaders()
            && !std::mem::replace(&mut self.is_paced, true)
        {
            let (env, completions) = (self.env.clone(), self.completions.clone());
            self.env.spawn(TaskQueue::Consensus, async move {
                env.sleep(PACED_PAUSE).await;
                completions.push(Completion::Paced);
            });
        }
    }

    /// What can wait, and waits no longer.
    pub(super) fn refuse_held(&mut self, message: &Message, refusal: Refusal) {
        if let Message::Propose { reply, .. }
        | Message::LeaseRenew { reply, .. }
        | Message::LeasesRemaining { reply, .. } = message
        {
            self.refuse(*reply, refusal);
        }
    }

    /// Whether what is proposed has somewhere to go. A client of etcd expects a put to take longer while a leader is elected, not to fail.
    fn has_leaders(&self) -> bool {
        (0..self.groups.len()).all(|at| self.groups[at].raft.may_propose() && self.reaches_leader(at, PeerLane::Log))
    }

    /// Whether the log's device answers, and there is memory for another proposal's entry and for the pages that it will dirty.
    fn may_accept(&self, now: Instant) -> bool {
        // Another member's disk may be quicker.
        let waits_for_disk =
            self.stall.is_stalled() && self.groups.iter().any(|group| group.raft.role() == Role::Leader);
        !waits_for_disk
            && !self.is_forcing()
            && self.has_leaders()
            && self.groups.iter().all(|group| {
                group.tail_bytes < self.options.tail_bytes_max
                    && !group.work.is_placing
                    && group.held_bytes() < group.work.memory_pace.allowed_bytes(now, self.options.dirty_bytes_max)
                    && !group.work.is_short
            })
    }

    /// Another member hands on what a client of its own proposes.
    pub(super) fn take_forwarded(&mut self, at: usize, message: plinth_raft::Message) {
        if self.held.is_empty() && self.may_accept(self.now) {
            self.step(at, Input::Received(message));
        } else if self.held.len() < HELD_PROPOSALS_MAX {
            self.metrics.throttled.inc();
            self.held.push_back((self.now, Held::Forwarded(at, message)));
        }
    }

    /// Room on the disk: what costs none always goes through, so that deletions can make room.
    pub(super) fn admit(&mut self, at: usize, payload: &[u8], cost_bytes: u64) -> Result<(), Refusal> {
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

    pub(super) fn raise_no_space(&mut self, at: usize) {
        if self.raise(at, AlarmKind::NoSpace) {
            let group = self.groups[at].id.0;
            plinth_base::log_warn!("no space left for writes: raising the alarm NOSPACE", "group" => group);
        }
    }

    /// Raises an alarm through the log, so that it survives a restart and every member knows it. Whoever has a reason calls this until it stands:
    /// false if nothing is proposed now, because it is on its way or there is no leader.
    pub(super) fn raise(&mut self, at: usize, alarm: AlarmKind) -> bool {
        let (now, again_after) = (self.env.now(), self.options.request_timeout);
        let group = &mut self.groups[at];
        let asked =
            if alarm == AlarmKind::Corrupt { &mut group.work.corrupt_alarm } else { &mut group.work.no_space_alarm };
        let is_due = group.raft.may_propose() && asked.ask(now, again_after);
        if is_due {
            let command = Command::Alarm { action: AlarmAction::Activate, member: self.member, alarm };
            self.propose_own(at, command);
        }
        is_due
    }

    /// Proposes something that nobody waits for.
    pub(super) fn propose_own(&mut self, at: usize, command: Command) {
        let payload = Envelope { proposal: ProposalId::default(), command }.encode();
        self.propose(at, payload, None);
    }

    pub(super) fn refuse(&mut self, reply: ReplyTo, refusal: Refusal) {
        if refusal != Refusal::Stopping {
            self.metrics.proposals_failed.inc();
        }
        send_answer(&self.replies, &mut self.touched, reply, Reply::Refused(refusal));
    }
}
