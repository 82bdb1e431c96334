//! One stream to the client, whose windows are respected.
//!
//! What fits the windows goes to h2 at once. The rest waits here and is counted at the gate, so that h2 never buffers more than the client has
//! asked for.

use std::{
    cell::RefCell,
    future::poll_fn,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::SendStream;
use plinth_rpc::{ChunkSource, Frame, NOT_AS_ANNOUNCED, Status};

use super::gate::{Gate, ReplyBytes};

/// The most that is handed to h2 at once for one stream.
const PIECE_BYTES_MAX: usize = 64 << 10;

/// Why a message did not go out whole.
pub enum Broken {
    /// The stream is gone.
    Gone,
    /// The caller's time was up.
    Late,
    /// The source failed.
    Failed(Status),
}

/// The sending side of a stream. It is borrowed for each step only: others may ask in between whether the client has reset the call.
pub struct Room<'a> {
    stream: &'a RefCell<SendStream<Bytes>>,
    gate: &'a Gate,
}

impl<'a> Room<'a> {
    pub fn new(stream: &'a RefCell<SendStream<Bytes>>, gate: &'a Gate) -> Self {
        Self { stream, gate }
    }

    /// Sends a message that is in memory.
    pub async fn send(&self, bytes: Bytes) -> Result<(), Broken> {
        if self.fits(bytes.len()) {
            return self.hand_over(bytes);
        }
        let mut held = self.gate.hold_reply(bytes.len());
        self.send_pieces(bytes, &mut held).await
    }

    /// Sends a message of `message_len` bytes that `source` makes piece by piece.
    pub async fn send_chunks(&self, message_len: u64, source: &mut dyn ChunkSource) -> Result<(), Broken> {
        let len = u32::try_from(message_len).expect("checked against the largest message of gRPC");
        let mut held = self.gate.hold_reply(0);
        self.send_pieces(Bytes::copy_from_slice(&Frame::header(len)), &mut held).await?;
        let mut missing = message_len;
        while missing > 0 {
            // No chunk is made before the client can take it.
            let room = self.get(PIECE_BYTES_MAX).await?;
            let chunk = self.next_chunk(source, room).await?;
            missing = missing
                .checked_sub(chunk.len() as u64)
                .filter(|_| !chunk.is_empty())
                .ok_or(Broken::Failed(NOT_AS_ANNOUNCED))?;
            self.hand_over(chunk)?;
        }
        Ok(())
    }

    /// Whether `len` bytes may be sent now.
    fn fits(&self, len: usize) -> bool {
        let mut stream = self.stream.borrow_mut();
        stream.reserve_capacity(len);
        stream.capacity() >= len
    }

    fn hand_over(&self, bytes: Bytes) -> Result<(), Broken> {
        self.stream.borrow_mut().send_data(bytes, false).map_err(|_| Broken::Gone)
    }

    async fn send_pieces(&self, mut bytes: Bytes, held: &mut ReplyBytes<'_>) -> Result<(), Broken> {
        while !bytes.is_empty() {
            let room = self.get(bytes.len().min(PIECE_BYTES_MAX)).await?;
            self.hand_over(bytes.split_to(room.min(bytes.len())))?;
            held.set(bytes.len());
        }
        Ok(())
    }

    /// How many bytes may be sent now: at least one, when there is room for that.
    async fn get(&self, wanted: usize) -> Result<usize, Broken> {
        self.stream.borrow_mut().reserve_capacity(wanted);
        poll_fn(|cx| poll_room(&mut self.stream.borrow_mut(), cx)).await.ok_or(Broken::Gone)
    }

    /// The next chunk, unless the client resets the call while it is made.
    async fn next_chunk(&self, source: &mut dyn ChunkSource, bytes_max: usize) -> Result<Bytes, Broken> {
        let mut chunk = source.next_chunk(bytes_max);
        poll_fn(|cx| match chunk.as_mut().poll(cx) {
            Poll::Ready(made) => Poll::Ready(made.map_err(Broken::Failed)),
            Poll::Pending => self.stream.borrow_mut().poll_reset(cx).map(|_| Err(Broken::Gone)),
        })
        .await
    }
}

/// How many of the bytes that were reserved may be sent now; `None` when the stream is gone.
fn poll_room(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Poll<Option<usize>> {
    loop {
        let room = stream.capacity();
        if room > 0 {
            return Poll::Ready(Some(room));
        }
        // Tells of additions only, so the capacity is looked at first. A reset ends it.
        if !matches!(ready!(stream.poll_capacity(cx)), Some(Ok(_))) {
            return Poll::Ready(None);
        }
    }
}
