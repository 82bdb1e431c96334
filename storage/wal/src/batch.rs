//! One batch: filled record by record in the aligned buffer that goes to the device, and decoded from it.
//!
//! Invariant: bytes of the buffer behind the last record are zero, so that no memory leaks into a file.

use plinth_base::{
    AlignedBuf, BLOCK_BYTES, GroupId, LogIndex, MemberId, Term, codec::Malformed, limits::GROUPS_PER_SHARD_MAX,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{
    format::{
        BLOCK, BatchHeader, ChainRecord, ENTRY_BYTES, ENTRY_CHANGE, EntryRecord, FLAG_START, FORMAT_VERSION,
        GroupStartRecord, GroupStateRecord, HEADER_BYTES, HardStateRecord, KIND_CHAIN, KIND_ENTRY, KIND_GROUP_START,
        KIND_GROUP_STATE, KIND_HARD_STATE, MAGIC, batch_checksum,
    },
    group::{Effects, GroupState, HardState, Position},
};

/// Which part of an entry a record holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Part {
    Whole = 0,
    First = 1,
    Middle = 2,
    Last = 3,
}

/// What every part of an entry says of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EntryHead {
    pub(crate) group: GroupId,
    pub(crate) at: Position,
    pub(crate) previous_term: Term,
    pub(crate) is_change: bool,
    pub(crate) total_bytes: u32,
}

/// What a header says beside its lengths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub(crate) flags: u16,
    pub(crate) nonce: u64,
    pub(crate) segment: u64,
    pub(crate) sequence: u64,
    pub(crate) durable: u64,
}

/// A batch being filled.
pub(crate) struct Batch {
    buf: AlignedBuf,
    used: usize,
    records: u32,
    /// What the batch does to the groups once it is durable.
    pub(crate) effects: Effects,
    /// The last record is the first part of an entry that goes on in the next batch.
    pub(crate) opens_split: bool,
    /// The first record is the last part of an entry that began in an earlier batch.
    pub(crate) closes_split: bool,
}

