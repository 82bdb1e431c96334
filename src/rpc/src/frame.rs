//! gRPC's message frame: one flag byte, a big-endian length of four bytes, the message.
//!
//! Invariant: the decoder holds at most one message of `message_bytes_max` bytes and what came in the chunk that ended it; a length
//! above the limit is refused from the header alone.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{Code, Status};

/// Bytes in front of every message.
pub const FRAME_HEADER_BYTES: usize = 5;

/// Room reserved at once for a message that comes in pieces; a length that only a header claims gets no more.
const PARTIAL_RESERVE_BYTES_MAX: usize = 64 << 10;

/// One encoded message behind its header, ready to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame(Bytes);

impl Frame {
    /// Encodes `message` once, straight behind its header.
    #[must_use]
    pub fn encode<M: prost::Message>(message: &M) -> Self {
        Self::build(message.encoded_len(), |out| message.encode_raw(out))
    }

    /// A frame whose message `write` appends. `message_bytes` is what is reserved for it; more or less may come.
    #[must_use]
    pub fn build(message_bytes: usize, write: impl FnOnce(&mut BytesMut)) -> Self {
        let mut out = Self::begin(message_bytes);
        write(&mut out);
        Self::finish(out)
    }

    /// A buffer to which a message is appended, behind room for the header. `message_bytes` is what is reserved for it.
    #[must_use]
    pub fn begin(message_bytes: usize) -> BytesMut {
        let mut out = BytesMut::with_capacity(FRAME_HEADER_BYTES + message_bytes);
        out.put_bytes(0, FRAME_HEADER_BYTES);
        out
    }

    /// The frame of what was appended to a buffer from [`Frame::begin`].
    ///
    /// # Panics
    /// If the message is 4 GiB or longer.
    #[must_use]
    pub fn finish(mut out: BytesMut) -> Self {
        let len = u32::try_from(out.len() - FRAME_HEADER_BYTES).expect("handlers send what exceeds 4 GiB in chunks");
        out[1..FRAME_HEADER_BYTES].copy_from_slice(&len.to_be_bytes());
        Self(out.freeze())
    }

    /// The header of a message that is `message_len` bytes long.
    #[must_use]
    pub fn header(message_len: u32) -> [u8; FRAME_HEADER_BYTES] {
        let [a, b, c, d] = message_len.to_be_bytes();
        [0, a, b, c, d]
    }

    /// Header and message.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The message alone, sharing the frame's memory.
    #[must_use]
    pub fn message(&self) -> Bytes {
        self.0.slice(FRAME_HEADER_BYTES..)
    }

    /// Length of the message in bytes.
    #[must_use]
    pub fn message_len(&self) -> usize {
        self.0.len() - FRAME_HEADER_BYTES
    }
}

/// Bytes that are not a frame this server takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// The header announces more than the limit.
    TooLarge {
        /// Announced length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The message is compressed although the call announced no compression.
    Compressed,
    /// The flag byte is neither 0 nor 1.
    Flag(u8),
    /// The stream ended inside a frame.
    Truncated,
}

impl FrameError {
    /// As grpc-go tells the client.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::TooLarge { len, max } => Status::new(
                Code::ResourceExhausted,
                format!("grpc: received message larger than max ({len} vs. {max})"),
            ),
            Self::Compressed => {
                Status::fixed(Code::Internal, "grpc: compressed flag set with identity or empty encoding")
            }
            Self::Flag(flag) => Status::new(Code::Internal, format!("grpc: received unexpected payload format {flag}")),
            Self::Truncated => Status::fixed(Code::Internal, "unexpected EOF"),
        }
    }
}

/// Finds messages in a stream of chunks. A message that lies within one chunk is a slice of it, never a copy.
///
/// After an error the stream is out of step: don't go on.
#[derive(Debug)]
pub struct FrameDecoder {
    message_bytes_max: usize,
    /// The chunk pushed last, as far as it isn't used.
    chunk: Bytes,
    /// The beginning of a frame that started in an earlier chunk.
    partial: BytesMut,
}

impl FrameDecoder {
    /// For messages of at most `message_bytes_max` bytes.
    #[must_use]
    pub fn new(message_bytes_max: usize) -> Self {
        Self { message_bytes_max, chunk: Bytes::new(), partial: BytesMut::new() }
    }

    /// Takes the next bytes of the stream. Everything pushed before must have been asked for with [`FrameDecoder::next_message`]
    /// until that gave `None`.
    pub fn push(&mut self, chunk: Bytes) {
        assert!(self.chunk.is_empty(), "a chunk was pushed over messages that nobody took");
        self.chunk = chunk;
    }

    /// Bytes held back for a message that isn't complete.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.partial.len() + self.chunk.len()
    }

    /// The next message, or `None` if more bytes are needed.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, FrameError> {
        if self.partial.is_empty() {
            let Some(header) = self.chunk.first_chunk() else { return Ok(self.keep_partial()) };
            let frame_bytes = self.frame_bytes(*header)?;
            if self.chunk.len() < frame_bytes {
                self.partial.reserve(frame_bytes.min(PARTIAL_RESERVE_BYTES_MAX));
                return Ok(self.keep_partial());
            }
            let mut message = self.chunk.split_to(frame_bytes);
            message.advance(FRAME_HEADER_BYTES);
            return Ok(Some(message));
        }
        self.fill_partial(FRAME_HEADER_BYTES);
        let Some(header) = self.partial.first_chunk() else { return Ok(None) };
        let frame_bytes = self.frame_bytes(*header)?;
        self.fill_partial(frame_bytes);
        if self.partial.len() < frame_bytes {
            return Ok(None);
        }
        let mut message = std::mem::take(&mut self.partial).freeze();
        message.advance(FRAME_HEADER_BYTES);
        Ok(Some(message))
    }

    /// Fails if the stream may not end here.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.buffered_bytes() == 0 { Ok(()) } else { Err(FrameError::Truncated) }
    }

    fn keep_partial(&mut self) -> Option<Bytes> {
        self.partial.extend_from_slice(&self.chunk);
        self.chunk = Bytes::new();
        None
    }

    /// Moves bytes from the chunk until the partial frame has `want` bytes or the chunk is used up.
    fn fill_partial(&mut self, want: usize) {
        let missing = want.saturating_sub(self.partial.len()).min(self.chunk.len());
        self.partial.extend_from_slice(&self.chunk.split_to(missing));
    }

    /// Length of the whole frame that begins with `header`.
    fn frame_bytes(&self, header: [u8; FRAME_HEADER_BYTES]) -> Result<usize, FrameError> {
        let [flag, a, b, c, d] = header;
        let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).expect("usize has at least 32 bits");
        // The size comes first, as in grpc-go, which looks at the flag only after the body.
        if len > self.message_bytes_max {
            return Err(FrameError::TooLarge { len, max: self.message_bytes_max });
        }
        match flag {
            0 => Ok(FRAME_HEADER_BYTES + len),
            1 => Err(FrameError::Compressed),
            other => Err(FrameError::Flag(other)),
        }
    }
}

#[cfg(test)]
mod tests;
