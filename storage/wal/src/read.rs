//! Entries read back from the log, for slow followers and for replay after a start.
//!
//! A read is planned at once and runs on its own: it holds its segments, so that they are not recycled under it. It sees what was
//! durable when it was planned, without what was replaced in memory since.
//!
//! Invariant: memory is bounded by `bytes_max`, one batch and one entry.

use std::{future::Future, rc::Rc};

use bytes::{Bytes, BytesMut};
use plinth_base::{BLOCK_BYTES, GroupId, LogIndex, limits::IO_BYTES_MAX};
use plinth_env::{Env, File};

use crate::{
    batch::{EntryHead, Part, Record, Records},
    error::WalError,
    format::{BLOCK, BatchHeader, HEADER_BYTES},
    log::Wal,
    segment::{Expect, Probe, Segment, Window},
    types::Entry,
};

/// How many spans one read covers at most; it ends early then.
const PIECES_MAX: usize = 256;

/// The least that is read from the device at once.
const CHUNK_BYTES_MIN: usize = 64 << 10;

/// Entries below `end` from a batch on.
struct Piece {
    /// Position in the plan's segments.
    segment: usize,
    offset: u64,
    end: LogIndex,
}

struct Plan<F> {
    group: GroupId,
    from: LogIndex,
    bytes_max: usize,
    pieces: Vec<Piece>,
    /// In order, each with the end of what is durable.
    segments: Vec<(Rc<Segment<F>>, u64)>,
}

impl<E: Env> Wal<E> {
    /// Reads `group`'s durable entries from index `from` on: at least one if there is one, then as many as `bytes_max` bytes of
    /// payload hold. Empty if there is none; `Gone` if the log doesn't go back that far; `Corrupt` if the device gave other
    /// bytes than were written.
    pub fn read(
        &self,
        group: GroupId,
        from: LogIndex,
        bytes_max: usize,
    ) -> impl Future<Output = Result<Vec<Entry>, WalError>> + use<E> {
        let plan = self.plan_read(group, from, bytes_max);
        async move {
            match plan? {
                Some(plan) => plan.run().await,
                None => Ok(Vec::new()),
            }
        }
    }

    /// The first index of `group` that [`Wal::read`] can give; one behind the last if there is none.
    #[must_use]
    pub fn first_index(&self, group: GroupId) -> Option<LogIndex> {
        self.groups.get(&group).map(crate::group::Group::first_index)
    }

    fn plan_read(&self, group: GroupId, from: LogIndex, bytes_max: usize) -> Result<Option<Plan<E::File>>, WalError> {
        if self.is_poisoned {
            return Err(WalError::Poisoned);
        }
        let Some(state) = self.groups.get(&group) else {
            return Err(WalError::Gone { first: LogIndex(1) });
        };
        let end = self.readable_end(group);
        if from >= end {
            return Ok(None);
        }
        let first = state.span_of(from).ok_or_else(|| WalError::Gone { first: state.first_index() })?;
        let oldest = state.spans[first].place.segment;
        let begins = self.segments.iter().skip_while(|segment| segment.sequence < oldest);
        let segments: Vec<_> = begins.map(|segment| (Rc::clone(segment), segment.end.get())).collect();
        let mut pieces = Vec::new();
        for (at, span) in state.spans.iter().enumerate().skip(first).take(PIECES_MAX) {
            if span.first >= end {
                break;
            }
            pieces.push(Piece {
                segment: usize::try_from(span.place.segment - oldest).expect("as many segments as fit memory"),
                offset: u64::from(span.place.block) * BLOCK,
                end: state.spans.get(at + 1).map_or(end, |next| next.first.min(end)),
            });
        }
        Ok(Some(Plan { group, from, bytes_max, pieces, segments }))
    }

    /// One behind the last entry that is durable and not replaced by what waits or is under way.
    fn readable_end(&self, group: GroupId) -> LogIndex {
        let durable = self.groups.get(&group).map_or(LogIndex(0), |state| state.durable.last.index.next());
        let under_way = self.in_flight.iter().map(|flight| &flight.effects);
        let waiting = self.pending.iter().map(|batch| &batch.effects);
        let effects = under_way.chain(waiting).flat_map(crate::group::Effects::iter);
        effects.filter(|effect| effect.group == group).fold(durable, |end, effect| {
            if effect.restarted { LogIndex(0) } else { effect.lowest().map_or(end, |lowest| end.min(lowest)) }
        })
    }
}

