//! The state machine of one member of one group.

mod election;
mod follower;
mod handover;
mod leader;
mod membership;
mod reads;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use plinth_base::{Instant, LogIndex, MemberId, Prng, Term, bug};

use self::{
    election::Poll,
    handover::{StallProbe, Transfer, Wish},
    reads::Reads,
};
use crate::{
    Body, Configuration, Effects, Entry, HardState, Message, Mode, Position, Reason, Rejected, log::Log,
    progress::Progress,
};

/// Terms end before this: an election a nanosecond takes centuries to get there.
const TERM_END: Term = Term(1 << 62);

/// How entries go from a leader to a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replication {
    /// Where the logs agree isn't known, or nothing is heard.
    Probing,
    /// As they come.
    Streaming,
    /// What the peer lacks is no longer in the log.
    Snapshot,
}

/// What this member is in its term.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It has a leader, or waits for one.
    Follower,
    /// It asks whether an election would be won, in its old term.
    PreCandidate,
    /// It asks for votes; its own counts once it is durable.
    Candidate,
    /// It proposes.
    Leader,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// Time passed: [`Raft::deadline`] was reached.
    Tick,
    /// Ask for votes now, as after an election timeout.
    Campaign,
    /// A client's command.
    Propose {
        /// Comes back in [`Effects::accepted`] or [`Effects::rejected`]. A follower hands the command to its leader: then neither comes unless it was
        /// refused, and the command's own name has to be looked for in what is applied.
        ticket: u64,
        /// The command, opaque here; not empty.
        payload: Bytes,
    },
    /// A command that changes the members; only a leader takes it, and one at a time.
    ProposeChange {
        /// Comes back in [`Effects::accepted`] or [`Effects::rejected`].
        ticket: u64,
        /// The command, opaque here; not empty.
        payload: Bytes,
    },
    /// A read that must see everything committed before now.
    ReadIndex {
        /// Comes back in [`Effects::reads`] or [`Effects::rejected`].
        ticket: u64,
    },
    /// A peer said something.
    Received(Message),
    /// What was logged up to here is durable.
    Durable {
        /// The last durable entry, if entries became durable.
        last: Option<Position>,
        /// The newest durable hard state, if one became durable.
        hard_state: Option<HardState>,
    },
    /// Everything up to here is applied.
    Applied {
        /// The newest applied entry.
        index: LogIndex,
    },
    /// The entry that was just applied holds this configuration.
    Configured(Configuration),
    /// Entries up to here can't be read back any more.
    Released {
        /// The last of them.
        through: LogIndex,
    },
    /// A message was never sent.
    Undelivered(Message),
    /// A connection to a peer broke: what was on its way may be lost.
    Unreachable {
        /// The peer.
        peer: MemberId,
    },
    /// The answer to an [`Effects::fetches`].
    Fetched {
        /// Who needs them.
        peer: MemberId,
        /// The first one that was asked for.
        from: LogIndex,
        /// From there on; empty if they are gone.
        entries: Vec<Entry>,
    },
    /// The sending of a snapshot to a peer is over, whether or not it was installed there.
    SnapshotEnded {
        /// The peer.
        peer: MemberId,
    },
    /// A snapshot is this member's state now, durably, and its log begins behind it.
    SnapshotInstalled {
        /// The newest entry in it.
        at: Position,
        /// The configuration in it.
        configuration: Configuration,
    },
    /// Lead no more, let another member do it.
    Transfer {
        /// Comes back in [`Effects::transferred`].
        ticket: u64,
        /// Who shall lead; a voter.
        to: MemberId,
    },
    /// How the log's device does now.
    Stalled(Stall),
}

/// How the log's device does: what is under way on it takes as long as always, or much longer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum Stall {
    /// It answers.
    #[default]
    None,
    /// It is late. A leader finds out whether the others' devices do better.
    Soft,
    /// It is so late that this member had better not lead.
    Hard,
}

/// What doesn't change while a member runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// This member.
    pub id: MemberId,
    /// How long a leader may be silent, at least; elections begin after once to twice this.
    pub election_timeout: Duration,
    /// How often a leader speaks.
    pub heartbeat_interval: Duration,
    /// Entries of one message, in bytes; a larger entry goes alone.
    pub append_bytes_max: usize,
    /// Entries on their way to one peer, in bytes.
    pub window_bytes: usize,
    /// Entries kept in memory for peers, in bytes; more are read back from the log.
    pub cache_bytes_max: usize,
    /// Of the spread of election timeouts.
    pub seed: u64,
}

