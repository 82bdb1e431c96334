//! The keys between the children of a branch, and the search among them.

use std::{cmp::Ordering, ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use plinth_base::codec::Reader;

use crate::{
    error::Missing,
    key::{KeyRef, RunRef, Runs, find_blob, is_long, key_cell_bytes, put_key},
    layout::{KEY_PREFIX_BYTES, RUN_REF_BYTES},
    ledger::Ledger,
    node::Blob,
};

/// A key between two children: the cell form, and its blob if it is long and not yet written.
#[derive(Clone, Debug)]
pub(crate) struct Separator {
    cell: Bytes,
    blob: Option<Arc<Blob>>,
}

impl Separator {
    pub fn new(key: &[u8], ledger: &mut Ledger) -> Self {
        let blob = is_long(key.len()).then(|| ledger.new_blob(Bytes::copy_from_slice(key)));
        let mut cell = BytesMut::with_capacity(key_cell_bytes(key.len()));
        put_key(&mut cell, key, blob.as_ref().map(|blob| RunRef::Blob(blob.id)));
        Self { cell: cell.freeze(), blob }
    }

    /// Gives its overflow pages back; for a separator that no branch holds any longer.
    pub fn retire(self, ledger: &mut Ledger) {
        let key = read_key(&self.cell);
        match (self.blob, key.run) {
            (Some(blob), _) => ledger.retire_blob(&blob),
            (None, Some(RunRef::Disk(first))) => ledger.retire_run(first, key.len),
            (None, Some(RunRef::Blob(_))) => panic!("a separator comes with its blob"),
            (None, None) => {}
        }
    }
}

fn read_key(cell: &[u8]) -> KeyRef<'_> {
    KeyRef::read(&mut Reader::new(cell)).expect("separators were checked when the branch was decoded")
}

/// The cell of a long key still has the bytes that a hint is made of.
const SHARED_BYTES_MAX: usize = KEY_PREFIX_BYTES - size_of::<u64>();

/// Key cells one after the other, in order. Number `i` stands between child `i` and child `i + 1`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Separators {
    cells: Vec<u8>,
    ends: Vec<u32>,
    blobs: Vec<(u64, Arc<Blob>)>,
    /// All separators begin with it.
    shared: Vec<u8>,
    /// The next bytes of each, as a number that sorts like them: they decide nearly every search.
    hints: Vec<u64>,
}

/// The first eight bytes as a number that sorts like them; zeros stand for what isn't there.
fn hint(bytes: &[u8]) -> u64 {
    let mut first = [0; size_of::<u64>()];
    let len = bytes.len().min(first.len());
    first[..len].copy_from_slice(&bytes[..len]);
    u64::from_be_bytes(first)
}