impl Batch {
    /// An empty batch in the memory of `buf`.
    pub(crate) fn new(mut buf: AlignedBuf) -> Self {
        // Shrunk first: what grows back is zero.
        buf.resize(0);
        buf.resize(BLOCK_BYTES);
        Self {
            buf,
            used: HEADER_BYTES,
            records: 0,
            effects: Effects::default(),
            opens_split: false,
            closes_split: false,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Header and records, without padding.
    pub(crate) fn used_bytes(&self) -> usize {
        self.used
    }

    /// Length on disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.used.next_multiple_of(BLOCK_BYTES) as u64
    }

    pub(crate) fn into_buf(self) -> AlignedBuf {
        self.buf
    }

    pub(crate) fn put_entry(&mut self, head: &EntryHead, part: Part, bytes: &[u8]) {
        let record = EntryRecord {
            kind: KIND_ENTRY,
            part: part as u8,
            flags: (if head.is_change { ENTRY_CHANGE } else { 0 }).into(),
            group: head.group.0.into(),
            index: head.at.index.0.into(),
            term: head.at.term.0.into(),
            previous_term: head.previous_term.0.into(),
            bytes: u32::try_from(bytes.len()).expect("a batch is far below 4 GiB").into(),
            total_bytes: head.total_bytes.into(),
        };
        self.put(&record, bytes);
    }

    pub(crate) fn put_hard_state(&mut self, group: GroupId, state: HardState) {
        let record = HardStateRecord {
            kind: KIND_HARD_STATE,
            voted: u8::from(state.vote.is_some()),
            doubtful: u16::from(state.is_doubtful).into(),
            group: group.0.into(),
            term: state.term.0.into(),
            vote: state.vote.unwrap_or_default().0.into(),
            commit: state.commit.0.into(),
        };
        self.put(&record, &[]);
    }

    pub(crate) fn put_group_start(&mut self, group: GroupId, start: Position) {
        let record = GroupStartRecord {
            kind: KIND_GROUP_START,
            reserved: 0,
            reserved_too: 0.into(),
            group: group.0.into(),
            index: start.index.0.into(),
            term: start.term.0.into(),
        };
        self.put(&record, &[]);
    }

    pub(crate) fn put_chain(&mut self, chain: &ChainRecord) {
        self.put(chain, &[]);
    }

    pub(crate) fn put_group_state(&mut self, group: GroupId, state: &GroupState) {
        let record = GroupStateRecord {
            kind: KIND_GROUP_STATE,
            voted: u8::from(state.hard_state.vote.is_some()),
            doubtful: u16::from(state.hard_state.is_doubtful).into(),
            group: group.0.into(),
            term: state.hard_state.term.0.into(),
            vote: state.hard_state.vote.unwrap_or_default().0.into(),
            commit: state.hard_state.commit.0.into(),
            start_index: state.start.index.0.into(),
            start_term: state.start.term.0.into(),
            last_index: state.last.index.0.into(),
            last_term: state.last.term.0.into(),
        };
        self.put(&record, &[]);
    }

    fn put(&mut self, head: &(impl IntoBytes + Immutable), body: &[u8]) {
        let head = head.as_bytes();
        let end = self.used + head.len() + body.len();
        if end > self.buf.len() {
            self.buf.resize(end);
        }
        let out = &mut self.buf.as_mut_slice()[self.used..end];
        let (out_head, out_body) = out.split_at_mut(head.len());
        out_head.copy_from_slice(head);
        out_body.copy_from_slice(body);
        self.used = end;
        self.records += 1;
    }

    /// Writes header and checksum. The batch can be stamped again if it was never written.
    pub(crate) fn stamp(&mut self, stamp: Stamp) {
        let mut header = BatchHeader {
            magic: MAGIC,
            checksum: 0.into(),
            version: FORMAT_VERSION.into(),
            flags: stamp.flags.into(),
            payload_bytes: u32::try_from(self.used - HEADER_BYTES).expect("a batch is far below 4 GiB").into(),
            blocks: u32::try_from(self.disk_bytes() / BLOCK).expect("a batch is far below 4 GiB").into(),
            records: self.records.into(),
            reserved: 0.into(),
            nonce: stamp.nonce.into(),
            segment: stamp.segment.into(),
            sequence: stamp.sequence.into(),
            durable: stamp.durable.into(),
        };
        self.buf.resize(self.used);
        let bytes = self.buf.as_mut_slice();
        bytes[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        header.checksum = batch_checksum(stamp.nonce, &bytes[..self.used]).into();
        bytes[..HEADER_BYTES].copy_from_slice(header.as_bytes());
    }

    /// Takes the buffer out for the write; [`Batch::put_back`] returns it.
    pub(crate) fn take_buf(&mut self) -> AlignedBuf {
        std::mem::replace(&mut self.buf, AlignedBuf::zeroed(0))
    }

    pub(crate) fn put_back(&mut self, buf: AlignedBuf) {
        self.buf = buf;
    }
}

/// A decoded record.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Record<'a> {
    Entry { head: EntryHead, part: Part, bytes: &'a [u8] },
    HardState { group: GroupId, state: HardState },
    GroupStart { group: GroupId, start: Position },
    Chain(ChainRecord),
    GroupState { group: GroupId, state: GroupState },
}

/// The records of a payload, each checked for its shape. After an error there is nothing more.
pub(crate) struct Records<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Records<'a> {
    pub(crate) fn new(header: &BatchHeader, payload: &'a [u8]) -> Self {
        Self { rest: payload, left: header.records.get() }
    }

    fn take<T: FromBytes + KnownLayout + Immutable + Unaligned>(&mut self) -> Result<T, Malformed> {
        let (record, rest) = T::read_from_prefix(self.rest).map_err(|_| Malformed("a record ends early"))?;
        self.rest = rest;
        Ok(record)
    }

    fn read(&mut self) -> Result<Record<'a>, Malformed> {
        match self.rest.first() {
            Some(&KIND_ENTRY) => self.read_entry(),
            Some(&KIND_HARD_STATE) => {
                let record: HardStateRecord = self.take()?;
                let vote = read_vote(record.voted, record.vote.get())?;
                let (term, commit) = (Term(record.term.get()), LogIndex(record.commit.get()));
                let state = HardState { term, vote, commit, is_doubtful: read_bool(record.doubtful.get())? };
                Ok(Record::HardState { group: GroupId(record.group.get()), state })
            }
            Some(&KIND_GROUP_START) => {
                let record: GroupStartRecord = self.take()?;
                let start = read_position(record.index.get(), record.term.get())?;
                Ok(Record::GroupStart { group: GroupId(record.group.get()), start })
            }
            Some(&KIND_CHAIN) => self.take().map(Record::Chain),
            Some(&KIND_GROUP_STATE) => self.read_group_state(),
            Some(_) => Err(Malformed("unknown kind of record")),
            None => Err(Malformed("fewer records than the header counts")),
        }
    }

