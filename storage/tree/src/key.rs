//! Keys and references to overflow runs as they lie in cells, in memory and on disk alike.
//!
//! A key is `length (varint) | bytes`, or, if longer than `KEY_INLINE_BYTES_MAX`, `length | prefix | run`, where the run
//! holds the whole key. A run is `first page (u64) | checksum (u32)`. In a changed node a run that has no pages yet carries
//! `UNWRITTEN | id of its blob` in place of the page; such a reference never reaches the disk.

use std::{cmp::Ordering, sync::Arc};

use bytes::{BufMut, BytesMut};
use plinth_base::{
    PageId, PageRun,
    codec::{Malformed, Reader, put_varint, varint_len},
};
use plinth_env::{PageSource, PageWant};

use crate::{
    branch::BranchCount,
    error::Missing,
    layout::{
        KEY_BYTES_MAX, KEY_INLINE_BYTES_MAX, KEY_PREFIX_BYTES, PAGE_HEADER_BYTES, PAGE_ID_END, RUN_REF_BYTES, run_pages,
    },
    node::{Blob, PageRef},
};

/// Set in the page field of a run that is still in memory.
const UNWRITTEN: u64 = 1 << 63;

/// Where the bytes of an overflow run are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RunRef {
    /// On disk, from this page on.
    Disk(PageRef),
    /// In the blob with this id, in the node that holds the cell.
    Blob(u64),
}

impl RunRef {
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (page, checksum) = (reader.u64()?, reader.u32()?);
        if page & UNWRITTEN != 0 {
            return Ok(Self::Blob(page & !UNWRITTEN));
        }
        if page >= PAGE_ID_END {
            return Err(Malformed("page id too large"));
        }
        Ok(Self::Disk(PageRef { page: PageId(page), checksum }))
    }

    /// Whether it is on disk, and ends before page `pages_end`.
    pub fn is_inside(self, payload_bytes: usize, pages_end: u64) -> bool {
        match self {
            Self::Disk(first) => run_of(first, payload_bytes).end().0 <= pages_end,
            Self::Blob(_) => false,
        }
    }

    pub fn to_bytes(self) -> [u8; RUN_REF_BYTES] {
        let (page, checksum) = match self {
            Self::Disk(page) => (page.page.0, page.checksum),
            Self::Blob(id) => (id | UNWRITTEN, 0),
        };
        let mut out = [0; RUN_REF_BYTES];
        out[..8].copy_from_slice(&page.to_le_bytes());
        out[8..].copy_from_slice(&checksum.to_le_bytes());
        out
    }
}

/// The pages of a run on disk that holds `payload_bytes`.
pub(crate) fn run_of(first: PageRef, payload_bytes: usize) -> PageRun {
    PageRun { first: first.page, count: run_pages(payload_bytes) }
}

/// What to load for such a run.
pub(crate) fn run_want(first: PageRef, payload_bytes: usize) -> PageWant {
    let bytes = u32::try_from(PAGE_HEADER_BYTES + payload_bytes).expect("payloads are below 4 GiB");
    PageWant { run: run_of(first, payload_bytes), bytes, checksum: first.checksum }
}

/// The payload of such a run.
pub(crate) fn run_bytes(source: &dyn PageSource, first: PageRef, payload_bytes: usize) -> Result<&[u8], Missing> {
    let want = run_want(first, payload_bytes);
    let bytes = source.get(&want).ok_or_else(|| Missing::one(want))?;
    bytes.get(PAGE_HEADER_BYTES..PAGE_HEADER_BYTES + payload_bytes).ok_or_else(|| Missing::malformed(first))
}

/// Blobs of one changed node, by id.
pub(crate) type Blobs = [(u64, Arc<Blob>)];

pub(crate) fn find_blob(blobs: &Blobs, id: u64) -> Option<&Arc<Blob>> {
    blobs.iter().find(|(blob_id, _)| *blob_id == id).map(|(_, blob)| blob)
}

/// The pages of the file.
#[derive(Clone, Copy)]
pub(crate) struct Pages<'a> {
    pub source: &'a dyn PageSource,
    /// The first page id that none of them can have.
    pub end: u64,
    /// Counts the branches that are decoded from them.
    pub branches: &'a BranchCount,
    /// Whether the lowest branches that are met stay in memory.
    pub keeps: bool,
}

