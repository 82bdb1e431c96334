//! Pairs in, pages out.

use crate::{
    format::{
        ELEMENT_BUCKET, ELEMENT_BYTES, FLAG_LEAF, PAGE_BYTES, PAGE_HEADER_BYTES, overflow_pages, pad, put_header,
        put_leaf_element, put_metas,
    },
    levels::{Child, Levels, Pages},
};

/// Pages 0 and 1 are the metas.
const FIRST_PAGE: u64 = 2;

/// What the first pages of a file say of the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The page of the list of buckets.
    root: u64,
    /// All pages.
    pages: u64,
}

impl Layout {
    /// Length of the file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }
}

/// Builds a file. Buckets come in the order of their names, the pairs of each in the order of their keys.
///
/// Memory: what was written and not taken yet, one page per level, and one pair.
pub struct Builder {
    pages: Pages,
    /// The buckets that are complete, and their roots.
    buckets: Vec<(Vec<u8>, u64)>,
    bucket: Option<Bucket>,
    layout: Option<Layout>,
}

/// The bucket under way.
struct Bucket {
    name: Vec<u8>,
    leaf: Leaf,
    levels: Levels,
    has_leaves: bool,
    last_key: Vec<u8>,
    /// Bytes of the last pair's value that did not come yet.
    value_missing: usize,
}

/// The open leaf.
#[derive(Default)]
struct Leaf {
    first_key: Vec<u8>,
    /// Flags, bytes of the key, bytes of the value.
    elements: Vec<(u32, usize, usize)>,
    bytes: usize,
    /// Keys and values, one after the other.
    data: Vec<u8>,
}

impl Builder {
    /// Only finds out the layout: values need not come.
    #[must_use]
    pub fn measure() -> Self {
        Self { pages: Pages { next: FIRST_PAGE, out: None }, buckets: Vec::new(), bucket: None, layout: None }
    }

    /// Writes the file whose layout was found out from the same pairs.
    #[must_use]
    pub fn write(layout: Layout) -> Self {
        let mut out = Vec::new();
        put_metas(&mut out, layout.root, layout.pages);
        let pages = Pages { next: FIRST_PAGE, out: Some(out) };
        Self { pages, buckets: Vec::new(), bucket: None, layout: Some(layout) }
    }

