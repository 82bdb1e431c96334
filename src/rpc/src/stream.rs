//! Streams of messages, as the handlers of streaming calls see them.
//!
//! A handler ends when its future does: with `Ok` the call ends in order, with a status it fails. It is dropped when the client resets the
//! call or runs out of time.

use std::future::Future;

use bytes::Bytes;

use crate::{ChunkSource, Frame, Status, errors};

/// What the client sends.
pub trait Requests {
    /// The next encoded message; `None` when the client has said that it sends no more. Dropping the future before it is done loses nothing.
    ///
    /// # Errors
    /// The stream is broken, or holds something that is no message: nothing comes after that.
    fn next(&mut self) -> impl Future<Output = Option<Result<Bytes, Status>>>;
}

/// What goes to the client.
pub trait Replies {
    /// Sends a message, in order. Waits until the client's windows have room, so at most one message waits in memory. A future that is dropped before
    /// it is done may have sent a part of its message: don't go on after that.
    ///
    /// # Errors
    /// Nobody is there any more.
    fn send(&mut self, frame: Frame) -> impl Future<Output = Result<(), Gone>>;

    /// Sends a message of `message_len` bytes that `source` makes while it is sent.
    ///
    /// # Errors
    /// Nobody is there any more; what the source says; Internal if it doesn't make what was announced, or if gRPC can't send so much at once. Part
    /// of the message may be sent then: don't go on after that.
    fn send_chunked(
        &mut self,
        message_len: u64,
        source: &mut dyn ChunkSource,
    ) -> impl Future<Output = Result<(), Status>>;
}

/// The client of a stream went away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone;

impl From<Gone> for Status {
    fn from(_: Gone) -> Self {
        errors::CONTEXT_CANCELED
    }
}