impl Options {
    /// etcd's defaults: a heartbeat each 100 ms, an election after a second of silence.
    #[must_use]
    pub fn new(id: MemberId, seed: u64) -> Self {
        Self {
            id,
            election_timeout: Duration::from_secs(1),
            heartbeat_interval: Duration::from_millis(100),
            append_bytes_max: 512 << 10,
            window_bytes: 4 << 20,
            cache_bytes_max: 16 << 20,
            seed,
        }
    }
}

/// What a member knows when it starts.
#[derive(Clone, Debug)]
pub struct Start {
    /// From the log.
    pub hard_state: HardState,
    /// Where the log starts (the entry behind which it begins), and the first entry of each later term in it.
    pub runs: VecDeque<Position>,
    /// The entries of the log behind `applied` that change the members.
    pub changes: VecDeque<LogIndex>,
    /// The log's end, all of it durable.
    pub last: LogIndex,
    /// How far the state machine's durable root has got.
    pub applied: Position,
    /// The configuration in that root.
    pub configuration: Configuration,
}

/// One member of one group.
#[derive(Debug)]
pub struct Raft {
    options: Options,
    prng: Prng,
    configuration: Configuration,
    role: Role,
    leader: Option<MemberId>,
    hard_state: HardState,
    /// What of it may be acted on.
    durable: HardState,
    log: Log,
    applied: LogIndex,
    /// Messages that claim a vote which isn't durable yet.
    gated: Vec<Message>,
    /// Of the log's device.
    stall: Stall,
    /// Whether the others can do without this device.
    stall_probe: Option<StallProbe>,
    transfer: Option<Transfer>,
    /// The leader wants this member to lead.
    wish: Option<Wish>,
    reads: Reads,

    /// When to campaign if nothing is heard.
    election_at: Instant,
    /// When the leader last spoke.
    leader_heard: Option<Instant>,
    poll: Poll,
    /// The log agrees with that of the term's leader up to here.
    agreed: LogIndex,
    /// What the leader had committed when it was first heard: the end of doubt.
    caught_up_at: Option<LogIndex>,

    /// Where the leader's own term begins; nothing is committed by count below it.
    term_start: LogIndex,
    peers: BTreeMap<MemberId, Progress>,
    heartbeat_at: Instant,
    quorum_check_at: Instant,
    /// When leadership was last handed over, or taken over, because of a stall.
    handed_over: Option<Instant>,
}

impl Raft {
    /// A member as it comes back from its disk. The root may be ahead of the log (an installed snapshot, or entries that were committed before they were
    /// durable here): the log then goes on behind it.
    #[must_use]
    pub fn new(options: Options, start: Start, now: Instant) -> Self {
        let Start { mut hard_state, runs, changes, last, applied, configuration } = start;
        assert!(!configuration.voters.is_empty(), "somebody votes");
        let mut log = Log::new(runs, changes, last, options.cache_bytes_max);
        if applied.index > last {
            log.restart(applied);
        }
        let term = applied.term.max(log.last().term);
        if term > hard_state.term {
            (hard_state.term, hard_state.vote) = (term, None);
        }
        let committed = log.newest_change_but_one().unwrap_or_default();
        hard_state.commit = hard_state.commit.min(log.last().index).max(applied.index).max(committed);
        let mut raft = Self {
            prng: Prng::new(options.seed),
            configuration,
            role: Role::Follower,
            leader: None,
            hard_state,
            durable: hard_state,
            applied: applied.index,
            gated: Vec::new(),
            stall: Stall::None,
            stall_probe: None,
            transfer: None,
            wish: None,
            reads: Reads::default(),
            election_at: now,
            leader_heard: None,
            poll: Poll::default(),
            agreed: LogIndex(0),
            caught_up_at: None,
            term_start: log.last().index.next(),
            peers: BTreeMap::new(),
            heartbeat_at: now,
            quorum_check_at: now,
            handed_over: None,
            log,
            options,
        };
        raft.put_off_election(now);
        raft
    }

    /// What it is now.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// This member.
    #[must_use]
    pub fn id(&self) -> MemberId {
        self.options.id
    }

    /// The leader it knows.
    #[must_use]
    pub fn leader(&self) -> Option<MemberId> {
        self.leader
    }

    /// Its term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// Whether this member leads and an entry of its own term is committed: before that it can answer no read and change no members.
    #[must_use]
    pub fn leads_with_commit(&self) -> bool {
        self.role() == Role::Leader && self.knows_commit()
    }

    /// Whether something of its own term is committed, for who leads: only then it knows what earlier leaders committed.
    fn knows_commit(&self) -> bool {
        self.hard_state.commit >= self.term_start
    }

    /// What is committed.
    #[must_use]
    pub fn commit(&self) -> LogIndex {
        self.hard_state.commit
    }

    /// The newest entry.
    #[must_use]
    pub fn last(&self) -> Position {
        self.log.last()
    }

