//! Elections: pre-vote (Raft thesis, section 9.6), votes, and the lease that protects a leader which is heard of (section 4.2.3).
//!
//! A vote request and a vote leave only when the vote is durable, see [`Raft::send`]. A member doesn't campaign while it
//! knows of a committed change of the members that it hasn't applied: see `membership.rs`.

use std::collections::BTreeMap;

use plinth_base::{Instant, LogIndex, MemberId, Term, bug};

use super::{Raft, Role};
use crate::{Body, Effects, Position, Tally};

/// A member's answer to a candidate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Answer {
    granted: bool,
    is_doubtful: bool,
}

/// The answers to the election, or pre-election, that is under way.
#[derive(Default, Debug)]
pub(super) struct Poll {
    answers: BTreeMap<MemberId, Answer>,
    /// The leader asked for it.
    is_handover: bool,
}

impl Raft {
    /// When to campaign next, if nothing is heard until then.
    pub(super) fn put_off_election(&mut self, now: Instant) {
        let timeout = self.options.election_timeout;
        let nanos = u64::try_from(timeout.as_nanos()).expect("an election timeout is less than 500 years");
        self.election_at = now + timeout + std::time::Duration::from_nanos(self.prng.below(nanos.max(1)));
    }

    pub(super) fn may_campaign(&self) -> bool {
        self.role != Role::Leader
            && self.configuration.is_voter(self.options.id)
            && !self.is_stuck()
            && !self.log.has_changes_within(self.applied, self.hard_state.commit)
    }

    /// The election timeout has passed.
    pub(super) fn begin_election(&mut self, now: Instant, effects: &mut Effects) {
        if self.role == Role::Leader {
            return;
        }
        self.put_off_election(now);
        if self.role == Role::Candidate && !self.is_vote_durable() {
            // Nobody was asked yet, for the own disk is slow. In a new term it would be as slow again.
            return;
        }
        if self.leader.take().is_some() {
            effects.role_changed = true;
            self.reject_reads(effects);
        }
        if !self.may_campaign() {
            self.role = Role::Follower;
            return;
        }
        if bug!(MissingPreVote) {
            return self.campaign(now, false, effects);
        }
        self.role = Role::PreCandidate;
        effects.role_changed = true;
        self.poll = Poll::default();
        let next_term = Term(self.hard_state.term.0 + 1);
        self.ask(&Body::PreVote { next_term, last: self.log.last(), commit: self.committed() }, effects);
        self.note_answer(self.options.id, Answer { granted: true, is_doubtful: self.hard_state.is_doubtful });
        self.count_answers(now, effects);
    }

    /// Asks for votes in the next term.
    pub(super) fn campaign(&mut self, now: Instant, is_handover: bool, effects: &mut Effects) {
        self.put_off_election(now);
        self.reject_reads(effects);
        self.role = Role::Candidate;
        self.leader = None;
        self.hard_state.term = Term(self.hard_state.term.0 + 1);
        self.hard_state.vote = Some(self.options.id);
        self.gated.clear();
        (self.agreed, self.caught_up_at) = (LogIndex(0), None);
        self.log_hard_state(effects);
        effects.role_changed = true;
        self.poll = Poll { is_handover, ..Poll::default() };
        self.ask(&Body::Vote { last: self.log.last(), is_handover, commit: self.committed() }, effects);
        if bug!(OwnVoteNotDurable) {
            self.count_own_vote(now, effects);
        }
    }

    /// The newest committed entry.
    fn committed(&self) -> Position {
        let index = self.hard_state.commit;
        let term = self.log.term_of(index).expect("what is committed is in the log, or where it starts");
        Position { index, term }
    }

    /// Another member knows `commit` to be committed. One leader wrote all entries of its term, in order: those in this log lie before it.
    pub(super) fn learn_commit(&mut self, commit: Position, effects: &mut Effects) {
        let newest = self.log.newest_that_may_agree(commit);
        if newest.term == commit.term && newest.index <= commit.index {
            self.commit_to(newest.index, effects);
        }
    }

    fn ask(&mut self, body: &Body, effects: &mut Effects) {
        let own = self.options.id;
        let others: Vec<MemberId> = self.configuration.all_voters().filter(|id| *id != own).collect();
        for id in others {
            self.send(id, body.clone(), effects);
        }
    }

