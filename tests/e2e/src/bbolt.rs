//! Reads a bbolt file, whoever wrote it: as much of the format as it takes to list its buckets.

use std::io;

const PAGE_BYTES: usize = 4096;
const PAGE_HEADER_BYTES: usize = 16;
const BRANCH: u64 = 1;
const LEAF: u64 = 2;
/// The flag of an element that is a bucket.
const BUCKET: u64 = 1;
/// Root page and sequence, in front of the page of a bucket that has none of its own.
const BUCKET_BYTES: usize = 16;

/// A key and its value.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn number(bytes: &[u8], at: usize, len: usize) -> io::Result<u64> {
    let bytes = bytes.get(at..at + len).ok_or_else(|| invalid("a number behind the end"))?;
    Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn offset(bytes: &[u8], at: usize, len: usize) -> io::Result<usize> {
    usize::try_from(number(bytes, at, len)?).map_err(|_| invalid("an offset beyond all memory"))
}

/// The buckets of a file in their order, with their pairs in theirs.
pub(crate) fn buckets(file: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<Pair>)>> {
    let meta = |page: usize| -> io::Result<(u64, u64)> {
        let at = page * PAGE_BYTES + PAGE_HEADER_BYTES;
        Ok((number(file, at + 48, 8)?, number(file, at + 16, 8)?))
    };
    let (_, root) = meta(0)?.max(meta(1)?);
    let mut list = Vec::new();
    walk(file, root, &mut list)?;
    let mut buckets = Vec::new();
    for (flags, (name, value)) in list {
        if flags != BUCKET {
            return Err(invalid("a pair among the buckets"));
        }
        let mut pairs = Vec::new();
        match number(&value, 0, 8)? {
            0 => elements(file, value.get(BUCKET_BYTES..).unwrap_or_default(), &mut pairs)?,
            root => walk(file, root, &mut pairs)?,
        }
        buckets.push((name, pairs.into_iter().map(|(_, pair)| pair).collect()));
    }
    Ok(buckets)
}

/// Everything below a page, with the flags of its elements.
fn walk(file: &[u8], page: u64, out: &mut Vec<(u64, Pair)>) -> io::Result<()> {
    let at = usize::try_from(page).ok().and_then(|page| page.checked_mul(PAGE_BYTES));
    elements(file, at.and_then(|at| file.get(at..)).ok_or_else(|| invalid("a page behind the end"))?, out)
}

fn elements(file: &[u8], page: &[u8], out: &mut Vec<(u64, Pair)>) -> io::Result<()> {
    let (flags, count) = (number(page, 8, 2)?, offset(page, 10, 2)?);
    for at in (0..count).map(|element| PAGE_HEADER_BYTES + 16 * element) {
        match flags {
            BRANCH => walk(file, number(page, at + 8, 8)?, out)?,
            LEAF => {
                let start = at + offset(page, at + 4, 4)?;
                let (key, value) = (offset(page, at + 8, 4)?, offset(page, at + 12, 4)?);
                let pair = page.get(start..start + key + value).ok_or_else(|| invalid("a pair behind the end"))?;
                out.push((number(page, at, 4)?, (pair[..key].to_vec(), pair[key..].to_vec())));
            }
            _ => return Err(invalid("a page that is neither branch nor leaf")),
        }
    }
    Ok(())
}
