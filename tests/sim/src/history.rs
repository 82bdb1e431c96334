//! What clients saw of a key space, held against the model after each restart.
//!
//! Every change has a revision of its own, so the order of acknowledged writes is in their answers. A revision that no answer names
//! must be the end of a lease, or the work of one request whose answer never came. Then every answer, reads included, must be what the model gives at the
//! answer's revision, and no answer may be older than what was acknowledged before its request began (linearizability). Where a revision
//! without an answer has several explanations, they are tried one after the other until everything fits.
//!
//! Grants, renewals and compactions make no revision. What is known of them follows rules of their own: [`leases`] and [`compactions`]. A
//! revision that gets compacted must have been recorded before, for nobody can read it any more: [`History::record`].

mod calls;
pub mod compactions;
pub mod leases;
pub mod life;

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use plinth_base::Instant;

use crate::{
    call::{Answer, Call},
    model::{Model, Refused, Request, Response, State, agree},
    scenario::Violation,
};
use compactions::Compactions;
use leases::Leases;
use life::Life;

/// Names a request in a history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpId(usize);

/// Other explanations that are tried where the likeliest one leads to a contradiction.
const FORKS_MAX: usize = 300;

/// What can have made a revision, and the model after it.
#[derive(Clone, Debug)]
enum Way {
    /// The request at this place.
    Request(usize, Model),
    /// The end of this lease.
    End(i64, Model),
}

/// A revision with more than one explanation: none of the others was answered with it.
struct Fork {
    before: Before,
    others: Vec<Way>,
}

/// What was known before it.
#[derive(Clone)]
struct Before {
    model: Model,
    leases: Leases,
    compactions: Compactions,
    compacted: i64,
    ops: Vec<Op>,
}

#[derive(Clone, Debug)]
struct Op {
    id: OpId,
    call: Call,
    begin: Instant,
    /// The highest revision that any client knew when it began.
    floor: i64,
    /// What was known to be compacted when it began.
    compacted: i64,
    answer: Option<(Instant, Result<Answer, Refused>)>,
}

/// What a restarted store says of itself.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Found {
    /// Its current revision.
    pub revision: i64,
    /// Its compacted revision, -1 before the first compaction.
    pub compacted: i64,
    /// Its leases, with their keys in order.
    pub leases: BTreeMap<i64, Vec<Vec<u8>>>,
}

/// Requests and answers since the last check, and the model of everything before.
#[derive(Debug)]
pub struct History {
    /// It is never compacted: that a revision can't be read any more is held against `compactions`.
    model: Model,
    ops: Vec<Op>,
    next_id: usize,
    known_revision: i64,
    /// Revisions behind the model's that were read before they can be compacted.
    recorded: BTreeMap<i64, State>,
    compactions: Compactions,
    /// As the last check found it.
    compacted: i64,
    leases: Leases,
    life: Life,
}

impl History {
    /// The history of a key space that is as `model` is, without leases.
    #[must_use]
    pub fn new(model: Model) -> Self {
        let known_revision = model.revision();
        Self {
            model,
            ops: Vec::new(),
            next_id: 0,
            known_revision,
            recorded: BTreeMap::new(),
            compactions: Compactions::default(),
            compacted: -1,
            leases: Leases::default(),
            life: Life::default(),
        }
    }

    /// The model as of the last check.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The granted TTL of a lease that is or may be.
    #[must_use]
    pub fn lease_ttl(&self, lease: i64) -> Option<std::time::Duration> {
        self.leases.ttl(lease)
    }

    /// The highest revision that any client knows.
    #[must_use]
    pub fn known_revision(&self) -> i64 {
        self.known_revision
    }

    /// The store is known to be compacted so far.
    #[must_use]
    pub fn known_compacted(&self) -> i64 {
        self.compactions.known()
    }

    /// A client was told of a revision beside its requests, by a watch.
    pub fn see(&mut self, revision: i64) {
        self.known_revision = self.known_revision.max(revision);
    }

    /// A node serves from now on.
    pub fn begin_life(&mut self, life: Life) {
        self.life = life;
    }

    /// The life under way, or the last one.
    #[must_use]
    pub fn life(&self) -> &Life {
        &self.life
    }

    /// The same, to be changed.
    pub fn life_mut(&mut self) -> &mut Life {
        &mut self.life
    }