    fn read_entry(&mut self) -> Result<Record<'a>, Malformed> {
        let record: EntryRecord = self.take()?;
        let part = match record.part {
            0 => Part::Whole,
            1 => Part::First,
            2 => Part::Middle,
            3 => Part::Last,
            _ => return Err(Malformed("unknown part of an entry")),
        };
        let bytes = usize::try_from(record.bytes.get()).map_err(|_| Malformed("an entry beyond memory"))?;
        let (bytes, rest) = self.rest.split_at_checked(bytes).ok_or(Malformed("an entry ends early"))?;
        self.rest = rest;
        let at = read_position(record.index.get(), record.term.get())?;
        if at.index.0 == 0 {
            return Err(Malformed("an entry before the first index"));
        }
        let total_bytes = record.total_bytes.get();
        let fits = match part {
            Part::Whole => bytes.len() == total_bytes as usize,
            Part::First | Part::Middle | Part::Last => !bytes.is_empty() && bytes.len() < total_bytes as usize,
        };
        if !fits {
            return Err(Malformed("a part of an entry has a wrong length"));
        }
        let (group, previous_term) = (GroupId(record.group.get()), Term(record.previous_term.get()));
        let is_change = match record.flags.get() {
            0 => false,
            ENTRY_CHANGE => true,
            _ => return Err(Malformed("unknown flags of an entry")),
        };
        Ok(Record::Entry { head: EntryHead { group, at, previous_term, is_change, total_bytes }, part, bytes })
    }

    fn read_group_state(&mut self) -> Result<Record<'a>, Malformed> {
        let record: GroupStateRecord = self.take()?;
        let hard_state = HardState {
            term: Term(record.term.get()),
            vote: read_vote(record.voted, record.vote.get())?,
            commit: LogIndex(record.commit.get()),
            is_doubtful: read_bool(record.doubtful.get())?,
        };
        let start = read_position(record.start_index.get(), record.start_term.get())?;
        let last = read_position(record.last_index.get(), record.last_term.get())?;
        if last.index < start.index {
            return Err(Malformed("a group's log that ends before it begins"));
        }
        Ok(Record::GroupState { group: GroupId(record.group.get()), state: GroupState { hard_state, start, last } })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return match std::mem::take(&mut self.rest) {
                [] => None,
                _ => Some(Err(Malformed("more bytes than the header's records"))),
            };
        }
        self.left -= 1;
        let record = self.read();
        if record.is_err() {
            (self.left, self.rest) = (0, &[]);
        }
        Some(record)
    }
}

fn read_vote(voted: u8, vote: u64) -> Result<Option<MemberId>, Malformed> {
    match voted {
        0 => Ok(None),
        1 => Ok(Some(MemberId(vote))),
        _ => Err(Malformed("a vote that is neither there nor missing")),
    }
}

fn read_bool(value: u16) -> Result<bool, Malformed> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed("a doubt that is neither there nor missing")),
    }
}

fn read_position(index: u64, term: u64) -> Result<Position, Malformed> {
    // Every index has a next one.
    if index == u64::MAX {
        return Err(Malformed("an index at the end of all indexes"));
    }
    Ok(Position { index: LogIndex(index), term: Term(term) })
}

/// The first batch of a segment, decoded.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) chain: ChainRecord,
    pub(crate) groups: Vec<(GroupId, GroupState)>,
}

impl Start {
    /// Reads a start batch's records; anything else in it is malformed.
    pub(crate) fn decode(header: &BatchHeader, payload: &[u8]) -> Result<Self, Malformed> {
        if header.flags.get() != FLAG_START {
            return Err(Malformed("a segment that doesn't begin with a start batch"));
        }
        let mut records = Records::new(header, payload);
        let Some(Record::Chain(chain)) = records.next().transpose()? else {
            return Err(Malformed("a start batch without a chain record"));
        };
        let mut groups = Vec::new();
        for record in records {
            let Record::GroupState { group, state } = record? else {
                return Err(Malformed("a start batch with records that don't belong there"));
            };
            if groups.last().is_some_and(|&(before, _)| before >= group) {
                return Err(Malformed("groups out of order"));
            }
            groups.push((group, state));
        }
        if groups.len() > GROUPS_PER_SHARD_MAX || groups.len() as u64 != u64::from(chain.groups.get()) {
            return Err(Malformed("a start batch with a wrong number of groups"));
        }
        Ok(Self { chain, groups })
    }
}

/// How many bytes of entry fit into an empty batch of `batch_bytes_max`.
pub(crate) fn entry_room(batch_bytes_max: usize) -> usize {
    batch_bytes_max - HEADER_BYTES - ENTRY_BYTES
}

#[cfg(test)]
mod tests;
