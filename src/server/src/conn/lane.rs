//! The lane of a connection's bulk data: a bounded part of it is with h2 at a time, so that what is small never waits behind much.
//!
//! h2 sends the streams that have data in turn, a frame each, and hands out the connection's window in the order in which it was asked. Whatever it has
//! stands before what comes later, and it doesn't say when it is done with it. So messages that are not small are handed over in pieces, and a
//! piece counts until its frames went by on their way to the socket.
//!
//! Invariants: at most [`LANE_BYTES_MAX`] of a connection are in its lane; while all lanes of the executor together have more than
//! [`LANES_BYTES_MAX`], at most [`LANE_BYTES_MIN`], so that clients that don't read never stop others. Turns go in the order of asking. What is in
//! the lane leaves it when it was encoded or when its ride ends.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Bytes in the lane of one connection.
pub const LANE_BYTES_MAX: usize = 128 << 10;

/// The same while there is much in all lanes together.
pub const LANE_BYTES_MIN: usize = 16 << 10;

/// What is much, in bytes.
pub const LANES_BYTES_MAX: usize = 32 << 20;

/// The most that one turn is good for, in bytes.
const PIECE_BYTES_MAX: usize = 64 << 10;

const _: () = assert!(LANE_BYTES_MIN > 0 && PIECE_BYTES_MAX <= LANE_BYTES_MAX && LANE_BYTES_MAX <= LANES_BYTES_MAX);

/// Shared by a connection and its calls.
#[derive(Default)]
pub struct Lane {
    bytes: Cell<usize>,
    by_stream: RefCell<BTreeMap<u32, usize>>,
    /// In all lanes of the executor.
    all_bytes: Rc<Cell<usize>>,
    /// Who waits for a turn, by order of arrival.
    waiting: RefCell<BTreeMap<u64, Waker>>,
    tickets: Cell<u64>,
    /// Who waits until nothing of a stream is left.
    leaving: RefCell<BTreeMap<u32, Waker>>,
}

impl Lane {
    /// One of the lanes that `all_bytes` counts.
    pub fn new(all_bytes: Rc<Cell<usize>>) -> Self {
        Self { all_bytes, ..Self::default() }
    }

    /// A stream begins to use the lane.
    pub fn ride(&self, stream: u32) -> Ride<'_> {
        Ride { lane: self, stream, is_used: false, ticket: None }
    }

    /// A frame of data went by. Tells nobody yet.
    pub fn note_encoded(&self, stream: u32, bytes: usize) {
        let mut by_stream = self.by_stream.borrow_mut();
        let Some(left) = by_stream.get_mut(&stream) else { return };
        let gone = bytes.min(*left);
        *left -= gone;
        if *left == 0 {
            by_stream.remove(&stream);
        }
        self.subtract(gone);
    }

    /// Tells whoever waits for what has changed.
    pub fn wake(&self) {
        // Wakers may run code that comes back here: nothing is borrowed then.
        if self.room() > 0 {
            let first = self.waiting.borrow().first_key_value().map(|(_, waker)| waker.clone());
            first.into_iter().for_each(Waker::wake);
        }
        if !self.leaving.borrow().is_empty() {
            let by_stream = self.by_stream.borrow();
            let left: Vec<Waker> = self
                .leaving
                .borrow_mut()
                .extract_if(.., |stream, _| !by_stream.contains_key(stream))
                .map(|(_, waker)| waker)
                .collect();
            drop(by_stream);
            left.into_iter().for_each(Waker::wake);
        }
    }

    fn room(&self) -> usize {
        let max = if self.all_bytes.get() < LANES_BYTES_MAX { LANE_BYTES_MAX } else { LANE_BYTES_MIN };
        max.saturating_sub(self.bytes.get())
    }

    fn add(&self, stream: u32, bytes: usize) {
        *self.by_stream.borrow_mut().entry(stream).or_default() += bytes;
        self.bytes.set(self.bytes.get() + bytes);
        self.all_bytes.set(self.all_bytes.get() + bytes);
    }

    fn subtract(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() - bytes);
        self.all_bytes.set(self.all_bytes.get() - bytes);
    }
}

/// One stream's use of the lane.
pub struct Ride<'a> {
    lane: &'a Lane,
    stream: u32,
    is_used: bool,
    ticket: Option<u64>,
}

