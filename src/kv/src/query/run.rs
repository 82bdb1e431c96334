//! The resumable walk behind a range read.

use std::cmp::Ordering;

use bytes::Bytes;
use plinth_tree::{Missing, PageSource, View};

use super::{Item, Query, QueryResult, Sink, SortOrder, SortTarget, Taken, Visible};
use crate::{Budget, KvError, Record, trees::LIVE};

/// Fewer keys than this are remembered for a sort without a look at the limit.
const CANDIDATES_MIN: usize = 1024;

/// Whether a slice finished its work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// All of it.
    Done,
    /// The budget ran out: call again.
    More,
    /// The sink takes no more: call again with one that does. The key that it did not take comes first.
    Full,
}

/// What became of a key that a walk came by.
enum Step {
    /// It is dealt with.
    Next,
    /// It is not needed, and none behind it is.
    End,
    /// The sink did not take it: it has to come again.
    Full,
}

/// A range read under way. A clone goes on from the same place.
#[derive(Clone, Debug)]
pub struct QueryRun {
    query: Query,
    /// The revision to read at.
    revision: i64,
    /// The newest one of the store that the slice under way sees.
    current: i64,
    stage: Stage,
    /// The first key not dealt with yet.
    resume: Vec<u8>,
    /// Keys passed to the sink.
    pushed: i64,
    result: QueryResult,
}

#[derive(Clone, Debug)]
enum Stage {
    /// In key order, straight to the sink.
    Scan,
    /// Into memory, to be sorted.
    Collect(Vec<Candidate>),
    /// From there to the sink, from this place on.
    Emit(Vec<Candidate>, usize),
    /// Counting what the limit left out.
    Count,
    Done,
}

/// What has to be remembered of a key until it is sorted.
#[derive(Clone, Debug)]
struct Candidate {
    key: Bytes,
    rank: Rank,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Rank {
    Key,
    Number(i64),
    Value(Bytes),
}

impl QueryRun {
    /// A read of a store whose newest revision is `current` and whose compacted one is `compacted`.
    pub fn new(query: Query, current: i64, compacted: i64) -> Result<Self, KvError> {
        if query.revision > current {
            return Err(KvError::FutureRevision);
        }
        if query.revision > 0 && query.revision < compacted {
            return Err(KvError::Compacted);
        }
        let revision = if query.revision > 0 { query.revision } else { current };
        Ok(Self::begin(query, revision, current))
    }

    fn begin(query: Query, revision: i64, current: i64) -> Self {
        let stage = match (query.count_only, query.is_sorted()) {
            (true, _) => Stage::Count,
            (false, true) => Stage::Collect(Vec::new()),
            (false, false) => Stage::Scan,
        };
        let resume = query.range.key.to_vec();
        Self { query, revision, current, stage, resume, pushed: 0, result: QueryResult::default() }
    }

    /// The same read from its beginning, at the same revision.
    #[must_use]
    pub fn again(&self) -> Self {
        Self::begin(self.query.clone(), self.revision, self.current)
    }

    /// The revision that it reads.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The request.
    #[must_use]
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// What the reply says beside its keys; complete when the run is done.
    #[must_use]
    pub fn result(&self) -> QueryResult {
        self.result
    }

    /// Does one slice. `view` is the store at its revision `current`: the one that the run began with, or a later one in which the run's revision
    /// is not compacted.
    pub fn run<P: PageSource>(
        &mut self,
        view: View<'_, P>,
        current: i64,
        budget: &mut Budget,
        sink: &mut impl Sink,
    ) -> Result<Progress, Missing> {
        assert!(self.revision <= current, "a run goes on at the same revision");
        self.current = current;
        loop {
            let progress = match &self.stage {
                Stage::Scan => self.scan(view, budget, sink)?,
                Stage::Collect(_) => self.collect(view, budget)?,
                Stage::Emit(..) => self.emit(view, budget, sink)?,
                Stage::Count => self.count(view, budget)?,
                Stage::Done => return Ok(Progress::Done),
            };
            if progress != Progress::Done {
                return Ok(progress);
            }
        }
    }

    /// Walks on from `resume` and calls `each` with every key of the range that is visible, until that or the range is at its end (`Done`), the budget
    /// is spent (`More`), or the sink is full. `resume` stands behind the last key that was dealt with, so that whatever stops the walk, no key is
    /// taken twice; an `each` that misses a page must have done nothing.
    fn walk<'a, P: PageSource>(
        &mut self,
        view: View<'a, P>,
        budget: &mut Budget,
        mut each: impl FnMut(&mut Self, &[u8], Record<'a>) -> Result<Step, Missing>,
    ) -> Result<Progress, Missing> {
        // A read of many keys passes by, one of few comes again.
        let is_long = self.resume != self.query.range.key;
        let view = if is_long { view.passing() } else { view };
        let mut keys = Visible::at(view, self.revision, self.current);
        let mut found = keys.seek(&self.resume)?;
        while found {
            if !self.query.range.reaches(keys.key()?) {
                break;
            }
            if !budget.spend() {
                return Ok(Progress::More);
            }
            let record = keys.record()?;
            let key = keys.key()?;
            if let Some(record) = record {
                match each(self, key, record)? {
                    Step::Next => {}
                    Step::End => break,
                    Step::Full => return Ok(Progress::Full),
                }
            }
            self.resume.clear();
            self.resume.extend_from_slice(key);
            self.resume.push(0);
            found = !self.query.range.is_single() && keys.next()?;
        }
        Ok(Progress::Done)
    }

