//! The log itself: what is appended goes into the batch being filled, one batch at a time is made durable.
//!
//! Group commit needs no timer: what arrives while a batch is under way makes up the next one.
//!
//! Invariants:
//! - `durable <= submitted <= tail` (batch sequences); none goes back, but for a batch that found no space for its segment and was never
//!   written. `submitted - durable` is 0 or 1.
//! - A block that is durable is never written again while its segment is part of the log.
//! - A batch is cut before it is submitted so that it fits a fresh segment; a seal always fits the segment under way.
//! - After a failed write the log is poisoned: what is on the device is not known, so nothing is written any more.
//!
//! A crash at any point leaves a log from which recovery makes the durable batches and perhaps the one under way.

use std::{
    cell::Cell,
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    rc::Rc,
};

use plinth_base::{AlignedBuf, BLOCK_BYTES, GroupId, Instant, LogIndex, Mark, Term, limits};
use plinth_env::{Env, File};

use crate::{
    batch::{Batch, EntryHead, Part, Stamp, entry_room},
    error::WalError,
    flush::{FreshSegment, InFlight},
    format::{BLOCK, ChainRecord, ENTRY_BYTES, FLAG_START, HEADER_BYTES, KIND_CHAIN, START_BYTES_MAX},
    group::{Group, GroupState, HardState, Place, Position},
    segment::{self, Named, Segment, TEMPORARY_NAME},
    types::{Entry, Lsn, SEGMENT_BYTES_MIN, WalOptions, WalStats},
};

/// Buffers kept for the batches to come: one being filled, one under way, a start batch.
const BUFFERS_MAX: usize = 3;

/// A file that will be the next segment.
pub(crate) struct NextSegment<F> {
    pub(crate) file: F,
    pub(crate) bytes: u64,
}

/// A write-ahead log that several groups share.
pub struct Wal<E: Env> {
    pub(crate) env: E,
    pub(crate) options: WalOptions,
    /// Oldest first; the last one is under way.
    pub(crate) segments: VecDeque<Rc<Segment<E::File>>>,
    pub(crate) groups: BTreeMap<GroupId, Group>,
    /// Cut but not submitted; the last one is being filled.
    pub(crate) pending: VecDeque<Batch>,
    pub(crate) in_flight: Option<InFlight>,
    pub(crate) next: Option<NextSegment<E::File>>,
    pub(crate) spares: Vec<PathBuf>,
    /// Maintenance is under way; `Some(true)` if it makes the next segment.
    pub(crate) maintenance: Option<bool>,
    /// The device was full: no segment is made before.
    pub(crate) space_retry_at: Option<Instant>,
    pub(crate) submitted: u64,
    pub(crate) durable: u64,
    /// Where the entry began whose first part is durable and whose last isn't.
    pub(crate) split_begin: Option<Place>,
    /// The last durable batch needs no seal: it is one, or a start.
    pub(crate) is_sealed: bool,
    /// Recovery cut the segment under way: nothing more goes there.
    pub(crate) must_rotate: bool,
    pub(crate) is_poisoned: bool,
    buffers: Vec<AlignedBuf>,
}

impl<E: Env> Wal<E> {
    /// Makes a new log in `options.dir`, which must exist and hold none. What an unfinished creation left is replaced.
    pub async fn create(env: &E, options: WalOptions) -> Result<Self, WalError> {
        let dir = &options.dir;
        let names = env.list_dir(dir).await.map_err(WalError::io(dir, "listing"))?;
        if names.iter().any(|entry| matches!(segment::parse_name(&entry.name), Named::Segment(_))) {
            return Err(WalError::LogExists { dir: dir.clone() });
        }
        let (path, temporary) = (segment::segment_path(dir, 1), dir.join(TEMPORARY_NAME));
        // Nobody has to be spared before there is a log.
        let pace = &mut async |_| {};
        let file =
            segment::create_zeroed(env, &temporary, &path, options.segment_bytes, options.sync_method, pace).await?;
        let fresh = FreshSegment {
            sequence: 1,
            nonce: draw_nonce(env),
            next_nonce: draw_nonce(env),
            bytes: options.segment_bytes,
            path: path.clone(),
            first_batch: 1,
        };
        let mut wal = Self::assemble(env.clone(), options);
        let mut start = wal.start_batch(&fresh);
        let end = start.disk_bytes();
        let (result, _) = file.write_durable(0, start.take_buf()).await;
        result.map_err(WalError::io(&temporary, "writing a start batch"))?;
        // Under its name only now: a `.wal` file that is the first one always has a start.
        env.rename(&temporary, &path).await.map_err(WalError::io(&temporary, "renaming"))?;
        env.sync_dir(&wal.options.dir).await.map_err(WalError::io(&wal.options.dir, "syncing"))?;
        wal.begin_segment(fresh, file, end);
        (wal.submitted, wal.durable, wal.is_sealed) = (1, 1, true);
        Ok(wal)
    }

