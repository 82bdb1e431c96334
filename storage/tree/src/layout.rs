//! Sizes and the header that every page but the metas begins with. Numbers are little-endian.
//!
//! The header is covered by the checksum in the page's parent: a page that was written elsewhere, by another generation or
//! into another file differs in it, so it never passes for the one that was meant.

use plinth_base::{
    PageId,
    codec::{Malformed, Reader},
};

/// Bytes of a page. Stored in the meta; a file with another size is refused.
pub const PAGE_BYTES: usize = 4096;
/// Trees in one file.
pub const TREES_MAX: usize = 8;
/// Bytes of a tree's name.
pub const NAME_BYTES_MAX: usize = 16;
/// Bytes of a key.
pub const KEY_BYTES_MAX: usize = 16 << 20;
/// Bytes of a value's head, which always lies in the leaf.
pub const HEAD_BYTES_MAX: usize = 256;
/// Bytes of a value's body.
pub const BODY_BYTES_MAX: usize = 1 << 30;
/// Bytes of the owner's record in the root.
pub const STATE_BYTES_MAX: usize = 1024;

/// A longer key keeps [`KEY_PREFIX_BYTES`] in its cell, and a run of overflow pages holds it whole.
pub(crate) const KEY_INLINE_BYTES_MAX: usize = PAGE_BYTES / 8;
/// What the cell of a long key keeps of it: most comparisons end there.
pub(crate) const KEY_PREFIX_BYTES: usize = 128;
/// Levels of a tree. A split needs a full page, so a tree of this height would not fit any disk.
pub(crate) const DEPTH_MAX: usize = 16;
/// Page ids are below this, so that `id * PAGE_BYTES` can't overflow.
pub(crate) const PAGE_ID_END: u64 = 1 << 48;

/// Bytes of the header.
pub(crate) const PAGE_HEADER_BYTES: usize = 32;
/// Where a leaf's slots begin: behind the header, the start of its cells (u16) and its unused bytes between cells (u16).
pub(crate) const LEAF_SLOTS_AT: usize = PAGE_HEADER_BYTES + 4;
/// A slot: where its cell begins.
pub(crate) const SLOT_BYTES: usize = 2;
/// What a leaf has for slots and cells.
pub(crate) const LEAF_CAPACITY_BYTES: usize = PAGE_BYTES - LEAF_SLOTS_AT;
/// A cell that would be larger moves its body to a run of overflow pages. Two of the largest fill a leaf: values of 1 KiB, the commonest size beyond
/// the small ones, share pages instead of taking one each.
pub(crate) const CELL_BYTES_MAX: usize = LEAF_CAPACITY_BYTES / 2 - SLOT_BYTES;
/// What a branch has for children.
pub(crate) const BRANCH_CAPACITY_BYTES: usize = PAGE_BYTES - PAGE_HEADER_BYTES;
/// A child in a branch, without its separator and the slot that says where that ends: page, checksum, entries, weight.
pub(crate) const CHILD_BYTES: usize = 8 + 4 + 8 + 8;
/// A reference to a run of overflow pages: first page and checksum. The length is known from the cell.
pub(crate) const RUN_REF_BYTES: usize = 8 + 4;

/// The first two bytes of every page but the metas.
pub(crate) const PAGE_MAGIC: u16 = 0x7470;
/// The tree id of pages that belong to no single tree: an overflow run may move from one to another.
pub(crate) const NO_TREE: u8 = 0xff;

const _: () = assert!(PAGE_BYTES == plinth_base::BLOCK_BYTES);
// The largest key and head without a body inline.
const _: () = assert!(KEY_INLINE_BYTES_MAX + HEAD_BYTES_MAX + RUN_REF_BYTES + 20 <= CELL_BYTES_MAX);
// A full leaf and one more cell fit two leaves: cut before the cell that no longer fits the left one, at most two of the largest are left over.
const _: () = assert!(2 * (CELL_BYTES_MAX + SLOT_BYTES) <= LEAF_CAPACITY_BYTES);
const _: () = assert!(4 * (CHILD_BYTES + SLOT_BYTES + KEY_INLINE_BYTES_MAX + 2) <= BRANCH_CAPACITY_BYTES);

/// What a page holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Leaf = 1,
    Branch = 2,
    Overflow = 3,
    Bitmap = 4,
}

/// The first bytes of a page, or of a run of overflow or bitmap pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PageHeader {
    pub kind: Kind,
    pub tree: u8,
    /// 0 for a leaf; a branch is one above its children.
    pub level: u8,
    /// Cells of a leaf, children of a branch, else 0.
    pub count: u16,
    pub page: PageId,
    /// The checkpoint that wrote it.
    pub generation: u64,
    pub file_id: u64,
}

impl PageHeader {
    /// Where the count stands.
    pub const COUNT_AT: usize = 6;

    /// Writes the header at the start of `out`.
    pub fn encode_into(&self, out: &mut [u8]) {
        out[0..2].copy_from_slice(&PAGE_MAGIC.to_le_bytes());
        out[2] = self.kind as u8;
        out[3] = self.tree;
        out[4] = self.level;
        out[5] = 0;
        out[6..8].copy_from_slice(&self.count.to_le_bytes());
        out[8..16].copy_from_slice(&self.page.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.generation.to_le_bytes());
        out[24..32].copy_from_slice(&self.file_id.to_le_bytes());
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.u16()? != PAGE_MAGIC {
            return Err(Malformed("not a tree page"));
        }
        let kind = match reader.u8()? {
            1 => Kind::Leaf,
            2 => Kind::Branch,
            3 => Kind::Overflow,
            4 => Kind::Bitmap,
            _ => return Err(Malformed("unknown kind of page")),
        };
        let tree = reader.u8()?;
        let level = reader.u8()?;
        if reader.u8()? != 0 {
            return Err(Malformed("reserved byte not zero"));
        }
        let count = reader.u16()?;
        let page = PageId(reader.u64()?);
        Ok(Self { kind, tree, level, count, page, generation: reader.u64()?, file_id: reader.u64()? })
    }
}

/// Pages of a run that holds `payload_bytes` behind one header.
pub(crate) fn run_pages(payload_bytes: usize) -> u32 {
    u32::try_from((PAGE_HEADER_BYTES + payload_bytes).div_ceil(PAGE_BYTES)).expect("payloads are below 2^32 pages")
}

/// The u16 at `at`, if it is there.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]))
}
