//! What each watcher should see, and what it saw.

use std::{cell::RefCell, rc::Rc, time::Instant};

use plinth_rpc::{etcdserverpb::WatchResponse, mvccpb::KeyValue};

use super::{
    super::{Shape, work::key},
    Watchers,
    times::EventTimes,
};

/// One watcher.
#[derive(Clone, Default, Debug)]
struct Watcher {
    /// Events that must come: puts of what it watches that were acknowledged.
    acknowledged: u64,
    /// Events that came.
    seen: u64,
    /// Of the last one.
    revision: i64,
}

/// All watchers of a run. Watcher `n` watches key `n` times [`Watchers::stride`], or all watch all keys.
#[derive(Debug)]
pub struct Board {
    shape: Shape,
    stride: u64,
    all_keys: bool,
    times: Rc<EventTimes>,
    state: RefCell<State>,
}

#[derive(Default, Debug)]
struct State {
    watchers: Vec<Watcher>,
    created: usize,
    delivered: u64,
    expected: u64,
}

impl Board {
    /// Of some watchers on a shape's keys.
    pub fn new(shape: Shape, watchers: Watchers, times: Rc<EventTimes>) -> Self {
        let state = State { watchers: (0..watchers.count).map(|_| Watcher::default()).collect(), ..State::default() };
        let stride = watchers.stride(shape.keys);
        Self { shape, stride, all_keys: watchers.all_keys, times, state: RefCell::new(state) }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.state.borrow().watchers.len()
    }

    /// What a watcher watches: a key and the end of its range.
    pub fn range(&self, watcher: usize) -> (Vec<u8>, Vec<u8>) {
        if self.all_keys { (vec![0], vec![0]) } else { (self.key(watcher), Vec::new()) }
    }

    fn key(&self, watcher: usize) -> Vec<u8> {
        key(watcher as u64 * self.stride, self.shape.key_bytes)
    }

    /// Whether the server has made all of them.
    pub fn is_ready(&self) -> bool {
        let state = self.state.borrow();
        state.created == state.watchers.len()
    }

    /// Events that came, over all watchers, and those that must come.
    pub fn events(&self) -> (u64, u64) {
        let state = self.state.borrow();
        (state.delivered, state.expected)
    }

    /// A put of a key was acknowledged.
    pub fn acknowledged(&self, key: u64) {
        let state = &mut *self.state.borrow_mut();
        if self.all_keys {
            state.watchers.iter_mut().for_each(|watcher| watcher.acknowledged += 1);
            state.expected += state.watchers.len() as u64;
        } else if key.is_multiple_of(self.stride) {
            // A remainder of the division leaves keys behind the last watcher's.
            if let Some(watcher) = state.watchers.get_mut((key / self.stride) as usize) {
                watcher.acknowledged += 1;
                state.expected += 1;
            }
        }
    }

    /// A response came on the stream of the watchers from `first` on, whose ids begin with 0.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn handle(&self, first: usize, response: &WatchResponse, now: Instant) -> Result<(), String> {
        if response.canceled {
            return Err(format!("a watch was cancelled: {:?}", response.cancel_reason));
        }
        if response.created {
            self.state.borrow_mut().created += 1;
        }
        for event in &response.events {
            let kv = event.kv.as_ref().filter(|_| event.r#type == 0);
            let kv = kv.ok_or_else(|| format!("an event that is no put: {event:?}"))?;
            let id = usize::try_from(response.watch_id);
            let id = id.map_err(|_| format!("an event for watch {}", response.watch_id))?;
            self.handle_event(first + id, kv, now)?;
        }
        Ok(())
    }

    fn handle_event(&self, watcher: usize, kv: &KeyValue, now: Instant) -> Result<(), String> {
        let state = &mut *self.state.borrow_mut();
        let is_its_own = |_: &&mut Watcher| self.all_keys || kv.key == self.key(watcher);
        let Some(Watcher { seen, revision, .. }) = state.watchers.get_mut(watcher).filter(is_its_own) else {
            return Err(format!("watcher {watcher} got an event of {:?}", kv.key));
        };
        if kv.mod_revision <= *revision {
            return Err(format!("watcher {watcher} got revision {} behind {revision}", kv.mod_revision));
        }
        *revision = kv.mod_revision;
        *seen += 1;
        state.delivered += 1;
        self.times.note(&kv.value, now)
    }