    /// A client sends a request.
    pub fn begin(&mut self, call: impl Into<Call>, now: Instant) -> OpId {
        let id = OpId(self.next_id);
        self.next_id += 1;
        let (floor, compacted) = (self.known_revision, self.compactions.known());
        self.ops.push(Op { id, call: call.into(), begin: now, floor, compacted, answer: None });
        id
    }

    /// A client sends a request that may be answered from an older state of the store.
    pub fn begin_stale(&mut self, call: impl Into<Call>, now: Instant) -> OpId {
        let id = self.begin(call, now);
        let op = self.ops.last_mut().expect("it was just added");
        (op.floor, op.compacted) = (0, -1);
        id
    }

    /// A client gets an answer. One that says nothing of the outcome, as a timeout or a lost connection, is not given here.
    pub fn finish(&mut self, id: OpId, answer: Result<impl Into<Answer>, Refused>, now: Instant) {
        let answer = answer.map(Into::into);
        if let Ok(answer) = &answer {
            self.known_revision = self.known_revision.max(answer.revision());
        }
        // It is one of the newest, mostly.
        let op =
            self.ops.iter_mut().rfind(|op| op.id == id).expect("a request is answered once, before the next check");
        match (&op.call, &answer) {
            (Call::Compact { revision, .. }, Ok(_)) => self.compactions.learn(*revision),
            (Call::Kv(Request::Range(range)), Err(Refused::Compacted)) => self.compactions.learn(range.revision + 1),
            _ => {}
        }
        op.answer = Some((now, answer));
    }

    /// A client is told that its request was not carried out and never will be: it must have had no effect.
    pub fn forget(&mut self, id: OpId) {
        self.ops.retain(|op| op.id != id);
    }

    /// Whether a call that ends without an answer may have been carried out all the same: a compaction that waited for its sweep.
    #[must_use]
    pub fn waits_for_more(&self, id: OpId) -> bool {
        let physical = |call: &Call| matches!(call, Call::Compact { physical: true, .. });
        self.ops.iter().any(|op| op.id == id && physical(&op.call))
    }

    /// The first revision that must be recorded before the store is compacted beyond it.
    #[must_use]
    pub fn unrecorded(&self) -> i64 {
        let last = self.recorded.last_key_value().map_or(self.model.revision(), |(revision, _)| *revision);
        last + 1
    }

    /// All of the store at a revision, the next one that isn't recorded, as a client read it.
    pub fn record(&mut self, revision: i64, state: State) {
        if revision == self.unrecorded() {
            self.recorded.insert(revision, state);
        }
    }

    /// Checks everything since the last check against the restarted store, which is as `found` says and which holds
    /// `observe(revision)` at each revision that isn't compacted. Requests without an answer must have been cut off: they can't take effect later.
    pub fn check(&mut self, found: &Found, observe: impl FnMut(i64) -> State) -> Result<(), Violation> {
        self.check_with(found, observe, |_| Ok(()))
    }

    /// The same; and `judge` has to agree to the explanations that were found.
    pub fn check_with(
        &mut self,
        found: &Found,
        mut observe: impl FnMut(i64) -> State,
        judge: impl Fn(&Self) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        if found.revision < self.known_revision {
            let what = format!("revision {} was acknowledged, the store has {}", self.known_revision, found.revision);
            return Err(Violation(what));
        }
        let mut ops = std::mem::take(&mut self.ops);
        self.note_calls(&ops);
        let mut states = std::mem::take(&mut self.recorded);
        let mut forks: Vec<Fork> = Vec::new();
        let mut failure = None;
        for _ in 0..FORKS_MAX {
            let explained = self.explain(&mut ops, found, &mut states, &mut observe, &mut forks);
            match explained.and_then(|()| self.conclude(&ops, found)).and_then(|()| judge(self)) {
                Ok(()) => return Ok(()),
                // The first one is what everything that is known speaks for.
                Err(violation) => failure.get_or_insert(violation),
            };
            let Some(fork) = forks.last_mut() else { break };
            let next = fork.others.pop().expect("a fork without another way is none");
            let (mut before, others) = (fork.before.clone(), fork.others.len());
            if others == 0 {
                before = forks.pop().expect("looked at above").before;
            }
            (self.model, self.leases, self.compactions, self.compacted) =
                (before.model, before.leases, before.compactions, before.compacted);
            ops = before.ops;
            self.follow(next, &mut ops, &states);
        }
        Err(failure.expect("only a violation leads here"))
    }

