//! Leaves: one page image with a slot table, the same in memory and on disk.
//!
//! ```text
//! header (32) | cells_start u16 | garbage u16 | slot 0 u16 | slot 1 ... | free | cells, newest first
//! ```
//! A slot is the offset of its cell; slots are in key order. A cell is
//! `key | head length varint | head | body tag varint | body`, where the tag is `body length << 1 | is run` and the
//! body is bytes or a run. A page on disk is read in place; a changed leaf owns its image and the blobs that its runs
//! name, so that copying it is one memcpy.
//!
//! Reading never panics on any bytes: what can't be decoded is reported as malformed. A leaf is copied into memory only
//! after all of its cells were checked, so everything here that changes an image may trust it.

use std::{cmp::Ordering, sync::Arc};

use bytes::{BufMut, BytesMut};
use plinth_base::codec::{Malformed, Reader, put_varint, varint_len};

use crate::{
    error::Missing,
    key::{Blobs, KeyRef, Pages, RunRef, Runs, find_blob},
    layout::{
        BODY_BYTES_MAX, CELL_BYTES_MAX, HEAD_BYTES_MAX, Kind, LEAF_CAPACITY_BYTES, LEAF_SLOTS_AT, PAGE_BYTES,
        PAGE_HEADER_BYTES, PageHeader, RUN_REF_BYTES, SLOT_BYTES, u16_at,
    },
    node::{Blob, PageRef, Totals},
    store::Weigh,
};

const KIND_AT: usize = 2;
const CELLS_START_AT: usize = PAGE_HEADER_BYTES;
const GARBAGE_AT: usize = PAGE_HEADER_BYTES + 2;

/// The body of a value in a cell.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CellBody<'a> {
    Inline(&'a [u8]),
    Run(RunRef, usize),
}

impl CellBody<'_> {
    pub fn len(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Run(_, len) => *len,
        }
    }
}

/// A decoded cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell<'a> {
    pub key: KeyRef<'a>,
    pub head: &'a [u8],
    pub body: CellBody<'a>,
    /// Bytes of the whole cell and of its key.
    pub bytes: usize,
    pub key_bytes: usize,
}

impl<'a> Cell<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let key = KeyRef::read(&mut reader)?;
        let key_bytes = bytes.len() - reader.rest().len();
        let head = reader.bytes()?;
        if head.len() > HEAD_BYTES_MAX {
            return Err(Malformed("head too long"));
        }
        let tag = reader.varint()?;
        let len = usize::try_from(tag >> 1).map_err(|_| Malformed("body too long"))?;
        if len > BODY_BYTES_MAX {
            return Err(Malformed("body too long"));
        }
        let body = if tag & 1 == 0 {
            CellBody::Inline(reader.take(len)?)
        } else {
            CellBody::Run(RunRef::read(&mut reader)?, len)
        };
        let cell_bytes = bytes.len() - reader.rest().len();
        if cell_bytes > CELL_BYTES_MAX {
            return Err(Malformed("cell too large"));
        }
        Ok(Self { key, head, body, bytes: cell_bytes, key_bytes })
    }

    /// What the cell adds to its ancestors' totals.
    pub fn totals(&self, weigh: Weigh) -> Totals {
        Totals { entries: 1, weight: weigh(self.key.len, self.head, self.body.len()) }
    }
}

/// Bytes of a value in a cell, behind the key.
pub(crate) fn value_cell_bytes(head_len: usize, body_len: usize, is_run: bool) -> usize {
    let tag = (body_len as u64) << 1 | u64::from(is_run);
    varint_len(head_len as u64) + head_len + varint_len(tag) + if is_run { RUN_REF_BYTES } else { body_len }
}

/// Appends a value to a cell that has its key.
pub(crate) fn put_value(out: &mut BytesMut, head: &[u8], body: CellBody<'_>) {
    put_varint(out, head.len() as u64);
    out.put_slice(head);
    match body {
        CellBody::Inline(bytes) => {
            put_varint(out, (bytes.len() as u64) << 1);
            out.put_slice(bytes);
        }
        CellBody::Run(run, len) => {
            put_varint(out, (len as u64) << 1 | 1);
            out.put_slice(&run.to_bytes());
        }
    }
}

/// A leaf as readers see it, wherever its image lies.
#[derive(Clone, Copy)]
pub(crate) struct LeafRef<'a> {
    image: &'a [u8],
    blobs: &'a Blobs,
    page: Option<PageRef>,
    count: usize,
}

