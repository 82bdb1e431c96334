//! etcd's way to name a range of keys.

use bytes::Bytes;

/// A key and a range end, as requests carry them: no end is the key alone, the end `\0` is everything from the key on.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct KeyRange {
    /// The first key.
    pub key: Bytes,
    /// The first key behind the range, or one of the two special forms.
    pub end: Bytes,
}

/// Where a range ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Upper<'a> {
    /// Before this key.
    Before(&'a [u8]),
    /// After the last key there is.
    Open,
}

impl KeyRange {
    /// The range of one key.
    #[must_use]
    pub fn one(key: Bytes) -> Self {
        Self { key, end: Bytes::new() }
    }

    /// Whether it names exactly one key.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.end.is_empty()
    }

    /// The end of a range that is not a single key.
    #[must_use]
    pub fn upper(&self) -> Upper<'_> {
        if *self.end == [0] { Upper::Open } else { Upper::Before(&self.end) }
    }

    /// Whether `key`, which is not below the range's first key, lies in it.
    #[must_use]
    pub fn reaches(&self, key: &[u8]) -> bool {
        if self.is_single() { key == self.key } else { self.upper().is_above(key) }
    }
}

impl<'a> Upper<'a> {
    /// Whether `key` lies before the end.
    #[must_use]
    pub fn is_above(self, key: &[u8]) -> bool {
        match self {
            Self::Before(end) => key < end,
            Self::Open => true,
        }
    }

    /// The end as a tree wants it: `None` is open.
    #[must_use]
    pub fn exclusive(self) -> Option<&'a [u8]> {
        match self {
            Self::Before(end) => Some(end),
            Self::Open => None,
        }
    }
}

/// The smallest key above `key`.
pub(crate) fn successor(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}
