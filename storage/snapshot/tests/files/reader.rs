//! A reader and checker of bbolt files, as plain as possible and without any code of the writer.

use std::collections::BTreeMap;

/// What a file says.
pub struct File {
    /// Buckets in their order, with their pairs in theirs.
    pub buckets: Vec<(Vec<u8>, Vec<Pair>)>,
    /// Levels of the highest tree.
    pub levels: usize,
    /// Whether some page is longer than one.
    pub has_overflow: bool,
}

pub type Pair = (Vec<u8>, Vec<u8>);

struct Checker<'a> {
    bytes: &'a [u8],
    /// How often each page was reached.
    reached: BTreeMap<u64, usize>,
    has_overflow: bool,
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Reads a file and proves: both metas are right, every page is reached exactly once, keys ascend, a branch names each child by its first key, has at
/// least two, and all leaves of a tree have one depth.
pub fn read(bytes: &[u8]) -> File {
    assert_eq!(bytes.len() % 4096, 0, "whole pages");
    let pages = bytes.len() as u64 / 4096;
    let metas: Vec<_> = (0..2).map(|page| meta(&bytes[page * 4096..][..4096], page as u64, pages)).collect();
    assert_eq!(metas[0].0, metas[1].0, "both metas name one root");
    assert!(metas[0].1 > metas[1].1, "the first one is newer");
    let mut checker = Checker { bytes, reached: BTreeMap::new(), has_overflow: false };
    let (root, levels) = checker.tree(metas[0].0, true);
    assert_eq!(levels, 1, "the list of buckets is one leaf");
    let mut buckets = Vec::new();
    let mut levels_max = 0;
    for (name, value) in root {
        assert_eq!(value.len(), 16, "a root page and a sequence");
        assert_eq!(number(&value, 8, 8), 0, "the sequence");
        let (pairs, levels) = checker.tree(number(&value, 0, 8), false);
        levels_max = levels.max(levels_max);
        buckets.push((name, pairs));
    }
    for page in 2..pages {
        assert_eq!(checker.reached.get(&page), Some(&1), "page {page} is reached once");
    }
    assert_eq!(checker.reached.len() as u64, pages - 2);
    File { buckets, levels: levels_max, has_overflow: checker.has_overflow }
}

/// Root page and transaction.
fn meta(page: &[u8], id: u64, pages: u64) -> (u64, u64) {
    assert_eq!((number(page, 0, 8), number(page, 8, 2)), (id, 4), "a meta's header");
    let meta = &page[16..80];
    assert_eq!((number(meta, 0, 4), number(meta, 4, 4), number(meta, 8, 4)), (0xed0c_daed, 2, 4096));
    assert_eq!((number(meta, 32, 8), number(meta, 40, 8)), (u64::MAX, pages), "no freelist, all pages");
    let mut hash = 14_695_981_039_346_656_037_u64;
    for byte in &meta[..56] {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(1_099_511_628_211);
    }
    assert_eq!(number(meta, 56, 8), hash, "the checksum");
    (number(meta, 16, 8), number(meta, 48, 8))
}

impl Checker<'_> {
    /// Pairs and levels of a tree.
    fn tree(&mut self, root: u64, of_buckets: bool) -> (Vec<Pair>, usize) {
        let mut pairs = Vec::new();
        let levels = self.page(root, of_buckets, None, &mut pairs);
        assert!(pairs.is_sorted_by(|a, b| a.0 < b.0), "keys ascend");
        (pairs, levels)
    }

    fn page(&mut self, id: u64, of_buckets: bool, first_key: Option<&[u8]>, pairs: &mut Vec<Pair>) -> usize {
        let page = &self.bytes[usize::try_from(id).expect("small") * 4096..];
        assert_eq!(number(page, 0, 8), id, "a page knows its number");
        let (flags, count, overflow) = (number(page, 8, 2), number(page, 10, 2), number(page, 12, 4));
        for page in id..=id + overflow {
            *self.reached.entry(page).or_default() += 1;
        }
        self.has_overflow |= overflow > 0;
        let bytes = &page[..(1 + usize::try_from(overflow).expect("small")) * 4096];
        let elements = (0..usize::try_from(count).expect("small")).map(|at| 16 + 16 * at);
        match flags {
            2 => {
                for (place, at) in elements.enumerate() {
                    let flags = number(bytes, at, 4);
                    assert_eq!(flags, u64::from(of_buckets));
                    let [start, key, value] = [4, 8, 12].map(|field| number(bytes, at + field, 4) as usize);
                    let pair = &bytes[at + start..at + start + key + value];
                    if place == 0
                        && let Some(first_key) = first_key
                    {
                        assert_eq!(&pair[..key], first_key, "a parent names a leaf by its first key");
                    }
                    pairs.push((pair[..key].to_vec(), pair[key..].to_vec()));
                }
                1
            }
            1 => {
                assert!(count >= 2, "a branch has two children");
                let mut depth = None;
                for (place, at) in elements.enumerate() {
                    let [start, key] = [0, 4].map(|field| number(bytes, at + field, 4) as usize);
                    let key = &bytes[at + start..at + start + key];
                    if place == 0
                        && let Some(first_key) = first_key
                    {
                        assert_eq!(key, first_key, "a parent names a branch by its first key");
                    }
                    let below = self.page(number(bytes, at + 8, 8), false, Some(key), pairs);
                    assert_eq!(*depth.get_or_insert(below), below, "leaves have one depth");
                }
                1 + depth.expect("it has children")
            }
            other => panic!("page {id} has the flags {other:x}"),
        }
    }
}
