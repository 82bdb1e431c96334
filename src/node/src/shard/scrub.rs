//! The scrub of the tree files: a pass over each of them in the time that the interval says, and what becomes of rot.
//!
//! A pass is made of slices (`plinth_tree::Scrub`), at most one at a time. A slice is due when as much of the interval has gone by as of the file is
//! proven; after a delay they follow each other until that is made good, as fast as the budget lets them. So the pace of a pass is that of
//! the file's present size, and a small file is spread over the interval too. A pass begins when the one before has ended and its interval is over, or
//! at once if somebody has a reason (`scrub_now`).
//!
//! Rot is logged with file and page, and the alarm CORRUPT is raised for this member through the log, once as long as it stands. The node serves on:
//! whoever reads the page is told so, and everything else is sound. A read that fails is no rot: it is said, tried again, and in the end passed
//! over.
//!
//! Invariant: nothing is said of a file that isn't the group's any more; what a slice found while a snapshot took its place is dropped.
//! A crash loses how far a pass was, and what it found if the alarm isn't in the log yet: the next pass finds it again.

use std::time::Duration;

use plinth_base::{Corrupt, Instant, Mark, log::Value};
use plinth_env::{Env, TaskQueue};
use plinth_kv::AlarmKind;
use plinth_tree::{PAGE_BYTES, ScrubDone, ScrubPlace, ScrubSlice, TreeError};

use super::{Completion, Shard};
use crate::budget::Use;

/// A pass over a small file has at least about so many slices, ...
const SLICES_MIN: u64 = 16;

/// ... if they are not smaller than this. Larger than the other no slice is meant to be: what it pins can't be used again.
const SLICE_BYTES_MIN: u64 = 64 << 10;
const SLICE_BYTES_MAX: u64 = 1 << 20;

/// After a read that failed the same place is tried again after so long, ...
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// ... and passed over when it has failed so many times.
const TRIES_MAX: u32 = 3;

/// All of a pass.
const WHOLE_PPM: u32 = 1_000_000;

/// A group's scrub.
#[derive(Default)]
pub(crate) struct Scrub {
    pass: Option<Pass>,
    /// No pass begins before.
    next_pass: Instant,
    /// A pass is to begin now, whatever the time.
    wants_pass: bool,
    /// How many slices there were. It goes on with the tree that replaces this one, so that they can't be taken for each other.
    slices: u64,
    /// The one under way.
    slice: Option<u64>,
    /// How much of the pass under way, or of the last one, is done.
    progress_ppm: u32,
    /// Rot was found, and the alarm isn't seen to stand yet.
    owes_alarm: bool,
}

/// Once through the file.
struct Pass {
    began: Instant,
    /// It doesn't wait for its time.
    is_urgent: bool,
    place: ScrubPlace,
    pages: u64,
    rotten: u64,
    /// Places that were passed over.
    unreadable: u64,
    /// How often the place couldn't be read, and when it is tried again.
    tries: u32,
    retry: Instant,
}

impl Pass {
    fn new(began: Instant, is_urgent: bool) -> Self {
        let place = ScrubPlace::default();
        Self { began, is_urgent, place, pages: 0, rotten: 0, unreadable: 0, tries: 0, retry: began }
    }
}

impl Scrub {
    /// Of the tree that takes the place of the one that `before` was about.
    pub(super) fn take_over(&mut self, before: &Self) {
        (self.slices, self.next_pass) = (before.slices, before.next_pass);
    }

    /// Begins the pass that is due, if one is, and says whether its next slice is.
    fn is_due(&mut self, now: Instant, interval: Duration) -> bool {
        if self.slice.is_some() {
            return false;
        }
        if std::mem::take(&mut self.wants_pass) {
            self.pass = Some(Pass::new(now, true));
        } else if self.pass.is_none() && !interval.is_zero() && now >= self.next_pass {
            self.pass = Some(Pass::new(now, false));
        } else if let Some(pass) = &self.pass {
            let part = f64::from(self.progress_ppm) / f64::from(WHOLE_PPM);
            let due = if pass.is_urgent { pass.began } else { pass.began + interval.mul_f64(part) };
            return now >= due.max(pass.retry);
        } else {
            return false;
        }
        self.progress_ppm = 0;
        true
    }

    fn begin_slice(&mut self) -> u64 {
        self.slices += 1;
        self.slice = Some(self.slices);
        self.slices
    }
}

impl<E: Env> Shard<E> {
    /// Begins a slice, if one is due and nothing speaks against it.
    pub(super) fn scrub_if_due(&mut self, at: usize) {
        let now = self.env.now();
        let work = &mut self.groups[at].work;
        if self.stopping.is_some() || self.stall.is_stalled() || !work.may_scrub() {
            return;
        }
        if !work.scrub.is_due(now, self.options.scrub_interval) {
            return;
        }
        self.begin_slice(at);
    }

