//! A walk over the keys of a revision, in key order.

use plinth_tree::{Cursor, Missing, PageSource, View};

use crate::{Record, history::HistoryCursor, record::sound, trees::LIVE};

/// The walk: at the latest revision over `live` alone, at an older one over `live` and `past` together.
pub(crate) enum Visible<'a> {
    Latest(Cursor<'a>),
    Old(HistoryCursor<'a>),
}

impl<'a> Visible<'a> {
    pub(crate) fn latest<P: PageSource>(view: View<'a, P>) -> Self {
        Self::Latest(view.cursor(LIVE))
    }

    /// At revision `at` of a store whose newest one is `current`.
    pub(crate) fn at<P: PageSource>(view: View<'a, P>, at: i64, current: i64) -> Self {
        if at == current { Self::latest(view) } else { Self::Old(HistoryCursor::new(view, at, current)) }
    }

    /// Goes to the first key at or above `key` that may be visible; false if there is none.
    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<bool, Missing> {
        match self {
            Self::Latest(cursor) => cursor.seek(key),
            Self::Old(cursor) => cursor.seek(key),
        }
    }

    /// Goes to the next key that may be visible.
    pub(crate) fn next(&mut self) -> Result<bool, Missing> {
        match self {
            Self::Latest(cursor) => cursor.next(),
            Self::Old(cursor) => cursor.next(),
        }
    }

    pub(crate) fn key(&self) -> Result<&[u8], Missing> {
        match self {
            Self::Latest(cursor) => cursor.key(),
            Self::Old(cursor) => Ok(cursor.key()),
        }
    }

    /// What was visible of the key; at the latest revision always something.
    pub(crate) fn record(&mut self) -> Result<Option<Record<'a>>, Missing> {
        match self {
            Self::Latest(cursor) => Ok(Some(sound(Record::parse(cursor.value(), 0)))),
            Self::Old(cursor) => cursor.record(),
        }
    }
}
