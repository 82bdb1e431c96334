//! Keys of the trees `past` and `log`: bytes whose order is the order of the tuples they stand for.
//!
//! `past` is ordered by (epoch, user key, main, sub), the epoch being that of the revision that ended the version: superseded versions are
//! written into the few pages of the newest epoch instead of all over the tree (docs/decisions/past-in-epochs.md).
//!
//! A user key is any bytes, so plain concatenation would mix keys with revisions: each 0x00 of the user key becomes 0x00 0xFF and its end is
//! 0x00 0x01, which sorts below any continuation. All numbers are big-endian.

use std::borrow::Cow;

use plinth_base::{Revision, codec::Malformed};

/// Bytes of an encoded revision.
pub(crate) const REVISION_BYTES: usize = 12;

/// Bytes of an encoded epoch.
const EPOCH_BYTES: usize = 8;

/// Main revisions of an epoch, as a power of two; the first ones are shorter.
const EPOCH_BITS: u32 = 14;

const ESCAPED_ZERO: u8 = 0xff;
const END: u8 = 0x01;

/// The key of `revision` in `log`: main and sub, big-endian.
pub(crate) fn log_key(revision: Revision) -> [u8; REVISION_BYTES] {
    let mut out = [0; REVISION_BYTES];
    // Revisions are not negative, so the sign bit doesn't disturb the order.
    out[..8].copy_from_slice(&revision.main.to_be_bytes());
    out[8..].copy_from_slice(&revision.sub.to_be_bytes());
    out
}

/// The revision behind a key of `log`.
pub(crate) fn parse_log_key(bytes: &[u8]) -> Result<Revision, Malformed> {
    let bytes: &[u8; REVISION_BYTES] = bytes.try_into().map_err(|_| Malformed("a revision takes 12 bytes"))?;
    let (main, sub) = bytes.split_at(8);
    Ok(Revision {
        main: i64::from_be_bytes(main.try_into().expect("8 of 12 bytes")),
        sub: u32::from_be_bytes(sub.try_into().expect("4 of 12 bytes")),
    })
}

/// The epoch of a main revision. The first epochs double in length until they have the usual one, so that small stores have several too.
pub(crate) fn epoch(main: i64) -> u64 {
    let main = u64::try_from(main).expect("revisions are not negative");
    let doublings = u64::from(main.checked_ilog2().unwrap_or(0));
    doublings.min(u64::from(EPOCH_BITS)) + (main >> EPOCH_BITS).saturating_sub(1)
}

/// The key in `past` of the version of `key` that `written` made and a change of `epoch` ended.
pub(crate) fn past_key(epoch: u64, key: &[u8], written: Revision, out: &mut Vec<u8>) {
    out.clear();
    out.reserve(EPOCH_BYTES + key.len() + 2 + REVISION_BYTES);
    out.extend_from_slice(&epoch.to_be_bytes());
    for part in key.split_inclusive(|&b| b == 0) {
        out.extend_from_slice(part);
        if part.last() == Some(&0) {
            out.push(ESCAPED_ZERO);
        }
    }
    out.extend_from_slice(&[0, END]);
    out.extend_from_slice(&log_key(written));
}

/// Takes a key of `past` apart: epoch, user key, and the revision that wrote the version.
pub(crate) fn parse_past_key(bytes: &[u8]) -> Result<(u64, Cow<'_, [u8]>, Revision), Malformed> {
    let (epoch, rest) = bytes.split_first_chunk().ok_or(Malformed("a past key holds an epoch"))?;
    let (escaped, revision) =
        rest.split_last_chunk::<REVISION_BYTES>().ok_or(Malformed("a past key holds a revision"))?;
    let (epoch, revision) = (u64::from_be_bytes(*epoch), parse_log_key(revision)?);
    let escaped = escaped.strip_suffix(&[0, END]).ok_or(Malformed("a past key's user key has an end"))?;
    if !escaped.contains(&0) {
        return Ok((epoch, Cow::Borrowed(escaped), revision));
    }
    let mut key = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        key.push(byte);
        if byte == 0 && bytes.next() != Some(&ESCAPED_ZERO) {
            return Err(Malformed("a zero in a past key is escaped"));
        }
    }
    Ok((epoch, Cow::Owned(key), revision))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(epoch: u64, key: &[u8], main: i64, sub: u32) -> Vec<u8> {
        let mut out = Vec::new();
        past_key(epoch, key, Revision { main, sub }, &mut out);
        out
    }

    #[test]
    fn epochs_follow_each_other_without_a_gap_and_grow_to_their_usual_length() {
        let length = 1 << EPOCH_BITS;
        assert_eq!([0, 1, 2, 3, 4, 7, 8].map(epoch), [0, 0, 1, 1, 2, 2, 3]);
        assert_eq!(epoch(length - 1), u64::from(EPOCH_BITS) - 1);
        for main in 1..5 * length {
            let (before, after) = (epoch(main - 1), epoch(main));
            assert_eq!(
                after - before,
                u64::from(main > 1 && (main % length == 0 || main < length && main.count_ones() == 1))
            );
        }
        assert!(epoch(i64::MAX) > epoch(i64::MAX - length));
    }

    #[test]
    fn past_keys_sort_like_their_tuples_and_parse_back() {
        let mut keys: Vec<&[u8]> =
            vec![b"", b"a", b"a\0", b"a\0\0", b"a\0\x01", b"a\x01", b"a\xff", b"aa", b"\0", b"\0\xff", b"\xff"];
        keys.sort_unstable();
        let versions = keys.iter().flat_map(|k| [(*k, 1, 0), (*k, 1, 1), (*k, 2, 0), (*k, i64::MAX, u32::MAX)]);
        let tuples: Vec<_> = [0, 1, 300].iter().flat_map(|e| versions.clone().map(|(k, m, s)| (*e, k, m, s))).collect();
        let bytes: Vec<_> = tuples.iter().map(|&(e, k, m, s)| encoded(e, k, m, s)).collect();
        assert!(bytes.is_sorted());
        for ((epoch, key, main, sub), bytes) in tuples.into_iter().zip(&bytes) {
            let (parsed_epoch, parsed, revision) = parse_past_key(bytes).expect("what was encoded");
            assert_eq!((parsed_epoch, &*parsed, revision), (epoch, key, Revision { main, sub }));
        }
    }

    #[test]
    fn bytes_that_are_no_past_key_are_refused() {
        let unescaped = [&[0; EPOCH_BYTES][..], &[7, 0, 2, 0, END], &[0; REVISION_BYTES]].concat();
        for bytes in [&b""[..], b"short", &[0; 19], &[0; 21], &unescaped] {
            assert!(parse_past_key(bytes).is_err(), "{bytes:?}");
        }
    }
}