    /// Explains revision after revision, up to the last one.
    fn explain(
        &mut self,
        ops: &mut Vec<Op>,
        found: &Found,
        states: &mut BTreeMap<i64, State>,
        observe: &mut impl FnMut(i64) -> State,
        forks: &mut Vec<Fork>,
    ) -> Result<(), Violation> {
        while self.model.revision() < found.revision {
            let next = self.model.revision() + 1;
            if let Entry::Vacant(place) = states.entry(next) {
                if next < found.compacted {
                    return Err(Violation(format!("revision {next} was compacted before it was recorded")));
                }
                place.insert(observe(next));
            }
            let mut ways = self.ways(ops, &states[&next], found)?;
            let way = ways.pop().expect("at least one, or an error");
            if !ways.is_empty() {
                let before = Before {
                    model: self.model.clone(),
                    leases: self.leases.clone(),
                    compactions: self.compactions.clone(),
                    compacted: self.compacted,
                    ops: ops.clone(),
                };
                forks.push(Fork { before, others: ways });
            }
            self.follow(way, ops, states);
        }
        Ok(())
    }

    /// Everything has an explanation: is the rest right, too?
    fn conclude(&mut self, ops: &[Op], found: &Found) -> Result<(), Violation> {
        let known = std::mem::replace(&mut self.known_revision, found.revision);
        let calls = ops.iter().try_for_each(|op| self.check_call(op));
        let concluded = calls.and_then(|()| {
            self.compactions.close(self.compacted, found.compacted).map_err(Violation)?;
            self.compacted = found.compacted;
            self.check_leases(found)
        });
        if concluded.is_err() {
            self.known_revision = known;
        }
        concluded
    }

    /// What can have made the next revision, the likeliest last; never nothing.
    fn ways(&self, ops: &[Op], state: &State, found: &Found) -> Result<Vec<Way>, Violation> {
        let revision = self.model.revision() + 1;
        let (mut exact, mut wrong) = (Vec::new(), String::new());
        for (at, op) in ops.iter().enumerate() {
            if !matches!(&op.answer, Some((_, Ok(answer))) if answer.revision() == revision) {
                continue;
            }
            let mut next = self.model.clone();
            let expected = execute(&mut next, &op.call);
            // One that wouldn't have made this revision only read at it.
            if next.revision() != revision {
                continue;
            }
            if !is_answer(op, &expected) {
                wrong = format!("; {op:?} should have been answered with {expected:?}");
            } else if op.floor >= revision {
                wrong = format!("; {:?} began after revision {}", op.call, op.floor);
            } else if next.state() == state {
                exact.push(Way::Request(at, next));
            } else {
                // A revocation that found no keys any more, perhaps, and made no revision of its own.
                wrong = format!("; the store is not what {:?} makes of the one before", op.call);
            }
        }
        if !exact.is_empty() {
            // A revocation that found no keys any more names the revision that another request made.
            let revokes =
                |way: &Way| matches!(way, Way::Request(at, _) if matches!(ops[*at].call, Call::LeaseRevoke { .. }));
            exact.sort_by_key(|way| !revokes(way));
            return Ok(exact);
        }
        let is_plausible = |lease: i64| self.leases.may_have_ended(lease, revision, &self.life);
        let (likely, unlikely): (Vec<_>, Vec<_>) =
            self.ends_of_leases(state, found).into_iter().partition(|(_, lease)| is_plausible(*lease));
        let end = |(next, lease)| Way::End(lease, next);
        let mut ways: Vec<Way> = unlikely.into_iter().map(end).collect();
        ways.extend(self.cut_off(ops, state));
        ways.extend(likely.into_iter().map(end));
        if !ways.is_empty() {
            return Ok(ways);
        }
        let written: Vec<_> = state.values().filter(|kv| kv.mod_revision == revision).collect();
        let is_gone = |key: &&std::rc::Rc<[u8]>| !state.contains_key(*key);
        let deleted: Vec<_> = self.model.state().keys().filter(is_gone).collect();
        Err(Violation(format!(
            "nobody asked for what the store has at revision {revision}: it wrote {written:?} and deleted {deleted:?}{wrong}"
        )))
    }

