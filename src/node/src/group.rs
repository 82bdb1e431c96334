//! One raft group on its shard: consensus, state machine, store, and who waits for what.
//!
//! Invariants: `applied <= commit`; `tail` holds the entries behind `applied` without a gap, as far as there is memory for them, others are read back
//! from the log; an answer leaves only when its entry is durable on a quorum, applied and published here.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use plinth_base::MemberId;
use plinth_base::{GroupId, Instant, LogIndex, Mark, Term, bug};
use plinth_env::Env;
use plinth_kv::{
    ApplyError, Budget, ByTtl, CommandKind, Electorate, Envelope, Lessor, Machine, OpOutcome, Outcome, ProposalId,
    State,
};
use plinth_raft::{Configuration, Effects, Input, Position, Raft, Role};
use plinth_tree::{Missing, Store};

use crate::{
    bootstrap::NodeError,
    message::{Refusal, Reply, ReplyTo},
    metrics::ShardMetrics,
    published::Published,
    shard::BackgroundWork,
    watch::{Feed, Subscription},
};

/// After so long no other entry is begun: others have their turn on this core, heartbeats first. What one entry does at once its budget limits.
const APPLY_TIME_MAX: Duration = Duration::from_millis(4);

/// Entries that are looked at together for pages to load, and about how many pages are asked for at once.
const PREFETCH_ENTRIES_MAX: usize = 512;
const PREFETCH_PAGES_MAX: usize = 256;

/// A logged entry that is not applied yet.
#[derive(Clone, Debug)]
pub(crate) struct TailEntry {
    pub(crate) index: LogIndex,
    pub(crate) term: Term,
    pub(crate) payload: Bytes,
}

/// What marks the names by which raft knows reads, so that no proposal has one of them.
const READ_TICKET: u64 = 1 << 63;

/// Something that may be done only when the group's leader is known to lead, and everything is applied that was committed before it was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    /// A read of the published root.
    Read(ReplyTo),
    /// A question about leases, to this member as their leader.
    Leases(LeaseQuestion, Asker),
}

/// What is asked about leases.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum LeaseQuestion {
    /// Give it its whole TTL again.
    Renew(ByTtl),
    /// How long do they still live?
    Remaining(Vec<ByTtl>),
}

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asker {
    /// A client of this member.
    Here(ReplyTo),
    /// A client of another one, which knows the question by this number.
    There(MemberId, u64),
}

/// With fewer entries than this behind there is nothing worth loading ahead.
const BEHIND_MIN: u64 = 128;

/// After looks that found everything in memory, so many times as many entries are let pass as were looked at, doubled each time up to this: where nothing is
/// missing, looking costs a quarter of applying.
const PASSED_FACTOR_MAX: u64 = 64;

/// Which entries were looked at for pages to load.
#[derive(Default)]
struct Prefetch {
    looked_at: LogIndex,
    /// No look before this one is applied.
    rests_until: LogIndex,
    passed_factor: u64,
    /// Those that missed something then: behind a branch that was loaded since they may miss a leaf.
    again: Vec<LogIndex>,
    /// Pages are being loaded ahead of their entries.
    is_loading: bool,
}

/// How an apply slice ended.
pub(crate) enum Applied {
    /// Everything committed is applied.
    All,
    /// The budget ran out.
    More,
    /// Pages have to be loaded first.
    Missing(Missing),
    /// Entries have to be read back from the log first: from this one, before that one.
    NotInMemory(LogIndex, Option<LogIndex>),
}

/// A proposal that is on its way.
struct UnderWay {
    since: Instant,
    /// In the term of the leader that it was given to, or an earlier one.
    term: Term,
    reply: ReplyTo,
}