    /// A log without a segment.
    pub(crate) fn assemble(env: E, options: WalOptions) -> Self {
        assert!(options.segment_bytes >= SEGMENT_BYTES_MIN, "a segment holds at least a start, a batch and a seal");
        assert!(options.segment_bytes.is_multiple_of(BLOCK), "a segment is whole blocks");
        Self {
            env,
            options,
            segments: VecDeque::new(),
            groups: BTreeMap::new(),
            pending: VecDeque::new(),
            in_flight: None,
            next: None,
            spares: Vec::new(),
            maintenance: None,
            space_retry_at: None,
            submitted: 0,
            durable: 0,
            split_begin: None,
            is_sealed: false,
            must_rotate: false,
            is_poisoned: false,
            buffers: Vec::new(),
        }
    }

    pub(crate) fn begin_segment(&mut self, fresh: FreshSegment, file: E::File, end: u64) {
        let FreshSegment { sequence, nonce, next_nonce, bytes, path, first_batch } = fresh;
        let end = Cell::new(end);
        self.segments.push_back(Rc::new(Segment { sequence, nonce, next_nonce, bytes, path, file, first_batch, end }));
    }

    pub(crate) fn active(&self) -> &Segment<E::File> {
        self.segments.back().expect("a log always has a segment under way")
    }

    /// `group`'s log begins behind `index`: a new group, or a snapshot was installed. What it held is void. The hard state stays.
    pub fn start_group(&mut self, group: GroupId, index: LogIndex, term: Term) {
        let is_new = !self.groups.contains_key(&group);
        assert!(
            !is_new || self.groups.len() < limits::GROUPS_PER_SHARD_MAX,
            "a shard carries a limited number of groups"
        );
        let state = self.groups.entry(group).or_default();
        assert!(index >= state.released, "what was released can't be needed again");
        let start = Position { index, term };
        state.restart(start);
        let tail = state.tail;
        let batch = self.batch_with_room(ENTRY_BYTES);
        batch.put_group_start(group, start);
        batch.effects.note_start(group, tail);
    }

    /// Adds an entry to the next batch, in place of what the group's log has at its index and behind. The group must have been
    /// started, the index is above what was released and leaves no gap.
    pub fn append(&mut self, entry: Entry) {
        let Entry { group, index, term, is_change, payload } = entry;
        let at = Position { index, term };
        let state = self.groups.get_mut(&group).expect("a group is started before it gets entries");
        assert!(index > state.released, "an entry that was released is committed and can't be replaced");
        let previous = LogIndex(index.0 - 1);
        let previous_term = state.term_of(previous).expect("terms are known from the last released entry to the tail");
        state.push_entry(at);
        if is_change {
            state.note_change();
        }
        let tail = state.tail;
        let total_bytes = u32::try_from(payload.len()).expect("an entry is below 4 GiB");
        let head = EntryHead { group, at, previous_term, is_change, total_bytes };
        let is_split = payload.len() > entry_room(self.options.batch_bytes_max());
        if is_split {
            self.append_split(&head, &payload);
        } else {
            let batch = self.batch_with_room(ENTRY_BYTES + payload.len());
            batch.put_entry(&head, Part::Whole, &payload);
        }
        let batch = self.pending.back_mut().expect("the entry was just put there");
        batch.effects.note_entry(group, tail, is_split);
    }

    /// An entry larger than a batch: what fits, batch by batch. A batch ends with the part that goes on.
    fn append_split(&mut self, head: &EntryHead, payload: &[u8]) {
        Mark::RecordSplit.hit();
        let batch_bytes_max = self.options.batch_bytes_max();
        let mut rest = payload;
        let mut part = Part::First;
        while !rest.is_empty() {
            // A part smaller than a block isn't worth its header.
            let batch = self.batch_with_room(ENTRY_BYTES + rest.len().min(BLOCK_BYTES));
            let room = batch_bytes_max - batch.used_bytes() - ENTRY_BYTES;
            let (piece, left) = rest.split_at(room.min(rest.len()));
            if left.is_empty() {
                part = Part::Last;
                batch.closes_split = true;
            }
            batch.opens_split = part == Part::First;
            batch.put_entry(head, part, piece);
            if !left.is_empty() {
                // Even if a few bytes were left: the next part is the first record of its batch.
                let fresh = self.new_batch();
                self.pending.push_back(fresh);
            }
            part = Part::Middle;
            rest = left;
        }
    }

    /// Adds a group's hard state to the next batch, unless it is the one that the log has.
    pub fn set_hard_state(&mut self, group: GroupId, hard_state: HardState) {
        let state = self.groups.get_mut(&group).expect("a group is started before it gets a hard state");
        if state.tail.hard_state == hard_state {
            return;
        }
        state.tail.hard_state = hard_state;
        let tail = state.tail;
        let batch = self.batch_with_room(ENTRY_BYTES);
        batch.put_hard_state(group, hard_state);
        batch.effects.note_hard_state(group, tail);
    }

