//! Automatic compaction: how much history is kept, and a task that sees to it.
//!
//! By time: the revision is noted ten times an hour, or ten times in the retention if that is shorter; what was current a whole retention ago is
//! compacted, at most once an hour and not before one retention has passed. By number: every five minutes, up to so many revisions back.

use std::{collections::VecDeque, time::Duration};

use plinth_base::Instant;
use plinth_env::Env;
use plinth_rpc::{errors, etcdserverpb as pb};

use crate::api::Api;

/// How much history is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retention {
    /// What was current within this time.
    Time(Duration),
    /// So many revisions.
    Revisions(i64),
}

/// By time: the longest time between two compactions.
const PERIOD_MAX: Duration = Duration::from_secs(3600);
/// Notes in a period.
const NOTES: u32 = 10;
/// By number: the time between two compactions.
const REVISIONS_PERIOD: Duration = Duration::from_secs(300);

/// Decides what to compact.
#[derive(Debug)]
pub struct AutoCompaction {
    retention: Retention,
    /// When which revision was current, the oldest first. By time only.
    notes: VecDeque<(Instant, i64)>,
    /// When the last compaction was, or the start.
    last: Instant,
    compacted: Option<i64>,
}

impl AutoCompaction {
    /// From `now` on.
    #[must_use]
    pub fn new(retention: Retention, now: Instant) -> Self {
        Self { retention, notes: VecDeque::new(), last: now, compacted: None }
    }

    /// How often [`AutoCompaction::step`] wants to be called.
    #[must_use]
    pub fn interval(&self) -> Duration {
        match self.retention {
            Retention::Time(keep) => keep.min(PERIOD_MAX) / NOTES,
            Retention::Revisions(_) => REVISIONS_PERIOD,
        }
    }

    /// The revision to compact to, if it is time. `revision` is the current one.
    pub fn step(&mut self, now: Instant, revision: i64) -> Option<i64> {
        let target = match self.retention {
            Retention::Revisions(keep) => revision.saturating_sub(keep),
            Retention::Time(keep) => {
                self.notes.push_back((now, revision));
                let is_old = |at: Instant| now.since(at) >= keep;
                while self.notes.get(1).is_some_and(|(at, _)| is_old(*at)) {
                    self.notes.pop_front();
                }
                let period = if self.compacted.is_none() { keep } else { keep.min(PERIOD_MAX) };
                let (at, revision) = *self.notes.front()?;
                if !is_old(at) || now.since(self.last) < period {
                    return None;
                }
                revision
            }
        };
        (target > 0 && self.compacted != Some(target)).then_some(target)
    }

    /// The compaction that [`AutoCompaction::step`] asked for was made. One that wasn't is asked for again.
    pub fn done(&mut self, now: Instant, revision: i64) {
        (self.last, self.compacted) = (now, Some(revision));
    }
}

/// Compacts for as long as the member runs, while it leads.
pub async fn compact_automatically<E: Env>(api: Api<E>, retention: Retention) {
    let env = api.executor().env().clone();
    let mut policy = AutoCompaction::new(retention, env.now());
    loop {
        env.sleep(policy.interval()).await;
        if !api.is_leader() {
            continue;
        }
        let Some(revision) = policy.step(env.now(), api.published().root().state.revision) else { continue };
        match api.compact(pb::CompactionRequest { revision, physical: false }).await {
            Ok(_) => {
                plinth_base::log_info!("the history is compacted", "revision" => revision);
                policy.done(env.now(), revision);
            }
            // Somebody else did.
            Err(status) if status == errors::COMPACTED => policy.done(env.now(), revision),
            Err(status) => plinth_base::log_warn!(
                "the history can't be compacted; it will be tried again",
                "revision" => revision,
                "error" => plinth_base::log::Value::display(&status)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// What is compacted when, in minutes since the start, if every step makes ten revisions and all succeed.
    fn played(retention: Retention, minutes: u64) -> Vec<(u64, i64)> {
        let mut policy = AutoCompaction::new(retention, Instant::default());
        let (mut now, mut revision, mut made) = (Instant::default(), 1, Vec::new());
        while now.since(Instant::default()) < MINUTE * u32::try_from(minutes).expect("few") {
            now = now + policy.interval();
            revision += 10;
            if let Some(target) = policy.step(now, revision) {
                made.push((now.since(Instant::default()).as_secs() / 60, target));
                policy.done(now, target);
            }
        }
        made
    }

    #[test]
    fn by_time_what_was_current_a_retention_ago_is_compacted_once_a_period() {
        // Noted every minute: revision 11 after one, 21 after two, ...
        assert_eq!(played(Retention::Time(10 * MINUTE), 32), [(11, 11), (21, 111), (31, 211)]);
        // Noted every six minutes, and compacted every hour once three hours have passed.
        assert_eq!(played(Retention::Time(180 * MINUTE), 310), [(186, 11), (246, 111), (306, 211)]);
    }

    #[test]
    fn by_number_so_many_revisions_stay() {
        assert_eq!(played(Retention::Revisions(25), 20), [(15, 6), (20, 16)]);
    }

    #[test]
    fn what_failed_is_asked_for_again_and_what_is_done_is_not() {
        let mut policy = AutoCompaction::new(Retention::Revisions(10), Instant::default());
        let at = |minutes: u32| Instant::default() + MINUTE * minutes;
        assert_eq!(policy.step(at(5), 100), Some(90));
        assert_eq!(policy.step(at(10), 100), Some(90));
        policy.done(at(10), 90);
        assert_eq!(policy.step(at(15), 100), None);
        assert_eq!(policy.step(at(20), 5), None, "there is less history than that");
    }
}