    /// The own vote counts as soon as it is durable.
    pub(super) fn count_own_vote(&mut self, now: Instant, effects: &mut Effects) {
        if self.role == Role::Candidate && self.is_vote_durable() {
            self.note_answer(self.options.id, Answer { granted: true, is_doubtful: self.hard_state.is_doubtful });
            self.count_answers(now, effects);
        }
    }

    fn note_answer(&mut self, from: MemberId, answer: Answer) {
        self.poll.answers.insert(from, answer);
    }

    /// Members in doubt may have lost what a quorum with them had committed: their votes count only where everybody's does. Whatever was committed
    /// is then in somebody's log, and nobody votes for a log that lacks it.
    fn count_answers(&mut self, now: Instant, effects: &mut Effects) {
        let answers = &self.poll.answers;
        let tally = self.configuration.tally(|id| match answers.get(&id) {
            Some(Answer { granted: true, is_doubtful: true }) | None => None,
            Some(answer) => Some(answer.granted),
        });
        let is_unanimous =
            || self.configuration.all_voters().all(|id| answers.get(&id).is_some_and(|answer| answer.granted));
        if tally == Tally::Won || is_unanimous() {
            match self.role {
                Role::PreCandidate => self.campaign(now, false, effects),
                Role::Candidate => self.lead(now, effects),
                Role::Follower | Role::Leader => {}
            }
        } else if tally == Tally::Lost {
            self.role = Role::Follower;
            effects.role_changed = true;
        }
    }

    /// A leader is there and was heard of not long ago: no reason for an election.
    pub(super) fn is_led(&self, now: Instant) -> bool {
        self.role == Role::Leader
            || (self.leader.is_some()
                && self.leader_heard.is_some_and(|heard| now.since(heard) < self.options.election_timeout))
    }

    /// A vote here may count: whose disk doesn't answer, doesn't promise anything.
    fn may_grant(&self, last: Position) -> bool {
        !self.is_stuck() && last.is_up_to_date_with(self.log.last())
    }

    pub(super) fn handle_pre_vote(
        &mut self,
        now: Instant,
        from: MemberId,
        next_term: Term,
        last: Position,
        effects: &mut Effects,
    ) {
        let granted = next_term > self.hard_state.term && !self.is_led(now) && self.may_grant(last);
        let is_doubtful = self.hard_state.is_doubtful;
        self.send(from, Body::PreVoteReply { next_term, granted, is_doubtful, commit: self.committed() }, effects);
    }

    pub(super) fn handle_pre_vote_reply(
        &mut self,
        now: Instant,
        from: MemberId,
        next_term: Term,
        answer: (bool, bool),
        effects: &mut Effects,
    ) {
        let (granted, is_doubtful) = answer;
        if self.role == Role::PreCandidate && next_term.0 == self.hard_state.term.0 + 1 {
            self.note_answer(from, Answer { granted, is_doubtful });
            if self.may_campaign() {
                self.count_answers(now, effects);
            }
        }
    }

    /// In the own term already.
    pub(super) fn handle_vote(&mut self, now: Instant, from: MemberId, last: Position, effects: &mut Effects) {
        let is_free = match self.hard_state.vote {
            Some(vote) => vote == from,
            None => self.leader.is_none(),
        };
        let granted = is_free && self.may_grant(last);
        if granted {
            self.put_off_election(now);
            if self.hard_state.vote.is_none() {
                self.hard_state.vote = Some(from);
                self.log_hard_state(effects);
            }
        }
        let is_doubtful = self.hard_state.is_doubtful;
        self.send(from, Body::VoteReply { granted, is_doubtful, commit: self.committed() }, effects);
    }

    pub(super) fn handle_vote_reply(
        &mut self,
        now: Instant,
        from: MemberId,
        granted: bool,
        is_doubtful: bool,
        effects: &mut Effects,
    ) {
        if self.role == Role::Candidate {
            self.note_answer(from, Answer { granted, is_doubtful });
            self.count_answers(now, effects);
        }
    }

    /// The election that made this member leader was the last leader's wish.
    pub(super) fn was_handed_over(&self) -> bool {
        self.poll.is_handover
    }
}
