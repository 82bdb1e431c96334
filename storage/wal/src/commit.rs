//! From a filled batch to a durable one: where it goes, and what its outcome changes.
//!
//! Invariants: one batch is under way at a time; a batch that found no space for its segment is the next one again, unchanged and
//! before all that came later; what became durable changes the groups in the order of the batch's records.

use std::{path::PathBuf, time::Duration};

use plinth_base::Mark;
use plinth_env::Env;

use crate::{
    batch::{Batch, Stamp},
    error::WalError,
    flush::{Flush, FlushDone, FreshSegment, InFlight, Target},
    format::{BLOCK, FLAG_SEAL},
    group::{Effect, Effects, Place},
    log::{Wal, draw_nonce},
    segment,
    types::{Durable, GroupDurable, Lsn},
};

/// How long the log waits after the device was full before it tries again to make a segment.
pub(crate) const NO_SPACE_PAUSE: Duration = Duration::from_secs(1);

/// Where the next batch goes.
struct Aim<F> {
    segment: u64,
    nonce: u64,
    offset: u64,
    path: PathBuf,
    target: Target<F>,
    /// The segment that begins with it.
    fresh: Option<FreshSegment>,
}

impl<E: Env> Wal<E> {
    /// Takes the next batch, to be run. `None` if there is nothing to write, a batch is under way, the next segment is just
    /// being made ready by maintenance, the device was full a moment ago, or the log is poisoned: ask again in a later turn.
    pub fn begin_flush(&mut self) -> Option<Flush<E>> {
        if self.pending.front().is_none_or(Batch::is_empty) {
            return None;
        }
        self.submit(false)
    }

    /// Takes an empty batch that says the one before it is durable, for a log that is idle. `None` if it isn't, or is sealed.
    pub fn begin_seal(&mut self) -> Option<Flush<E>> {
        let is_idle = self.pending.iter().all(Batch::is_empty) && self.in_flight.is_none();
        if !is_idle || self.is_sealed { None } else { self.submit(true) }
    }

    fn submit(&mut self, is_seal: bool) -> Option<Flush<E>> {
        if self.is_poisoned || self.in_flight.is_some() {
            return None;
        }
        let disk_bytes = if is_seal { BLOCK } else { self.pending.front().map_or(BLOCK, Batch::disk_bytes) };
        let active = self.active();
        // A block is left for the seal.
        let reserve = if is_seal { 0 } else { BLOCK };
        let is_fresh = self.must_rotate || active.end.get() + disk_bytes + reserve > active.bytes;
        if is_fresh && !self.can_rotate() {
            return None;
        }
        let mut batch = if is_seal { self.new_batch() } else { self.pending.pop_front()? };
        let aim = if is_fresh { self.aim_at_fresh() } else { self.aim_at_active() };
        let sequence = self.submitted + 1 + u64::from(is_fresh);
        let flags = if is_seal { FLAG_SEAL } else { 0 };
        // One batch at a time: the one before this is durable, and so is a start by the time this goes out.
        batch.stamp(Stamp { flags, nonce: aim.nonce, segment: aim.segment, sequence, durable: sequence - 1 });
        self.submitted = sequence;
        self.check_order();
        let block = u32::try_from(aim.offset / BLOCK).expect("a segment is far below 16 TiB");
        self.in_flight = Some(InFlight {
            place: Place { segment: aim.segment, block },
            is_seal,
            disk_bytes,
            used_bytes: batch.used_bytes(),
            effects: std::mem::take(&mut batch.effects),
            fresh: aim.fresh,
        });
        let Aim { path, target, offset, .. } = aim;
        let sync_method = self.options.sync_method;
        Some(Flush { env: self.env.clone(), path, sync_method, target, batch, offset })
    }

    /// A segment can begin now: nothing else is making one, and the device wasn't full a moment ago.
    fn can_rotate(&mut self) -> bool {
        if self.maintenance == Some(true) {
            return false;
        }
        self.next.is_some() || !self.spares.is_empty() || self.space_retry_at.is_none_or(|at| at <= self.env.now())
    }

    fn aim_at_active(&self) -> Aim<E::File> {
        let active = self.active();
        Aim {
            segment: active.sequence,
            nonce: active.nonce,
            offset: active.end.get(),
            path: active.path.clone(),
            target: Target::Active(active.file.clone()),
            fresh: None,
        }
    }

