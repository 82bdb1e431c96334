//! What a unary handler gives back: one encoded message, or a source that produces a huge one in bounded chunks.

use std::{future::Future, pin::Pin};

use bytes::{Bytes, BytesMut};

use crate::{Code, Frame, Status};

/// What a chunked message that is not sent is asked for at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// A source made more or less than was announced.
pub const NOT_AS_ANNOUNCED: Status = Status::fixed(Code::Internal, "reply and its announced length differ");

/// The next piece of a chunked message.
pub type Chunk<'a> = Pin<Box<dyn Future<Output = Result<Bytes, Status>> + 'a>>;

/// Produces one encoded message piece by piece, so that a reply of any size needs bounded memory.
///
/// The connection asks for the next chunk only when the client's flow-control windows have room for all of it, so that nothing that was made ever
/// waits; a source that is dropped early lost its client.
pub trait ChunkSource {
    /// The next bytes of the message, at least one and at most `bytes_max`. Called until `message_len` bytes came; an error before that ends the
    /// call with it, an empty chunk or one too many bytes ends it as Internal.
    fn next_chunk(&mut self, bytes_max: usize) -> Chunk<'_>;
}

/// The successful answer to a unary call.
pub enum Reply {
    /// The whole message.
    Message(Frame),
    /// A message of known length that is made while it is sent.
    Chunked {
        /// Encoded length of the message in bytes, without the frame's header.
        message_len: u64,
        /// Where its bytes come from.
        source: Box<dyn ChunkSource>,
    },
}

impl Reply {
    /// Encodes `message`.
    #[must_use]
    pub fn encode<M: prost::Message>(message: &M) -> Self {
        Self::Message(Frame::encode(message))
    }

    /// The whole message, in memory.
    ///
    /// # Errors
    /// Of the source; Internal if it does not make what was announced.
    pub async fn into_message(self) -> Result<Bytes, Status> {
        let (message_len, mut source) = match self {
            Self::Message(frame) => return Ok(frame.message()),
            Self::Chunked { message_len, source } => (message_len, source),
        };
        let mut message = BytesMut::new();
        while (message.len() as u64) < message_len {
            let chunk = source.next_chunk(CHUNK_BYTES).await?;
            if chunk.is_empty() {
                return Err(NOT_AS_ANNOUNCED);
            }
            message.extend_from_slice(&chunk);
        }
        if message.len() as u64 == message_len { Ok(message.freeze()) } else { Err(NOT_AS_ANNOUNCED) }
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Message(frame) => f.debug_tuple("Message").field(frame).finish(),
            Self::Chunked { message_len, .. } => f.debug_struct("Chunked").field("message_len", message_len).finish(),
        }
    }
}