    /// Requests without an answer that make `state` of the model's.
    fn cut_off(&self, ops: &[Op], state: &State) -> Vec<Way> {
        let revision = self.model.revision() + 1;
        let open = ops.iter().enumerate().filter(|(_, op)| op.answer.is_none() && op.floor < revision);
        let fits = open.filter_map(|(at, op)| {
            let mut next = self.model.clone();
            let is_executed = execute(&mut next, &op.call).is_some_and(|answer| answer.is_ok());
            (is_executed && next.revision() == revision && next.state() == state).then_some(Way::Request(at, next))
        });
        let mut ways: Vec<Way> = fits.collect();
        // The oldest is the likeliest.
        ways.reverse();
        ways
    }

    /// That is how the next revision was made.
    fn follow(&mut self, way: Way, ops: &mut Vec<Op>, states: &BTreeMap<i64, State>) {
        let next = match way {
            Way::End(lease, next) => {
                self.leases.ended(lease, next.revision());
                next
            }
            Way::Request(at, next) => {
                let op = ops.remove(at);
                let revision = next.revision();
                if let Call::LeaseRevoke { lease } = op.call {
                    self.leases.ended(lease, revision);
                }
                for kv in states[&revision].values().filter(|kv| kv.mod_revision == revision) {
                    self.leases.found(kv.lease, op.begin);
                }
                next
            }
        };
        self.model = next;
    }

    /// The leases whose end makes `state` of the model's; when they may end is for [`Leases`] to say. One that is there after the restart hasn't ended.
    fn ends_of_leases(&self, state: &State, found: &Found) -> Vec<(Model, i64)> {
        let leases: BTreeSet<i64> = self.model.state().values().map(|kv| kv.lease).collect();
        let gone = leases.into_iter().filter(|lease| *lease != 0 && !found.leases.contains_key(lease));
        gone.filter_map(|lease| {
            let mut next = self.model.clone();
            next.revoke_lease(lease).ok()?;
            (next.state() == state).then_some((next, lease))
        })
        .collect()
    }

    /// The model as it was at `revision`, with every lease that there may have been.
    fn model_at(&self, revision: i64) -> Option<Model> {
        let mut model = self.model.rewound_to(revision)?;
        for lease in self.leases.ids() {
            model.grant_lease(lease);
        }
        Some(model)
    }

    /// What the restarted store says of its leases.
    fn check_leases(&mut self, found: &Found) -> Result<(), Violation> {
        for (lease, keys) in &found.leases {
            if self.leases.ttl(*lease).is_none() {
                return Err(Violation(format!("nobody asked for lease {lease}")));
            }
            if !keys.iter().map(Vec::as_slice).eq(self.model.attached(*lease).map(|key| &**key)) {
                return Err(Violation(format!("lease {lease} names the keys {keys:?}, they name others")));
            }
        }
        let is_there = |lease| found.leases.contains_key(&lease);
        let gone: Vec<i64> = self.leases.ids().filter(|lease| !is_there(*lease)).collect();
        for lease in gone {
            if self.model.attached(lease).next().is_some() {
                return Err(Violation(format!("lease {lease} is gone, and has keys")));
            }
            // Without keys that is no change.
            let _ = self.model.revoke_lease(lease);
        }
        self.leases.close(&self.life, is_there).map_err(Violation)
    }
}

/// What the model answers to a call that can make a revision.
fn execute(model: &mut Model, call: &Call) -> Option<Result<Answer, Refused>> {
    match call {
        Call::Kv(request) => Some(model.execute(request).map(Answer::Kv)),
        Call::LeaseRevoke { lease } => {
            let revoked = model.revoke_lease(*lease);
            Some(revoked.map(|()| Answer::Revoked { revision: model.revision() }))
        }
        _ => None,
    }
}

/// Whether the answer of `op` is what the model gave.
fn is_answer(op: &Op, expected: &Option<Result<Answer, Refused>>) -> bool {
    match (&op.call, &op.answer, expected) {
        (Call::Kv(request), Some((_, Ok(Answer::Kv(got)))), Some(Ok(Answer::Kv(expected)))) => {
            agree(request, expected, got)
        }
        (_, Some((_, Ok(got))), Some(Ok(expected))) => got == expected,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
