//! Messages, and what a member does with those of its leader.

use plinth_base::{Instant, LogIndex, MemberId, bug};

use super::{Raft, Role};
use crate::{Body, Configuration, Effects, Entry, Message, Position};

impl Raft {
    pub(super) fn receive(&mut self, now: Instant, message: Message, effects: &mut Effects) {
        let Message { from, to, term, body } = message;
        if to != self.options.id {
            return;
        }
        if term > self.hard_state.term {
            match body {
                // Asked in the sender's own, old term: if that is later than ours it is a real one.
                Body::Vote { is_handover: false, .. } if self.is_led(now) => return,
                Body::Heartbeat { .. } | Body::Append { .. } | Body::Commit { .. } => {
                    self.follow(now, term, Some(from), effects);
                }
                // They change nothing at either side.
                Body::PreVote { .. } => {}
                _ => self.follow(now, term, None, effects),
            }
        } else if term < self.hard_state.term {
            match body {
                // A leader of the past learns of the present by any answer.
                Body::Heartbeat { .. } | Body::Append { .. } | Body::Commit { .. } => {
                    return self.send(from, Body::HeartbeatReply { round: 0 }, effects);
                }
                // Answers that hold whatever has become of the term, and requests that don't depend on it.
                Body::PreVote { .. }
                | Body::PreVoteReply { .. }
                | Body::Propose { .. }
                | Body::ProposeRefused { .. }
                | Body::ReadIndex { .. }
                | Body::ReadIndexReply { .. }
                | Body::ReadIndexRefused { .. } => {}
                _ => return,
            }
        }
        match body {
            Body::PreVote { next_term, last, commit } => {
                self.learn_commit(commit, effects);
                self.handle_pre_vote(now, from, next_term, last, effects);
            }
            Body::PreVoteReply { next_term, granted, is_doubtful, commit } => {
                self.learn_commit(commit, effects);
                self.handle_pre_vote_reply(now, from, next_term, (granted, is_doubtful), effects);
            }
            Body::Vote { last, commit, .. } => {
                self.learn_commit(commit, effects);
                self.handle_vote(now, from, last, effects);
            }
            Body::VoteReply { granted, is_doubtful, commit } => {
                self.learn_commit(commit, effects);
                self.handle_vote_reply(now, from, granted, is_doubtful, effects);
            }
            Body::Heartbeat { commit, round } => self.handle_heartbeat(now, from, commit, round, effects),
            Body::HeartbeatReply { round } => self.handle_heartbeat_reply(now, from, round, effects),
            Body::Append { previous, commit, entries } => {
                self.handle_append(now, from, previous, commit, entries, effects);
            }
            Body::Commit { previous, commit } => self.handle_commit(now, from, previous, commit, effects),
            Body::AppendReply { received, durable } => {
                self.handle_append_reply(now, from, received, durable, effects);
            }
            Body::AppendRefused { probed, hint } => self.handle_append_refused(now, from, probed, hint),
            Body::TimeoutNow => self.handle_timeout_now(now, from, effects),
            Body::Propose { ticket, payload } => self.handle_propose(from, ticket, payload, effects),
            Body::ProposeRefused { ticket } => Self::reject(ticket, crate::Reason::LeaderChanged, effects),
            Body::ReadIndex { ticket } => self.handle_read_index(from, ticket, effects),
            Body::ReadIndexReply { ticket, index } => self.handle_read_index_reply(ticket, index, effects),
            Body::ReadIndexRefused { ticket } => self.handle_read_index_refused(ticket, effects),
        }
    }

    /// `from` leads in the own term.
    fn hear_leader(&mut self, now: Instant, from: MemberId, effects: &mut Effects) {
        assert!(self.role != Role::Leader, "{from:?} and this member lead in one term: {:?}", self.hard_state.term);
        assert!(self.leader.is_none_or(|leader| leader == from), "two members lead in {:?}", self.hard_state.term);
        self.follow(now, self.hard_state.term, Some(from), effects);
        self.leader_heard = Some(now);
        self.put_off_election(now);
    }

    fn handle_heartbeat(&mut self, now: Instant, from: MemberId, commit: LogIndex, round: u64, effects: &mut Effects) {
        self.hear_leader(now, from, effects);
        // The leader knows that this member has it: what of it is here agrees.
        self.commit_to(commit.min(self.log.last().index), effects);
        self.send(from, Body::HeartbeatReply { round }, effects);
    }