pub(crate) struct Group<E: Env> {
    pub(crate) id: GroupId,
    pub(crate) raft: Raft,
    pub(crate) machine: Machine,
    pub(crate) store: Store<E>,
    pub(crate) published: Arc<Published<E::Pages>>,
    pub(crate) tail: VecDeque<TailEntry>,
    pub(crate) tail_bytes: usize,
    /// Which of the applied proposals are those of this process.
    origin: u64,
    /// Proposals that are on their way to the leader, or to the log, by their numbers.
    proposals: BTreeMap<u64, UnderWay>,
    /// Those of them that a leader was given which leads no more, and that its successor's log doesn't have before its own first entry.
    lost: Vec<ReplyTo>,
    /// Of the newest entry that was applied here.
    applied_term: Term,
    /// Accepted proposals in index order.
    pending: VecDeque<(LogIndex, ReplyTo)>,
    /// What raft hasn't said yet at which index it may be answered, by its names.
    asking: VecDeque<(u64, Asked)>,
    /// No run of a process uses a name that another one did: late answers to questions of a run that is over are answers to none of this one.
    next_read: u64,
    /// What came while no leader was known, and since when it waits.
    unasked: VecDeque<(Instant, Asked)>,
    /// What waits until an index is published.
    reads: VecDeque<(LogIndex, Asked)>,
    /// What a leader has logged is waited for: those who asked for a lease that is about to go.
    farewells: Vec<(Position, Asker)>,
    /// Questions that the leader was asked.
    lease_questions: BTreeMap<u64, (Instant, ReplyTo)>,
    /// Applied in this turn, answered when the root is published.
    outcomes: Vec<(LogIndex, ReplyTo, Outcome)>,
    unpublished: bool,
    apply_began: Option<Instant>,
    /// While this member decides when leases expire.
    lessor: Option<Lessor>,
    /// What it gives each of them beside its TTL when it begins to.
    lease_grace: Duration,
    prefetch: Prefetch,
    /// Events, for whoever watches.
    feed: Feed,
    /// Pages or entries are being fetched; apply waits.
    pub(crate) is_fetching: bool,
    /// Configurations that were applied and that raft doesn't know yet.
    pub(crate) reconfigured: Vec<Configuration>,
    /// Members came, went or moved.
    members_changed: bool,
    pub(crate) work: BackgroundWork,
}

impl<E: Env> Group<E> {
    pub(crate) fn new(
        id: GroupId,
        raft: Raft,
        machine: Machine,
        mut store: Store<E>,
        work: BackgroundWork,
        lease_grace: Duration,
        origin: u64,
    ) -> Self {
        let state = machine.state().clone();
        let revision = state.revision;
        let published = Published::new(id, store.publish(), state);
        let group = Self {
            id,
            work,
            raft,
            machine,
            store,
            published,
            tail: VecDeque::new(),
            tail_bytes: 0,
            origin,
            proposals: BTreeMap::new(),
            lost: Vec::new(),
            applied_term: Term(0),
            pending: VecDeque::new(),
            asking: VecDeque::new(),
            next_read: READ_TICKET | origin >> 2,
            unasked: VecDeque::new(),
            reads: VecDeque::new(),
            farewells: Vec::new(),
            lease_questions: BTreeMap::new(),
            outcomes: Vec::new(),
            unpublished: false,
            apply_began: None,
            lessor: None,
            lease_grace,
            prefetch: Prefetch::default(),
            feed: Feed::new(revision),
            is_fetching: false,
            reconfigured: Vec::new(),
            members_changed: false,
        };
        group.note_sizes();
        group
    }

    /// A command is half done.
    pub(crate) fn is_applying(&self) -> bool {
        self.apply_began.is_some()
    }

    pub(crate) fn applied(&self) -> LogIndex {
        self.machine.state().applied
    }

    /// Bytes of pages that no durable checkpoint holds.
    pub(crate) fn unwritten_bytes(&self) -> u64 {
        self.store.dirty_bytes() + self.store.frozen_bytes()
    }

