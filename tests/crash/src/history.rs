//! What clients did and were told, and whether the server's data after a crash agrees with it.
//!
//! Every change makes one revision, and nobody else writes: so each revision from the last verified one to the newest belongs
//! to an acknowledged request, which its answer names, or to one *in doubt*, whose answer was lost. The check replays
//! the revisions in order on the model. At a revision nobody was told of it asks the server for its state there and
//! looks for the request in doubt that makes it; if there is none, the server invented something.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use plinth_base::Prng;

use crate::model::{Op, Outcome, State};

/// Revisions at which the whole state is compared besides the newest one.
const SAMPLES: usize = 12;

/// A request whose answer came, and what the answer said.
#[derive(Clone, Debug)]
struct Acknowledged {
    op: Op,
    outcome: Outcome,
}

/// What happened since the state was last known.
#[derive(Default)]
pub struct History {
    base: State,
    base_revision: i64,
    acknowledged: BTreeMap<i64, Acknowledged>,
    in_doubt: Vec<Op>,
    /// The newest revision any answer named.
    seen_revision: i64,
    clashes: Vec<String>,
    /// Nothing below this can be asked for: it may be compacted.
    readable_from: i64,
}

/// What the server answers to a range over everything.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The newest revision, whichever was asked for.
    pub newest_revision: i64,
    /// All keys at the revision that was asked for.
    pub state: State,
}

/// Data that is not what it must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a check has no verdict "sound".
#[derive(Debug)]
pub enum CheckError<E> {
    /// The data is wrong.
    Violation(Violation),
    /// The server could not be asked.
    Unreachable(E),
}

/// A verdict "sound".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verified {
    /// The newest revision.
    pub revision: i64,
    /// Requests in doubt that turned out to have been applied.
    pub in_doubt_applied: usize,
}

impl History {
    /// The history of an empty store, whose revision is 1.
    #[must_use]
    pub fn new() -> Self {
        Self { base_revision: 1, seen_revision: 1, ..Self::default() }
    }

    /// An answer came, with this revision in its header.
    pub fn acknowledge(&mut self, op: Op, outcome: Outcome, revision: i64) {
        self.seen_revision = self.seen_revision.max(revision);
        if !outcome.changed() {
            return;
        }
        if revision <= self.base_revision {
            self.clashes.push(format!("revision {revision} was acknowledged again: {op:?}"));
        }
        if let Some(other) = self.acknowledged.insert(revision, Acknowledged { op, outcome }) {
            self.clashes.push(format!("two requests were told revision {revision}, one of them {:?}", other.op));
        }
    }

    /// No answer came: the request may have been applied, or not.
    pub fn doubt(&mut self, op: Op) {
        self.in_doubt.push(op);
    }

    /// The newest revision such that it and all before it are acknowledged or verified.
    #[must_use]
    pub fn known_up_to(&self) -> i64 {
        let known = (self.base_revision + 1..).zip(self.acknowledged.keys()).take_while(|(next, at)| next == *at);
        known.last().map_or(self.base_revision, |(at, _)| at)
    }

    /// A compaction is sent, to a revision up to which everything is known.
    pub fn compacting(&mut self, revision: i64) {
        self.readable_from = self.readable_from.max(revision);
    }

    /// The newest compaction that was sent since the state was last verified, 0 for none.
    #[must_use]
    pub fn compaction_asked_for(&self) -> i64 {
        self.readable_from
    }

    /// How many keys hang on a lease to which each was attached once, if nothing of it is in doubt.
    #[must_use]
    pub fn attached(&self, lease: i64) -> i64 {
        let before = self.base.0.values().filter(|record| record.lease == lease).count();
        let since =
            self.acknowledged.values().filter(|known| matches!(known.op, Op::Leased { lease: l, .. } if l == lease));
        (before + since.count()) as i64
    }

