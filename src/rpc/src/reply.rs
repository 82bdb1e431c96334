//! What a unary handler gives back: one encoded message, or a source that produces a huge one in bounded chunks.

use std::{future::Future, pin::Pin};

use bytes::Bytes;

use crate::{Frame, Status};

/// The next piece of a chunked message.
pub type Chunk<'a> = Pin<Box<dyn Future<Output = Result<Bytes, Status>> + 'a>>;

/// Produces one encoded message piece by piece, so that a reply of any size needs bounded memory.
///
/// The connection asks for the next chunk only when the client's flow-control windows have room; a source that is dropped early
/// lost its client.
pub trait ChunkSource {
    /// The next bytes of the message, at least one. Called until `message_len` bytes came; an error before that ends the call with
    /// it, an empty chunk or one too many bytes ends it as Internal.
    fn next_chunk(&mut self) -> Chunk<'_>;
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
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Message(frame) => f.debug_tuple("Message").field(frame).finish(),
            Self::Chunked { message_len, .. } => f.debug_struct("Chunked").field("message_len", message_len).finish(),
        }
    }
}
