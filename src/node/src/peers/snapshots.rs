//! Snapshots on their way to a member that is far behind, as frames: the pages of a checkpoint, or the records of all trees, in order, as many at a time as
//! the receiver asks for.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use plinth_base::{GroupId, LogIndex, Term, codec::Malformed};
use plinth_raft::Position;
use plinth_tree::{CopyPart, Since};

use super::frame::{FrameError, FrameHeader, OpenFrame, put_frame};

const SNAPSHOT_OFFER: u8 = 48;
const SNAPSHOT_ASK: u8 = 49;
const SNAPSHOT_PART: u8 = 50;
const SNAPSHOT_END: u8 = 51;

/// Where a snapshot goes on, and what it consists of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// Records behind this key of this tree, or from the tree's beginning on.
    Records {
        /// The tree's number.
        tree: u8,
        /// The last key that was sent.
        after: Option<Bytes>,
    },
    /// Pages.
    Pages {
        /// Of this generation.
        generation: u64,
        /// Which, in order, at most [`RANGES_MAX`].
        wanted: Vec<Range<u64>>,
    },
    /// All pages are there and were proven: what has changed since, if that is worth it, or else an empty part.
    Proven {
        /// Of this generation.
        generation: u64,
    },
}

/// How many ranges of pages are asked for at once: where a file has changed here and there, a part consists of many.
pub const RANGES_MAX: usize = 128;

impl Place {
    /// Where records begin.
    pub const RECORDS: Self = Self::Records { tree: 0, after: None };

    /// Where nothing more comes.
    #[must_use]
    pub fn end(&self) -> Self {
        match *self {
            Self::Records { .. } => Self::Records { tree: u8::MAX, after: None },
            Self::Pages { generation, .. } | Self::Proven { generation } => {
                Self::Pages { generation, wanted: Vec::new() }
            }
        }
    }

    /// Whether it is that.
    #[must_use]
    pub fn is_end(&self) -> bool {
        *self == self.end()
    }
}

const RECORDS_OF: u8 = 0;
const RECORDS_BEHIND: u8 = 1;
const PAGES_OF: u8 = 2;
const PROVEN: u8 = 3;

fn put_place(out: &mut BytesMut, place: &Place) {
    match place {
        Place::Records { tree, after } => {
            out.put_u8(if after.is_some() { RECORDS_BEHIND } else { RECORDS_OF });
            out.put_u8(*tree);
            out.put_slice(after.as_deref().unwrap_or_default());
        }
        Place::Pages { generation, wanted } => {
            out.put_u8(PAGES_OF);
            out.put_u64_le(*generation);
            wanted.iter().flat_map(|range| [range.start, range.end]).for_each(|page| out.put_u64_le(page));
        }
        Place::Proven { generation } => {
            out.put_u8(PROVEN);
            out.put_u64_le(*generation);
        }
    }
}

fn place(mut rest: Bytes) -> Result<Place, Malformed> {
    match u8(&mut rest)? {
        RECORDS_OF => Ok(Place::Records { tree: u8(&mut rest)?, after: None }),
        RECORDS_BEHIND => Ok(Place::Records { tree: u8(&mut rest)?, after: Some(rest) }),
        PAGES_OF => {
            let (generation, mut wanted) = (u64(&mut rest)?, Vec::new());
            while !rest.is_empty() && wanted.len() < RANGES_MAX {
                wanted.push(u64(&mut rest)?..u64(&mut rest)?);
            }
            if rest.is_empty() { Ok(Place::Pages { generation, wanted }) } else { Err(TOO_MANY_RANGES) }
        }
        PROVEN => Ok(Place::Proven { generation: u64(&mut rest)? }),
        _ => Err(Malformed("neither records nor pages")),
    }
}

/// What a part consists of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// Records, one after the other, see [`SnapshotRecord`].
    Records {
        /// Themselves.
        records: Bytes,
        /// Nothing comes behind them.
        is_last: bool,
    },
    /// Pages.
    Pages(CopyPart),
}