    /// The newest entry that is durable here.
    #[must_use]
    pub fn durable(&self) -> LogIndex {
        self.log.durable()
    }

    /// Whether the log holds that very entry.
    #[must_use]
    pub fn holds(&self, position: Position) -> bool {
        self.log.holds(position)
    }

    /// What has to be remembered.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Who belongs to the group, as far as this member has applied it.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Nobody else has to be asked for anything: the only voter.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.configuration.all_voters().eq([self.options.id])
    }

    /// Whether a proposal would go somewhere now: a leader is known, and not about to leave.
    #[must_use]
    pub fn may_propose(&self) -> bool {
        self.leader.is_some() && (self.role != Role::Leader || !self.is_handing_over())
    }

    /// Whether a message can be true. What passes is taken for what a member says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, message: &Message) -> Result<(), &'static str> {
        let last = self.log.last().index;
        let body_term = match message.body {
            Body::PreVote { next_term, .. } | Body::PreVoteReply { next_term, .. } => next_term,
            _ => message.term,
        };
        if message.term.max(body_term) >= TERM_END {
            return Err("a term that nobody can have reached");
        }
        match message.body {
            Body::AppendReply { received, .. }
                if self.role == Role::Leader && message.term == self.hard_state.term && received > last =>
            {
                Err("entries that nobody proposed")
            }
            Body::Propose { ref payload, .. } if payload.is_empty() => Err("an empty proposal"),
            _ => Ok(()),
        }
    }

    /// When [`Input::Tick`] is due; never, if nobody else is there.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.role != Role::Leader {
            return Some(self.election_at);
        }
        if self.peers.is_empty() && self.transfer.is_none() {
            return None;
        }
        let transfer = self.transfer.as_ref().map(|transfer| transfer.until);
        [self.heartbeat_at, self.quorum_check_at].into_iter().chain(transfer).min()
    }

    /// The newest entry that every peer has, or may still get from the log: what lies before may go. `None` if nobody else is there.
    #[must_use]
    pub fn matched_by_all(&self) -> Option<LogIndex> {
        self.peers.values().map(|progress| progress.matched).min()
    }

    /// What a peer has durably, as far as this member knows as its leader.
    #[must_use]
    pub fn matched(&self, peer: MemberId) -> Option<LogIndex> {
        self.peers.get(&peer).map(|progress| progress.matched)
    }

    /// The peers of a leader, how entries go to them, and what they have durably.
    pub fn followers(&self) -> impl Iterator<Item = (MemberId, Replication, LogIndex)> {
        let peers = self.peers.iter().filter(|_| self.role == Role::Leader);
        peers.map(|(id, progress)| {
            let replication = match progress.mode {
                Mode::Probe { .. } => Replication::Probing,
                Mode::Replicate => Replication::Streaming,
                Mode::Snapshot => Replication::Snapshot,
            };
            (*id, replication, progress.matched)
        })
    }

    /// Handles one input. What it asks for is added to `effects`.
    pub fn step(&mut self, now: Instant, input: Input, effects: &mut Effects) {
        match input {
            Input::Tick => self.tick(now, effects),
            Input::Campaign => self.begin_election(now, effects),
            Input::Propose { ticket, payload } => self.propose(ticket, payload, effects),
            Input::ProposeChange { ticket, payload } => self.propose_change(ticket, payload, effects),
            Input::ReadIndex { ticket } => self.read_index(ticket, effects),
            Input::Received(message) => self.receive(now, message, effects),
            Input::Durable { last, hard_state } => self.handle_durable(now, last, hard_state, effects),
            Input::Applied { index } => self.handle_applied(now, index, effects),
            Input::Configured(configuration) => self.configure(now, configuration, effects),
            Input::Released { through } => self.log.release(through),
            Input::Undelivered(message) => self.handle_undelivered(&message, effects),
            Input::Unreachable { peer } => self.handle_unreachable(peer, effects),
            Input::Fetched { peer, from, entries } => self.handle_fetched(now, peer, from, entries, effects),
            Input::SnapshotEnded { peer } => self.handle_snapshot_ended(peer),
            Input::SnapshotInstalled { at, configuration } => self.restart_at(at, configuration, effects),
            Input::Transfer { ticket, to } => self.begin_transfer(now, ticket, to, effects),
            Input::Stalled(stall) => self.note_stall(stall),
        }
    }

    /// The end of a turn: what all its steps made worth sending leaves together, one round of reads and as few messages with entries as they fit.
    pub fn finish(&mut self, now: Instant, effects: &mut Effects) {
        if self.role == Role::Leader {
            self.probe_others(now, effects);
            self.advance_commit(effects);
            self.begin_round(now, effects);
            self.replicate(now, effects);
            self.hand_over(now, effects);
            self.look_for_changes(now, effects);
        }
        self.log.trim(self.peers.is_empty());
        self.check_invariants();
    }

    fn check_invariants(&self) {
        let HardState { term, commit, .. } = self.hard_state;
        assert!(commit <= self.log.last().index, "what is committed is in the log or in the root");
        assert!(self.applied <= commit, "only what is committed is applied");
        assert!(self.log.last().term <= term, "the log is of no later term than the member");
        assert!(self.durable.term <= term, "the disk can't know a later term");
        assert!(self.role != Role::Leader || self.leader == Some(self.options.id), "a leader knows itself");
        assert!(self.peers.is_empty() || self.role == Role::Leader, "only a leader keeps book of the others");
    }

    fn tick(&mut self, now: Instant, effects: &mut Effects) {
        if self.role == Role::Leader {
            self.tick_leader(now, effects);
        } else {
            self.expire_transfer(now, effects);
            if now >= self.election_at {
                self.begin_election(now, effects);
            }
        }
    }

    /// Sends, or keeps back until the vote that the message claims is durable.
    ///
    /// What a follower says in a term that isn't durable needs no such care, so that a member whose disk is stuck can follow, and its clients go on. The term's
    /// leader was elected by members that have the term durably: however soon this one forgets it, no leader of an earlier term finds a quorum. And what it
    /// says of its log concerns entries that are durable, of which those of the new term tell a restart of that term.
    fn send(&mut self, to: MemberId, body: Body, effects: &mut Effects) {
        let claims_vote = matches!(body, Body::Vote { .. } | Body::VoteReply { granted: true, .. });
        let message = Message { from: self.options.id, to, term: self.hard_state.term, body };
        if !claims_vote || self.is_vote_durable() {
            effects.messages.push(message);
        } else {
            self.gated.push(message);
        }
    }

    /// The disk knows the term and the vote.
    fn is_vote_durable(&self) -> bool {
        let is_own = self.hard_state.vote == Some(self.options.id);
        if (is_own && bug!(OwnVoteNotDurable)) || (!is_own && bug!(VoteNotDurable)) {
            return true;
        }
        self.durable.term == self.hard_state.term && self.durable.vote == self.hard_state.vote
    }

    /// The hard state has to be logged.
    fn log_hard_state(&mut self, effects: &mut Effects) {
        effects.hard_state = Some(self.hard_state);
    }

    fn commit_to(&mut self, index: LogIndex, effects: &mut Effects) {
        if index > self.hard_state.commit {
            self.hard_state.commit = index;
            effects.committed = Some(index);
        }
    }

    fn handle_durable(
        &mut self,
        now: Instant,
        last: Option<Position>,
        hard_state: Option<HardState>,
        effects: &mut Effects,
    ) {
        if let Some(hard_state) = hard_state {
            assert!(hard_state.term <= self.hard_state.term, "the disk can't know a later term");
            assert!(hard_state.term >= self.durable.term, "nor an earlier one than it knew");
            self.durable = hard_state;
            self.release_gated(effects);
            self.count_own_vote(now, effects);
        }
        if last.is_some_and(|last| self.log.make_durable(last)) {
            if self.role == Role::Leader {
                self.advance_commit(effects);
            } else {
                self.acknowledge(effects);
            }
        }
    }

    fn release_gated(&mut self, effects: &mut Effects) {
        if self.is_vote_durable() {
            effects.messages.append(&mut self.gated);
        }
    }

    fn handle_applied(&mut self, now: Instant, index: LogIndex, effects: &mut Effects) {
        assert!(index <= self.hard_state.commit, "only what is committed is applied");
        self.applied = self.applied.max(index);
        self.log.forget_changes(index);
        self.advance_commit(effects);
        self.resume_handover(now, effects);
    }

    /// Follows in `term`, which is not before its own.
    fn follow(&mut self, now: Instant, term: Term, leader: Option<MemberId>, effects: &mut Effects) {
        let is_new_term = term > self.hard_state.term;
        if !is_new_term && self.role == Role::Follower && self.leader == leader {
            return;
        }
        if is_new_term {
            (self.hard_state.term, self.hard_state.vote) = (term, None);
            self.log_hard_state(effects);
            // What they claim is no news to anyone.
            self.gated.clear();
            (self.agreed, self.caught_up_at) = (LogIndex(0), None);
        }
        self.role = Role::Follower;
        self.leader = leader;
        self.peers.clear();
        self.put_off_election(now);
        effects.role_changed = true;
        self.reject_reads(effects);
        self.settle_transfer(effects);
    }

    fn reject(ticket: u64, reason: Reason, effects: &mut Effects) {
        effects.rejected.push(Rejected { ticket, reason });
    }
}
