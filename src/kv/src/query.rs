//! Range reads: at the latest or at an older revision, with etcd's limits, filters and sort orders.
//!
//! A read is a [`QueryRun`]: a resumable walk over the keys that are visible at its revision. It works in slices, and a slice that misses a page
//! keeps what it has: nothing that a sink took is passed to it twice.

mod any;
mod run;
mod visible;

use bytes::Bytes;
use plinth_tree::{Missing, PageSource, Totals, View};

use crate::{KeyRange, KeyValue, Record, trees::LIVE};

pub use any::AnyKey;
pub use run::{Progress, QueryRun};
pub(crate) use visible::Visible;

/// The order of a range reply.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(u8)]
pub enum SortOrder {
    /// By key; by the target, ascending, if that is not the key.
    #[default]
    None = 0,
    /// Ascending.
    Ascend = 1,
    /// Descending.
    Descend = 2,
}

/// What a range reply is sorted by.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(u8)]
pub enum SortTarget {
    /// The key.
    #[default]
    Key = 0,
    /// Number of puts since creation.
    Version = 1,
    /// Revision of the creation.
    Create = 2,
    /// Revision of the last put.
    Mod = 3,
    /// The value.
    Value = 4,
}

impl SortOrder {
    /// The order with etcd's number.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        [Self::None, Self::Ascend, Self::Descend].into_iter().find(|o| *o as i32 == number)
    }
}

impl SortTarget {
    /// The target with etcd's number.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        [Self::Key, Self::Version, Self::Create, Self::Mod, Self::Value].into_iter().find(|t| *t as i32 == number)
    }
}

/// A range request. Zero means "off" for every number.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Query {
    /// Which keys.
    pub range: KeyRange,
    /// At most so many; 0 or less is no limit.
    pub limit: i64,
    /// The revision to read at; 0 or less is the latest.
    pub revision: i64,
    /// In which order.
    pub order: SortOrder,
    /// Sorted by what.
    pub target: SortTarget,
    /// Leave out values.
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
    /// Lower bound of the last put's revision.
    pub min_mod: i64,
    /// Upper bound of the last put's revision.
    pub max_mod: i64,
    /// Lower bound of the creation's revision.
    pub min_create: i64,
    /// Upper bound of the creation's revision.
    pub max_create: i64,
}

impl Query {
    /// Whether keys of the range are left out for their revisions.
    #[must_use]
    pub fn is_filtered(&self) -> bool {
        [self.min_mod, self.max_mod, self.min_create, self.max_create].iter().any(|&bound| bound != 0)
    }

    fn admits(&self, record: &Record<'_>) -> bool {
        let meta = record.meta();
        let within = |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
        within(meta.modified.main, self.min_mod, self.max_mod) && within(meta.create, self.min_create, self.max_create)
    }

    /// Whether the reply must be collected and sorted before its first byte.
    fn is_sorted(&self) -> bool {
        self.target != SortTarget::Key || self.order == SortOrder::Descend
    }

    /// How many keys the reply has at the newest revision of the store that `view` shows, and the bytes that they take in it (the weight), if the
    /// tree knows that: when the reply is everything in the range.
    pub fn totals<P: PageSource>(&self, view: View<'_, P>) -> Result<Option<Totals>, Missing> {
        if self.limit > 0 || self.is_filtered() || self.keys_only || self.count_only || self.range.is_single() {
            return Ok(None);
        }
        view.totals(LIVE, &self.range.key, self.range.upper().exclusive()).map(Some)
    }

    /// Without filters and sorting nothing behind the limit is looked at. etcd does the same for a target without an order: such a reply
    /// comes from the first keys of the range, one more than the limit, and not from all of it.
    fn stops_at_limit(&self) -> bool {
        self.limit > 0 && !self.is_filtered() && (self.order == SortOrder::None || !self.is_sorted())
    }
}

/// What a reply says beside its keys.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct QueryResult {
    /// Keys in the range, whatever limit and filters say.
    pub count: i64,
    /// The limit cut something off.
    pub more: bool,
}

/// A key of a reply, borrowed from its page.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its version.
    pub record: Record<'a>,
    /// Whether the value is part of the reply.
    pub with_value: bool,
    /// The value, if it is part of the reply and the sink wants to see it.
    pub value: Option<&'a [u8]>,
    /// Whether the lease is part of the reply: etcd answers most keys-only requests from an index that doesn't know it.
    pub with_lease: bool,
}

/// What a sink did with a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Taken {
    /// It has it.
    Whole,
    /// It takes no more for now. The slice ends, and the next one begins with the same key.
    Full,
}

/// Where a reply goes, key by key.
pub trait Sink {
    /// Whether it looks at values. One that doesn't spares their pages.
    const SEES_VALUES: bool = true;

    /// Takes the next key.
    fn push(&mut self, item: &Item<'_>) -> Taken;
}

impl Sink for Vec<KeyValue> {
    fn push(&mut self, item: &Item<'_>) -> Taken {
        let mut meta = item.record.meta();
        if !item.with_lease {
            meta.lease = 0;
        }
        let value = item.value.map(Bytes::copy_from_slice).unwrap_or_default();
        self.push(KeyValue { key: Bytes::copy_from_slice(item.key), meta, value });
        Taken::Whole
    }
}