impl<'a> LeafRef<'a> {
    /// A leaf page on disk.
    pub fn of_page(image: &'a [u8], page: PageRef) -> Result<Self, Missing> {
        let count = u16_at(image, PageHeader::COUNT_AT).map_or(0, usize::from);
        if image.len() != PAGE_BYTES || image[KIND_AT] != Kind::Leaf as u8 || count == 0 {
            return Err(Missing::malformed(page));
        }
        Ok(Self { image, blobs: &[], page: Some(page), count })
    }

    pub fn image(&self) -> &'a [u8] {
        self.image
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn runs(&self, pages: Pages<'a>) -> Runs<'a> {
        Runs { pages, blobs: self.blobs, page: self.page }
    }

    /// The image from a cell on.
    fn bytes_from(&self, at: usize) -> Result<&'a [u8], Malformed> {
        let early = Malformed("cell outside its page");
        let offset = u16_at(self.image, LEAF_SLOTS_AT + at * SLOT_BYTES).ok_or(early)?;
        self.image.get(usize::from(offset)..).ok_or(early)
    }

    fn read_cell(&self, at: usize) -> Result<Cell<'a>, Malformed> {
        Cell::read(self.bytes_from(at)?)
    }

    /// The key alone: a search looks at no more.
    fn key(&self, at: usize) -> Result<KeyRef<'a>, Missing> {
        let key = self.bytes_from(at).and_then(|bytes| KeyRef::read(&mut Reader::new(bytes)));
        key.map_err(|_| self.malformed())
    }

    pub fn cell(&self, at: usize) -> Result<Cell<'a>, Missing> {
        self.read_cell(at).map_err(|_| self.malformed())
    }

    fn malformed(&self) -> Missing {
        Missing::malformed(
            self.page.expect("a leaf made in memory is well formed: pages are checked before they are copied"),
        )
    }

    /// The entry with `key`, or where it would be.
    pub fn search(&self, key: &[u8], pages: Pages<'a>) -> Result<Result<usize, usize>, Missing> {
        let runs = self.runs(pages);
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.key(middle)?.compare(key, &runs)? {
                Ordering::Less => high = middle,
                Ordering::Greater => low = middle + 1,
                Ordering::Equal => return Ok(Ok(middle)),
            }
        }
        Ok(Err(low))
    }

    /// Totals of the entries in `range`.
    pub fn totals(&self, range: std::ops::Range<usize>, weigh: Weigh) -> Result<Totals, Missing> {
        let mut totals = Totals::default();
        for at in range {
            totals += self.cell(at)?.totals(weigh);
        }
        Ok(totals)
    }

    /// Decodes every cell and checks that they fit the page together and that no run reaches `pages_end`, so that the image can
    /// be changed safely.
    pub fn check_cells(&self, pages_end: u64) -> Result<(), Missing> {
        self.check(pages_end).map_err(|_| self.malformed())
    }

    /// See [`LeafRef::check_cells`]. Says what is wrong, for the checker.
    pub fn check(&self, pages_end: u64) -> Result<(), Malformed> {
        let slots_end = LEAF_SLOTS_AT + self.count * SLOT_BYTES;
        let start = u16_at(self.image, CELLS_START_AT).map_or(0, usize::from);
        let garbage = u16_at(self.image, GARBAGE_AT).map_or(0, usize::from);
        if start < slots_end || start > PAGE_BYTES {
            return Err(Malformed("cells overlap the slots"));
        }
        let mut cells_bytes = 0;
        for at in 0..self.count {
            let cell = self.read_cell(at)?;
            let key_sound = cell.key.run.is_none_or(|run| run.is_inside(cell.key.len, pages_end));
            let body_sound = body_run(&cell.body).is_none_or(|run| run.is_inside(cell.body.len(), pages_end));
            if !key_sound || !body_sound {
                return Err(Malformed("run outside the file"));
            }
            cells_bytes += cell.bytes;
        }
        if start + cells_bytes + garbage != PAGE_BYTES {
            return Err(Malformed("cells don't add up to the page"));
        }
        Ok(())
    }
}

/// A leaf in memory.
#[derive(Clone)]
pub(crate) struct Leaf {
    image: Box<[u8]>,
    blobs: Vec<(u64, Arc<Blob>)>,
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Leaf({} cells, {} blobs)", self.count(), self.blobs.len())
    }
}

impl Leaf {
    pub fn new() -> Self {
        let mut leaf = Self { image: vec![0; PAGE_BYTES].into_boxed_slice(), blobs: Vec::new() };
        leaf.set_u16(CELLS_START_AT, PAGE_BYTES);
        leaf
    }

    /// A copy of a page that [`LeafRef::check_cells`] has passed.
    pub fn from_image(image: &[u8]) -> Self {
        Self { image: image.into(), blobs: Vec::new() }
    }