impl Ride<'_> {
    /// Ready when it is this stream's turn: it has so many bytes in the lane from then on, one at least and at most `wanted`.
    pub fn poll_turn(&mut self, wanted: usize, cx: &Context<'_>) -> Poll<usize> {
        self.is_used = true;
        let lane = self.lane;
        let mut waiting = lane.waiting.borrow_mut();
        let is_first = waiting.first_key_value().is_none_or(|(first, _)| self.ticket.is_some_and(|own| own <= *first));
        let room = lane.room();
        if room == 0 || !is_first {
            let ticket = *self.ticket.get_or_insert_with(|| {
                lane.tickets.set(lane.tickets.get() + 1);
                lane.tickets.get()
            });
            waiting.insert(ticket, cx.waker().clone());
            return Poll::Pending;
        }
        let _waker = self.ticket.take().and_then(|ticket| waiting.remove(&ticket));
        drop(waiting);
        let bytes = wanted.min(room).min(PIECE_BYTES_MAX);
        lane.add(self.stream, bytes);
        // The next one may have its turn too.
        lane.wake();
        Poll::Ready(bytes)
    }

    /// Gives back what a turn allowed and was not used.
    pub fn give_back(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.lane.note_encoded(self.stream, bytes);
        self.lane.wake();
    }

    /// Ready when nothing of the stream is in the lane.
    pub fn poll_empty(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.is_used || !self.lane.by_stream.borrow().contains_key(&self.stream) {
            return Poll::Ready(());
        }
        self.lane.leaving.borrow_mut().insert(self.stream, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Ride<'_> {
    fn drop(&mut self) {
        if !self.is_used {
            return;
        }
        let lane = self.lane;
        let _waker = self.ticket.and_then(|ticket| lane.waiting.borrow_mut().remove(&ticket));
        let _other = lane.leaving.borrow_mut().remove(&self.stream);
        let left = lane.by_stream.borrow_mut().remove(&self.stream);
        lane.subtract(left.unwrap_or(0));
        lane.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(ride: &mut Ride<'_>, wanted: usize) -> Option<usize> {
        match ride.poll_turn(wanted, &Context::from_waker(Waker::noop())) {
            Poll::Ready(bytes) => Some(bytes),
            Poll::Pending => None,
        }
    }

    #[test]
    fn turns_go_in_the_order_of_asking_and_by_what_went_by() {
        let lane = Lane::default();
        let (mut first, mut second, mut third) = (lane.ride(1), lane.ride(3), lane.ride(5));
        assert_eq!(turn(&mut first, usize::MAX), Some(PIECE_BYTES_MAX));
        assert_eq!(turn(&mut first, 100), Some(100));
        assert_eq!(turn(&mut first, usize::MAX), Some(LANE_BYTES_MAX - PIECE_BYTES_MAX - 100));
        assert_eq!((turn(&mut second, 10), turn(&mut third, 10), turn(&mut first, 10)), (None, None, None));
        lane.note_encoded(1, 5);
        assert_eq!((turn(&mut third, 10), turn(&mut first, 10)), (None, None), "the second comes first");
        assert_eq!(turn(&mut second, 10), Some(5));
        lane.note_encoded(7, 1000);
        assert_eq!(turn(&mut third, 10), None, "that was no bulk data");
        drop(third);
        drop(second);
        assert_eq!(turn(&mut first, 10), Some(5));
        drop(first);
        assert_eq!((lane.bytes.get(), lane.all_bytes.get()), (0, 0));
        assert!(lane.waiting.borrow().is_empty() && lane.by_stream.borrow().is_empty());
    }

    #[test]
    fn what_was_not_used_is_given_back_and_an_empty_ride_is_over() {
        let (lane, cx) = (Lane::default(), Context::from_waker(Waker::noop()));
        let mut ride = lane.ride(1);
        assert!(ride.poll_empty(&cx).is_ready());
        assert_eq!(turn(&mut ride, 100), Some(100));
        ride.give_back(40);
        assert!(ride.poll_empty(&cx).is_pending());
        lane.note_encoded(1, 60);
        assert!(ride.poll_empty(&cx).is_ready());
        assert_eq!(lane.bytes.get(), 0);
    }

    #[test]
    fn while_there_is_much_in_all_lanes_each_gets_little_but_something() {
        let all = Rc::new(Cell::new(LANES_BYTES_MAX));
        let lanes = [Lane::new(Rc::clone(&all)), Lane::new(Rc::clone(&all))];
        let mut rides = lanes.each_ref().map(|lane| lane.ride(1));
        for ride in &mut rides {
            assert_eq!(turn(ride, usize::MAX), Some(LANE_BYTES_MIN));
            assert_eq!(turn(ride, usize::MAX), None);
        }
        drop(rides);
        assert_eq!(all.get(), LANES_BYTES_MAX);
    }
}
