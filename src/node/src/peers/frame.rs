//! The frame: a header with length and checksum, and a payload.

use std::fmt;

use bytes::{BufMut, BytesMut};
use plinth_base::{GroupId, codec::Malformed};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32},
};

/// The longest payload. An append is far shorter, unless a single entry is as long as the largest request.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// Stands before every payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    /// Length of the payload.
    bytes: U32,
    /// CRC32C of what follows in the header, and of the payload.
    checksum: U32,
    /// What the payload is.
    kind: u8,
    reserved: u8,
    reserved_too: U16,
    /// The raft group that it concerns.
    group: U32,
}

/// Length of a frame's header.
pub const FRAME_HEADER_BYTES: usize = size_of::<Header>();

/// Where the checksum begins to count.
const CHECKED_FROM: usize = std::mem::offset_of!(Header, kind);

/// Why a connection can't go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// Longer than any frame.
    TooLong(u32),
    /// The bytes are not those that were sent.
    Checksum,
    /// The bytes are as they were sent, and mean nothing.
    Malformed(&'static str),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(bytes) => write!(f, "a frame of {bytes} bytes, more than {FRAME_BYTES_MAX}"),
            Self::Checksum => f.write_str("a frame whose checksum is wrong: the connection changes bytes"),
            Self::Malformed(what) => {
                write!(f, "a frame that means nothing here ({what}): the peer is of another version")
            }
        }
    }
}

impl std::error::Error for FrameError {}

impl From<Malformed> for FrameError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.0)
    }
}

/// A header that was read and whose length can be believed; the payload is still to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    header: Header,
}

impl FrameHeader {
    /// Reads a header.
    ///
    /// # Errors
    /// A length that no frame has.
    pub fn read(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<Self, FrameError> {
        let header = Header::read_from_bytes(bytes).expect("the array has its length");
        match header.bytes.get() {
            bytes if bytes as usize > FRAME_BYTES_MAX => Err(FrameError::TooLong(bytes)),
            _ => Ok(Self { header }),
        }
    }

    /// Length of the payload.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.header.bytes.get() as usize
    }

    /// What the payload is.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.header.kind
    }

    /// The raft group that it concerns.
    #[must_use]
    pub fn group(&self) -> GroupId {
        GroupId(self.header.group.get())
    }

    /// Whether `payload` is what was sent.
    ///
    /// # Errors
    /// It isn't.
    pub fn check(&self, payload: &[u8]) -> Result<(), FrameError> {
        let head = plinth_base::crc32c(0, &self.header.as_bytes()[CHECKED_FROM..]);
        let is_right =
            payload.len() == self.payload_bytes() && plinth_base::crc32c(head, payload) == self.header.checksum.get();
        if is_right { Ok(()) } else { Err(FrameError::Checksum) }
    }
}

/// Appends a frame whose payload `write` appends.
pub(super) fn put_frame(out: &mut BytesMut, kind: u8, group: GroupId, write: impl FnOnce(&mut BytesMut)) {
    let frame = OpenFrame::begin(out);
    write(out);
    frame.end(out, kind, group);
}

/// A frame whose payload is being appended.
#[must_use = "is none before its end"]
pub(super) struct OpenFrame {
    start: usize,
}

impl OpenFrame {
    /// Makes room for the header.
    pub fn begin(out: &mut BytesMut) -> Self {
        let start = out.len();
        out.put_bytes(0, FRAME_HEADER_BYTES);
        Self { start }
    }

    /// Writes the header, behind which the payload stands now.
    pub fn end(self, out: &mut BytesMut, kind: u8, group: GroupId) {
        let Self { start } = self;
        let payload_start = start + FRAME_HEADER_BYTES;
        let payload_bytes = out.len() - payload_start;
        assert!(payload_bytes <= FRAME_BYTES_MAX, "no message is longer than the longest frame");
        let mut header = Header {
            bytes: u32::try_from(payload_bytes).expect("checked above").into(),
            checksum: 0.into(),
            kind,
            reserved: 0,
            reserved_too: 0.into(),
            group: group.0.into(),
        };
        let head = plinth_base::crc32c(0, &header.as_bytes()[CHECKED_FROM..]);
        header.checksum = plinth_base::crc32c(head, &out[payload_start..]).into();
        out[start..payload_start].copy_from_slice(header.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> (FrameHeader, BytesMut) {
        let mut out = BytesMut::from(&b"before"[..]);
        put_frame(&mut out, 7, GroupId(3), |out| out.put_slice(payload));
        let bytes = out.split_off(6);
        (FrameHeader::read(bytes.first_chunk().expect("a header")).expect("it is sound"), bytes)
    }

    #[test]
    fn a_frame_says_what_it_is_and_how_long() {
        let (header, bytes) = frame(b"payload");
        assert_eq!((header.kind(), header.group(), header.payload_bytes()), (7, GroupId(3), 7));
        assert_eq!(header.check(&bytes[FRAME_HEADER_BYTES..]), Ok(()));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let (_, bytes) = frame(b"payload");
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            let read = FrameHeader::read(bytes.first_chunk().expect("a header"));
            let is_noticed = read.is_err_and(|error| matches!(error, FrameError::TooLong(_)))
                || read.is_ok_and(|header| header.check(&bytes[FRAME_HEADER_BYTES..]).is_err());
            assert!(is_noticed, "byte {at}");
        }
    }

    #[test]
    fn a_length_beyond_all_frames_is_refused_before_anything_is_read() {
        let bytes = [0xff; FRAME_HEADER_BYTES];
        assert_eq!(FrameHeader::read(&bytes), Err(FrameError::TooLong(u32::MAX)));
    }
}
