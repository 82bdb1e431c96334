//! Which key a stream asks for next, and when.

use std::{cell::Cell, rc::Rc, time::Duration};

use plinth_base::Prng;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// The keys of one stream.
pub trait Keys {
    /// The next one, when its time has come; `None`: there is nothing left to do.
    async fn next(&mut self) -> Option<u64>;

    /// The request about it succeeded.
    fn succeeded(&mut self, _key: u64) {}
}

/// Any key, all alike, for as long as anybody wants.
#[derive(Debug)]
pub struct Uniform {
    prng: Prng,
    keys: u64,
    /// 1: every key; 10: keys 0, 10, 20 and so on.
    stride: u64,
    pace: Option<Interval>,
}

impl Uniform {
    /// Among `keys` keys, `stride` apart. `pause`: from one request to the next, should the first be answered by then. Needs a runtime with time.
    pub fn new(prng: Prng, keys: u64, stride: u64, pause: Option<Duration>) -> Self {
        let pace = pause.map(|pause| {
            let mut pace = interval(pause);
            // An answer that takes long makes no burst afterwards.
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            pace
        });
        Self { prng, keys, stride, pace }
    }
}

impl Keys for Uniform {
    async fn next(&mut self) -> Option<u64> {
        if let Some(pace) = &mut self.pace {
            pace.tick().await;
        }
        Some(self.prng.below(self.keys) * self.stride)
    }
}

/// Each key once, whichever stream is free.
#[derive(Clone, Debug)]
pub struct EachOnce {
    next: Rc<Cell<u64>>,
    keys: u64,
}

impl EachOnce {
    /// Keys 0 to `keys`; clones share them.
    pub fn new(keys: u64) -> Self {
        Self { next: Rc::default(), keys }
    }
}

impl Keys for EachOnce {
    async fn next(&mut self) -> Option<u64> {
        let key = self.next.get();
        self.next.set(key + 1);
        (key < self.keys).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn each_key_is_given_once_and_strides_leave_keys_out() {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let mut one = EachOnce::new(3);
            let mut other = one.clone();
            let given = [one.next().await, other.next().await, other.next().await, one.next().await];
            assert_eq!(given, [Some(0), Some(1), Some(2), None]);
            let mut some = Uniform::new(Prng::new(1), 4, 10, Some(Duration::from_millis(1)));
            for _ in 0..20 {
                let key = some.next().await.expect("there is no end");
                assert!(key % 10 == 0 && key < 40, "{key}");
            }
        });
    }
}
