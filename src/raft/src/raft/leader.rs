//! What a leader does: entries, commit, heartbeats, and whether a quorum still hears it.

use bytes::Bytes;
use plinth_base::{Instant, LogIndex, MemberId, bug};

use super::{Raft, Role, reads::Reads};
use crate::{
    Body, Effects, Entry, Fetch, Message, Mode, Position, Reason,
    log::{Slice, entry_bytes},
    progress::Progress,
};

impl Raft {
    pub(super) fn lead(&mut self, now: Instant, effects: &mut Effects) {
        assert_eq!(self.hard_state.vote, Some(self.options.id), "a leader voted for itself");
        assert!(self.is_vote_durable(), "and durably");
        self.role = Role::Leader;
        self.leader = Some(self.options.id);
        effects.role_changed = true;
        self.reads = Reads::continued(&self.reads);
        self.stall_probe = None;
        if self.was_handed_over() {
            self.handed_over = Some(now);
        }
        let last = self.log.last().index;
        let own = self.options.id;
        let others = self.configuration.members().filter(|id| *id != own);
        self.peers = others.map(|id| (id, Progress::new(last, now))).collect();
        self.term_start = self.append(Bytes::new(), false, effects);
        self.quorum_check_at = now + self.options.election_timeout;
        self.send_heartbeats(now, effects);
        self.settle_transfer(effects);
    }

    pub(super) fn propose(&mut self, ticket: u64, payload: Bytes, effects: &mut Effects) {
        assert!(!payload.is_empty(), "an empty payload opens a term");
        match (self.role, self.leader) {
            (Role::Leader, _) if self.is_handing_over() => Self::reject(ticket, Reason::LeaderChanged, effects),
            (Role::Leader, _) => {
                let index = self.append(payload, false, effects);
                effects.accepted.push((ticket, index));
            }
            (_, Some(leader)) => self.send(leader, Body::Propose { ticket, payload }, effects),
            (_, None) => Self::reject(ticket, Reason::NoLeader, effects),
        }
    }

    pub(super) fn handle_propose(&mut self, from: MemberId, ticket: u64, payload: Bytes, effects: &mut Effects) {
        if self.role == Role::Leader && !self.is_handing_over() && !payload.is_empty() {
            self.append(payload, false, effects);
        } else {
            self.send(from, Body::ProposeRefused { ticket }, effects);
        }
    }

    pub(super) fn append(&mut self, payload: Bytes, is_change: bool, effects: &mut Effects) -> LogIndex {
        let (index, term) = (self.log.last().index.next(), self.hard_state.term);
        self.push(Entry { index, term, is_change, payload }, effects);
        index
    }

    /// What a quorum has durably is committed, once the leader's own term is reached (Raft, section 5.4.2). The leader's own disk is one of them.
    pub(super) fn advance_commit(&mut self, effects: &mut Effects) {
        if self.role != Role::Leader {
            return;
        }
        let (own, durable) = (self.options.id, self.log.durable());
        let matched = |id: MemberId| {
            if id == own { durable } else { self.peers.get(&id).map_or(LogIndex(0), |peer| peer.matched) }
        };
        let quorum = self.configuration.committed(matched);
        if quorum < self.term_start && !bug!(CommitEarlierTerm) {
            return;
        }
        // What comes behind a change of the members is committed by those whom it makes voters.
        let commit = self.log.next_change().map_or(quorum, |change| quorum.min(change));
        if commit > self.hard_state.commit {
            self.commit_to(commit, effects);
            if self.hard_state.is_doubtful {
                // Everybody voted for this log, and a quorum has it.
                self.hard_state.is_doubtful = false;
                self.log_hard_state(effects);
            }
        }
    }

    /// Sends each peer what it lacks, as far as its window goes.
    pub(super) fn replicate(&mut self, now: Instant, effects: &mut Effects) {
        let mut peers = std::mem::take(&mut self.peers);
        for (id, progress) in &mut peers {
            self.replicate_to(*id, progress, now, effects);
        }
        self.peers = peers;
    }

