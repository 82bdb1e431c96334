//! Pages of a tree file as the simulator hands them out.
//!
//! A page is *resident* or missing, as in a mapped file; at random a resident one goes. The bytes come from the file's live image and are
//! copied, because a slice from `get` must stay as it was while its reader keeps it. Copies live as long as the `SimPages`.
//!
//! Invariant: no slice is handed out whose bytes don't match the checksum in the want. A resident page that doesn't match was
//! changed behind its reader's back: it counts as missing, and loading it says `Corrupt`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use plinth_base::{BLOCK_BYTES, Corrupt, PageRun, crc32c};
use plinth_env::{PageError, PageSource, PageWant};

use crate::{
    disk::{Block, Disk, InodeId},
    exec::lock,
    file::SimFile,
};

/// Buckets of doubling size: enough for 2^40 copies.
const BUCKETS: usize = 40;

/// A place in the arena: filled once, never moved.
type Cell = OnceLock<Box<[u8]>>;

/// A growing list that never moves what it holds, so that references into it last as long as it does.
struct Arena {
    buckets: [OnceLock<Box<[Cell]>>; BUCKETS],
}

impl Arena {
    fn cell(&self, index: usize) -> &Cell {
        let bucket = (index + 1).ilog2() as usize;
        let cells = self.buckets[bucket].get_or_init(|| (0..1usize << bucket).map(|_| Cell::new()).collect());
        &cells[index + 1 - (1 << bucket)]
    }

    fn put(&self, index: usize, bytes: Box<[u8]>) {
        assert!(self.cell(index).set(bytes).is_ok(), "each place is filled once");
    }

    fn get(&self, index: usize) -> &[u8] {
        self.cell(index).get().expect("only filled places are named")
    }
}

/// A run's bytes in the arena, and the blocks they were copied from: the same blocks again mean the same bytes.
struct Copied {
    index: usize,
    sources: Vec<Option<Arc<Block>>>,
    /// What was verified of it last: length and checksum.
    verified: Option<(u32, u32)>,
}

#[derive(Default)]
struct State {
    /// Pages in memory, with the poll in which they were loaded.
    resident: BTreeMap<u64, u64>,
    copies: BTreeMap<PageRun, Copied>,
    copy_count: usize,
    cache_epoch: u64,
}

/// The pages of one simulated file.
pub struct SimPages {
    disk: Arc<Mutex<Disk>>,
    poll_serial: Arc<AtomicU64>,
    inode: InodeId,
    path: PathBuf,
    page_bytes: usize,
    bytes_max: u64,
    state: Mutex<State>,
    arena: Arena,
}