    pub fn view(&self) -> LeafRef<'_> {
        LeafRef { image: &self.image, blobs: &self.blobs, page: None, count: self.count() }
    }

    pub fn blobs(&self) -> &[(u64, Arc<Blob>)] {
        &self.blobs
    }

    pub fn count(&self) -> usize {
        self.u16(PageHeader::COUNT_AT)
    }

    /// Bytes of slots and cells, at most `LEAF_CAPACITY_BYTES`.
    pub fn used_bytes(&self) -> usize {
        used_bytes(&self.image)
    }

    fn u16(&self, at: usize) -> usize {
        usize::from(u16_at(&self.image, at).expect("inside the page"))
    }

    fn set_u16(&mut self, at: usize, value: usize) {
        let value = u16::try_from(value).expect("offsets in a page fit 16 bits");
        self.image[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn cell(&self, at: usize) -> Cell<'_> {
        self.view().read_cell(at).expect("cells of a leaf in memory are well formed")
    }

    fn slot(&self, at: usize) -> usize {
        self.u16(LEAF_SLOTS_AT + at * SLOT_BYTES)
    }

    /// The cell's bytes.
    pub fn cell_bytes(&self, at: usize) -> &[u8] {
        let bytes = self.cell(at).bytes;
        &self.image[self.slot(at)..][..bytes]
    }

    /// Puts a cell before the one at `at`. The caller knows that it fits.
    pub fn insert(&mut self, at: usize, cell: &[u8]) {
        assert!(self.used_bytes() + SLOT_BYTES + cell.len() <= LEAF_CAPACITY_BYTES, "a cell goes only where it fits");
        let count = self.count();
        let slots_end = LEAF_SLOTS_AT + count * SLOT_BYTES;
        if self.u16(CELLS_START_AT) < slots_end + SLOT_BYTES + cell.len() {
            self.compact();
        }
        let start = self.u16(CELLS_START_AT) - cell.len();
        self.image[start..start + cell.len()].copy_from_slice(cell);
        let slot_at = LEAF_SLOTS_AT + at * SLOT_BYTES;
        self.image.copy_within(slot_at..slots_end, slot_at + SLOT_BYTES);
        self.set_u16(slot_at, start);
        self.set_u16(CELLS_START_AT, start);
        self.set_u16(PageHeader::COUNT_AT, count + 1);
    }

    /// Writes a cell over the one at `at`, which is at least as long; the blobs that the old one names stay.
    pub fn overwrite(&mut self, at: usize, cell: &[u8]) {
        let (start, old_bytes) = (self.slot(at), self.cell(at).bytes);
        assert!(cell.len() <= old_bytes, "a cell is overwritten only by one that fits its place");
        self.image[start..start + cell.len()].copy_from_slice(cell);
        self.set_u16(GARBAGE_AT, self.u16(GARBAGE_AT) + old_bytes - cell.len());
    }

    /// Takes a cell out; the blobs it names stay.
    pub fn remove(&mut self, at: usize) {
        let (start, bytes, count) = (self.slot(at), self.cell(at).bytes, self.count());
        let slot_at = LEAF_SLOTS_AT + at * SLOT_BYTES;
        self.image.copy_within(slot_at + SLOT_BYTES..LEAF_SLOTS_AT + count * SLOT_BYTES, slot_at);
        self.set_u16(PageHeader::COUNT_AT, count - 1);
        if start == self.u16(CELLS_START_AT) {
            self.set_u16(CELLS_START_AT, start + bytes);
        } else {
            self.set_u16(GARBAGE_AT, self.u16(GARBAGE_AT) + bytes);
        }
    }

    /// Moves all cells to the end of the page, so that the free bytes lie together.
    fn compact(&mut self) {
        let mut image = vec![0; PAGE_BYTES].into_boxed_slice();
        let slots_end = LEAF_SLOTS_AT + self.count() * SLOT_BYTES;
        image[..slots_end].copy_from_slice(&self.image[..slots_end]);
        let mut start = PAGE_BYTES;
        let mut slots = Vec::with_capacity(self.count());
        for at in 0..self.count() {
            let cell = self.cell_bytes(at);
            start -= cell.len();
            image[start..start + cell.len()].copy_from_slice(cell);
            slots.push(start);
        }
        self.image = image;
        for (at, start) in slots.into_iter().enumerate() {
            self.set_u16(LEAF_SLOTS_AT + at * SLOT_BYTES, start);
        }
        self.set_u16(CELLS_START_AT, start);
        self.set_u16(GARBAGE_AT, 0);
    }

    /// Appends the cells of `from` in `range`, with their blobs.
    fn append(&mut self, from: &Self, range: std::ops::Range<usize>) {
        for at in range {
            let cell = from.cell(at);
            for run in [cell.key.run, body_run(&cell.body)].into_iter().flatten() {
                if let RunRef::Blob(id) = run {
                    let blob = find_blob(&from.blobs, id).expect("a blob lives in the leaf of its cell");
                    self.blobs.push((id, Arc::clone(blob)));
                }
            }
            self.insert(self.count(), from.cell_bytes(at));
        }
    }

    /// Keeps the cells before `at` and returns the others.
    pub fn split_off(&mut self, at: usize) -> Self {
        let (mut left, mut right) = (Self::new(), Self::new());
        left.append(self, 0..at);
        right.append(self, at..self.count());
        *self = left;
        right
    }

    /// Takes over all cells of the leaf that follows. The caller knows that they fit.
    pub fn merge(&mut self, right: &Self) {
        self.compact();
        self.append(right, 0..right.count());
    }

    pub fn add_blob(&mut self, blob: Arc<Blob>) {
        self.blobs.push((blob.id, blob));
    }

    pub fn take_blob(&mut self, id: u64) -> Arc<Blob> {
        let at = self.blobs.iter().position(|(blob_id, _)| *blob_id == id);
        self.blobs.swap_remove(at.expect("a blob lives in the leaf of its cell")).1
    }

    /// Lets the key or the body of a cell refer to `blob` in place of the run it has. That run's blob is taken out by the caller.
    pub fn replace_run(&mut self, at: usize, is_key: bool, blob: Arc<Blob>) {
        let (start, cell) = (self.slot(at), self.cell(at));
        let end = start + if is_key { cell.key_bytes } else { cell.bytes };
        self.image[end - RUN_REF_BYTES..end].copy_from_slice(&RunRef::Blob(blob.id).to_bytes());
        self.add_blob(blob);
    }

    pub fn totals(&self, weigh: Weigh) -> Totals {
        self.view().totals(0..self.count(), weigh).expect("cells of a leaf in memory are well formed")
    }

    /// Writes the image with the pages of its blobs in place of their ids. `out` is a page.
    pub fn encode_into(&self, out: &mut [u8]) {
        out.copy_from_slice(&self.image);
        self.resolve_blobs(out, |blob| Some(*blob.disk.get().expect("blobs are written before their leaf")));
    }

    /// Forgets the blobs that `page_of` has pages for: their cells refer to the pages from now on.
    pub fn settle_blobs(&mut self, page_of: impl Fn(&Blob) -> Option<PageRef>) {
        if self.blobs.iter().all(|(_, blob)| page_of(blob).is_none()) {
            return;
        }
        let mut image = std::mem::take(&mut self.image);
        self.image.clone_from(&image);
        self.resolve_blobs(&mut image, &page_of);
        self.image = image;
        self.blobs.retain(|(_, blob)| page_of(blob).is_none());
    }

    fn resolve_blobs(&self, out: &mut [u8], page_of: impl Fn(&Blob) -> Option<PageRef>) {
        if self.blobs.is_empty() {
            return;
        }
        let mut resolve = |run: RunRef, at: usize| {
            let RunRef::Blob(id) = run else { return };
            let blob = find_blob(&self.blobs, id).expect("a blob lives in the leaf of its cell");
            if let Some(page) = page_of(blob) {
                out[at..at + RUN_REF_BYTES].copy_from_slice(&RunRef::Disk(page).to_bytes());
            }
        };
        for at in 0..self.count() {
            let (start, cell) = (self.slot(at), self.cell(at));
            // A run is the last thing in a key, and in a cell.
            if let Some(run) = cell.key.run {
                resolve(run, start + cell.key_bytes - RUN_REF_BYTES);
            }
            if let Some(run) = body_run(&cell.body) {
                resolve(run, start + cell.bytes - RUN_REF_BYTES);
            }
        }
    }
}

pub(crate) fn body_run(body: &CellBody<'_>) -> Option<RunRef> {
    match body {
        CellBody::Inline(_) => None,
        CellBody::Run(run, _) => Some(*run),
    }
}

/// Bytes of slots and cells in a leaf image.
pub(crate) fn used_bytes(image: &[u8]) -> usize {
    let field = |at| usize::from(u16_at(image, at).expect("inside the page"));
    field(PageHeader::COUNT_AT) * SLOT_BYTES + PAGE_BYTES - field(CELLS_START_AT) - field(GARBAGE_AT)
}

/// Bytes that a cell takes in a leaf.
pub(crate) fn cell_cost(cell_bytes: usize) -> usize {
    cell_bytes + SLOT_BYTES
}