    /// The key space as it was last verified.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.base
    }

    /// Acknowledged changes since the state was last verified.
    #[must_use]
    pub fn acknowledged_count(&self) -> usize {
        self.acknowledged.len()
    }

    /// Requests in doubt since then.
    #[must_use]
    pub fn in_doubt_count(&self) -> usize {
        self.in_doubt.len()
    }

    /// Compares the server with the model. `fetch` ranges over everything at a revision, 0 for the newest. `judge` sees each revision, the keys at it,
    /// and which of them it set or removed, and says what else is wrong.
    pub async fn check<E>(
        &mut self,
        seed: u64,
        mut fetch: impl AsyncFnMut(i64) -> Result<Snapshot, E>,
        mut judge: impl FnMut(i64, &State, &[Bytes]) -> Result<(), String>,
    ) -> Result<Verified, CheckError<E>> {
        let violation = |text: String| Err(CheckError::Violation(Violation(text)));
        if let Some(clash) = self.clashes.pop() {
            return violation(clash);
        }
        let newest = fetch(0).await.map_err(CheckError::Unreachable)?;
        let revision = newest.newest_revision;
        if revision < self.seen_revision {
            let seen = self.seen_revision;
            let lost = self.acknowledged.range(revision + 1..).next().map_or(seen, |(at, _)| *at);
            return violation(format!("revision {seen} was told, now it is {revision}; first write lost: {lost}"));
        }
        let mut samples = self.samples(seed, revision);
        let mut state = self.base.clone();
        let mut in_doubt = std::mem::take(&mut self.in_doubt);
        let doubts = in_doubt.len();
        for at in self.base_revision + 1..=revision {
            let sampled = samples.last() == Some(&at);
            if sampled {
                samples.pop();
            }
            let known = self.acknowledged.get(&at);
            let server = if sampled || known.is_none() {
                Some(fetch(at).await.map_err(CheckError::Unreachable)?.state)
            } else {
                None
            };
            let mut touched = Vec::new();
            let step = match known {
                Some(known) => replay(&mut state, known, at, &mut touched),
                None => {
                    let server = server.as_ref().expect("fetched where unknown");
                    resolve(&mut state, &mut in_doubt, at, server, &mut touched)
                }
            };
            let differs = server.and_then(|server| state.difference(&server));
            let judged = || judge(at, &state, &touched).err();
            if let Some(text) = step.err().or(differs).or_else(judged) {
                return violation(format!("at revision {at} of {revision}: {text}"));
            }
        }
        if let Some(text) = state.difference(&newest.state) {
            return violation(format!("at the newest revision {revision}: {text}"));
        }
        *self = Self { base: state, base_revision: revision, seen_revision: revision, ..Self::default() };
        Ok(Verified { revision, in_doubt_applied: doubts - in_doubt.len() })
    }

    /// Revisions to compare whole, the first one last.
    fn samples(&self, seed: u64, newest: i64) -> Vec<i64> {
        let span = (newest - self.base_revision).unsigned_abs();
        let mut prng = Prng::new(seed);
        let draw = (0..if span == 0 { 0 } else { SAMPLES }).map(|_| self.base_revision + 1 + prng.below(span) as i64);
        // The compacted revision itself stays.
        let mut samples: Vec<i64> = draw.chain([self.readable_from]).collect();
        samples.retain(|at| *at >= self.readable_from && *at > self.base_revision);
        samples.sort_unstable();
        samples.dedup();
        samples.reverse();
        samples
    }
}

fn replay(state: &mut State, known: &Acknowledged, at: i64, touched: &mut Vec<Bytes>) -> Result<(), String> {
    let outcome = state.apply_noting(&known.op, at, touched);
    if outcome == known.outcome {
        return Ok(());
    }
    Err(format!("{:?} was told {:?}, but in this order it does {outcome:?}", known.op, known.outcome))
}

/// Finds the request in doubt that leads to what the server has at this revision.
fn resolve(
    state: &mut State,
    in_doubt: &mut Vec<Op>,
    at: i64,
    server: &State,
    touched: &mut Vec<Bytes>,
) -> Result<(), String> {
    for (i, op) in in_doubt.iter().enumerate() {
        let mut after = state.clone();
        touched.clear();
        if after.apply_noting(op, at, touched).changed() && after == *server {
            *state = after;
            in_doubt.remove(i);
            return Ok(());
        }
    }
    let what = state.difference(server).unwrap_or_else(|| "no key differs from the revision before".to_owned());
    Err(format!("nobody was told this revision, and none of {} requests in doubt makes it: {what}", in_doubt.len()))
}

#[cfg(test)]
mod tests;
