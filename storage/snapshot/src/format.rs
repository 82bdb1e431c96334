//! bbolt's pages as bytes. All numbers are little-endian.

/// Bytes of a page.
pub const PAGE_BYTES: usize = 4096;

/// Bytes in front of each page's content, or of a run of pages.
pub(crate) const PAGE_HEADER_BYTES: usize = 16;

/// Bytes that a page says of each key in it, beside the key.
pub(crate) const ELEMENT_BYTES: usize = 16;

/// Page id, flags, count, overflow.
pub(crate) const FLAG_BRANCH: u16 = 0x01;
pub(crate) const FLAG_LEAF: u16 = 0x02;
const FLAG_META: u16 = 0x04;

/// A leaf's element is a bucket.
pub(crate) const ELEMENT_BUCKET: u32 = 0x01;

const MAGIC: u32 = 0xed0c_daed;
const VERSION: u32 = 2;

/// The file names no list of free pages: whoever opens it finds out.
const NO_FREELIST: u64 = u64::MAX;

/// The last transaction; the other meta has the one before it.
const TXID: u64 = 2;

/// Bytes of a meta before its checksum.
const META_BYTES: usize = 56;

/// How many pages follow the first one of a run of `bytes`.
pub(crate) fn overflow_pages(bytes: usize) -> u64 {
    bytes.div_ceil(PAGE_BYTES) as u64 - 1
}

/// Appends a page's header.
pub(crate) fn put_header(out: &mut Vec<u8>, page: u64, flag: u16, count: usize, overflow: u64) {
    out.extend_from_slice(&page.to_le_bytes());
    out.extend_from_slice(&flag.to_le_bytes());
    out.extend_from_slice(&u16::try_from(count).expect("an element takes 16 bytes of a page").to_le_bytes());
    out.extend_from_slice(&u32::try_from(overflow).expect("a run is far below 16 TiB").to_le_bytes());
}

/// Appends what a leaf says of a pair. `at` is the distance from here to the key.
pub(crate) fn put_leaf_element(out: &mut Vec<u8>, flags: u32, at: usize, key_bytes: usize, value_bytes: usize) {
    for number in [flags as usize, at, key_bytes, value_bytes] {
        out.extend_from_slice(&length(number));
    }
}

/// Appends what a branch says of a child.
pub(crate) fn put_branch_element(out: &mut Vec<u8>, at: usize, key_bytes: usize, child: u64) {
    out.extend_from_slice(&length(at));
    out.extend_from_slice(&length(key_bytes));
    out.extend_from_slice(&child.to_le_bytes());
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).expect("keys and values are far below 4 GiB").to_le_bytes()
}

/// Appends both metas of a file of `pages` pages.
pub(crate) fn put_metas(out: &mut Vec<u8>, root: u64, pages: u64) {
    for (page, txid) in [(0, TXID), (1, TXID - 1)] {
        put_header(out, page, FLAG_META, 0, 0);
        let start = out.len();
        for number in [MAGIC, VERSION, PAGE_BYTES as u32, 0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        // The root bucket: its page, and a sequence that nobody uses.
        for number in [root, 0, NO_FREELIST, pages, txid] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        assert_eq!(out.len() - start, META_BYTES, "the checksum's place");
        let checksum = fnv1a(&out[start..]);
        out.extend_from_slice(&checksum.to_le_bytes());
        pad(out, start - PAGE_HEADER_BYTES);
    }
}

/// Fills the page that began at `start` of `out` with zeroes.
pub(crate) fn pad(out: &mut Vec<u8>, start: usize) {
    let bytes = out.len() - start;
    out.resize(start + bytes.next_multiple_of(PAGE_BYTES), 0);
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