    /// Behind the start of the next segment: the file that is ready, else a spare, else one that the flush makes.
    fn aim_at_fresh(&mut self) -> Aim<E::File> {
        let active = self.active();
        let (sequence, nonce) = (active.sequence + 1, active.next_nonce);
        let next = self.next.take();
        let bytes = next.as_ref().map_or(self.options.segment_bytes, |next| next.bytes);
        let spare = if next.is_none() { self.spares.pop() } else { None };
        let fresh = FreshSegment {
            sequence,
            nonce,
            next_nonce: draw_nonce(&self.env),
            bytes,
            path: segment::segment_path(&self.options.dir, sequence),
            first_batch: self.submitted + 1,
        };
        let start = self.start_batch(&fresh);
        if spare.is_some() {
            Mark::SegmentRecycled.hit();
        }
        Aim {
            segment: sequence,
            nonce,
            offset: start.disk_bytes(),
            path: fresh.path.clone(),
            target: Target::Fresh { ready: next.map(|next| next.file), spare, start, segment_bytes: bytes },
            fresh: Some(fresh),
        }
    }

    /// Takes the outcome of the flush under way. `NoSpace` leaves the batch for a later flush; every other error is final: the log
    /// is poisoned and the node must stop.
    pub fn finish_flush(&mut self, done: FlushDone<E>) -> Result<Durable, WalError> {
        let flight = self.in_flight.take().expect("a flush was under way");
        match done.result {
            Ok(()) => Ok(self.finish_durable(flight, done)),
            Err(error @ WalError::NoSpace { .. }) => {
                self.requeue(flight, done.batch);
                Err(error)
            }
            Err(error) => {
                self.is_poisoned = true;
                Err(error)
            }
        }
    }

    /// The batch never reached the device: it is the next one again.
    fn requeue(&mut self, flight: InFlight, mut batch: Batch) {
        self.space_retry_at = Some(self.env.now() + NO_SPACE_PAUSE);
        self.submitted = self.durable;
        if flight.is_seal {
            self.keep_buffer(batch.into_buf());
        } else {
            batch.effects = flight.effects;
            self.pending.push_front(batch);
        }
        self.check_order();
    }

    fn finish_durable(&mut self, flight: InFlight, done: FlushDone<E>) -> Durable {
        let rotated = flight.fresh.is_some();
        let start_blocks = u64::from(flight.place.block) * BLOCK;
        if let Some(fresh) = flight.fresh {
            self.begin_segment(fresh, done.opened.expect("the flush opened the fresh segment"), start_blocks);
            self.must_rotate = false;
        }
        let active = self.active();
        assert_eq!(active.end.get(), start_blocks, "a durable block is never written again");
        active.end.set(start_blocks + flight.disk_bytes);
        self.durable = self.submitted;
        self.is_sealed = flight.is_seal;
        self.check_order();
        let split_begin = self.split_begin;
        if done.batch.closes_split {
            self.split_begin = None;
        }
        if done.batch.opens_split {
            self.split_begin = Some(flight.place);
        }
        let groups = self.apply(&flight.effects, flight.place, split_begin);
        self.keep_buffer(done.batch.into_buf());
        if let Some(buf) = done.start_buf {
            self.keep_buffer(buf);
        }
        Durable { lsn: Lsn(self.durable), groups, bytes: flight.disk_bytes, flush_ns: done.flush_ns, rotated }
    }

    fn apply(&mut self, effects: &Effects, place: Place, split_begin: Option<Place>) -> Vec<GroupDurable> {
        let report = |effect: &Effect| {
            let group = self.groups.get_mut(&effect.group).expect("a group with records was started");
            group.apply(effect, place, split_begin);
            let has_entries = effect.restarted || effect.lowest().is_some();
            GroupDurable {
                group: effect.group,
                last: has_entries.then_some(effect.state.last),
                hard_state: effect.hard_state.then_some(effect.state.hard_state),
            }
        };
        effects.iter().map(report).collect()
    }

    fn check_order(&self) {
        assert!(self.durable <= self.submitted, "a batch is durable only after it was submitted");
        assert!(self.submitted <= self.durable + 2, "one batch at a time, with a start before it at most");
    }
}