impl SimPages {
    pub(crate) fn new(file: &SimFile, page_bytes: usize, bytes_max: u64) -> Self {
        assert!(page_bytes > 0 && page_bytes.is_multiple_of(BLOCK_BYTES), "pages are whole blocks");
        Self {
            disk: Arc::clone(file.world.shared_disk(file.host)),
            poll_serial: Arc::clone(file.world.poll_serial()),
            inode: file.inode,
            path: file.path().to_path_buf(),
            page_bytes,
            bytes_max,
            state: Mutex::default(),
            arena: Arena { buckets: [const { OnceLock::new() }; BUCKETS] },
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Offset and length of a run in the file; none for one that no sound tree names: empty, or behind the reserved range.
    fn range(&self, run: PageRun) -> Option<(u64, usize)> {
        let offset = run.first.0.checked_mul(self.page_bytes as u64)?;
        let bytes = (run.count as usize).checked_mul(self.page_bytes)?;
        let end = offset.checked_add(bytes as u64)?;
        (bytes > 0 && end <= self.bytes_max).then_some((offset, bytes))
    }

    /// Offset of a want that is sound.
    fn offset(&self, want: &PageWant) -> Option<u64> {
        self.range(want.run).filter(|(_, bytes)| want.bytes as usize <= *bytes).map(|(offset, _)| offset)
    }

    fn corrupt(&self, offset: u64, want: String, got: String) -> PageError {
        PageError::Corrupt(Corrupt { file: self.path.clone(), offset, want, got })
    }

    /// What `load_pages` does at its end: reads, verifies, makes resident.
    pub(crate) fn finish_load(&self, wants: &[PageWant]) -> Result<(), PageError> {
        let mut state = lock(&self.state);
        let mut disk = lock(&self.disk);
        state.follow_cache(disk.cache_epoch(self.inode));
        for want in wants {
            let Some(offset) = self.offset(want) else {
                let at = want.run.first.0.saturating_mul(self.page_bytes as u64);
                return Err(self.corrupt(at, "pages of the file".to_owned(), format!("{want:?}")));
            };
            let mut bytes = vec![0; want.bytes as usize];
            if disk.strikes(|faults| faults.page_stale, "stale page") {
                disk.read_stale(self.inode, offset, &mut bytes);
            } else if let Some(image) = disk.live(self.inode) {
                image.read(offset, &mut bytes);
            }
            let got = crc32c(0, &bytes);
            if got != want.checksum {
                let expected = format!("{} bytes with checksum {:#010x}", want.bytes, want.checksum);
                return Err(self.corrupt(offset, expected, format!("checksum {got:#010x}")));
            }
            state.make_resident(want.run, self.poll_serial.load(Ordering::Relaxed));
        }
        Ok(())
    }

    /// The place of the run's present bytes in the arena.
    fn copy(&self, state: &mut State, disk: &Disk, run: PageRun) -> Option<usize> {
        let (offset, bytes) = self.range(run)?;
        let image = disk.live(self.inode)?;
        let first = offset / BLOCK_BYTES as u64;
        let sources: Vec<_> =
            (first..first + (bytes / BLOCK_BYTES) as u64).map(|block| image.block(block).cloned()).collect();
        if let Some(copied) = state.copies.get(&run)
            && same_blocks(&copied.sources, &sources)
        {
            return Some(copied.index);
        }
        let mut copy = vec![0; bytes].into_boxed_slice();
        image.read(offset, &mut copy);
        let index = state.copy_count;
        state.copy_count += 1;
        self.arena.put(index, copy);
        state.copies.insert(run, Copied { index, sources, verified: None });
        Some(index)
    }
}

fn same_blocks(a: &[Option<Arc<Block>>], b: &[Option<Arc<Block>>]) -> bool {
    a.iter().zip(b).all(|pair| match pair {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    })
}

fn pages_of(run: PageRun) -> std::ops::Range<u64> {
    run.first.0..run.end().0
}

impl State {
    /// Forgets everything if the file's cache was dropped.
    fn follow_cache(&mut self, cache_epoch: u64) {
        if self.cache_epoch != cache_epoch {
            self.cache_epoch = cache_epoch;
            self.resident.clear();
        }
    }

    fn make_resident(&mut self, run: PageRun, poll: u64) {
        self.resident.extend(pages_of(run).map(|page| (page, poll)));
    }

    fn make_missing(&mut self, run: PageRun) {
        for page in pages_of(run) {
            self.resident.remove(&page);
        }
    }
}

impl PageSource for SimPages {
    fn get(&self, want: &PageWant) -> Option<&[u8]> {
        self.offset(want)?;
        let mut state = lock(&self.state);
        let mut disk = lock(&self.disk);
        state.follow_cache(disk.cache_epoch(self.inode));
        let mut just_loaded = false;
        for page in pages_of(want.run) {
            just_loaded |= *state.resident.get(&page)? == self.poll_serial.load(Ordering::Relaxed);
        }
        if !just_loaded && disk.strikes(|faults| faults.page_miss, "page evicted") {
            state.make_missing(want.run);
            return None;
        }
        let index = self.copy(&mut state, &disk, want.run)?;
        let bytes = &self.arena.get(index)[..want.bytes as usize];
        let copied = state.copies.get_mut(&want.run).expect("the copy was just looked up or made");
        if copied.verified != Some((want.bytes, want.checksum)) {
            if crc32c(0, bytes) != want.checksum {
                disk.counters.add("page mismatch");
                state.make_missing(want.run);
                return None;
            }
            copied.verified = Some((want.bytes, want.checksum));
        }
        Some(bytes)
    }

    fn forget(&self, run: PageRun) {
        lock(&self.state).make_missing(run);
    }

    fn note_written(&self, run: PageRun) {
        let mut state = lock(&self.state);
        state.follow_cache(lock(&self.disk).cache_epoch(self.inode));
        // Not "loaded in this poll": a page that was only written may go at once.
        state.make_resident(run, u64::MAX);
    }
}
