//! The resumable walk behind a range read.

use std::cmp::Ordering;

use bytes::Bytes;
use plinth_tree::{Missing, PageSource, View};

use super::{Item, Query, QueryResult, Sink, SortOrder, SortTarget, Visible};
use crate::{Budget, KvError, Record, trees::LIVE};

/// Whether a slice finished its work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// All of it.
    Done,
    /// The budget ran out: call again.
    More,
}

/// A range read under way.
#[derive(Debug)]
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

#[derive(Debug)]
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
#[derive(Debug)]
struct Candidate {
    key: Bytes,
    rank: Rank,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
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
        let stage = match (query.count_only, query.is_sorted() || query.is_filtered()) {
            (true, _) => Stage::Count,
            (false, true) => Stage::Collect(Vec::new()),
            (false, false) => Stage::Scan,
        };
        let resume = query.range.key.to_vec();
        Ok(Self { query, revision, current, stage, resume, pushed: 0, result: QueryResult::default() })
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
            if progress == Progress::More {
                return Ok(Progress::More);
            }
        }
    }

    /// Walks on from `resume` and calls `each` with every key of the range that is visible, until it returns false, the range ends (`Done`) or the
    /// budget does (`More`). `resume` stands behind the last key that was dealt with, so that whatever stops the walk, no key is taken twice; an
    /// `each` that misses a page must have done nothing.
    fn walk<'a, P: PageSource>(
        &mut self,
        view: View<'a, P>,
        budget: &mut Budget,
        mut each: impl FnMut(&mut Self, &[u8], Record<'a>) -> Result<bool, Missing>,
    ) -> Result<Progress, Missing> {
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
            if let Some(record) = record
                && !each(self, key, record)?
            {
                break;
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
        let progress = self.walk(view, budget, |run, key, record| {
            if run.query.limit > 0 && run.pushed == run.query.limit {
                run.result.more = true;
                return Ok(false);
            }
            run.push(key, record, sink)?;
            Ok(true)
        })?;
        if progress == Progress::Done {
            self.result.count = self.pushed;
            self.stage = if self.result.more { Stage::Count } else { Stage::Done };
        }
        Ok(progress)
    }

    fn push(&mut self, key: &[u8], record: Record<'_>, sink: &mut impl Sink) -> Result<(), Missing> {
        let value = if self.query.keys_only { None } else { Some(record.value()?) };
        let with_lease = !self.query.keys_only || self.query.target == SortTarget::Value;
        sink.push(&Item { key, record, value, with_lease });
        self.pushed += 1;
        Ok(())
    }

    fn collect<P: PageSource>(&mut self, view: View<'_, P>, budget: &mut Budget) -> Result<Progress, Missing> {
        let Stage::Collect(mut candidates) = std::mem::replace(&mut self.stage, Stage::Done) else {
            unreachable!("called for this stage alone")
        };
        let (limit, stops) = (self.query.limit, self.query.stops_at_limit());
        let progress = self.walk(view, budget, |run, key, record| {
            // One more than the limit takes part in the sort, as with etcd.
            if stops && candidates.len() as i64 > limit {
                return Ok(false);
            }
            if run.query.admits(&record) {
                let rank = run.query.rank(&record)?;
                candidates.push(Candidate { key: Bytes::copy_from_slice(key), rank });
            }
            run.result.count += 1;
            Ok(true)
        });
        if !matches!(progress, Ok(Progress::Done)) {
            self.stage = Stage::Collect(candidates);
            return progress;
        }
        self.query.sort(&mut candidates);
        let keep = usize::try_from(limit).ok().filter(|&limit| limit > 0).unwrap_or(usize::MAX);
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
        let mut keys = Visible::at(view, self.revision, self.current);
        while next < sorted.len() {
            let done = budget.spend() && {
                let key = &sorted[next].key;
                let pushed = keys.seek(key).and_then(|found| {
                    assert!(found && keys.key()? == key, "a key that was visible stays so at its revision");
                    let record = keys.record()?.expect("a key that was visible stays so at its revision");
                    self.push(key, record, sink)
                });
                if let Err(missing) = pushed {
                    self.stage = Stage::Emit(sorted, next);
                    return Err(missing);
                }
                true
            };
            if !done {
                self.stage = Stage::Emit(sorted, next);
                return Ok(Progress::More);
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
            Ok(true)
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