    /// Fails unless every watcher saw every acknowledged put of what it watches once.
    pub fn verify(&self) -> Result<(), String> {
        let state = self.state.borrow();
        let differing = |(_, watcher): &(usize, &Watcher)| watcher.acknowledged != watcher.seen;
        match state.watchers.iter().enumerate().find(differing) {
            None => Ok(()),
            Some((number, Watcher { acknowledged, seen, .. })) => {
                let count = state.watchers.iter().enumerate().filter(differing).count();
                Err(format!(
                    "watcher {number} saw {seen} events of {acknowledged} acknowledged puts; {count} are wrong so"
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use plinth_rpc::mvccpb::Event;

    use super::*;

    const SHAPE: Shape = Shape { keys: 100, key_bytes: 32, value_bytes: 16 };

    fn response(watch_id: i64, key_number: u64, revision: i64) -> WatchResponse {
        let key = key(key_number, SHAPE.key_bytes).into();
        let value = 1_000_u64.to_le_bytes().to_vec().into();
        let kv = KeyValue { key, value, mod_revision: revision, ..Default::default() };
        WatchResponse { watch_id, events: vec![Event { kv: Some(kv), ..Default::default() }], ..Default::default() }
    }

    fn board(all_keys: bool) -> (Board, Rc<EventTimes>) {
        let times = Rc::new(EventTimes::new(Instant::now()));
        (Board::new(SHAPE, Watchers { count: 10, puts_hit_always: false, all_keys }, Rc::clone(&times)), times)
    }

    #[test]
    fn each_watcher_must_see_each_acknowledged_put_of_its_key_once() {
        let (board, times) = board(false);
        let now = times.epoch() + Duration::from_micros(5);
        board.acknowledged(30);
        board.acknowledged(31);
        assert_eq!(board.events(), (0, 1), "nobody watches key 31");
        assert!(board.verify().is_err_and(|why| why.starts_with("watcher 3 saw 0 events of 1")));
        times.begin();
        board.handle(2, &response(1, 30, 7), now).expect("as it should be");
        board.verify().expect("it is there");
        assert!((3.9..4.1).contains(&times.end().max_us()), "sent after 1 µs, here after 5");
        board.handle(2, &response(1, 30, 8), now).expect("nobody knows yet that it is one too many");
        assert!(board.verify().is_err_and(|why| why.starts_with("watcher 3 saw 2 events of 1")));
    }

    #[test]
    fn who_watches_all_keys_must_see_all_puts() {
        let (board, times) = board(true);
        board.acknowledged(31);
        assert_eq!(board.events(), (0, 10));
        for id in 0..10 {
            assert!(board.verify().is_err());
            board.handle(0, &response(id, 31, 7), times.epoch()).expect("as it should be");
        }
        board.verify().expect("all have seen it");
    }

    #[test]
    fn an_event_that_comes_twice_or_to_the_wrong_watcher_is_found_at_once() {
        let (board, times) = board(false);
        board.handle(0, &response(1, 10, 7), times.epoch()).expect("so far");
        let twice = board.handle(0, &response(1, 10, 7), times.epoch());
        assert_eq!(twice, Err("watcher 1 got revision 7 behind 7".to_owned()));
        let wrong = board.handle(0, &response(2, 10, 9), times.epoch());
        assert!(wrong.is_err_and(|why| why.starts_with("watcher 2 got an event of")));
    }

    #[test]
    fn a_deletion_and_a_cancelled_watch_are_failures() {
        let (board, times) = board(false);
        let handle = |response: &WatchResponse| board.handle(0, response, times.epoch());
        assert_eq!(handle(&WatchResponse { created: true, ..Default::default() }), Ok(()));
        assert!(!board.is_ready(), "one of ten");
        let mut deletion = response(1, 10, 7);
        deletion.events[0].r#type = 1;
        assert!(handle(&deletion).is_err_and(|why| why.starts_with("an event that is no put")));
        let cancelled = WatchResponse { canceled: true, ..Default::default() };
        assert!(handle(&cancelled).is_err_and(|why| why.starts_with("a watch was cancelled")));
    }
}