const MORE_RECORDS: u8 = 0;
const LAST_RECORDS: u8 = 1;
const PAGES: u8 = 2;

/// How a snapshot ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Ending {
    /// It isn't wanted, or isn't there any more.
    Over,
    /// It was installed.
    Installed,
    /// What came isn't what was written: somebody's disk is rotten.
    Rotten,
}

impl Ending {
    fn read(byte: u8) -> Result<Self, Malformed> {
        const ALL: [Ending; 3] = [Ending::Over, Ending::Installed, Ending::Rotten];
        ALL.into_iter().find(|ending| *ending as u8 == byte).ok_or(Malformed("an end that isn't one"))
    }
}

/// What the two ends of a snapshot say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SnapshotFrame {
    /// The leader has one.
    Offer {
        /// Names it at the leader.
        session: u64,
        /// The newest entry in it.
        at: Position,
        /// The state record of its root.
        state: Bytes,
        /// The meta of the checkpoint whose pages it consists of; empty if it consists of records.
        meta: Bytes,
        /// What has changed since the snapshot's earlier checkpoint that the receiver was last known to copy.
        since: Option<Since>,
    },
    /// The next part, please. Asked again, it is answered again.
    Ask {
        /// The snapshot.
        session: u64,
        /// Counts what was asked for.
        number: u64,
        /// How much of it the receiver has, in millionths.
        done_ppm: u32,
        /// Where it goes on.
        place: Place,
    },
    /// A part.
    Part {
        /// The snapshot.
        session: u64,
        /// Of the question.
        number: u64,
        /// What it consists of.
        content: Content,
    },
    /// No more of it.
    End {
        /// The snapshot.
        session: u64,
        /// Why.
        ending: Ending,
    },
}

/// In front of pages: up to where all that were asked for are there.
fn put_until(out: &mut BytesMut, until: u64) {
    out.put_u8(PAGES);
    out.put_u64_le(until);
}

/// A [`SnapshotFrame::Part`] whose pages are appended as they are read: they are too many to be copied once more.
#[must_use = "is none before its end"]
pub struct OpenPart {
    frame: OpenFrame,
    until_at: usize,
}

impl OpenPart {
    /// Everything in front of the pages.
    pub fn begin(out: &mut BytesMut, session: u64, number: u64) -> Self {
        let frame = OpenFrame::begin(out);
        out.put_u64_le(session);
        out.put_u64_le(number);
        let until_at = out.len();
        put_until(out, 0);
        Self { frame, until_at }
    }

    /// The pages are there, all that were asked for up to `until`.
    pub fn end(self, out: &mut BytesMut, group: GroupId, until: u64) {
        out[self.until_at + 1..][..8].copy_from_slice(&until.to_le_bytes());
        self.frame.end(out, SNAPSHOT_PART, group);
    }
}

/// Whether a frame of this kind is one.
#[must_use]
pub fn is_about_snapshots(kind: u8) -> bool {
    (SNAPSHOT_OFFER..=SNAPSHOT_END).contains(&kind)
}

impl SnapshotFrame {
    /// Appends it as a frame.
    pub fn encode(&self, group: GroupId, out: &mut BytesMut) {
        match self {
            Self::Offer { session, at, state, meta, since } => put_frame(out, SNAPSHOT_OFFER, group, |out| {
                out.put_u64_le(*session);
                out.put_u64_le(at.index.0);
                out.put_u64_le(at.term.0);
                for part in [state, meta] {
                    out.put_u32_le(u32::try_from(part.len()).expect("a record or a page is small"));
                    out.put_slice(part);
                }
                if let Some(since) = since {
                    out.put_slice(&since.encode());
                }
            }),
            Self::Ask { session, number, done_ppm, place } => put_frame(out, SNAPSHOT_ASK, group, |out| {
                out.put_u64_le(*session);
                out.put_u64_le(*number);
                out.put_u32_le(*done_ppm);
                put_place(out, place);
            }),
            Self::Part { session, number, content } => put_frame(out, SNAPSHOT_PART, group, |out| {
                out.put_u64_le(*session);
                out.put_u64_le(*number);
                match content {
                    Content::Records { records, is_last } => {
                        out.put_u8(if *is_last { LAST_RECORDS } else { MORE_RECORDS });
                        out.put_slice(records);
                    }
                    Content::Pages(CopyPart { pages, until }) => {
                        put_until(out, *until);
                        out.put_slice(pages);
                    }
                }
            }),
            Self::End { session, ending } => put_frame(out, SNAPSHOT_END, group, |out| {
                out.put_u64_le(*session);
                out.put_u8(*ending as u8);
            }),
        }
    }

