//! What each watcher should see, and what it saw.

use std::{
    cell::{Cell, RefCell},
    time::{Duration, Instant},
};

use plinth_rpc::{etcdserverpb::WatchResponse, mvccpb::KeyValue};

use super::super::{
    Shape,
    request::{STAMP_BYTES, key},
};
use crate::histogram::Latencies;

/// One watcher, on one key.
#[derive(Clone, Default, Debug)]
struct Watcher {
    /// Puts of its key that were acknowledged.
    acknowledged: u64,
    /// Events that came.
    seen: u64,
    /// Of the last one.
    revision: i64,
}

/// All watchers of a run. Watcher `n` watches key `n` times [`Board::stride`].
#[derive(Debug)]
pub struct Board {
    shape: Shape,
    stride: u64,
    /// Stamps count from here.
    epoch: Instant,
    watchers: RefCell<Vec<Watcher>>,
    created: Cell<u64>,
    delivered: Cell<u64>,
    expected: Cell<u64>,
    /// Latencies while they are measured.
    latencies: RefCell<Option<Latencies>>,
    wrong: RefCell<Option<String>>,
}

impl Board {
    /// Of `count` watchers on as many of the shape's keys.
    pub fn new(shape: Shape, count: u64, epoch: Instant) -> Self {
        Self {
            shape,
            stride: shape.keys.checked_div(count).unwrap_or(shape.keys),
            epoch,
            watchers: RefCell::new((0..count).map(|_| Watcher::default()).collect()),
            created: Cell::new(0),
            delivered: Cell::new(0),
            expected: Cell::new(0),
            latencies: RefCell::new(None),
            wrong: RefCell::default(),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.watchers.borrow().len()
    }

    /// From one watched key to the next.
    pub fn stride(&self) -> u64 {
        self.stride
    }

    /// Stamps count from here.
    pub fn epoch(&self) -> Instant {
        self.epoch
    }

    /// The key of a watcher.
    pub fn key(&self, watcher: usize) -> Vec<u8> {
        key(watcher as u64 * self.stride, self.shape.key_bytes)
    }

    /// Watchers that the server has made.
    pub fn created(&self) -> u64 {
        self.created.get()
    }

    /// Events that came, over all watchers.
    pub fn delivered(&self) -> u64 {
        self.delivered.get()
    }

    /// Events that must come, over all watchers.
    pub fn expected(&self) -> u64 {
        self.expected.get()
    }

    /// From here on latencies are measured.
    pub fn begin(&self) {
        self.latencies.replace(Some(Latencies::new()));
    }

    /// The latencies that were measured.
    pub fn end(&self) -> Latencies {
        self.latencies.take().unwrap_or_else(Latencies::new)
    }

    /// A put of a key was acknowledged.
    pub fn acknowledged(&self, key: u64) {
        if !key.is_multiple_of(self.stride) {
            return;
        }
        // A remainder of the division leaves keys behind the last watcher's.
        if let Some(watcher) = self.watchers.borrow_mut().get_mut((key / self.stride) as usize) {
            watcher.acknowledged += 1;
            self.expected.set(self.expected.get() + 1);
        }
    }

    /// A response came on the stream of the watchers from `first` on, whose ids begin with 0.
    pub fn handle(&self, first: usize, response: &WatchResponse, now: Instant) {
        if response.canceled {
            return self.fail(format!("a watch was cancelled: {:?}", response.cancel_reason));
        }
        if response.created {
            self.created.set(self.created.get() + 1);
        }
        for event in &response.events {
            let Some(kv) = event.kv.as_ref().filter(|_| event.r#type == 0) else {
                return self.fail(format!("an event that is no put: {event:?}"));
            };
            let Ok(id) = usize::try_from(response.watch_id) else {
                return self.fail(format!("an event for watch {}", response.watch_id));
            };
            if let Err(why) = self.handle_event(first + id, kv, now) {
                return self.fail(why);
            }
        }
    }

    fn handle_event(&self, watcher: usize, kv: &KeyValue, now: Instant) -> Result<(), String> {
        let mut watchers = self.watchers.borrow_mut();
        let Some(Watcher { seen, revision, .. }) = watchers.get_mut(watcher).filter(|_| kv.key == self.key(watcher))
        else {
            return Err(format!("watcher {watcher} got an event of {:?}", kv.key));
        };
        if kv.mod_revision <= *revision {
            return Err(format!("watcher {watcher} got revision {} behind {revision}", kv.mod_revision));
        }
        *revision = kv.mod_revision;
        *seen += 1;
        self.delivered.set(self.delivered.get() + 1);
        if let Some(latencies) = self.latencies.borrow_mut().as_mut() {
            let stamp = kv.value.first_chunk::<STAMP_BYTES>().ok_or("a value without its time")?;
            let sent = self.epoch + Duration::from_nanos(u64::from_le_bytes(*stamp));
            latencies.record(now.saturating_duration_since(sent));
        }
        Ok(())
    }

    /// Something is wrong. The first reason counts.
    pub fn fail(&self, why: String) {
        self.wrong.borrow_mut().get_or_insert(why);
    }

    /// Fails if something went wrong.
    pub fn expect_sound(&self) -> Result<(), String> {
        self.wrong.borrow().clone().map_or(Ok(()), Err)
    }

    /// Fails unless every watcher saw every acknowledged put of its key once.
    pub fn verify(&self) -> Result<(), String> {
        self.expect_sound()?;
        let watchers = self.watchers.borrow();
        let differing = |(_, watcher): &(usize, &Watcher)| watcher.acknowledged != watcher.seen;
        match watchers.iter().enumerate().find(differing) {
            None => Ok(()),
            Some((number, Watcher { acknowledged, seen, .. })) => {
                let count = watchers.iter().enumerate().filter(differing).count();
                Err(format!(
                    "watcher {number} saw {seen} events of {acknowledged} acknowledged puts; {count} are wrong so"
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use plinth_rpc::mvccpb::Event;

    use super::*;

    const SHAPE: Shape = Shape { keys: 100, key_bytes: 32, value_bytes: 16 };

    fn response(watch_id: i64, key_number: u64, revision: i64) -> WatchResponse {
        let key = key(key_number, SHAPE.key_bytes).into();
        let value = 1_000_u64.to_le_bytes().to_vec().into();
        let kv = KeyValue { key, value, mod_revision: revision, ..Default::default() };
        WatchResponse { watch_id, events: vec![Event { kv: Some(kv), ..Default::default() }], ..Default::default() }
    }

    fn board() -> Board {
        Board::new(SHAPE, 10, Instant::now())
    }

    #[test]
    fn each_watcher_must_see_each_acknowledged_put_of_its_key_once() {
        let board = board();
        let now = board.epoch() + Duration::from_micros(5);
        board.acknowledged(30);
        board.acknowledged(31);
        assert_eq!(board.expected(), 1, "nobody watches key 31");
        assert!(board.verify().is_err_and(|why| why.starts_with("watcher 3 saw 0 events of 1")));
        board.begin();
        board.handle(2, &response(1, 30, 7), now);
        board.verify().expect("it is there");
        assert!((3.9..4.1).contains(&board.end().max_us()), "sent after 1 µs, here after 5");
        board.handle(2, &response(1, 30, 8), now);
        assert!(board.verify().is_err_and(|why| why.starts_with("watcher 3 saw 2 events of 1")));
    }

    #[test]
    fn an_event_that_comes_twice_or_to_the_wrong_watcher_is_found_at_once() {
        let board = board();
        let now = board.epoch();
        board.handle(0, &response(1, 10, 7), now);
        board.expect_sound().expect("so far");
        board.handle(0, &response(1, 10, 7), now);
        assert_eq!(board.expect_sound(), Err("watcher 1 got revision 7 behind 7".to_owned()));
        let board = self::board();
        board.handle(0, &response(2, 10, 7), now);
        assert!(board.expect_sound().is_err_and(|why| why.starts_with("watcher 2 got an event of")));
    }

    #[test]
    fn a_deletion_and_a_cancelled_watch_are_failures() {
        let board = board();
        board.handle(0, &WatchResponse { created: true, ..Default::default() }, board.epoch());
        assert_eq!((board.created(), board.expect_sound()), (1, Ok(())));
        let mut deletion = response(1, 10, 7);
        deletion.events[0].r#type = 1;
        board.handle(0, &deletion, board.epoch());
        assert!(board.expect_sound().is_err_and(|why| why.starts_with("an event that is no put")));
        let board = self::board();
        board.handle(0, &WatchResponse { canceled: true, ..Default::default() }, board.epoch());
        assert!(board.verify().is_err_and(|why| why.starts_with("a watch was cancelled")));
    }
}
