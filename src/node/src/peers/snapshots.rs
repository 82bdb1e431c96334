//! Snapshots on their way to a member that is far behind, as frames: the pages of a checkpoint, or the records of all trees, in order, as many at a time as
//! the receiver asks for.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use plinth_base::{GroupId, LogIndex, Term, codec::Malformed};
use plinth_raft::Position;

use super::frame::{FrameError, FrameHeader, put_frame};

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
    /// Pages from this one on.
    Pages {
        /// Its number.
        from: u64,
    },
}

impl Place {
    /// Where records begin.
    pub const RECORDS: Self = Self::Records { tree: 0, after: None };
    /// Where pages begin.
    pub const PAGES: Self = Self::Pages { from: 0 };

    /// Where nothing more comes.
    #[must_use]
    pub fn end(&self) -> Self {
        match self {
            Self::Records { .. } => Self::Records { tree: u8::MAX, after: None },
            Self::Pages { .. } => Self::Pages { from: u64::MAX },
        }
    }
}

const RECORDS_OF: u8 = 0;
const RECORDS_BEHIND: u8 = 1;
const PAGES_FROM: u8 = 2;

fn put_place(out: &mut BytesMut, place: &Place) {
    match place {
        Place::Records { tree, after } => {
            out.put_u8(if after.is_some() { RECORDS_BEHIND } else { RECORDS_OF });
            out.put_u8(*tree);
            out.put_slice(after.as_deref().unwrap_or_default());
        }
        Place::Pages { from } => {
            out.put_u8(PAGES_FROM);
            out.put_u64_le(*from);
        }
    }
}

fn place(mut rest: Bytes) -> Result<Place, Malformed> {
    match u8(&mut rest)? {
        RECORDS_OF => Ok(Place::Records { tree: u8(&mut rest)?, after: None }),
        RECORDS_BEHIND => Ok(Place::Records { tree: u8(&mut rest)?, after: Some(rest) }),
        PAGES_FROM => Ok(Place::Pages { from: u64(&mut rest)? }),
        _ => Err(Malformed("neither records nor pages")),
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
    },
    /// The next part, please. Asked again, it is answered again.
    Ask {
        /// The snapshot.
        session: u64,
        /// Counts what was asked for.
        number: u64,
        /// Where it goes on.
        place: Place,
    },
    /// A part.
    Part {
        /// The snapshot.
        session: u64,
        /// Of the question.
        number: u64,
        /// Nothing comes behind it.
        is_last: bool,
        /// Records, one after the other, see [`SnapshotRecord`]; or pages, see [`plinth_tree::CopyPart`].
        content: Bytes,
    },
    /// No more of it: it was installed, isn't wanted, or isn't there any more.
    End {
        /// The snapshot.
        session: u64,
    },
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
            Self::Offer { session, at, state, meta } => put_frame(out, SNAPSHOT_OFFER, group, |out| {
                out.put_u64_le(*session);
                out.put_u64_le(at.index.0);
                out.put_u64_le(at.term.0);
                out.put_u32_le(u32::try_from(state.len()).expect("a state record is small"));
                out.put_slice(state);
                out.put_slice(meta);
            }),
            Self::Ask { session, number, place } => put_frame(out, SNAPSHOT_ASK, group, |out| {
                out.put_u64_le(*session);
                out.put_u64_le(*number);
                put_place(out, place);
            }),
            Self::Part { session, number, is_last, content } => put_frame(out, SNAPSHOT_PART, group, |out| {
                out.put_u64_le(*session);
                out.put_u64_le(*number);
                out.put_u8((*is_last).into());
                out.put_slice(content);
            }),
            Self::End { session } => put_frame(out, SNAPSHOT_END, group, |out| out.put_u64_le(*session)),
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
                let length = rest.try_get_u32_le().map_err(|_| ENDS_EARLY)? as usize;
                if length > rest.len() {
                    return Err(ENDS_EARLY.into());
                }
                Self::Offer { session, at, state: rest.split_to(length), meta: rest }
            }
            SNAPSHOT_ASK => Self::Ask { session, number: u64(&mut rest)?, place: place(rest)? },
            SNAPSHOT_PART => {
                let (number, is_last) = (u64(&mut rest)?, u8(&mut rest)? != 0);
                Self::Part { session, number, is_last, content: rest }
            }
            _ => Self::End { session },
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
        for sent in [
            SnapshotFrame::Offer { session: 1, at, state: state.clone(), meta },
            SnapshotFrame::Offer { session: 1, at, state, meta: Bytes::new() },
            SnapshotFrame::Ask { session: 2, number: 9, place },
            SnapshotFrame::Ask { session: 2, number: 9, place: Place::RECORDS },
            SnapshotFrame::Ask { session: 2, number: 9, place: Place::PAGES.end() },
            SnapshotFrame::Part { session: 3, number: 8, is_last: true, content: records.clone() },
            SnapshotFrame::End { session: 4 },
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
        let mut rest = records.clone();
        assert_eq!(SnapshotRecord::take(&mut rest).map(|record| (record.tree, record.body)), Ok((2, "body".into())));
        assert_eq!(SnapshotRecord::take(&mut rest).map(|record| (record.tree, record.head)), Ok((4, "head".into())));
        assert!(rest.is_empty());
        for len in 0..16 {
            assert!(SnapshotRecord::take(&mut records.slice(..len)).is_err(), "{len}");
        }
    }
}