    /// What is in a frame.
    ///
    /// # Errors
    /// The payload isn't what was sent, or means nothing.
    pub fn decode(header: &FrameHeader, payload: Bytes) -> Result<Self, FrameError> {
        header.check(&payload)?;
        let mut rest = payload;
        let session = u64(&mut rest)?;
        Ok(match header.kind() {
            SNAPSHOT_OFFER => {
                let at = Position { index: LogIndex(u64(&mut rest)?), term: Term(u64(&mut rest)?) };
                let (state, meta) = (with_length(&mut rest)?, with_length(&mut rest)?);
                let since = if rest.is_empty() { None } else { Some(Since::decode(&rest)?) };
                Self::Offer { session, at, state, meta, since }
            }
            SNAPSHOT_ASK => {
                let (number, done_ppm) = (u64(&mut rest)?, rest.try_get_u32_le().map_err(|_| ENDS_EARLY)?);
                Self::Ask { session, number, done_ppm, place: place(rest)? }
            }
            SNAPSHOT_PART => {
                let number = u64(&mut rest)?;
                let content = match u8(&mut rest)? {
                    PAGES => Content::Pages(CopyPart { until: u64(&mut rest)?, pages: rest }),
                    kind => Content::Records { is_last: kind == LAST_RECORDS, records: rest },
                };
                Self::Part { session, number, content }
            }
            _ => Self::End { session, ending: Ending::read(u8(&mut rest)?)? },
        })
    }
}

/// A record of a tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotRecord {
    /// The tree's number.
    pub tree: u8,
    /// Its key.
    pub key: Bytes,
    /// The head of its value.
    pub head: Bytes,
    /// The rest of it.
    pub body: Bytes,
}

impl SnapshotRecord {
    /// Appends a record.
    pub fn put(out: &mut BytesMut, tree: u8, key: &[u8], head: &[u8], body: &[u8]) {
        out.put_u8(tree);
        for part in [key, head, body] {
            out.put_u32_le(u32::try_from(part.len()).expect("a record is far below 4 GiB"));
        }
        for part in [key, head, body] {
            out.put_slice(part);
        }
    }

    /// Takes the first record off `records`.
    ///
    /// # Errors
    /// They end in the middle of it.
    pub fn take(records: &mut Bytes) -> Result<Self, Malformed> {
        let tree = u8(records)?;
        let mut lengths = [0; 3];
        for length in &mut lengths {
            *length = records.try_get_u32_le().map_err(|_| ENDS_EARLY)? as usize;
        }
        let mut part = |length: usize| {
            if records.len() < length { Err(ENDS_EARLY) } else { Ok(records.split_to(length)) }
        };
        Ok(Self { tree, key: part(lengths[0])?, head: part(lengths[1])?, body: part(lengths[2])? })
    }
}

const ENDS_EARLY: Malformed = Malformed("a message ends early");
const TOO_MANY_RANGES: Malformed = Malformed("too many pages are asked for at once");

fn with_length(rest: &mut Bytes) -> Result<Bytes, Malformed> {
    let length = rest.try_get_u32_le().map_err(|_| ENDS_EARLY)? as usize;
    if length > rest.len() { Err(ENDS_EARLY) } else { Ok(rest.split_to(length)) }
}

fn u64(rest: &mut Bytes) -> Result<u64, Malformed> {
    rest.try_get_u64_le().map_err(|_| ENDS_EARLY)
}