impl<'a> Pages<'a> {
    pub fn get(&self, want: PageWant) -> Result<&'a [u8], Missing> {
        self.source.get(&want).ok_or_else(|| Missing::one(want))
    }
}

/// Resolves the runs that a node's cells refer to.
#[derive(Clone, Copy)]
pub(crate) struct Runs<'a> {
    pub pages: Pages<'a>,
    pub blobs: &'a Blobs,
    /// The page the node was read from, if it was.
    pub page: Option<PageRef>,
}

impl<'a> Runs<'a> {
    /// The payload of a run.
    pub fn bytes(&self, run: RunRef, payload_bytes: usize) -> Result<&'a [u8], Missing> {
        match run {
            RunRef::Blob(id) => find_blob(self.blobs, id).map(|blob| &blob.bytes[..]).ok_or_else(|| self.malformed()),
            RunRef::Disk(_) if !run.is_inside(payload_bytes, self.pages.end) => Err(self.malformed()),
            RunRef::Disk(first) => run_bytes(self.pages.source, first, payload_bytes),
        }
    }

    /// The answer when the node itself can't be right.
    pub fn malformed(&self) -> Missing {
        Missing::malformed(
            self.page.expect("a node made in memory is well formed: pages are checked before they are copied"),
        )
    }
}

/// A key in a cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyRef<'a> {
    pub len: usize,
    /// The whole key, or its prefix if there is a run.
    pub inline: &'a [u8],
    pub run: Option<RunRef>,
}

impl<'a> KeyRef<'a> {
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let len = usize::try_from(reader.varint()?).map_err(|_| Malformed("key too long"))?;
        if len <= KEY_INLINE_BYTES_MAX {
            return Ok(Self { len, inline: reader.take(len)?, run: None });
        }
        if len > KEY_BYTES_MAX {
            return Err(Malformed("key too long"));
        }
        let inline = reader.take(KEY_PREFIX_BYTES)?;
        Ok(Self { len, inline, run: Some(RunRef::read(reader)?) })
    }

    /// The whole key.
    pub fn bytes(&self, runs: &Runs<'a>) -> Result<&'a [u8], Missing> {
        match self.run {
            None => Ok(self.inline),
            Some(run) => runs.bytes(run, self.len),
        }
    }

    /// How `key` compares with this one. Looks into the run only if the prefix doesn't decide.
    pub fn compare(&self, key: &[u8], runs: &Runs<'a>) -> Result<Ordering, Missing> {
        if self.run.is_none() {
            return Ok(key.cmp(self.inline));
        }
        let shared = key.len().min(self.inline.len());
        Ok(match key[..shared].cmp(&self.inline[..shared]) {
            // A key that ends inside the prefix is a proper prefix of this one.
            Ordering::Equal if key.len() <= self.inline.len() => Ordering::Less,
            Ordering::Equal => key.cmp(self.bytes(runs)?),
            decided => decided,
        })
    }
}

/// Bytes of a key in a cell.
pub(crate) fn key_cell_bytes(key_len: usize) -> usize {
    let inline = if key_len > KEY_INLINE_BYTES_MAX { KEY_PREFIX_BYTES + RUN_REF_BYTES } else { key_len };
    varint_len(key_len as u64) + inline
}

/// Appends `key`; `run` holds it whole if it is long.
pub(crate) fn put_key(out: &mut BytesMut, key: &[u8], run: Option<RunRef>) {
    put_varint(out, key.len() as u64);
    match run {
        None => out.put_slice(key),
        Some(run) => {
            out.put_slice(&key[..KEY_PREFIX_BYTES]);
            out.put_slice(&run.to_bytes());
        }
    }
}

/// Whether a key of this length needs a run.
pub(crate) fn is_long(key_len: usize) -> bool {
    key_len > KEY_INLINE_BYTES_MAX
}

/// The shortest key `s` with `left < s <= right`: a prefix of `right`.
pub(crate) fn separator<'a>(left: &[u8], right: &'a [u8]) -> &'a [u8] {
    let common = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    &right[..(common + 1).min(right.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_separator_is_above_the_left_and_not_above_the_right_key() {
        for (left, right) in [("a", "b"), ("abc", "abd"), ("ab", "abc"), ("", "x"), ("azzz", "b")] {
            let s = separator(left.as_bytes(), right.as_bytes());
            assert!(left.as_bytes() < s && s <= right.as_bytes(), "{left} {right} {s:?}");
        }
        assert_eq!(separator(b"apple", b"banana"), b"b");
    }
}
