//! The file that pages are copied from.

use std::{cell::RefCell, ops::Range, rc::Rc};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::join_all;
use plinth_base::AlignedBuf;
use plinth_env::{Env, File, OpenMode, OpenOptions};

use super::{
    RUN_HEADER_BYTES,
    blocks::{BLOCK_PAGES, Blocks},
};
use crate::{
    error::TreeError,
    layout::PAGE_BYTES,
    meta::{META_PAGES, Meta},
    pins::Pin,
    store::{Store, StoreOptions},
    stored_bitmap::{StoredBitmap, WINDOW_PAGES},
};

/// Reads that are under way at once.
const READS_MAX: usize = 16;

/// What a read takes at most. All buffers are so large, so that any of them is good for any read.
const READ_BYTES_MAX: usize = 64 << 10;

/// The newest durable generation, which stays as it is as long as this is there.
pub struct CopySource<E: Env> {
    env: E,
    options: StoreOptions,
    meta: Meta,
    used: RefCell<Option<Rc<StoredBitmap<E::File>>>>,
    /// Used again: an allocator that is asked for large ones anew and anew touches many times what they take.
    buffers: RefCell<Vec<AlignedBuf>>,
    _pin: Pin,
}

/// Some pages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyPart {
    /// For [`CopyTarget::accept`](super::CopyTarget::accept).
    pub pages: Bytes,
    /// All pages below that were asked for are in it.
    pub until: u64,
}

impl<E: Env> Store<E> {
    /// Holds the newest durable generation, to be copied.
    #[must_use]
    pub fn begin_copy(&self) -> CopySource<E> {
        let (env, options, _pin) = (self.env.clone(), self.options.clone(), self.pin_newest());
        CopySource {
            env,
            options,
            meta: self.newest.clone(),
            used: RefCell::default(),
            buffers: RefCell::default(),
            _pin,
        }
    }
}

impl<E: Env> CopySource<E> {
    /// The owner's record in it.
    #[must_use]
    pub fn state(&self) -> &Bytes {
        &self.meta.trees.state
    }

    /// Its number.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.meta.generation
    }

    /// What the copy begins with.
    #[must_use]
    pub fn meta(&self) -> Bytes {
        self.meta.encode(self.options.trees).into()
    }

    /// Appends pages of `wanted`, which is in order, to `out`, as a [`CopyPart`] has them; gives up to where all of them are there. They are read past the page cache,
    /// whole blocks, until they are about `bytes_max`. After each read `pace` is called with its bytes.
    ///
    /// # Errors
    /// The file can't be read, or its bitmap isn't what was written.
    pub async fn read(
        &self,
        wanted: &[Range<u64>],
        bytes_max: usize,
        out: &mut BytesMut,
        mut pace: impl AsyncFnMut(usize),
    ) -> Result<u64, TreeError> {
        let used = self.used(&mut pace).await?;
        let (mut runs, mut until) = (Vec::new(), 0);
        let mut left = (bytes_max / PAGE_BYTES).max(1) as u64;
        for range in wanted {
            until = self.add_runs(&used, range.clone(), &mut left, &mut runs).await?;
            if left == 0 {
                break;
            }
        }
        let step = (READ_BYTES_MAX / PAGE_BYTES) as u64;
        let pieces: Vec<(u64, u64)> = runs
            .into_iter()
            .flat_map(|(first, pages)| {
                (0..pages).step_by(step as usize).map(move |at| (first + at, step.min(pages - at)))
            })
            .collect();
        let bytes = |pages: u64| usize::try_from(pages).expect("a part is small") * PAGE_BYTES;
        let mut buffers = self.buffers.take();
        out.reserve(pieces.iter().map(|(_, pages)| RUN_HEADER_BYTES + bytes(*pages)).sum());
        for batch in pieces.chunks(READS_MAX) {
            let read = |(first, pages): &(u64, u64)| {
                let mut buf = buffers.pop().unwrap_or_else(|| AlignedBuf::zeroed(READ_BYTES_MAX));
                buf.resize(bytes(*pages));
                used.file().read_at(first * PAGE_BYTES as u64, buf)
            };
            let under_way: Vec<_> = batch.iter().map(read).collect();
            for ((first, pages), (result, buf)) in batch.iter().zip(join_all(under_way).await) {
                result?;
                out.put_u64_le(*first);
                out.put_u32_le(u32::try_from(*pages).expect("a part is small"));
                out.put_slice(buf.as_slice());
                pace(buf.len()).await;
                buffers.push(buf);
            }
        }
        self.buffers.replace(buffers);
        Ok(until)
    }

    /// Adds used pages of `range` in whole blocks, at least one block of them and no more than it takes to use up `left`. Gives where they end.
    async fn add_runs(
        &self,
        used: &StoredBitmap<E::File>,
        range: Range<u64>,
        left: &mut u64,
        runs: &mut Vec<(u64, u64)>,
    ) -> Result<u64, TreeError> {
        let end = range.end.min(self.meta.pages);
        let mut at = range.start.max(META_PAGES);
        while at < end {
            let (number, base) = (at / WINDOW_PAGES, at / WINDOW_PAGES * WINDOW_PAGES);
            let window = used.window(number).await?;
            // To the end of the block, of the window, or of what was asked for.
            while at < end && at / WINDOW_PAGES == number {
                let first = base + window.find(true, at - base);
                let block_end = ((first / BLOCK_PAGES + 1) * BLOCK_PAGES).min(end);
                if first >= (base + window.len()).min(end) {
                    at = (base + WINDOW_PAGES).min(end);
                    break;
                }
                let mut in_block = 0;
                for (first, pages) in window.runs(first - base).map(|(first, pages)| (base + first, pages)) {
                    if first >= block_end {
                        break;
                    }
                    let pages = pages.min(block_end - first);
                    in_block += pages;
                    match runs.last_mut() {
                        Some((last, length)) if *last + *length == first => *length += pages,
                        _ => runs.push((first, pages)),
                    }
                }
                at = block_end;
                *left = left.saturating_sub(in_block);
                if *left == 0 {
                    return Ok(at);
                }
            }
        }
        Ok(at.max(range.end))
    }

    /// Blocks with pages that this generation uses and `older` didn't. Both are held, so all other pages are the same. After each read `pace` is called with its bytes.
    ///
    /// # Errors
    /// The file can't be read, or a bitmap isn't what was written.
    pub async fn changed_since(&self, older: &Self, mut pace: impl AsyncFnMut(usize)) -> Result<Blocks, TreeError> {
        let (newer, older) = (self.used(&mut pace).await?, older.used(&mut pace).await?);
        let mut changed = Blocks::none_of(newer.pages());
        for number in 0..newer.pages().div_ceil(WINDOW_PAGES) {
            let added = newer.window(number).await?.minus(&*older.window(number).await?);
            for (first, pages) in added.runs(0) {
                changed.insert(number * WINDOW_PAGES + first, pages);
            }
            pace(PAGE_BYTES).await;
        }
        Ok(changed)
    }

    async fn used(&self, pace: &mut impl AsyncFnMut(usize)) -> Result<Rc<StoredBitmap<E::File>>, TreeError> {
        if let Some(used) = &*self.used.borrow() {
            return Ok(Rc::clone(used));
        }
        let path = &self.options.path;
        let file = self.env.open(path, OpenOptions::direct(OpenMode::Read)).await?;
        let used = Rc::new(StoredBitmap::open(file, &self.meta, path, pace).await?);
        *self.used.borrow_mut() = Some(Rc::clone(&used));
        Ok(used)
    }
}