fn u8(rest: &mut Bytes) -> Result<u8, Malformed> {
    rest.try_get_u8().map_err(|_| ENDS_EARLY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::FRAME_HEADER_BYTES;

    #[test]
    fn what_is_said_comes_back_as_it_was_and_changed_bytes_are_refused() {
        let at = Position { index: LogIndex(70), term: Term(3) };
        let mut records = BytesMut::new();
        SnapshotRecord::put(&mut records, 2, b"key", b"", b"body");
        SnapshotRecord::put(&mut records, 4, b"", b"head", b"");
        let records = records.freeze();
        let place = Place::Records { tree: 3, after: Some(Bytes::from_static(b"k")) };
        let (state, meta) = (Bytes::from_static(b"state"), Bytes::from_static(b"meta"));
        let last_records = Content::Records { records: records.clone(), is_last: true };
        let part = CopyPart { pages: records.clone(), until: 70 };
        for sent in [
            SnapshotFrame::Offer { session: 1, at, state: state.clone(), meta: meta.clone(), since: None },
            SnapshotFrame::Offer { session: 1, at, state: state.clone(), meta, since: Some(Since::generation(7)) },
            SnapshotFrame::Offer { session: 1, at, state, meta: Bytes::new(), since: None },
            SnapshotFrame::Ask { session: 2, number: 9, done_ppm: 7, place },
            SnapshotFrame::Ask { session: 2, number: 9, done_ppm: 7, place: Place::RECORDS },
            SnapshotFrame::Ask {
                session: 2,
                number: 9,
                done_ppm: 7,
                place: Place::Pages { generation: 1, wanted: vec![2..3, 7..9] },
            },
            SnapshotFrame::Ask {
                session: 2,
                number: 9,
                done_ppm: 7,
                place: Place::Pages { generation: 1, wanted: Vec::new() },
            },
            SnapshotFrame::Ask { session: 2, number: 9, done_ppm: 7, place: Place::Proven { generation: 3 } },
            SnapshotFrame::Part { session: 3, number: 8, content: last_records },
            SnapshotFrame::Part { session: 3, number: 8, content: Content::Pages(part) },
            SnapshotFrame::End { session: 4, ending: Ending::Over },
            SnapshotFrame::End { session: 4, ending: Ending::Rotten },
        ] {
            let mut out = BytesMut::new();
            sent.encode(GroupId(3), &mut out);
            let frame = out.freeze();
            let decode = |frame: &Bytes| {
                let header = FrameHeader::read(frame.first_chunk::<FRAME_HEADER_BYTES>().expect("a whole header"))?;
                SnapshotFrame::decode(&header, frame.slice(FRAME_HEADER_BYTES..))
            };
            assert_eq!(decode(&frame), Ok(sent));
            let mut changed = frame.to_vec();
            *changed.last_mut().expect("it isn't empty") ^= 1;
            assert!(decode(&changed.into()).is_err());
        }
        let (mut out, part) = (BytesMut::from(&b"before"[..]), CopyPart { pages: records.clone(), until: 70 });
        let open = OpenPart::begin(&mut out, 3, 8);
        out.put_slice(&records);
        open.end(&mut out, GroupId(3), 70);
        let mut whole = BytesMut::from(&b"before"[..]);
        SnapshotFrame::Part { session: 3, number: 8, content: Content::Pages(part) }.encode(GroupId(3), &mut whole);
        assert_eq!(out, whole, "in parts as in one");
        let mut rest = records.clone();
        assert_eq!(SnapshotRecord::take(&mut rest).map(|record| (record.tree, record.body)), Ok((2, "body".into())));
        assert_eq!(SnapshotRecord::take(&mut rest).map(|record| (record.tree, record.head)), Ok((4, "head".into())));
        assert!(rest.is_empty());
        for len in 0..16 {
            assert!(SnapshotRecord::take(&mut records.slice(..len)).is_err(), "{len}");
        }
    }
}