    /// The batch being filled, or a new one if it has no room for `bytes`.
    fn batch_with_room(&mut self, bytes: usize) -> &mut Batch {
        let max = self.options.batch_bytes_max();
        if self.pending.back().is_none_or(|batch| batch.used_bytes() + bytes > max) {
            let fresh = self.new_batch();
            self.pending.push_back(fresh);
        }
        self.pending.back_mut().expect("one is there now")
    }

    /// Bytes appended and not yet durable.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        let under_way = self.in_flight.as_ref().map_or(0, |flight| flight.used_bytes);
        under_way + self.pending.iter().filter(|batch| !batch.is_empty()).map(Batch::used_bytes).sum::<usize>()
    }

    /// Whether a batch is under way.
    #[must_use]
    pub fn in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// The first batch of `fresh`: where the segment before it ended, and every group's durable state.
    pub(crate) fn start_batch(&mut self, fresh: &FreshSegment) -> Batch {
        let mut batch = self.new_batch();
        let previous = self.segments.back();
        // A group whose start still waits is not part of the log yet.
        let groups = self.groups.iter().filter(|(_, state)| state.is_durable);
        batch.put_chain(&ChainRecord {
            kind: KIND_CHAIN,
            split: u8::from(self.split_begin.is_some()),
            reserved: 0.into(),
            groups: u32::try_from(groups.clone().count()).expect("at most GROUPS_PER_SHARD_MAX").into(),
            segment_bytes: fresh.bytes.into(),
            next_nonce: fresh.next_nonce.into(),
            previous_segment: previous.map_or(0, |segment| segment.sequence).into(),
            previous_nonce: previous.map_or(0, |segment| segment.nonce).into(),
            previous_sequence: self.durable.into(),
            previous_end: previous.map_or(0, |segment| segment.end.get()).into(),
        });
        for (&group, state) in groups {
            batch.put_group_state(group, &state.durable);
        }
        let sequence = fresh.first_batch;
        assert!(batch.used_bytes() <= START_BYTES_MAX, "as many groups as a shard carries fit");
        let (nonce, segment) = (fresh.nonce, fresh.sequence);
        batch.stamp(Stamp { flags: FLAG_START, nonce, segment, sequence, durable: sequence - 1 });
        batch
    }

    pub(crate) fn new_batch(&mut self) -> Batch {
        Batch::new(self.buffers.pop().unwrap_or_else(|| AlignedBuf::zeroed(0)))
    }

    pub(crate) fn keep_buffer(&mut self, buf: AlignedBuf) {
        if self.buffers.len() < BUFFERS_MAX {
            self.buffers.push(buf);
        }
    }

    /// The term of `group`'s entry at `index`, appended or durable, or of the one before its first. `None` if the log doesn't know it
    /// any more, or not yet.
    #[must_use]
    pub fn term_of(&self, group: GroupId, index: LogIndex) -> Option<Term> {
        self.groups.get(&group)?.term_of(index)
    }

    /// Where `group`'s log starts, or what is still known of it, and the first entry of each later term.
    pub fn term_runs(&self, group: GroupId) -> impl Iterator<Item = Position> + '_ {
        self.groups.get(&group).into_iter().flat_map(Group::term_runs)
    }

    /// Entries of `group`, not released, that change its members.
    pub fn changes(&self, group: GroupId) -> impl Iterator<Item = LogIndex> + '_ {
        self.groups.get(&group).into_iter().flat_map(Group::changes)
    }

    /// A group behind everything appended.
    #[must_use]
    pub fn group_tail(&self, group: GroupId) -> Option<GroupState> {
        self.groups.get(&group).map(|state| state.tail)
    }

    /// A group behind the last durable batch.
    #[must_use]
    pub fn group_durable(&self, group: GroupId) -> Option<GroupState> {
        self.groups.get(&group).map(|state| state.durable)
    }

    /// Figures for metrics.
    #[must_use]
    pub fn stats(&self) -> WalStats {
        let waiting = self.pending.iter().filter(|batch| !batch.is_empty()).count() as u64;
        let next_bytes = self.next.as_ref().map_or(0, |next| next.bytes);
        let spare_bytes = self.spares.len() as u64 * self.options.segment_bytes;
        let segment_bytes: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        WalStats {
            segments: self.segments.len(),
            spares: self.spares.len(),
            disk_bytes: segment_bytes + spare_bytes + next_bytes,
            durable: Lsn(self.durable),
            submitted: Lsn(self.submitted),
            tail: Lsn(self.submitted + waiting),
            pending_bytes: self.pending_bytes(),
        }
    }
}

/// Never 0, so that a block of zeroes is nobody's.
pub(crate) fn draw_nonce<E: Env>(env: &E) -> u64 {
    env.random_u64().max(1)
}

const _: () = assert!(HEADER_BYTES + ENTRY_BYTES < BLOCK_BYTES);