    /// Whether values have to come.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.layout.is_some()
    }

    /// Begins a bucket, and ends the one before.
    ///
    /// # Panics
    /// If its name is not above the one before, or a value is incomplete.
    pub fn begin_bucket(&mut self, name: &[u8]) {
        self.end_bucket();
        assert!(self.buckets.last().is_none_or(|(last, _)| **last < *name), "buckets come in order");
        self.bucket = Some(Bucket {
            name: name.to_vec(),
            leaf: Leaf::default(),
            levels: Levels::default(),
            has_leaves: false,
            last_key: Vec::new(),
            value_missing: 0,
        });
    }

    /// Adds a pair. If this writes, the value comes next, in parts.
    ///
    /// # Panics
    /// If its key is empty or not above the one before, if the value before is incomplete, or outside of a bucket.
    pub fn begin_pair(&mut self, key: &[u8], value_bytes: usize) {
        let is_writing = self.is_writing();
        let bucket = self.bucket.as_mut().expect("pairs are in a bucket");
        assert_eq!(bucket.value_missing, 0, "a value is complete before the next pair");
        assert!(*bucket.last_key < *key, "keys are not empty and come in order");
        key.clone_into(&mut bucket.last_key);
        if !bucket.leaf.has_room(key.len(), value_bytes) {
            bucket.close_leaf(&mut self.pages);
        }
        bucket.leaf.add(0, key, value_bytes, is_writing);
        if is_writing {
            bucket.value_missing = value_bytes;
        }
    }

    /// Adds the next bytes of the pair's value.
    ///
    /// # Panics
    /// If these are more than was said, or this only measures.
    pub fn value_part(&mut self, part: &[u8]) {
        let bucket = self.bucket.as_mut().expect("values belong to pairs");
        bucket.value_missing =
            bucket.value_missing.checked_sub(part.len()).expect("a value has the size that was said");
        bucket.leaf.data.extend_from_slice(part);
    }

    /// Ends the file: the list of buckets is its last page.
    ///
    /// # Panics
    /// If a value is incomplete, or this wrote something else than what was measured.
    pub fn finish(&mut self) -> Layout {
        self.end_bucket();
        let mut leaf = Leaf::default();
        for (name, root) in &self.buckets {
            // A bucket's value is its root page and a sequence that nobody uses.
            leaf.add(ELEMENT_BUCKET, name, 16, true);
            leaf.data.extend_from_slice(&root.to_le_bytes());
            leaf.data.extend_from_slice(&[0; 8]);
        }
        let root = leaf.close(&mut self.pages).page;
        let layout = Layout { root, pages: self.pages.next };
        assert!(self.layout.is_none_or(|measured| measured == layout), "{layout:?} was measured as {:?}", self.layout);
        layout
    }

    /// Bytes that were written and not taken yet.
    #[must_use]
    pub fn ready(&self) -> &[u8] {
        self.pages.out.as_deref().unwrap_or_default()
    }

    /// Takes the first `bytes` of them away.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn take(&mut self, bytes: usize) {
        if let Some(out) = &mut self.pages.out {
            out.drain(..bytes);
        }
    }

    fn end_bucket(&mut self) {
        let Some(mut bucket) = self.bucket.take() else { return };
        assert_eq!(bucket.value_missing, 0, "a value is complete before its bucket ends");
        // A bucket without any pairs still has a page.
        if !bucket.has_leaves || !bucket.leaf.elements.is_empty() {
            bucket.close_leaf(&mut self.pages);
        }
        let root = bucket.levels.finish(&mut self.pages);
        self.buckets.push((bucket.name, root.page));
    }
}

impl Bucket {
    fn close_leaf(&mut self, pages: &mut Pages) {
        let leaf = self.leaf.close(pages);
        self.has_leaves = true;
        self.levels.push(pages, 0, leaf);
    }
}

impl Leaf {
    /// A pair that is too large for any page gets a run of pages for itself.
    fn has_room(&self, key_bytes: usize, value_bytes: usize) -> bool {
        let bytes = PAGE_HEADER_BYTES + self.bytes + ELEMENT_BYTES + key_bytes + value_bytes;
        self.elements.is_empty() || bytes <= PAGE_BYTES
    }

    fn add(&mut self, flags: u32, key: &[u8], value_bytes: usize, with_data: bool) {
        if self.elements.is_empty() {
            key.clone_into(&mut self.first_key);
        }
        self.bytes += ELEMENT_BYTES + key.len() + value_bytes;
        self.elements.push((flags, key.len(), value_bytes));
        if with_data {
            self.data.extend_from_slice(key);
        }
    }

    /// Makes a page of the pairs, and is empty again.
    fn close(&mut self, pages: &mut Pages) -> Child {
        let count = self.elements.len();
        let (page, overflow) = (pages.next, overflow_pages(PAGE_HEADER_BYTES + self.bytes));
        pages.next += 1 + overflow;
        if let Some(out) = &mut pages.out {
            let start = out.len();
            put_header(out, page, FLAG_LEAF, count, overflow);
            let mut at = count * ELEMENT_BYTES;
            for (flags, key_bytes, value_bytes) in &self.elements {
                put_leaf_element(out, *flags, at, *key_bytes, *value_bytes);
                at = at - ELEMENT_BYTES + key_bytes + value_bytes;
            }
            out.extend_from_slice(&self.data);
            pad(out, start);
        }
        self.elements.clear();
        self.data.clear();
        self.bytes = 0;
        Child { first_key: std::mem::take(&mut self.first_key), page }
    }
}
