//! Reads that must see everything committed before them, without the log (Raft thesis, section 6.4).
//!
//! A leader proves with a round of heartbeats that nobody has replaced it. A read joins the *next* round, never one whose heartbeats have left: what was
//! committed by another leader between those heartbeats and the read would be missed. One round at a time, for as many reads as came meanwhile.

use plinth_base::{Instant, LogIndex, MemberId, bug};

use super::{Raft, Role};
use crate::{Body, Effects, ReadReady, Reason};

/// Reads that may wait; more are refused.
const WAITING_READS_MAX: usize = 16 << 10;

/// Who asked, and its ticket. The member itself, or a follower for one of its clients.
type Read = (MemberId, u64);

#[derive(Debug)]
struct Round {
    number: u64,
    /// What was committed when it began.
    index: LogIndex,
    reads: Vec<Read>,
}

/// Reads under way at this member.
#[derive(Default, Debug)]
pub(super) struct Reads {
    /// For the next round.
    waiting: Vec<Read>,
    round: Option<Round>,
    /// Rounds that began so far, in all terms of this member.
    rounds: u64,
    /// Tickets that the leader was asked about.
    forwarded: Vec<u64>,
}

impl Reads {
    /// Nothing under way. Numbers go on, so that an answer to a round of long ago is none to a new one.
    pub(super) fn continued(earlier: &Self) -> Self {
        Self { rounds: earlier.rounds, ..Self::default() }
    }

    pub(super) fn newest_round(&self) -> u64 {
        self.rounds
    }
}

impl Raft {
    pub(super) fn read_index(&mut self, ticket: u64, effects: &mut Effects) {
        let own = self.options.id;
        match (self.role, self.leader) {
            (Role::Leader, _) => {
                if !self.take_read((own, ticket), effects) {
                    Self::reject(ticket, Reason::TooMany, effects);
                }
            }
            (_, Some(_)) if self.reads.forwarded.len() >= WAITING_READS_MAX => {
                Self::reject(ticket, Reason::TooMany, effects);
            }
            (_, Some(leader)) => {
                self.reads.forwarded.push(ticket);
                self.send(leader, Body::ReadIndex { ticket }, effects);
            }
            (_, None) => Self::reject(ticket, Reason::NoLeader, effects),
        }
    }

    pub(super) fn handle_read_index(&mut self, from: MemberId, ticket: u64, effects: &mut Effects) {
        if self.role != Role::Leader || !self.take_read((from, ticket), effects) {
            self.send(from, Body::ReadIndexRefused { ticket }, effects);
        }
    }

    /// False if there is no room.
    fn take_read(&mut self, read: Read, effects: &mut Effects) -> bool {
        if bug!(StaleRead) {
            self.answer_read(read, self.hard_state.commit, effects);
            return true;
        }
        if self.reads.waiting.len() >= WAITING_READS_MAX {
            return false;
        }
        match &mut self.reads.round {
            Some(round) if bug!(ReadJoinsRound) => round.reads.push(read),
            _ => self.reads.waiting.push(read),
        }
        true
    }

    /// One round for all that wait, if the last one is over. What earlier leaders committed is known only when something of the own term is.
    pub(super) fn begin_round(&mut self, now: Instant, effects: &mut Effects) {
        let knows_commit = self.knows_commit() || bug!(RevisionGoesBack);
        if self.reads.round.is_some() || self.reads.waiting.is_empty() || !knows_commit {
            return;
        }
        self.reads.rounds += 1;
        let (number, reads) = (self.reads.rounds, std::mem::take(&mut self.reads.waiting));
        self.reads.round = Some(Round { number, index: self.hard_state.commit, reads });
        if !self.peers.is_empty() {
            self.send_heartbeats(now, effects);
        }
        self.finish_round(effects);
    }

    /// The round is over if a quorum has answered its heartbeats.
    pub(super) fn finish_round(&mut self, effects: &mut Effects) {
        let own = self.options.id;
        let is_over = self.reads.round.as_ref().is_some_and(|round| {
            let answered = |id| self.peers.get(&id).is_some_and(|peer| peer.round >= round.number);
            self.configuration.has_quorum(|id| id == own || answered(id))
        });
        if !is_over {
            return;
        }
        let round = self.reads.round.take().expect("looked at above");
        for read in round.reads {
            self.answer_read(read, round.index, effects);
        }
    }

    fn answer_read(&mut self, (from, ticket): Read, index: LogIndex, effects: &mut Effects) {
        if from == self.options.id {
            effects.reads.push(ReadReady { ticket, index });
        } else {
            self.send(from, Body::ReadIndexReply { ticket, index }, effects);
        }
    }

    pub(super) fn handle_read_index_reply(&mut self, ticket: u64, index: LogIndex, effects: &mut Effects) {
        if self.take_forwarded(ticket) {
            effects.reads.push(ReadReady { ticket, index });
        }
    }

    pub(super) fn handle_read_index_refused(&mut self, ticket: u64, effects: &mut Effects) {
        if self.take_forwarded(ticket) {
            Self::reject(ticket, Reason::LeaderChanged, effects);
        }
    }

    /// Whether the leader was asked about it, and hasn't answered yet.
    fn take_forwarded(&mut self, ticket: u64) -> bool {
        let at = self.reads.forwarded.iter().position(|forwarded| *forwarded == ticket);
        at.map(|at| self.reads.forwarded.remove(at)).is_some()
    }

    /// Nobody can answer them any more: the member leads no longer, or its leader is lost.
    pub(super) fn reject_reads(&mut self, effects: &mut Effects) {
        let reads = std::mem::take(&mut self.reads);
        self.reads = Reads::continued(&reads);
        for ticket in reads.forwarded {
            Self::reject(ticket, Reason::LeaderChanged, effects);
        }
        for (from, ticket) in reads.round.into_iter().flat_map(|round| round.reads).chain(reads.waiting) {
            if from == self.options.id {
                Self::reject(ticket, Reason::LeaderChanged, effects);
            } else {
                self.send(from, Body::ReadIndexRefused { ticket }, effects);
            }
        }
    }
}