    fn handle_append(
        &mut self,
        now: Instant,
        from: MemberId,
        mut previous: Position,
        commit: LogIndex,
        mut entries: Vec<Entry>,
        effects: &mut Effects,
    ) {
        self.hear_leader(now, from, effects);
        let known = self.hard_state.commit;
        if previous.index < known {
            // What is committed agrees, whether or not the log still holds it.
            let through = entries.last().map_or(previous.index, |last| last.index);
            entries.retain(|entry| entry.index > known);
            if through <= known {
                self.agreed = self.agreed.max(through);
                return self.reply_agreed(effects);
            }
            let term = self.log.term_of(known).expect("what is committed is in the log, or where it starts");
            previous = Position { index: known, term };
        }
        if !self.log.holds(previous) {
            let hint = self.log.newest_that_may_agree(previous);
            return self.send(from, Body::AppendRefused { probed: previous.index, hint }, effects);
        }
        let through = entries.last().map_or(previous.index, |last| last.index);
        let is_new = |entry: &Entry| !self.log.holds(entry.position());
        let new_from = entries.iter().position(is_new).unwrap_or(entries.len());
        let new = entries.split_off(new_from);
        let has_new = !new.is_empty();
        if let Some(first) = new.first()
            && first.index <= self.log.last().index
        {
            assert!(first.index > self.hard_state.commit, "a leader never replaces what is committed");
            self.log.cut(first.index);
            self.agreed = self.agreed.min(self.log.last().index);
        }
        for entry in new {
            self.push(entry, effects);
        }
        self.agreed = self.agreed.max(through);
        self.commit_to(commit.min(self.agreed), effects);
        if self.hard_state.is_doubtful {
            self.caught_up_at.get_or_insert(commit);
            self.end_doubt(effects);
        }
        // What is not durable yet is acknowledged when it is.
        if !has_new || self.agreed <= self.flushed() {
            self.reply_agreed(effects);
        }
    }

    /// What comes behind the last entries: they are here, unless the leader is about to learn that they are not.
    fn handle_commit(
        &mut self,
        now: Instant,
        from: MemberId,
        previous: Position,
        commit: LogIndex,
        effects: &mut Effects,
    ) {
        self.hear_leader(now, from, effects);
        if previous.index > self.hard_state.commit && !self.log.holds(previous) {
            return;
        }
        self.agreed = self.agreed.max(previous.index);
        self.commit_to(commit.min(self.agreed), effects);
    }

    /// What the leader may count on.
    fn flushed(&self) -> LogIndex {
        if bug!(AnswerBeforeFlush) { self.log.last().index } else { self.log.durable() }
    }

    fn reply_agreed(&mut self, effects: &mut Effects) {
        let Some(leader) = self.leader else { return };
        let (received, durable) = (self.agreed, self.agreed.min(self.flushed()));
        self.send(leader, Body::AppendReply { received, durable }, effects);
    }

    /// More of the log is durable.
    pub(super) fn acknowledge(&mut self, effects: &mut Effects) {
        if self.agreed > LogIndex(0) {
            self.reply_agreed(effects);
        }
        self.end_doubt(effects);
    }

    /// A member that lost the end of its log has it back as soon as its disk holds all that its leader had committed when it was first heard.
    fn end_doubt(&mut self, effects: &mut Effects) {
        let has_caught_up = self.caught_up_at.is_some_and(|goal| self.agreed.min(self.log.durable()) >= goal);
        if self.hard_state.is_doubtful && has_caught_up {
            self.hard_state.is_doubtful = false;
            self.log_hard_state(effects);
        }
    }

    /// Whether a snapshot that ends at `at` has anything that this member lacks. A log that holds its end must stay: what lies behind may be committed, and this
    /// member one of the few that have it.
    #[must_use]
    pub fn wants_snapshot(&self, at: Position) -> bool {
        self.role != Role::Leader && at.index > self.hard_state.commit && !self.log.holds(at)
    }

    pub(super) fn restart_at(&mut self, at: Position, configuration: Configuration, effects: &mut Effects) {
        assert!(self.wants_snapshot(at), "a snapshot never takes a member back");
        self.log.restart(at);
        if at.term > self.hard_state.term {
            (self.hard_state.term, self.hard_state.vote) = (at.term, None);
            self.leader = None;
            self.gated.clear();
        }
        (self.hard_state.commit, self.applied) = (at.index, at.index);
        self.configuration = configuration;
        self.log_hard_state(effects);
        effects.role_changed = true;
        if self.leader.is_some() {
            self.agreed = at.index;
            self.acknowledge(effects);
        }
    }
}