impl<F: File> Plan<F> {
    async fn run(self) -> Result<Vec<Entry>, WalError> {
        let chunk_bytes = self.bytes_max.next_multiple_of(BLOCK_BYTES).clamp(CHUNK_BYTES_MIN, IO_BYTES_MAX);
        let mut found = Collector::new(self.group, self.from);
        let mut window: Option<(usize, Window<F>)> = None;
        for piece in &self.pieces {
            if found.bytes >= self.bytes_max && !found.entries.is_empty() {
                break;
            }
            found.end = piece.end;
            found.partial = None;
            let (mut at, mut offset) = (piece.segment, piece.offset);
            while !found.is_done(self.bytes_max) {
                let (segment, end) = self.segments.get(at).ok_or_else(|| self.lost(&found))?;
                if offset >= *end {
                    // Only a split entry goes on in another segment, behind its start batch.
                    (at, offset) = (at + 1, 0);
                    continue;
                }
                if window.as_ref().is_none_or(|(held, _)| *held != at) {
                    let file = segment.file.clone();
                    window = Some((at, Window::new(file, segment.path.clone(), segment.bytes, chunk_bytes)));
                }
                let (_, window) = window.as_mut().expect("just made");
                let header = load_batch(window, segment, offset).await?;
                let payload = window.payload(offset, &header).await?;
                for record in Records::new(&header, payload) {
                    found.take(
                        record.map_err(|bad| {
                            WalError::corrupt(&segment.path, offset, "a batch of sound records", bad.0)
                        })?,
                    );
                }
                offset += header.batch_bytes();
            }
        }
        Ok(found.finish(self.bytes_max))
    }

    fn lost(&self, found: &Collector) -> WalError {
        let (segment, end) = self.segments.last().expect("a plan has segments");
        WalError::corrupt(
            &segment.path,
            *end,
            format!("entry {} of group {}", found.expected(), self.group),
            "the end of the log",
        )
    }
}

async fn load_batch<F: File>(
    window: &mut Window<F>,
    segment: &Segment<F>,
    offset: u64,
) -> Result<BatchHeader, WalError> {
    let sequence =
        BatchHeader::peek(window.load(offset, HEADER_BYTES).await?).map_or(0, |header| header.sequence.get());
    let expect = Expect { segment: segment.sequence, nonce: segment.nonce, sequence };
    let got = match window.probe(offset, &expect).await? {
        Probe::Valid(header) if sequence >= segment.first_batch => return Ok(header),
        Probe::Valid(_) => "a batch out of sequence",
        Probe::Bad(why) => why,
        Probe::Foreign => "something else",
    };
    Err(WalError::corrupt(&segment.path, offset, "a batch", got))
}

/// Entries of one group picked from a stream of records, where a later one replaces earlier ones.
struct Collector {
    group: GroupId,
    from: LogIndex,
    /// Entries from here on are found elsewhere.
    end: LogIndex,
    entries: Vec<Entry>,
    bytes: usize,
    /// A split entry under way.
    partial: Option<BytesMut>,
}

impl Collector {
    fn new(group: GroupId, from: LogIndex) -> Self {
        Self { group, from, end: from, entries: Vec::new(), bytes: 0, partial: None }
    }

    fn expected(&self) -> LogIndex {
        LogIndex(self.from.0 + self.entries.len() as u64)
    }

    /// Asked between batches: within one, an entry can still be replaced.
    fn is_done(&self, bytes_max: usize) -> bool {
        self.partial.is_none() && (self.expected() >= self.end || self.bytes >= bytes_max.max(1))
    }

    fn take(&mut self, record: Record<'_>) {
        match record {
            Record::Entry { head, part, bytes } if head.group == self.group => self.take_part(&head, part, bytes),
            Record::GroupStart { group, .. } if group == self.group => self.truncate(LogIndex(0)),
            _ => {}
        }
    }

    fn take_part(&mut self, head: &EntryHead, part: Part, bytes: &[u8]) {
        let at = head.at;
        match part {
            Part::Whole => self.push(head, Bytes::copy_from_slice(bytes)),
            Part::First => {
                let is_wanted = self.from <= at.index && at.index <= self.expected() && at.index < self.end;
                self.partial = is_wanted.then(|| BytesMut::from(bytes));
            }
            // Without its first part it began before this piece, and belongs to another.
            Part::Middle | Part::Last => {
                if let Some(payload) = &mut self.partial {
                    payload.extend_from_slice(bytes);
                }
                if part == Part::Last
                    && let Some(payload) = self.partial.take()
                {
                    self.push(head, payload.freeze());
                }
            }
        }
    }

    fn push(&mut self, head: &EntryHead, payload: Bytes) {
        let (at, is_change) = (head.at, head.is_change);
        self.truncate(at.index);
        if at.index == self.expected() && at.index < self.end {
            self.bytes += payload.len();
            self.entries.push(Entry { group: self.group, index: at.index, term: at.term, is_change, payload });
        }
    }

    /// Drops entries from `index` on.
    fn truncate(&mut self, index: LogIndex) {
        while self.entries.last().is_some_and(|last| last.index >= index) {
            self.bytes -= self.entries.pop().map_or(0, |entry| entry.payload.len());
        }
    }

    fn finish(mut self, bytes_max: usize) -> Vec<Entry> {
        while self.bytes > bytes_max && self.entries.len() > 1 {
            self.bytes -= self.entries.pop().map_or(0, |entry| entry.payload.len());
        }
        self.entries
    }
}
