//! Keys as they were at an older revision.
//!
//! The newest version of a key is in `live`, all others in `past`, each with the revision that ended it. A key was visible at R if its newest version is
//! not later than R, or if a version in `past` that is not later than R ended after R. That one lies in the epoch of its end, so only the epochs
//! from R's on are looked at: few for a revision that is not old. In each of them a key costs two or three searches, however many versions it
//! has.

use std::{borrow::Cow, cmp::Reverse, collections::BinaryHeap};

use plinth_base::Revision;
use plinth_tree::{Cursor, Missing, PageSource, ValueRef, View};

use crate::{
    Record,
    bounds::successor,
    keys::{REVISION_BYTES, epoch, parse_log_key, parse_past_key, past_key},
    record::sound,
    trees::{LIVE, PAST},
};

/// The end of a superseded version, as it stands in front of its record's head.
pub(crate) fn ended(value: &ValueRef<'_>) -> Revision {
    sound(parse_log_key(value.head().get(..REVISION_BYTES).unwrap_or_default()))
}

/// Walks the keys that have any version and tells of each whether it was visible at one revision. One step visits one key, so that whoever walks can
/// stop anywhere: between two visible keys there may be any number of others.
///
/// After a missing page a new one has to be made.
pub(crate) struct HistoryCursor<'a> {
    at: i64,
    live: Cursor<'a>,
    /// One cursor for each epoch in which a version that was visible may have ended, the oldest first.
    past: Vec<Cursor<'a>>,
    /// The epoch of the first of them.
    first_epoch: u64,
    /// Places in `past` of the cursors that stand at a later key, with that key.
    ahead: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
    /// Places of those that found versions of this key, the oldest epoch first.
    here: Vec<usize>,
    scratch: Vec<u8>,
    /// Where it stands; `live` stands at the first key at or above it.
    key: Vec<u8>,
}

impl<'a> HistoryCursor<'a> {
    /// At revision `at` of a store whose newest one is `current`.
    pub(crate) fn new<P: PageSource>(view: View<'a, P>, at: i64, current: i64) -> Self {
        let (first_epoch, last_epoch) = (epoch(at + 1), epoch(current));
        Self {
            at,
            live: view.cursor(LIVE),
            past: (first_epoch..=last_epoch).map(|_| view.cursor(PAST)).collect(),
            first_epoch,
            ahead: BinaryHeap::new(),
            here: Vec::new(),
            scratch: Vec::new(),
            key: Vec::new(),
        }
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(crate) fn next(&mut self) -> Result<bool, Missing> {
        // All others stand above this key already.
        let from = successor(&self.key);
        self.seek_here(&from)
    }

    /// Goes to the first key at or above `from` that has any version.
    pub(crate) fn seek(&mut self, from: &[u8]) -> Result<bool, Missing> {
        self.ahead.clear();
        self.here = (0..self.past.len()).collect();
        self.seek_here(from)
    }

    /// Moves `live` and the cursors in `here` to `from`, and itself to the first key of all.
    fn seek_here(&mut self, from: &[u8]) -> Result<bool, Missing> {
        let mut first = if self.live.seek(from)? { Some(self.live.key()?.to_vec()) } else { None };
        for place in std::mem::take(&mut self.here) {
            past_key(self.epoch_of(place), from, Revision::default(), &mut self.scratch);
            let found = self.past[place].seek(&self.scratch)?;
            if found && let Some(key) = self.key_at(place)?.map(Cow::into_owned) {
                self.ahead.push(Reverse((key, place)));
            }
        }
        if let Some(Reverse((key, _))) = self.ahead.peek()
            && first.as_ref().is_none_or(|first| key < first)
        {
            first = Some(key.clone());
        }
        let found = first.is_some();
        self.key = first.unwrap_or_default();
        while let Some(Reverse((key, place))) = self.ahead.peek()
            && *key == self.key
        {
            self.here.push(*place);
            self.ahead.pop();
        }
        Ok(found)
    }

    fn epoch_of(&self, place: usize) -> u64 {
        self.first_epoch + place as u64
    }

    /// The user key of the version at which a cursor stands, if that is one of its epoch.
    fn key_at(&self, place: usize) -> Result<Option<Cow<'_, [u8]>>, Missing> {
        let (epoch, key, _) = sound(parse_past_key(self.past[place].key()?));
        Ok((epoch == self.epoch_of(place)).then_some(key))
    }

    /// The version of the key that was visible.
    pub(crate) fn record(&mut self) -> Result<Option<Record<'a>>, Missing> {
        if self.live.is_valid() && self.live.key()? == self.key {
            let record = sound(Record::parse(self.live.value(), 0));
            if record.meta().modified.main <= self.at {
                return Ok(Some(record));
            }
        }
        for at in 0..self.here.len() {
            let place = self.here[at];
            let after = Revision { main: self.at + 1, sub: 0 };
            past_key(self.epoch_of(place), &self.key, after, &mut self.scratch);
            if !self.past[place].seek_before(&self.scratch)? {
                continue;
            }
            let value = self.past[place].value();
            if self.key_at(place)?.is_some_and(|key| *key == *self.key) && ended(&value).main > self.at {
                return Ok(Some(sound(Record::parse(value, REVISION_BYTES))));
            }
        }
        Ok(None)
    }
}