    fn scan<P: PageSource>(
        &mut self,
        view: View<'_, P>,
        budget: &mut Budget,
        sink: &mut impl Sink,
    ) -> Result<Progress, Missing> {
        let is_filtered = self.query.is_filtered();
        let progress = self.walk(view, budget, |run, key, record| {
            if !is_filtered || run.query.admits(&record) {
                if run.query.limit > 0 && run.pushed == run.query.limit {
                    run.result.more = true;
                    return Ok(Step::End);
                }
                if run.push(key, record, sink)? == Taken::Full {
                    return Ok(Step::Full);
                }
            }
            run.result.count += 1;
            Ok(Step::Next)
        })?;
        if progress == Progress::Done {
            self.stage = if self.result.more { Stage::Count } else { Stage::Done };
        }
        Ok(progress)
    }

    fn push<S: Sink>(&mut self, key: &[u8], record: Record<'_>, sink: &mut S) -> Result<Taken, Missing> {
        let with_value = !self.query.keys_only;
        let value = if with_value && S::SEES_VALUES { Some(record.value()?) } else { None };
        let with_lease = with_value || self.query.target == SortTarget::Value;
        let taken = sink.push(&Item { key, record, with_value, value, with_lease });
        if taken == Taken::Whole {
            self.pushed += 1;
        }
        Ok(taken)
    }

    fn collect<P: PageSource>(&mut self, view: View<'_, P>, budget: &mut Budget) -> Result<Progress, Missing> {
        let Stage::Collect(mut candidates) = std::mem::replace(&mut self.stage, Stage::Done) else {
            unreachable!("called for this stage alone")
        };
        let (limit, stops) = (self.query.limit, self.query.stops_at_limit());
        let keep = usize::try_from(limit).ok().filter(|&limit| limit > 0).unwrap_or(usize::MAX);
        // With a limit no more is remembered than may become part of the reply, and one that says that there was more.
        let kept = keep.saturating_add(1);
        let full = kept.saturating_mul(2).max(CANDIDATES_MIN);
        let progress = self.walk(view, budget, |run, key, record| {
            // One more than the limit takes part in the sort, as with etcd.
            if stops && candidates.len() as i64 > limit {
                return Ok(Step::End);
            }
            if run.query.admits(&record) {
                let rank = run.query.rank(&record)?;
                candidates.push(Candidate { key: Bytes::copy_from_slice(key), rank });
                if candidates.len() >= full {
                    run.query.sort(&mut candidates);
                    candidates.truncate(kept);
                }
            }
            run.result.count += 1;
            Ok(Step::Next)
        });
        if !matches!(progress, Ok(Progress::Done)) {
            self.stage = Stage::Collect(candidates);
            return progress;
        }
        self.query.sort(&mut candidates);
        self.result.more = candidates.len() > keep;
        candidates.truncate(keep);
        self.stage = Stage::Emit(candidates, 0);
        progress
    }

    fn emit<P: PageSource>(
        &mut self,
        view: View<'_, P>,
        budget: &mut Budget,
        sink: &mut impl Sink,
    ) -> Result<Progress, Missing> {
        let Stage::Emit(sorted, mut next) = std::mem::replace(&mut self.stage, Stage::Done) else {
            unreachable!("called for this stage alone")
        };
        let view = if next > 0 { view.passing() } else { view };
        let mut keys = Visible::at(view, self.revision, self.current);
        while next < sorted.len() {
            let progress = if budget.spend() {
                let key = &sorted[next].key;
                keys.seek(key).and_then(|found| {
                    assert!(found && keys.key()? == key, "a key that was visible stays so at its revision");
                    let record = keys.record()?.expect("a key that was visible stays so at its revision");
                    let taken = self.push(key, record, sink)?;
                    Ok(if taken == Taken::Full { Progress::Full } else { Progress::Done })
                })
            } else {
                Ok(Progress::More)
            };
            if !matches!(progress, Ok(Progress::Done)) {
                self.stage = Stage::Emit(sorted, next);
                return progress;
            }
            next += 1;
        }
        let uncounted = self.result.more && self.query.stops_at_limit();
        self.stage = if uncounted { Stage::Count } else { Stage::Done };
        Ok(Progress::Done)
    }

    /// At the latest revision the tree knows the number; at an older one the walk goes on to the end of the range.
    fn count<P: PageSource>(&mut self, view: View<'_, P>, budget: &mut Budget) -> Result<Progress, Missing> {
        let range = &self.query.range;
        if self.revision == self.current && !range.is_single() {
            let totals = view.totals(LIVE, &range.key, range.upper().exclusive())?;
            self.result.count = i64::try_from(totals.entries).expect("fewer keys than revisions");
            self.stage = Stage::Done;
            return Ok(Progress::Done);
        }
        let progress = self.walk(view, budget, |run, _, _| {
            run.result.count += 1;
            Ok(Step::Next)
        })?;
        if progress == Progress::Done {
            self.stage = Stage::Done;
        }
        Ok(progress)
    }
}

impl Query {
    fn rank(&self, record: &Record<'_>) -> Result<Rank, Missing> {
        let meta = record.meta();
        Ok(match self.target {
            SortTarget::Key => Rank::Key,
            SortTarget::Version => Rank::Number(meta.version),
            SortTarget::Create => Rank::Number(meta.create),
            SortTarget::Mod => Rank::Number(meta.modified.main),
            SortTarget::Value => Rank::Value(Bytes::copy_from_slice(record.value()?)),
        })
    }

    /// Collected in key order, so a stable sort leaves equal ones in it.
    fn sort(&self, candidates: &mut [Candidate]) {
        let by = |a: &Candidate, b: &Candidate| -> Ordering {
            if self.target == SortTarget::Key { a.key.cmp(&b.key) } else { a.rank.cmp(&b.rank) }
        };
        match self.order {
            SortOrder::Descend => candidates.sort_by(|a, b| by(b, a)),
            SortOrder::None | SortOrder::Ascend => candidates.sort_by(by),
        }
    }
}
