//! Keys as they were at an older revision.
//!
//! The newest version of a key is in `live`, all others in `past`, each with the revision that ended it. A key was visible at R if its newest version is
//! not later than R, or if the last version in `past` that is not later than R ended after R. Every key costs two or
//! three searches, however many versions it has.

use plinth_base::Revision;
use plinth_tree::{Cursor, Missing, PageSource, ValueRef, View};

use crate::{
    Record,
    bounds::successor,
    keys::{REVISION_BYTES, parse_log_key, parse_past_key, past_key},
    record::sound,
    trees::{LIVE, PAST},
};

/// The end of a superseded version, as it stands in front of its record's head.
pub(crate) fn ended(value: &ValueRef<'_>) -> Revision {
    sound(parse_log_key(value.head().get(..REVISION_BYTES).unwrap_or_default()))
}

/// Walks the keys that have any version and tells of each whether it was visible at one revision. One step visits one key, so that whoever walks can
/// stop anywhere: between two visible keys there may be any number of others.
pub(crate) struct HistoryCursor<'a> {
    at: i64,
    live: Cursor<'a>,
    past: Cursor<'a>,
    scratch: Vec<u8>,
    /// Where it stands; `live` stands at the first key at or above it.
    key: Vec<u8>,
}

impl<'a> HistoryCursor<'a> {
    pub(crate) fn new<P: PageSource>(view: View<'a, P>, at: i64) -> Self {
        let (live, past) = (view.cursor(LIVE), view.cursor(PAST));
        Self { at, live, past, scratch: Vec::new(), key: Vec::new() }
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(crate) fn next(&mut self) -> Result<bool, Missing> {
        let from = successor(&self.key);
        self.seek(&from)
    }

    /// Goes to the first key at or above `from` that has any version.
    pub(crate) fn seek(&mut self, from: &[u8]) -> Result<bool, Missing> {
        let live = if self.live.seek(from)? { Some(self.live.key()?.to_vec()) } else { None };
        past_key(from, Revision::default(), &mut self.scratch);
        let past = if self.past.seek(&self.scratch)? {
            Some(sound(parse_past_key(self.past.key()?)).0.into_owned())
        } else {
            None
        };
        let first = match (live, past) {
            (Some(live), Some(past)) => Some(live.min(past)),
            (live, past) => live.or(past),
        };
        let found = first.is_some();
        self.key = first.unwrap_or_default();
        Ok(found)
    }

    /// The version of the key that was visible.
    pub(crate) fn record(&mut self) -> Result<Option<Record<'a>>, Missing> {
        if self.live.is_valid() && self.live.key()? == self.key {
            let record = sound(Record::parse(self.live.value(), 0));
            if record.meta().modified.main <= self.at {
                return Ok(Some(record));
            }
        }
        past_key(&self.key, Revision { main: self.at + 1, sub: 0 }, &mut self.scratch);
        if !self.past.seek_before(&self.scratch)? || sound(parse_past_key(self.past.key()?)).0 != self.key {
            return Ok(None);
        }
        let value = self.past.value();
        Ok((ended(&value).main > self.at).then(|| sound(Record::parse(value, REVISION_BYTES))))
    }
}