    fn replicate_to(&mut self, id: MemberId, progress: &mut Progress, now: Instant, effects: &mut Effects) {
        let (window, last) = (self.options.window_bytes, self.log.last().index);
        while !progress.is_paused(window) {
            let is_question = matches!(progress.mode, Mode::Probe { .. });
            if progress.next > last {
                if is_question {
                    self.send_append(id, progress, Vec::new(), now, effects);
                    continue;
                }
                if progress.commit_sent < self.hard_state.commit {
                    self.send_commit(id, progress, effects);
                }
                break;
            }
            let bytes_max = self.options.append_bytes_max.min(progress.room_bytes(window));
            match self.log.slice(progress.next, bytes_max) {
                Slice::Entries(entries) => self.send_append(id, progress, entries, now, effects),
                Slice::NotInMemory => {
                    progress.fetching = Some(progress.next);
                    effects.fetches.push(Fetch { peer: id, from: progress.next, bytes_max });
                }
                Slice::Gone => {
                    progress.await_snapshot(now);
                    effects.snapshots.push(id);
                }
            }
        }
    }

    fn send_commit(&mut self, id: MemberId, progress: &mut Progress, effects: &mut Effects) {
        let (commit, previous) = (self.hard_state.commit, self.log.last());
        progress.commit_sent = commit;
        self.send(id, Body::Commit { previous, commit }, effects);
    }

    fn send_append(
        &mut self,
        id: MemberId,
        progress: &mut Progress,
        entries: Vec<Entry>,
        now: Instant,
        effects: &mut Effects,
    ) {
        let index = LogIndex(progress.next.0 - 1);
        let Some(term) = self.log.term_of(index) else {
            progress.await_snapshot(now);
            return effects.snapshots.push(id);
        };
        let last = entries.last().map_or(index, |entry| entry.index);
        let bytes = entries.iter().map(entry_bytes).sum();
        progress.note_sent(last, bytes, now);
        let commit = self.hard_state.commit;
        progress.commit_sent = commit;
        self.send(id, Body::Append { previous: Position { index, term }, commit, entries }, effects);
    }

    pub(super) fn handle_append_reply(
        &mut self,
        now: Instant,
        from: MemberId,
        received: LogIndex,
        durable: LogIndex,
        effects: &mut Effects,
    ) {
        let last = self.log.last().index;
        let start = self.log.start().index;
        let Some(progress) = self.peers.get_mut(&from) else { return };
        assert!(durable <= received && received <= last, "{from:?} agrees to entries that it was never sent");
        progress.heard = Some(now);
        if progress.mode == Mode::Snapshot {
            if durable < start {
                return;
            }
            progress.probe();
        }
        if progress.note_agreed(received, durable, now) {
            self.advance_commit(effects);
        }
    }

    pub(super) fn handle_append_refused(&mut self, now: Instant, from: MemberId, probed: LogIndex, hint: Position) {
        let agreed = self.log.newest_that_may_agree(hint).index.min(hint.index);
        if let Some(progress) = self.peers.get_mut(&from) {
            (progress.heard, progress.answered) = (Some(now), now);
            progress.note_refused(probed, agreed);
        }
    }

    /// Entries are sent again when their loss shows; whoever waits for an answer is told that none will come.
    pub(super) fn handle_undelivered(&mut self, message: &Message, effects: &mut Effects) {
        match message.body {
            Body::Propose { ticket, .. } => Self::reject(ticket, Reason::NoLeader, effects),
            Body::ReadIndex { ticket } => self.handle_read_index_refused(ticket, effects),
            _ => {}
        }
    }

    pub(super) fn handle_unreachable(&mut self, peer: MemberId, effects: &mut Effects) {
        if self.leader == Some(peer) {
            // The questions, or the answers, may be among what was lost.
            self.reject_reads(effects);
        }
        if let Some(progress) = self.peers.get_mut(&peer)
            && progress.mode != Mode::Snapshot
        {
            progress.probe();
        }
    }