impl Separators {
    /// Of cells that were checked, in order.
    pub fn read<'a>(cells: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut separators = Self::default();
        for cell in cells {
            separators.push_cell(cell);
        }
        separators.index();
        separators
    }

    /// Bytes of all cells.
    pub fn bytes(&self) -> usize {
        self.cells.len()
    }

    /// Bytes of one cell.
    pub fn cell_bytes(&self, at: usize) -> usize {
        self.range(at).len()
    }

    /// Blobs of long separators that are not settled on disk.
    pub fn blobs(&self) -> &[(u64, Arc<Blob>)] {
        &self.blobs
    }

    pub fn key(&self, at: usize) -> KeyRef<'_> {
        read_key(self.cell(at))
    }

    /// How many separators are not above `key`.
    pub fn count_up_to(&self, key: &[u8], runs: &Runs<'_>) -> Result<usize, Missing> {
        match key[..key.len().min(self.shared.len())].cmp(&self.shared) {
            Ordering::Less => return Ok(0),
            Ordering::Greater => return Ok(self.ends.len()),
            Ordering::Equal => {}
        }
        let hint = hint(&key[self.shared.len()..]);
        let mut low = self.hints.partition_point(|&other| other < hint);
        let mut high = low + self.hints[low..].partition_point(|&other| other == hint);
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.key(middle).compare(key, runs)? {
                Ordering::Less => high = middle,
                Ordering::Equal | Ordering::Greater => low = middle + 1,
            }
        }
        Ok(low)
    }

    /// Puts a separator before number `at`.
    pub fn insert(&mut self, at: usize, separator: Separator) {
        self.put(at, separator);
        self.index();
    }

    /// Takes number `at` out.
    pub fn remove(&mut self, at: usize) -> Separator {
        let separator = self.take(at);
        self.index();
        separator
    }

    /// Keeps those before number `at`; returns it and those behind it.
    pub fn split_off(&mut self, at: usize) -> (Separator, Self) {
        let mut right = Self::default();
        while self.ends.len() > at + 1 {
            right.put(0, self.take(self.ends.len() - 1));
        }
        let middle = self.take(at);
        self.index();
        right.index();
        (middle, right)
    }

    /// Takes over `separator` and those of the branch that follows.
    pub fn append(&mut self, separator: Separator, right: &Self) {
        self.put(self.ends.len(), separator);
        (0..right.ends.len()).for_each(|at| self.push_cell(right.cell(at)));
        self.blobs.extend_from_slice(&right.blobs);
        self.index();
    }

    /// Gives `put` the bytes of number `at` as they go to disk. Its blob has its pages.
    pub fn encode(&self, at: usize, mut put: impl FnMut(&[u8])) {
        let cell = self.cell(at);
        match read_key(cell).run {
            Some(RunRef::Blob(id)) => {
                let blob = find_blob(&self.blobs, id).expect("a blob lives in the branch of its separator");
                put(&cell[..cell.len() - RUN_REF_BYTES]);
                put(&RunRef::Disk(*blob.disk.get().expect("blobs are written before their branch")).to_bytes());
            }
            _ => put(cell),
        }
    }

    fn cell(&self, at: usize) -> &[u8] {
        &self.cells[self.range(at)]
    }

    fn range(&self, at: usize) -> Range<usize> {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        start as usize..self.ends[at] as usize
    }

    fn push_cell(&mut self, cell: &[u8]) {
        self.cells.extend_from_slice(cell);
        self.ends.push(u32::try_from(self.cells.len()).expect("a page of separators"));
    }

    fn put(&mut self, at: usize, separator: Separator) {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        let bytes = u32::try_from(separator.cell.len()).expect("a separator's cell is small");
        self.cells.splice(start as usize..start as usize, separator.cell);
        self.ends.insert(at, start);
        self.ends[at..].iter_mut().for_each(|end| *end += bytes);
        self.blobs.extend(separator.blob.map(|blob| (blob.id, blob)));
    }

    fn take(&mut self, at: usize) -> Separator {
        let range = self.range(at);
        let cell: Bytes = self.cells.drain(range).collect();
        self.ends.remove(at);
        let bytes = u32::try_from(cell.len()).expect("a separator's cell is small");
        self.ends[at..].iter_mut().for_each(|end| *end -= bytes);
        let blob = match read_key(&cell).run {
            Some(RunRef::Blob(id)) => {
                let at = self.blobs.iter().position(|(blob_id, _)| *blob_id == id);
                Some(self.blobs.swap_remove(at.expect("a blob lives in the branch of its separator")).1)
            }
            _ => None,
        };
        Separator { cell, blob }
    }

    /// Brings the hints up to date after the separators were changed.
    fn index(&mut self) {
        let Some(last) = self.ends.len().checked_sub(1) else {
            return (self.shared, self.hints) = (Vec::new(), Vec::new());
        };
        let (low, high) = (self.key(0).inline, self.key(last).inline);
        // What the outermost share, all between them share. A file that was made to harm may have them in any order.
        let shared = low.iter().zip(high).take_while(|(a, b)| a == b).count().min(SHARED_BYTES_MAX);
        let hints = (0..=last).map(|at| hint(self.key(at).inline.get(shared..).unwrap_or(&[]))).collect();
        (self.shared, self.hints) = (low[..shared].to_vec(), hints);
    }
}

#[cfg(test)]
mod tests {
    use plinth_base::Prng;

    use super::*;
    use crate::{branch::BranchCount, key::Pages};

    struct NoPages;

    impl plinth_env::PageSource for NoPages {
        fn get(&self, _: &plinth_env::PageWant) -> Option<&[u8]> {
            None
        }

        fn forget(&self, _: plinth_base::PageRun) {}

        fn note_written(&self, _: plinth_base::PageRun) {}
    }

    /// Keys that differ late, end early, or go on with zeros.
    fn random_key(prng: &mut Prng) -> Vec<u8> {
        let mut key = vec![b'k'; [0, 3, 119, 126, 200, 505, 600][prng.index(7)]];
        (0..prng.below(12)).for_each(|_| key.push([0, 1, b'k', 0xff][prng.index(4)]));
        if key.is_empty() { vec![0] } else { key }
    }

    #[test]
    fn hints_find_what_a_plain_search_finds() {
        let mut prng = Prng::new(11);
        for _ in 0..300 {
            let mut keys: Vec<_> = (0..prng.below(40)).map(|_| random_key(&mut prng)).collect();
            keys.sort_unstable();
            keys.dedup();
            let mut ledger = Ledger::new();
            let mut separators = Separators::default();
            for (at, key) in keys.iter().enumerate() {
                separators.insert(at, Separator::new(key, &mut ledger));
            }
            if keys.len() > 3 && prng.chance(1, 2) {
                let at = prng.index(keys.len());
                let (middle, right) = separators.split_off(at);
                separators.append(middle, &right);
                separators.remove(at).retire(&mut ledger);
                keys.remove(at);
            }
            let runs = Runs {
                pages: Pages { source: &NoPages, end: 0, branches: &BranchCount::default(), keeps: true },
                blobs: separators.blobs(),
                page: None,
            };
            for _ in 0..40 {
                let key = random_key(&mut prng);
                let found = separators.count_up_to(&key, &runs).expect("all in memory");
                assert_eq!(found, keys.partition_point(|separator| *separator <= key), "{key:?} in {keys:?}");
            }
        }
    }
}
