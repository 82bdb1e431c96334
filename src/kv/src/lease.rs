//! Leases in the tree: what was granted, and which keys hang on it.
//!
//! | key | value |
//! |---|---|
//! | 0, lease id | granted TTL in seconds |
//! | 1, lease id, user key | nothing: the key is attached |
//! | 2, TTL, lease id | nothing: leases by TTL, the order in which they expire after a start |
//!
//! Numbers are big-endian. An id is any number but 0; a TTL is positive.

use bytes::Bytes;
use plinth_base::codec::Malformed;
use plinth_tree::{Missing, PageSource, View};

use crate::{Budget, bounds::successor, record::sound, trees::LEASE};

/// What an entry of the tree is: the first byte of its key.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum LeaseEntry {
    Granted = 0,
    Attached = 1,
    ByTtl = 2,
}

const GRANTED: u8 = LeaseEntry::Granted as u8;
const ATTACHED: u8 = LeaseEntry::Attached as u8;
const BY_TTL: u8 = LeaseEntry::ByTtl as u8;

/// Where a lease's TTL is.
pub(crate) fn granted_key(id: i64) -> [u8; 9] {
    let mut out = [GRANTED; 9];
    out[1..].copy_from_slice(&id.to_be_bytes());
    out
}

/// The attachment of `key` to a lease. With an empty key, where its attachments begin.
pub(crate) fn attached_key(id: i64, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(9 + key.len());
    out.push(ATTACHED);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(key);
    out
}

/// The place of a lease among all by TTL.
pub(crate) fn by_ttl_key(ttl: i64, id: i64) -> [u8; 17] {
    let mut out = [BY_TTL; 17];
    out[1..9].copy_from_slice(&ttl.to_be_bytes());
    out[9..].copy_from_slice(&id.to_be_bytes());
    out
}

/// A granted TTL as a value.
pub(crate) fn encode_ttl(ttl: i64) -> Bytes {
    Bytes::copy_from_slice(&ttl.to_be_bytes())
}

fn decode_ttl(bytes: &[u8]) -> Result<i64, Malformed> {
    bytes.try_into().map(i64::from_be_bytes).map_err(|_| Malformed("a TTL takes 8 bytes"))
}

/// The granted TTL of a lease, in seconds; `None` if there is no such lease.
pub fn granted_ttl<P: PageSource>(view: View<'_, P>, id: i64) -> Result<Option<i64>, Missing> {
    let Some(value) = view.get(LEASE, &granted_key(id))? else { return Ok(None) };
    Ok(Some(sound(decode_ttl(value.body()?))))
}

/// The first key attached to a lease.
pub(crate) fn first_attached<P: PageSource>(view: View<'_, P>, id: i64) -> Result<Option<Bytes>, Missing> {
    let (prefix, mut cursor) = (attached_key(id, &[]), view.cursor(LEASE));
    if !cursor.seek(&prefix)? {
        return Ok(None);
    }
    Ok(cursor.key()?.strip_prefix(&prefix[..]).map(Bytes::copy_from_slice))
}

/// Adds keys attached to a lease to `keys`, those behind its last one, in order; true when there are no more. It may be called at a newer root each time.
pub fn attached_keys<P: PageSource>(
    view: View<'_, P>,
    id: i64,
    keys: &mut Vec<Bytes>,
    budget: &mut Budget,
) -> Result<bool, Missing> {
    let start = attached_key(id, &keys.last().map_or_else(Vec::new, |last| successor(last)));
    let prefix = attached_key(id, &[]);
    let mut cursor = view.cursor(LEASE);
    let mut found = cursor.seek(&start)?;
    while found {
        let Some(key) = cursor.key()?.strip_prefix(&prefix[..]) else { break };
        if !budget.spend() {
            return Ok(false);
        }
        keys.push(Bytes::copy_from_slice(key));
        found = cursor.next()?;
    }
    Ok(true)
}

/// Passes all leases with an id behind `after` to `each`, in the order of their ids as unsigned numbers: id and granted TTL in seconds. `after` follows.
/// True when there are no more.
pub fn granted_leases<P: PageSource>(
    view: View<'_, P>,
    after: &mut Option<i64>,
    budget: &mut Budget,
    mut each: impl FnMut(i64, i64),
) -> Result<bool, Missing> {
    let start = after.map_or_else(|| vec![GRANTED], |id| successor(&granted_key(id)));
    let mut cursor = view.cursor(LEASE);
    let mut found = cursor.seek(&start)?;
    while found {
        let Some(id) = cursor.key()?.strip_prefix(&[GRANTED]) else { break };
        if !budget.spend() {
            return Ok(false);
        }
        let id = sound(id.try_into().map(i64::from_be_bytes).map_err(|_| Malformed("a lease's id takes 8 bytes")));
        each(id, sound(decode_ttl(cursor.value().body()?)));
        *after = Some(id);
        found = cursor.next()?;
    }
    Ok(true)
}

/// A lease in the order of TTLs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ByTtl {
    /// Granted, in seconds.
    pub ttl: i64,
    /// Its id.
    pub id: i64,
}

/// Adds leases to `leases`, those behind `after` in the order of their TTLs, as far as `ttl_max`; true when there are no more. What it added before a
/// page was missing stays.
pub fn leases_by_ttl<P: PageSource>(
    view: View<'_, P>,
    after: Option<ByTtl>,
    ttl_max: i64,
    leases: &mut Vec<ByTtl>,
    budget: &mut Budget,
) -> Result<bool, Missing> {
    let after = leases.last().copied().or(after);
    let start = after.map_or_else(|| vec![BY_TTL], |after| successor(&by_ttl_key(after.ttl, after.id)));
    let mut cursor = view.cursor(LEASE);
    let mut found = cursor.seek(&start)?;
    while found {
        let lease = sound(parse_by_ttl(cursor.key()?));
        if lease.ttl > ttl_max {
            break;
        }
        if !budget.spend() {
            return Ok(false);
        }
        leases.push(lease);
        found = cursor.next()?;
    }
    Ok(true)
}

fn parse_by_ttl(key: &[u8]) -> Result<ByTtl, Malformed> {
    let numbers = key.strip_prefix(&[BY_TTL]).ok_or(Malformed("not a lease's place by TTL"))?;
    let (ttl, id) = numbers.split_first_chunk().ok_or(Malformed("a lease's place holds a TTL"))?;
    let id = id.try_into().map_err(|_| Malformed("a lease's place holds an id"))?;
    Ok(ByTtl { ttl: i64::from_be_bytes(*ttl), id: i64::from_be_bytes(id) })
}
