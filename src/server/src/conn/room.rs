//! One stream to the client: its windows are respected, and so is what is small on other streams.
//!
//! A small message goes to h2 at once, if it fits the windows. All others go in pieces, through the connection's lane. What waits here is counted at
//! the gate; h2 never holds more than the client has asked for.

use std::{
    cell::RefCell,
    future::poll_fn,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;
use plinth_rpc::{ChunkSource, Frame, NOT_AS_ANNOUNCED, Status};

use super::{
    gate::{Gate, ReplyBytes},
    lane::Ride,
};

/// The longest message that doesn't wait for its turn, in bytes.
pub const SMALL_BYTES_MAX: usize = 4 << 10;

/// The same for streams whose messages tell of events: they may hold many.
pub const URGENT_BYTES_MAX: usize = 64 << 10;

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
    stream: RefCell<SendStream<Bytes>>,
    gate: &'a Gate,
    ride: RefCell<Ride<'a>>,
    small_bytes_max: usize,
}

impl<'a> Room<'a> {
    /// Messages of at most `small_bytes_max` bytes don't wait for their turn.
    pub fn new(stream: SendStream<Bytes>, gate: &'a Gate, small_bytes_max: usize) -> Self {
        let ride = gate.lane.ride(stream.stream_id().into());
        Self { stream: RefCell::new(stream), gate, ride: RefCell::new(ride), small_bytes_max }
    }

    /// Ready when the client has reset the call.
    pub fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.borrow_mut().poll_reset(cx).map(drop)
    }

    /// Ends the stream in order.
    pub fn end(&self, trailers: HeaderMap) {
        // Fails if the client has reset the call.
        let _ = self.stream.borrow_mut().send_trailers(trailers);
    }

    /// Breaks it off.
    pub fn reset(&self) {
        self.stream.borrow_mut().send_reset(Reason::CANCEL);
    }

    /// Sends a message that is in memory.
    pub async fn send(&self, bytes: Bytes) -> Result<(), Broken> {
        let is_small = bytes.len() <= self.small_bytes_max;
        if is_small && self.claim(bytes.len()) >= bytes.len() {
            return self.hand_over(bytes);
        }
        let mut held = self.gate.hold_reply(bytes.len());
        if is_small { self.send_small(bytes, &mut held).await } else { self.send_in_lane(bytes, &mut held).await }
    }

    /// Sends a message of `message_len` bytes that `source` makes piece by piece.
    pub async fn send_chunks(&self, message_len: u64, source: &mut dyn ChunkSource) -> Result<(), Broken> {
        let len = u32::try_from(message_len).expect("checked against the largest message of gRPC");
        self.send_small(Bytes::copy_from_slice(&Frame::header(len)), &mut self.gate.hold_reply(0)).await?;
        let mut missing = message_len;
        while missing > 0 {
            // No chunk is made before it can be handed over at once.
            let turn = self.turn(usize::try_from(missing).unwrap_or(usize::MAX)).await?;
            let chunk = self.next_chunk(source, turn.bytes).await?;
            missing = missing
                .checked_sub(chunk.len() as u64)
                .filter(|_| !chunk.is_empty() && chunk.len() <= turn.bytes)
                .ok_or(Broken::Failed(NOT_AS_ANNOUNCED))?;
            turn.use_for(chunk)?;
        }
        Ok(())
    }

    /// Waits until h2 has sent what went through the lane, or nobody is there any more. Whoever leaves before that lets others in too early.
    pub async fn leave(&self) {
        poll_fn(|cx| {
            if self.ride.borrow().poll_empty(cx).is_ready() {
                return Poll::Ready(());
            }
            self.poll_reset(cx)
        })
        .await;
    }

    async fn send_small(&self, mut bytes: Bytes, held: &mut ReplyBytes<'_>) -> Result<(), Broken> {
        while !bytes.is_empty() {
            let room = self.some_room(bytes.len()).await?;
            self.hand_over(bytes.split_to(room.min(bytes.len())))?;
            held.set(bytes.len());
        }
        Ok(())
    }

    async fn send_in_lane(&self, mut bytes: Bytes, held: &mut ReplyBytes<'_>) -> Result<(), Broken> {
        while !bytes.is_empty() {
            let turn = self.turn(bytes.len()).await?;
            let piece = bytes.split_to(turn.bytes);
            turn.use_for(piece)?;
            held.set(bytes.len());
        }
        Ok(())
    }

    /// Waits for the stream's turn to hand over some of `wanted` bytes.
    async fn turn(&self, wanted: usize) -> Result<Turn<'_, 'a>, Broken> {
        loop {
            // Whoever has a turn must be able to use it. A byte is all that is taken off the connection's window before.
            self.some_room(1).await?;
            let bytes = poll_fn(|cx| match self.ride.borrow_mut().poll_turn(wanted, cx) {
                Poll::Ready(turn) => Poll::Ready(Ok(turn)),
                Poll::Pending => self.poll_reset(cx).map(|()| Err(Broken::Gone)),
            })
            .await?;
            let mut turn = Turn { room: self, bytes };
            turn.keep(self.claim(bytes));
            if turn.bytes > 0 {
                return Ok(turn);
            }
        }
    }

    /// Asks for room, and says how much there is now.
    fn claim(&self, wanted: usize) -> usize {
        let mut stream = self.stream.borrow_mut();
        stream.reserve_capacity(wanted);
        stream.capacity()
    }

    fn hand_over(&self, bytes: Bytes) -> Result<(), Broken> {
        self.stream.borrow_mut().send_data(bytes, false).map_err(|_| Broken::Gone)
    }

    /// How many bytes may be sent now: at least one, when there is room for that.
    async fn some_room(&self, wanted: usize) -> Result<usize, Broken> {
        self.stream.borrow_mut().reserve_capacity(wanted);
        poll_fn(|cx| poll_room(&mut self.stream.borrow_mut(), cx)).await.ok_or(Broken::Gone)
    }

    /// The next chunk, unless the client resets the call while it is made.
    async fn next_chunk(&self, source: &mut dyn ChunkSource, bytes_max: usize) -> Result<Bytes, Broken> {
        let mut chunk = source.next_chunk(bytes_max);
        poll_fn(|cx| match chunk.as_mut().poll(cx) {
            Poll::Ready(made) => Poll::Ready(made.map_err(Broken::Failed)),
            Poll::Pending => self.poll_reset(cx).map(|()| Err(Broken::Gone)),
        })
        .await
    }
}

/// Bytes that may be handed over at once, one at least. What is not used is given back.
struct Turn<'r, 'a> {
    room: &'r Room<'a>,
    bytes: usize,
}

impl Turn<'_, '_> {
    fn keep(&mut self, bytes: usize) {
        let unused = self.bytes.saturating_sub(bytes);
        self.room.ride.borrow().give_back(unused);
        self.bytes -= unused;
    }

    /// Hands over no more bytes than it is good for.
    fn use_for(mut self, bytes: Bytes) -> Result<(), Broken> {
        let len = bytes.len();
        self.room.hand_over(bytes)?;
        self.bytes -= len;
        Ok(())
    }
}

impl Drop for Turn<'_, '_> {
    fn drop(&mut self) {
        self.keep(0);
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