    /// Bytes of pages that are in memory as nodes: those, and what the last checkpoint wrote and is not let go of yet.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.unwritten_bytes() + self.store.unsettled_bytes()
    }

    /// Tells readers what the file takes, and what it will take when all that is in memory is written.
    pub(crate) fn note_sizes(&self) {
        let (sizes, unwritten_bytes) = (self.store.sizes(), self.unwritten_bytes());
        self.published.status.set_sizes(sizes.total_bytes + unwritten_bytes, sizes.in_use_bytes + unwritten_bytes);
    }

    /// Publishes the working root, also if no entry was applied.
    pub(crate) fn publish_root(&mut self) {
        let snapshot = self.machine.publish(&mut self.store);
        self.published.publish(snapshot, self.machine.state().clone());
    }

    /// Lets readers' newest root go of what was settled, also if nobody writes any more. It is no change that a checkpoint would have to write.
    pub(crate) fn publish_settled(&mut self) {
        if !self.unpublished {
            self.published.publish(self.store.publish(), self.machine.state().clone());
        }
    }

    /// Nothing is under way or waits: a clean stop may end here. Where others have a say, what is under way may have to wait for them for ever, so it
    /// doesn't count.
    pub(crate) fn is_settled(&self) -> bool {
        if !self.raft.is_alone() {
            return self.applied() == self.raft.commit() && !self.is_fetching;
        }
        self.applied() == self.raft.last().index
            && self.proposals.is_empty()
            && self.pending.is_empty()
            && self.reads.is_empty()
            && self.asking.is_empty()
            && !self.is_fetching
    }

    /// Whether the published root tells of other members than the last time.
    pub(crate) fn has_new_members(&mut self) -> bool {
        !self.unpublished && std::mem::take(&mut self.members_changed)
    }

    /// Who the members are was changed beside the entries.
    pub(crate) fn note_members(&mut self) {
        self.members_changed = true;
    }

    /// The working root was changed beside the entries: the end of the turn publishes it.
    pub(crate) fn note_change(&mut self) {
        self.unpublished = true;
    }

    pub(crate) fn step(&mut self, now: Instant, input: Input, effects: &mut Effects) {
        self.raft.step(now, input, effects);
    }

    /// What asks raft when it may be answered; what names it there.
    pub(crate) fn begin_read(&mut self, asked: Asked) -> u64 {
        self.next_read += 1;
        self.asking.push_back((self.next_read, asked));
        self.next_read
    }

    /// Raft has refused what it knows by that name.
    pub(crate) fn end_read(&mut self, ticket: u64) -> Option<Asked> {
        if ticket & READ_TICKET == 0 {
            return None;
        }
        let at = self.asking.iter().position(|(asking, _)| *asking == ticket)?;
        self.asking.remove(at).map(|(_, asked)| asked)
    }

    /// It may be answered when `index` is published.
    pub(crate) fn read_is_ready(&mut self, ticket: u64, index: LogIndex) {
        if let Some(asked) = self.end_read(ticket) {
            self.reads.push_back((index, asked));
        }
    }

    /// It waits for a leader.
    pub(crate) fn ask_later(&mut self, asked: Asked, now: Instant) {
        self.unasked.push_back((now, asked));
    }

    /// What has waited for a leader longer than `timeout`.
    pub(crate) fn overdue(&mut self, now: Instant, timeout: Duration) -> Option<Asked> {
        let (since, _) = self.unasked.front()?;
        if now.since(*since) < timeout {
            return None;
        }
        self.unasked.pop_front().map(|(_, asked)| asked)
    }

    /// What waited for a leader.
    pub(crate) fn take_unasked(&mut self) -> VecDeque<Asked> {
        std::mem::take(&mut self.unasked).into_iter().map(|(_, asked)| asked).collect()
    }

    /// What may be answered now beyond reads, in the order in which it was asked for.
    pub(crate) fn take_answerable(&mut self) -> Option<(LeaseQuestion, Asker)> {
        if self.unpublished {
            return None;
        }
        let applied = self.applied();
        let is_due = |(index, asked): &(LogIndex, Asked)| *index <= applied && matches!(asked, Asked::Leases(..));
        match self.reads.pop_front_if(|read| is_due(read))? {
            (_, Asked::Leases(question, asker)) => Some((question, asker)),
            (_, Asked::Read(_)) => unreachable!("looked at above"),
        }
    }

    /// `asker` is told that its lease is gone when everything is published that is logged now.
    pub(crate) fn say_gone(&mut self, asker: Asker) {
        self.farewells.push((self.raft.last(), asker));
    }

    /// Those who can be told. Where this member leads no longer, nobody knows what became of what it had logged.
    pub(crate) fn take_farewells(&mut self) -> (Vec<Asker>, Vec<Asker>) {
        if self.farewells.is_empty() || self.unpublished {
            return (Vec::new(), Vec::new());
        }
        let (applied, is_leader) = (self.applied(), self.raft.role() == Role::Leader);
        let (mut told, mut lost) = (Vec::new(), Vec::new());
        for (last, asker) in std::mem::take(&mut self.farewells) {
            if last.index <= applied && self.raft.holds(last) {
                told.push(asker);
            } else if last.index <= applied || !is_leader {
                // Another leader has put something else there, or may do so.
                lost.push(asker);
            } else {
                self.farewells.push((last, asker));
            }
        }
        (told, lost)
    }

    /// A proposal goes to raft, and somebody waits for it; what names it there.
    pub(crate) fn begin_proposal(&mut self, proposal: ProposalId, reply: ReplyTo, now: Instant) -> u64 {
        assert_eq!(proposal.origin, self.origin, "a process proposes under its own name");
        self.proposals.insert(proposal.number, UnderWay { since: now, term: self.raft.term(), reply });
        proposal.number ^ self.ticket_mask()
    }

    /// As with reads, names of this run only.
    fn ticket_mask(&self) -> u64 {
        self.origin & (READ_TICKET - 1)
    }

    /// What raft knows by that name; nobody waits for it under that any more.
    pub(crate) fn take_proposal(&mut self, ticket: u64) -> Option<ReplyTo> {
        self.end_proposal(ticket ^ self.ticket_mask())
    }

    /// Nobody waits for it any more.
    pub(crate) fn end_proposal(&mut self, number: u64) -> Option<ReplyTo> {
        self.proposals.remove(&number).map(|proposal| proposal.reply)
    }

    /// It is an entry of this member's own now.
    pub(crate) fn accept(&mut self, ticket: u64, index: LogIndex) {
        if let Some(reply) = self.take_proposal(ticket) {
            self.pending.push_back((index, reply));
        }
    }

    /// The leader is asked about leases; the question's number.
    pub(crate) fn begin_lease_question(&mut self, reply: ReplyTo, now: Instant) -> u64 {
        self.next_read += 1;
        self.lease_questions.insert(self.next_read, (now, reply));
        self.next_read
    }

    pub(crate) fn end_lease_question(&mut self, number: u64) -> Option<ReplyTo> {
        self.lease_questions.remove(&number).map(|(_, reply)| reply)
    }

    /// Forgets what nobody can wait for any more.
    pub(crate) fn forget(&mut self, before: Instant) {
        self.proposals.retain(|_, proposal| proposal.since >= before);
        self.lease_questions.retain(|_, (since, _)| *since >= before);
    }

    /// A new entry of the log. Those who wait for one that it replaces are given back. Above `bytes_max` it is left to the log.
    pub(crate) fn push_tail(&mut self, entry: TailEntry, bytes_max: usize) -> Vec<ReplyTo> {
        while let Some(replaced) = self.tail.pop_back_if(|last| last.index >= entry.index) {
            self.tail_bytes -= replaced.payload.len();
        }
        let kept = self.pending.partition_point(|(index, _)| *index < entry.index);
        let replaced = self.pending.split_off(kept).into_iter().map(|(_, reply)| reply).collect();
        let goes_on = match self.tail.back() {
            Some(last) => last.index.next() == entry.index,
            None => self.applied().next() == entry.index && !self.is_fetching,
        };
        // A leader takes proposals only where there is memory; what it sends may be more than there is here.
        if goes_on && (self.tail_bytes < bytes_max || self.raft.role() == Role::Leader) {
            self.tail_bytes += entry.payload.len();
            self.tail.push_back(entry);
        }
        replaced
    }

    /// Entries that were read back from the log, older than everything in the tail.
    pub(crate) fn push_replayed(&mut self, mut entries: Vec<TailEntry>) {
        Mark::LogReplayed.hit();
        let applied = self.applied();
        entries.retain(|entry| entry.index > applied);
        // The log may have changed since they were read.
        let is_sound = |entry: &TailEntry| self.raft.holds(Position { index: entry.index, term: entry.term });
        entries.truncate(entries.iter().position(|entry| !is_sound(entry)).unwrap_or(entries.len()));
        if let Some(first) = self.tail.front().map(|entry| entry.index) {
            entries.retain(|entry| entry.index < first);
        }
        for entry in entries.into_iter().rev() {
            self.tail_bytes += entry.payload.len();
            self.tail.push_front(entry);
        }
    }

    /// Another tree takes the place of this one: a snapshot. Those who wait for what nobody can tell any more are given back.
    pub(crate) fn replace(&mut self, store: Store<E>, state: State, mut work: BackgroundWork) -> Vec<ReplyTo> {
        work.take_over(&mut self.work);
        (self.store, self.work) = (store, work);
        self.feed.skip_to(state.revision);
        self.machine = Machine::new(state);
        (self.apply_began, self.lessor) = (None, None);
        self.prefetch = Prefetch { is_loading: self.prefetch.is_loading, ..Prefetch::default() };
        self.tail.clear();
        self.tail_bytes = 0;
        self.reconfigured.clear();
        self.members_changed = true;
        self.publish_root();
        self.unpublished = false;
        self.take_waiting()
    }

    /// All who wait for a proposal.
    fn take_waiting(&mut self) -> Vec<ReplyTo> {
        let under_way = std::mem::take(&mut self.proposals).into_values().map(|proposal| proposal.reply);
        self.pending.drain(..).map(|(_, reply)| reply).chain(under_way).chain(self.lost.drain(..)).collect()
    }

    /// Tells all who watch that there is something to look at.
    pub(crate) fn announce(&self, mut answer: impl FnMut(ReplyTo, Reply)) {
        self.feed.tell(|hub| answer(hub, Reply::News));
    }

    /// Applies what is committed, as far as the budget goes; if nothing may begin, no more than what has begun.
    pub(crate) fn apply(
        &mut self,
        clock: impl Fn() -> Instant,
        budget: &mut Budget,
        may_begin: bool,
        metrics: &ShardMetrics,
    ) -> Result<Applied, NodeError> {
        let mut now = clock();
        let slice_began = now;
        // A new leader takes over before anything is applied in its term.
        self.lessor(now);
        self.machine.set_watched(self.feed.is_watched());
        if self.is_fetching {
            return Ok(Applied::All);
        }
        let end = self.apply_end();
        while self.applied() < end {
            let next = self.applied().next();
            let Some(entry) = self.tail.front().filter(|entry| entry.index == next).cloned() else {
                if next > self.raft.durable() {
                    // There was no memory for it; soon it can be read back.
                    return Ok(Applied::All);
                }
                return Ok(Applied::NotInMemory(next, self.tail.front().map(|entry| entry.index)));
            };
            if budget.is_spent() || now.since(slice_began) >= APPLY_TIME_MAX {
                return Ok(Applied::More);
            }
            // Once for the entry: a slice that goes on with it has all of its budget to get somewhere.
            if self.apply_began.is_none() {
                if !may_begin {
                    return Ok(Applied::All);
                }
                budget.spend();
            }
            let began = *self.apply_began.get_or_insert(now);
            let step = self.machine.apply(&mut self.store, entry.index, entry.term, &entry.payload, budget);
            match step {
                Ok(Some((proposal, outcome))) => {
                    self.apply_began = None;
                    now = clock();
                    if let Some(kind) = Envelope::kind(&entry.payload) {
                        self.members_changed |= matches!(kind, CommandKind::ChangeMembers | CommandKind::PublishMember);
                        metrics.applies.of(kind).observe(outcome.result.is_ok(), now.since(began));
                    }
                    count(&outcome, metrics);
                    self.note_leases(&outcome, entry.term, now, metrics);
                    if let Ok(OpOutcome::MembersChanged) = outcome.result {
                        self.reconfigured.push(configuration(&self.machine.state().electorate));
                    }
                    self.finish(entry.index, proposal, outcome);
                }
                Ok(None) => return Ok(Applied::More),
                Err(ApplyError::Missing(mut missing)) => {
                    if self.prefetch.is_loading {
                        // Most likely for this very page. Two loads at once would only be in each other's way.
                        return Ok(Applied::All);
                    }
                    self.prefetch(&mut missing);
                    return Ok(Applied::Missing(missing));
                }
                Err(ApplyError::Malformed(what)) => {
                    return Err(NodeError::Entry { group: self.id, index: entry.index, what: what.0 });
                }
            }
        }
        Ok(Applied::All)
    }

    /// What to load beside applying, for the entries that come later: after a start there are many, and the disk and this core would take turns. Call
    /// [`Group::note_loaded_ahead`] when it is done.
    pub(crate) fn wants_ahead(&mut self) -> Option<Missing> {
        let behind = self.raft.commit().0.saturating_sub(self.applied().0);
        let applied = self.applied();
        if self.is_fetching || self.prefetch.is_loading || behind < BEHIND_MIN || applied < self.prefetch.rests_until {
            return None;
        }
        let (mut missing, before) = (Missing { wants: Vec::new() }, self.prefetch.looked_at.max(applied));
        self.prefetch(&mut missing);
        self.prefetch.is_loading = !missing.wants.is_empty();
        if !self.prefetch.is_loading {
            let Prefetch { looked_at, rests_until, passed_factor, .. } = &mut self.prefetch;
            *passed_factor = (*passed_factor * 2).clamp(1, PASSED_FACTOR_MAX);
            *rests_until = LogIndex(applied.0 + looked_at.0.saturating_sub(before.0) * *passed_factor);
        }
        self.prefetch.is_loading.then_some(missing)
    }

    pub(crate) fn note_loaded_ahead(&mut self) {
        self.prefetch.is_loading = false;
    }

    /// Adds what the entries behind the next one will miss: whoever waits for one page may as well wait for many.
    fn prefetch(&mut self, missing: &mut Missing) {
        if !missing.wants.is_empty() {
            (self.prefetch.rests_until, self.prefetch.passed_factor) = (LogIndex(0), 0);
        }
        let Some(first) = self.tail.front().map(|entry| entry.index) else { return };
        let revision = self.machine.state().revision + 1;
        let Prefetch { looked_at, again, .. } = &mut self.prefetch;
        let begin = looked_at.next().max(first.next());
        let end = LogIndex(begin.0 + PREFETCH_ENTRIES_MAX.saturating_sub(again.len()) as u64);
        let new = (begin.0..end.0).map(LogIndex);
        for index in std::mem::take(again).into_iter().filter(|index| *index > first).chain(new) {
            let at = usize::try_from(index.0 - first.0).expect("the tail is in memory");
            let Some(entry) = self.tail.get(at) else { return };
            let wants_before = missing.wants.len();
            if wants_before < PREFETCH_PAGES_MAX {
                // Most entries make one revision.
                let revision = revision.saturating_add_unsigned(index.0 - first.0);
                plinth_kv::add_wants(self.store.view(), &entry.payload, revision, missing);
            }
            if missing.wants.len() > wants_before || wants_before >= PREFETCH_PAGES_MAX {
                again.push(index);
            }
            *looked_at = index.max(*looked_at);
        }
    }

    /// Who decides about leases, if it is this member, with the trees that hold them.
    pub(crate) fn lessor(&mut self, now: Instant) -> Option<(&mut Lessor, &Store<E>)> {
        // A renewal is answered like a read: a leader that can't renew lets no lease run out either.
        if self.raft.leads_with_commit() {
            self.lessor.get_or_insert_with(|| Lessor::new(now, self.lease_grace));
        } else if !bug!(DeposedLeaderRevokes) {
            self.lessor = None;
        }
        self.lessor.as_mut().map(|lessor| (lessor, &self.store))
    }

    fn note_leases(&mut self, outcome: &Outcome, term: Term, now: Instant, metrics: &ShardMetrics) {
        match &outcome.result {
            Ok(OpOutcome::LeaseGranted { id, ttl }) => {
                metrics.leases_granted.inc();
                metrics.lease_ttl.observe(ttl.unsigned_abs());
                // What was granted in an earlier term, and is applied only now, may have been renewed since.
                let grace = if term < self.raft.term() { self.lease_grace } else { Duration::ZERO };
                if let Some(lessor) = &mut self.lessor {
                    lessor.granted(*id, *ttl, now + grace);
                }
            }
            Ok(OpOutcome::LeasesRevoked { ids, found }) => {
                metrics.leases_revoked.add(*found as u64);
                if let Some(lessor) = &mut self.lessor {
                    ids.iter().for_each(|id| lessor.revoked(*id));
                }
            }
            _ => {}
        }
    }

    /// How far entries may be applied. What a quorum has durably is committed, also where the own disk is slower; but a checkpoint holds nothing that the
    /// own log could still lose, so one that is due waits until the log is that far.
    fn apply_end(&self) -> LogIndex {
        let commit = self.raft.commit();
        // While the log's device is silent no checkpoint could begin anyway, and reads and renewals wait for what is committed.
        let waits = self.work.checkpoint_is_held && !self.raft.is_stalled();
        if waits { commit.min(self.raft.durable()).max(self.applied()) } else { commit }
    }

    fn finish(&mut self, index: LogIndex, proposal: ProposalId, outcome: Outcome) {
        let entry = self.tail.pop_front().expect("the entry that was applied");
        self.tail_bytes -= entry.payload.len();
        self.unpublished = true;
        if entry.term > self.applied_term {
            self.applied_term = entry.term;
            self.give_up(entry.term);
        }
        if self.pending.front().is_some_and(|(pending, _)| *pending == index) {
            let (_, reply) = self.pending.pop_front().expect("looked at above");
            self.outcomes.push((index, reply, outcome));
        } else if proposal.origin == self.origin
            && let Some(reply) = self.end_proposal(proposal.number)
        {
            self.outcomes.push((index, reply, outcome));
        }
    }

    /// A leader of `term` has begun. What its predecessors were given and haven't logged by then goes on only if they lead again before it reaches them:
    /// nobody is kept waiting for that.
    fn give_up(&mut self, term: Term) {
        let given_up = self.proposals.extract_if(.., |_, proposal| proposal.term < term);
        self.lost.extend(given_up.map(|(_, proposal)| proposal.reply));
    }

    /// Publishes the working root, unless a command is half done, and answers whoever waited for it.
    pub(crate) fn publish(&mut self, mut answer: impl FnMut(ReplyTo, Reply)) {
        if self.unpublished && self.machine.may_publish() {
            self.unpublished = false;
            self.publish_root();
            if self.feed.is_watched() {
                // Behind the root: whoever has an event finds everything up to it in the trees.
                self.feed.append(self.machine.take_events(), |hub| answer(hub, Reply::News));
            }
        }
        if self.unpublished {
            return;
        }
        for (index, reply, outcome) in self.outcomes.drain(..) {
            assert!(index <= self.raft.commit(), "an entry is acknowledged only when it is committed");
            let is_durable = index <= self.raft.durable();
            assert!(is_durable || !self.raft.is_alone(), "and durable, where nobody else has it");
            answer(reply, Reply::Applied(Box::new(outcome)));
        }
        for reply in self.lost.drain(..) {
            answer(reply, Reply::Refused(Refusal::LeaderLost));
        }
        let applied = self.applied();
        self.reads.retain(|(index, asked)| match asked {
            Asked::Read(reply) if *index <= applied => {
                answer(*reply, Reply::ReadReady);
                false
            }
            _ => true,
        });
        let status = &self.published.status;
        status.set_applied(applied, self.pending.len() + self.proposals.len());
        let leader = self.raft.leader().map_or(0, |leader| leader.0);
        status.set_raft(self.raft.term().0, leader, self.raft.commit());
        let Configuration { learners, awaited, .. } = self.raft.configuration();
        let own = self.raft.id();
        status.set_learner(learners.contains(&own) && !awaited.contains(&own));
        status.set_doubtful(self.raft.hard_state().is_doubtful || self.work.durable_hard_state.is_doubtful);
    }

    /// From now on a hub is told of what is published.
    pub(crate) fn subscribe(&mut self, subscription: Arc<Subscription>, mut answer: impl FnMut(ReplyTo, Reply)) {
        let revision = self.published.root().state.revision;
        self.feed.subscribe(subscription, revision, |hub| answer(hub, Reply::News));
    }

    /// Answers everything that waits: the shard ends. What was proposed may be carried out by others.
    pub(crate) fn refuse_all(&mut self, mut answer: impl FnMut(ReplyTo, Reply)) {
        let unasked = self.unasked.drain(..).map(|(_, asked)| asked);
        let asking = self.asking.drain(..).map(|(_, asked)| asked);
        let reads = self.reads.drain(..).map(|(_, asked)| asked);
        for asked in unasked.chain(asking).chain(reads) {
            if let Asked::Read(reply) | Asked::Leases(_, Asker::Here(reply)) = asked {
                answer(reply, Reply::Refused(Refusal::Stopping));
            }
        }
        for reply in self.take_waiting() {
            answer(reply, Reply::Refused(Refusal::TimedOut));
        }
    }
}

/// Who votes, as raft has it.
pub(crate) fn configuration(electorate: &Electorate) -> Configuration {
    let Electorate { voters, outgoing, learners, awaited } = electorate.clone();
    Configuration { voters, outgoing, learners, awaited }
}

/// The same, as the trees have it.
pub(crate) fn electorate(configuration: &Configuration) -> Electorate {
    let Configuration { voters, outgoing, learners, awaited } = configuration.clone();
    Electorate { voters, outgoing, learners, awaited }
}

fn count(outcome: &Outcome, metrics: &ShardMetrics) {
    match &outcome.result {
        Ok(OpOutcome::Put { .. }) => metrics.puts.inc(),
        Ok(OpOutcome::Deleted { .. }) => metrics.deletes.inc(),
        Ok(OpOutcome::Txn(_)) => metrics.txns.inc(),
        _ => {}
    }
}
