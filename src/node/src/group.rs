//! One raft group on its shard: consensus, state machine, store, and who waits for what.
//!
//! Invariants: `applied <= commit <= durable` (one voter); `tail` holds every entry behind `applied` that was logged since the start, older ones
//! are read back from the log; an answer leaves only when its entry is durable, applied and published.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use plinth_base::{GroupId, Instant, LogIndex, Mark, Term};
use plinth_env::Env;
use plinth_kv::{ApplyError, Budget, Electorate, Envelope, Lessor, Machine, OpOutcome, Outcome};
use plinth_raft::{Configuration, Effects, Input, Raft, Role};
use plinth_tree::{Missing, Store};

use crate::{
    bootstrap::NodeError,
    message::{Refusal, Reply, ReplyTo},
    metrics::ShardMetrics,
    published::Published,
    shard::BackgroundWork,
    watch::{Feed, Subscription},
};

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

/// With fewer entries than this behind there is nothing worth loading ahead.
const BEHIND_MIN: u64 = 128;

/// Which entries were looked at for pages to load.
#[derive(Default)]
struct Prefetch {
    looked_at: LogIndex,
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

pub(crate) struct Group<E: Env> {
    pub(crate) id: GroupId,
    pub(crate) raft: Raft,
    pub(crate) machine: Machine,
    pub(crate) store: Store<E>,
    pub(crate) published: Arc<Published<E::Pages>>,
    pub(crate) tail: VecDeque<TailEntry>,
    pub(crate) tail_bytes: usize,
    /// The newest entry that the log says is durable.
    pub(crate) durable: LogIndex,
    /// Accepted proposals in index order.
    pending: VecDeque<(LogIndex, ReplyTo)>,
    /// Reads of which raft hasn't said yet at which index they may be served, by their names.
    asking: VecDeque<(u64, ReplyTo)>,
    next_read: u64,
    /// Reads that wait until an index is published.
    reads: VecDeque<(LogIndex, ReplyTo)>,
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
    ) -> Self {
        let state = machine.state().clone();
        let revision = state.revision;
        let published = Published::new(id, store.publish(), state);
        let group = Self {
            id,
            durable: raft.last().index,
            work,
            raft,
            machine,
            store,
            published,
            tail: VecDeque::new(),
            tail_bytes: 0,
            pending: VecDeque::new(),
            asking: VecDeque::new(),
            next_read: 0,
            reads: VecDeque::new(),
            outcomes: Vec::new(),
            unpublished: false,
            apply_began: None,
            lessor: None,
            lease_grace,
            prefetch: Prefetch::default(),
            feed: Feed::new(revision),
            is_fetching: false,
            reconfigured: Vec::new(),
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

    /// Nothing is under way or waits: a clean stop may end here.
    pub(crate) fn is_settled(&self) -> bool {
        self.applied() == self.raft.last().index
            && self.pending.is_empty()
            && self.reads.is_empty()
            && self.asking.is_empty()
            && !self.is_fetching
    }

    /// The working root was changed beside the entries: the end of the turn publishes it.
    pub(crate) fn note_change(&mut self) {
        self.unpublished = true;
    }

    pub(crate) fn step(&mut self, now: Instant, input: Input, effects: &mut Effects) {
        self.raft.step(now, input, effects);
    }

    /// A read that asks raft when it may be served; what names it there.
    pub(crate) fn begin_read(&mut self, reply: ReplyTo) -> u64 {
        self.next_read += 1;
        self.asking.push_back((self.next_read, reply));
        self.next_read
    }

    /// Raft has answered the read of that name.
    pub(crate) fn end_read(&mut self, ticket: u64) -> Option<ReplyTo> {
        let at = self.asking.iter().position(|(asking, _)| *asking == ticket)?;
        self.asking.remove(at).map(|(_, reply)| reply)
    }

    pub(crate) fn accept(&mut self, index: LogIndex, reply: ReplyTo) {
        self.pending.push_back((index, reply));
    }

    pub(crate) fn wait_for_read(&mut self, index: LogIndex, reply: ReplyTo) {
        self.reads.push_back((index, reply));
    }

    pub(crate) fn push_tail(&mut self, entry: TailEntry) {
        self.tail_bytes += entry.payload.len();
        self.tail.push_back(entry);
    }

    /// Entries that were read back from the log, older than everything in the tail.
    pub(crate) fn push_replayed(&mut self, entries: Vec<TailEntry>) {
        Mark::LogReplayed.hit();
        for entry in entries.into_iter().rev() {
            self.tail_bytes += entry.payload.len();
            self.tail.push_front(entry);
        }
    }

    /// Applies what is committed, as far as the budget goes.
    pub(crate) fn apply(
        &mut self,
        clock: impl Fn() -> Instant,
        budget: &mut Budget,
        metrics: &ShardMetrics,
    ) -> Result<Applied, NodeError> {
        let mut now = clock();
        // A new leader takes over before anything is applied in its term.
        self.lessor(now);
        self.machine.set_watched(self.feed.is_watched());
        if self.is_fetching {
            return Ok(Applied::All);
        }
        while self.applied() < self.raft.commit() {
            let next = self.applied().next();
            let Some(entry) = self.tail.front().filter(|entry| entry.index == next).cloned() else {
                return Ok(Applied::NotInMemory(next, self.tail.front().map(|entry| entry.index)));
            };
            if budget.is_spent() {
                return Ok(Applied::More);
            }
            // Once for the entry: a slice that goes on with it has all of its budget to get somewhere.
            if self.apply_began.is_none() {
                budget.spend();
            }
            let began = *self.apply_began.get_or_insert(now);
            let step = self.machine.apply(&mut self.store, entry.index, entry.term, &entry.payload, budget);
            match step {
                Ok(Some((_, outcome))) => {
                    self.apply_began = None;
                    now = clock();
                    if let Some(kind) = Envelope::kind(&entry.payload) {
                        metrics.applies.of(kind).observe(outcome.result.is_ok(), now.since(began));
                    }
                    count(&outcome, metrics);
                    self.note_leases(&outcome, entry.term, now, metrics);
                    if let Ok(OpOutcome::MembersChanged) = outcome.result {
                        self.reconfigured.push(configuration(&self.machine.state().electorate));
                    }
                    self.finish(entry.index, outcome);
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
        if self.is_fetching || self.prefetch.is_loading || behind < BEHIND_MIN {
            return None;
        }
        let mut missing = Missing { wants: Vec::new() };
        self.prefetch(&mut missing);
        self.prefetch.is_loading = !missing.wants.is_empty();
        self.prefetch.is_loading.then_some(missing)
    }

    pub(crate) fn note_loaded_ahead(&mut self) {
        self.prefetch.is_loading = false;
    }

    /// Adds what the entries behind the next one will miss: whoever waits for one page may as well wait for many.
    fn prefetch(&mut self, missing: &mut Missing) {
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
        if self.raft.role() != Role::Leader {
            self.lessor = None;
            return None;
        }
        Some((self.lessor.get_or_insert_with(|| Lessor::new(now, self.lease_grace)), &self.store))
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

    fn finish(&mut self, index: LogIndex, outcome: Outcome) {
        let entry = self.tail.pop_front().expect("the entry that was applied");
        self.tail_bytes -= entry.payload.len();
        self.unpublished = true;
        if self.pending.front().is_some_and(|(pending, _)| *pending == index) {
            let (_, reply) = self.pending.pop_front().expect("looked at above");
            self.outcomes.push((index, reply, outcome));
        }
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
            assert!(index <= self.durable, "an entry is acknowledged only when it is durable");
            answer(reply, Reply::Applied(Box::new(outcome)));
        }
        let applied = self.applied();
        while self.reads.front().is_some_and(|(index, _)| *index <= applied) {
            let (_, reply) = self.reads.pop_front().expect("looked at above");
            answer(reply, Reply::ReadReady);
        }
        let status = &self.published.status;
        status.set_applied(applied, self.pending.len());
        let leader = self.raft.leader().map_or(0, |leader| leader.0);
        status.set_raft(self.raft.term().0, leader, self.raft.commit());
    }

    /// From now on a hub is told of what is published.
    pub(crate) fn subscribe(&mut self, subscription: Arc<Subscription>, mut answer: impl FnMut(ReplyTo, Reply)) {
        let revision = self.published.root().state.revision;
        self.feed.subscribe(subscription, revision, |hub| answer(hub, Reply::News));
    }

    /// Answers everything that waits with a refusal: the shard ends.
    pub(crate) fn refuse_all(&mut self, mut answer: impl FnMut(ReplyTo, Reply)) {
        let asking = self.asking.drain(..).map(|(_, reply)| reply);
        let waiting = self.pending.drain(..).chain(self.reads.drain(..)).map(|(_, reply)| reply);
        for reply in asking.chain(waiting) {
            answer(reply, Reply::Refused(Refusal::Stopping));
        }
    }
}

/// Who votes, as raft has it.
pub(crate) fn configuration(electorate: &Electorate) -> Configuration {
    let Electorate { voters, outgoing, learners, awaited } = electorate.clone();
    Configuration { voters, outgoing, learners, awaited }
}

fn count(outcome: &Outcome, metrics: &ShardMetrics) {
    match &outcome.result {
        Ok(OpOutcome::Put { .. }) => metrics.puts.inc(),
        Ok(OpOutcome::Deleted { .. }) => metrics.deletes.inc(),
        Ok(OpOutcome::Txn(_)) => metrics.txns.inc(),
        _ => {}
    }
}