    /// Begins a pass at once, and doesn't spread it: somebody has seen a page that is rotten.
    pub(in crate::shard) fn scrub_now(&mut self, at: usize) {
        let scrub = &mut self.groups[at].work.scrub;
        scrub.wants_pass |= scrub.pass.as_ref().is_none_or(|pass| !pass.is_urgent);
        self.scrub_if_due(at);
    }

    fn begin_slice(&mut self, at: usize) {
        let group = &mut self.groups[at];
        let Some(pass) = &group.work.scrub.pass else { return };
        let in_use_bytes = u64::try_from(group.published.status.in_use_bytes()).unwrap_or(0);
        let bytes_max = (in_use_bytes / SLICES_MIN).clamp(SLICE_BYTES_MIN, SLICE_BYTES_MAX);
        let slice = group.store.begin_scrub(pass.place.clone(), bytes_max);
        let number = group.work.scrub.begin_slice();
        let (completions, paced) = (self.completions.clone(), self.paced(Use::Scrub));
        self.env.spawn(TaskQueue::Background, async move {
            completions.push(Completion::Scrubbed(at, number, slice.run(paced).await));
        });
    }

    pub(super) fn handle_scrubbed(&mut self, at: usize, number: u64, done: ScrubDone) {
        let now = self.env.now();
        let group = &mut self.groups[at];
        let scrub = &mut group.work.scrub;
        if scrub.slice.take_if(|slice| *slice == number).is_none() || group.work.is_placing {
            // It may have read the file that takes this one's place.
            return;
        }
        let ScrubSlice { next, pages, progress_ppm, error } = group.store.finish_scrub(done);
        self.metrics.scrub_pages.add(pages);
        let Some(pass) = &mut scrub.pass else { return };
        pass.pages += pages;
        match error {
            None => pass.tries = 0,
            Some(TreeError::Corrupt(corrupt)) => {
                (pass.rotten, pass.tries, scrub.owes_alarm) = (pass.rotten + 1, 0, true);
                self.metrics.scrub_corruptions.inc();
                log_rot(&corrupt, group.id.0);
            }
            Some(error) => {
                pass.tries += 1;
                let is_passed_over = pass.tries == TRIES_MAX;
                plinth_base::log_warn!(
                    "a tree file can't be read to be scrubbed",
                    "group" => group.id.0,
                    "error" => Value::display(&error),
                    "tries" => u64::from(pass.tries),
                    "passed_over" => is_passed_over
                );
                if !is_passed_over {
                    pass.retry = now + RETRY_PAUSE;
                    return;
                }
                (pass.tries, pass.unreadable) = (0, pass.unreadable + 1);
                // The next place may fail as this one did.
                pass.retry = now + RETRY_PAUSE;
            }
        }
        scrub.progress_ppm = progress_ppm;
        match next {
            Some(place) => pass.place = place,
            None => self.end_pass(at),
        }
        self.note_progress();
        self.raise_corrupt_if_owed(at);
        self.scrub_if_due(at);
    }

    fn end_pass(&mut self, at: usize) {
        let (now, interval) = (self.env.now(), self.options.scrub_interval);
        let group = &mut self.groups[at];
        let Some(pass) = group.work.scrub.pass.take() else { return };
        group.work.scrub.next_pass = (pass.began + interval).max(now);
        self.metrics.scrub_passes.inc();
        self.metrics.last_scrub_pass.set(i64::try_from(self.env.unix_time().as_secs()).unwrap_or(i64::MAX));
        plinth_base::log_info!(
            "a tree file was scrubbed",
            "group" => group.id.0,
            "pages" => pass.pages,
            "took" => now.since(pass.began),
            "rotten" => pass.rotten,
            "unreadable" => pass.unreadable
        );
    }

    /// Of all groups, as if their files were equally long.
    fn note_progress(&self) {
        let sum: u64 = self.groups.iter().map(|group| u64::from(group.work.scrub.progress_ppm)).sum();
        let mean = sum / self.groups.len() as u64;
        self.metrics.scrub_progress_ppm.set(i64::try_from(mean).unwrap_or(i64::MAX));
    }

    /// Raises the alarm CORRUPT for what was found, until it is seen to stand.
    pub(super) fn raise_corrupt_if_owed(&mut self, at: usize) {
        let group = &mut self.groups[at];
        if !group.work.scrub.owes_alarm || self.stopping.is_some() {
            return;
        }
        let own = (self.member, AlarmKind::Corrupt);
        if group.machine.state().alarms.contains(&own) {
            group.work.scrub.owes_alarm = false;
            return group.work.corrupt_alarm.forget();
        }
        self.raise(at, AlarmKind::Corrupt);
    }
}

fn log_rot(corrupt: &Corrupt, group: u32) {
    Mark::RotFoundByScrub.hit();
    plinth_base::log_error!(
        "a page of a tree file is rotten: replace this member, then clear the alarm CORRUPT",
        "group" => group,
        "file" => Value::display(&corrupt.file.display()),
        "page" => corrupt.offset / PAGE_BYTES as u64,
        "error" => Value::display(corrupt)
    );
}