    pub(super) fn handle_snapshot_ended(&mut self, peer: MemberId) {
        if let Some(progress) = self.peers.get_mut(&peer)
            && progress.mode == Mode::Snapshot
            && !bug!(SnapshotNotRepeated)
        {
            progress.probe();
            // It may have got further than the snapshot by another way.
            progress.next = self.log.last().index.next();
        }
    }

    pub(super) fn handle_fetched(
        &mut self,
        now: Instant,
        peer: MemberId,
        from: LogIndex,
        entries: Vec<Entry>,
        effects: &mut Effects,
    ) {
        let mut peers = std::mem::take(&mut self.peers);
        if let Some(progress) = peers.get_mut(&peer)
            && progress.fetching == Some(from)
        {
            progress.fetching = None;
            let is_asked_for = progress.next == from && !progress.is_paused(self.options.window_bytes);
            let holds = |entry: Option<&Entry>| entry.is_some_and(|entry| self.log.holds(entry.position()));
            if entries.is_empty() && is_asked_for {
                progress.await_snapshot(now);
                effects.snapshots.push(peer);
            } else if is_asked_for && entries[0].index == from && holds(entries.first()) && holds(entries.last()) {
                self.send_append(peer, progress, entries, now, effects);
            }
        }
        self.peers = peers;
    }

    pub(super) fn tick_leader(&mut self, now: Instant, effects: &mut Effects) {
        self.expire_transfer(now, effects);
        if now >= self.quorum_check_at {
            self.quorum_check_at = now + self.options.election_timeout;
            let own = self.options.id;
            if !self.configuration.has_quorum(|id| id == own || self.is_active(id, now)) {
                return self.follow(now, self.hard_state.term, None, effects);
            }
        }
        if now >= self.heartbeat_at {
            self.send_heartbeats(now, effects);
        }
    }

    /// The peer spoke within an election timeout, and if entries are on their way to it, also on the log lane: a peer whose pulse works while its log lane
    /// is dead keeps no leader. One whose disk is stuck does: nobody else would fare better with it.
    pub(super) fn is_active(&self, id: MemberId, now: Instant) -> bool {
        let is_recent = |then: Instant| now.since(then) < self.options.election_timeout;
        self.peers.get(&id).is_some_and(|peer| {
            peer.heard.is_some_and(is_recent) && (!peer.has_outstanding() || is_recent(peer.answered))
        })
    }

    /// To everybody; tells of the newest round of reads.
    pub(super) fn send_heartbeats(&mut self, now: Instant, effects: &mut Effects) {
        self.heartbeat_at = now + self.options.heartbeat_interval;
        let (commit, round) = (self.hard_state.commit, self.reads.newest_round());
        let targets: Vec<(MemberId, LogIndex)> =
            self.peers.iter().map(|(id, peer)| (*id, peer.matched.min(commit))).collect();
        for (id, commit) in targets {
            self.send(id, Body::Heartbeat { commit, round }, effects);
        }
    }

    pub(super) fn handle_heartbeat_reply(&mut self, now: Instant, from: MemberId, round: u64, effects: &mut Effects) {
        let last = self.log.last().index;
        let patience = self.options.heartbeat_interval * 2;
        let mut peers = std::mem::take(&mut self.peers);
        if let Some(progress) = peers.get_mut(&from) {
            progress.heard = Some(now);
            progress.round = progress.round.max(round);
            // The log lane says nothing for long: what was sent may have been lost.
            if progress.matched < last && progress.has_outstanding() && now.since(progress.nudged) >= patience {
                match &mut progress.mode {
                    Mode::Probe { is_sent } => *is_sent = false,
                    Mode::Replicate => self.send_append(from, progress, Vec::new(), now, effects),
                    Mode::Snapshot => {}
                }
            }
        }
        self.peers = peers;
        self.finish_round(effects);
    }
}
