//! Keys of the trees `past` and `log`: bytes whose order is the order of the tuples they stand for.
//!
//! `past` is ordered by (user key, main, sub). A user key is any bytes, so plain concatenation would mix keys with revisions: each 0x00 of the
//! user key becomes 0x00 0xFF and its end is 0x00 0x01, which sorts below any continuation. Then main and sub follow, big-endian.

use std::borrow::Cow;

use plinth_base::{Revision, codec::Malformed};

/// Bytes of an encoded revision.
pub(crate) const REVISION_BYTES: usize = 12;

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

/// The key of `past` under which all versions of `key` begin.
pub(crate) fn past_prefix(key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.reserve(key.len() + 2 + REVISION_BYTES);
    for part in key.split_inclusive(|&b| b == 0) {
        out.extend_from_slice(part);
        if part.last() == Some(&0) {
            out.push(ESCAPED_ZERO);
        }
    }
    out.extend_from_slice(&[0, END]);
}

/// The key of one version of `key` in `past`.
pub(crate) fn past_key(key: &[u8], revision: Revision, out: &mut Vec<u8>) {
    past_prefix(key, out);
    out.extend_from_slice(&log_key(revision));
}

/// Takes a key of `past` apart.
pub(crate) fn parse_past_key(bytes: &[u8]) -> Result<(Cow<'_, [u8]>, Revision), Malformed> {
    let split = bytes.len().checked_sub(REVISION_BYTES).ok_or(Malformed("a past key holds a revision"))?;
    let (escaped, revision) = bytes.split_at(split);
    let revision = parse_log_key(revision)?;
    let escaped = escaped.strip_suffix(&[0, END]).ok_or(Malformed("a past key's user key has an end"))?;
    if !escaped.contains(&0) {
        return Ok((Cow::Borrowed(escaped), revision));
    }
    let mut key = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        key.push(byte);
        if byte == 0 && bytes.next() != Some(&ESCAPED_ZERO) {
            return Err(Malformed("a zero in a past key is escaped"));
        }
    }
    Ok((Cow::Owned(key), revision))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(key: &[u8], main: i64, sub: u32) -> Vec<u8> {
        let mut out = Vec::new();
        past_key(key, Revision { main, sub }, &mut out);
        out
    }

    #[test]
    fn past_keys_sort_like_their_tuples_and_parse_back() {
        let mut keys: Vec<&[u8]> =
            vec![b"", b"a", b"a\0", b"a\0\0", b"a\0\x01", b"a\x01", b"a\xff", b"aa", b"\0", b"\0\xff", b"\xff"];
        keys.sort_unstable();
        let tuples: Vec<_> =
            keys.iter().flat_map(|k| [(*k, 1, 0), (*k, 1, 1), (*k, 2, 0), (*k, i64::MAX, u32::MAX)]).collect();
        let bytes: Vec<_> = tuples.iter().map(|&(k, m, s)| encoded(k, m, s)).collect();
        assert!(bytes.is_sorted());
        for ((key, main, sub), bytes) in tuples.into_iter().zip(&bytes) {
            let (parsed, revision) = parse_past_key(bytes).expect("what was encoded");
            assert_eq!((&*parsed, revision), (key, Revision { main, sub }));
        }
    }

    #[test]
    fn bytes_that_are_no_past_key_are_refused() {
        for bytes in [&b""[..], b"short", &[0; 13], &[7, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(parse_past_key(bytes).is_err(), "{bytes:?}");
        }
    }
}
