//! Copying a durable generation to another machine, page by page: it becomes a file there.
//!
//! Pages come in the order of the file, in parts of any size that are asked for one by one. Which pages there are the generation's bitmap says. Nothing that
//! comes is believed before all of it is there and was proven, from the meta down; then the meta is written, and the file opened as after a crash.
//!
//! A part is any number of runs, each `first page (8 bytes) | pages (4 bytes) | the pages`.

use std::{cell::RefCell, io, rc::Rc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::future::join_all;
use plinth_base::{AlignedBuf, codec::Malformed, limits::IO_BYTES_MAX};
use plinth_env::{Env, File, OpenMode, OpenOptions};

use crate::{
    bitmap::Bitmap,
    error::TreeError,
    layout::PAGE_BYTES,
    meta::{BadMeta, META_PAGES, Meta},
    open::read_bitmaps,
    space::Pin,
    store::{Store, StoreOptions, TreeSpec},
};

/// Reads that are under way at once.
const READS_MAX: usize = 32;

/// Bytes in front of each run.
const RUN_HEADER_BYTES: usize = 12;

/// The newest durable generation, which stays as it is as long as this is there.
pub struct CopySource<E: Env> {
    env: E,
    options: StoreOptions,
    meta: Meta,
    opened: RefCell<Option<Rc<Opened<E>>>>,
    _pin: Pin,
}

struct Opened<E: Env> {
    file: E::File,
    used: Bitmap,
}

/// Some pages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyPart {
    /// For [`CopyTarget::write`].
    pub pages: Bytes,
    /// Nothing comes behind them.
    pub is_last: bool,
}

impl<E: Env> Store<E> {
    /// Holds the newest durable generation, to be copied.
    #[must_use]
    pub fn begin_copy(&self) -> CopySource<E> {
        let (env, options, _pin) = (self.env.clone(), self.options.clone(), self.pin_newest());
        CopySource { env, options, meta: self.newest.clone(), opened: RefCell::default(), _pin }
    }
}

impl<E: Env> CopySource<E> {
    /// The owner's record in it.
    #[must_use]
    pub fn state(&self) -> &Bytes {
        &self.meta.trees.state
    }

    /// What the copy begins with.
    #[must_use]
    pub fn meta(&self) -> Bytes {
        self.meta.encode(self.options.trees).into()
    }

    /// Reads pages from `from` on, past the page cache, up to about `bytes_max`. After each read `pace` is called with its bytes.
    ///
    /// # Errors
    /// The file can't be read, or its bitmap isn't what was written.
    pub async fn read(
        &self,
        from: u64,
        bytes_max: usize,
        mut pace: impl AsyncFnMut(usize),
    ) -> Result<CopyPart, TreeError> {
        let opened = self.open().await?;
        let mut left = (bytes_max / PAGE_BYTES).max(1) as u64;
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (first, pages) in opened.used.runs(from.max(META_PAGES)) {
            let pages = pages.min(left);
            let step = (IO_BYTES_MAX / PAGE_BYTES) as u64;
            runs.extend((0..pages).step_by(step as usize).map(|at| (first + at, step.min(pages - at))));
            left -= pages;
            if left == 0 {
                break;
            }
        }
        let end = runs.last().map_or(u64::MAX, |(first, pages)| first + pages);
        let mut out = BytesMut::new();
        for batch in runs.chunks(READS_MAX) {
            let read = |(first, pages): &(u64, u64)| {
                let buf = AlignedBuf::zeroed(usize::try_from(*pages).expect("a part is small") * PAGE_BYTES);
                opened.file.read_at(first * PAGE_BYTES as u64, buf)
            };
            for ((first, pages), (result, buf)) in batch.iter().zip(join_all(batch.iter().map(read)).await) {
                result?;
                out.reserve(RUN_HEADER_BYTES + buf.len());
                out.put_u64_le(*first);
                out.put_u32_le(u32::try_from(*pages).expect("a part is small"));
                out.put_slice(buf.as_slice());
                pace(buf.len()).await;
            }
        }
        let is_last = opened.used.runs(end).next().is_none();
        Ok(CopyPart { pages: out.freeze(), is_last })
    }

    async fn open(&self) -> Result<Rc<Opened<E>>, TreeError> {
        if let Some(opened) = &*self.opened.borrow() {
            return Ok(Rc::clone(opened));
        }
        let path = &self.options.path;
        let file = self.env.open(path, OpenOptions::direct(OpenMode::Read)).await?;
        let (used, _) = read_bitmaps(&file, &self.meta, path).await?;
        let opened = Rc::new(Opened { file, used });
        *self.opened.borrow_mut() = Some(Rc::clone(&opened));
        Ok(opened)
    }
}

/// The meta of a copy, if this code can read the pages below it.
#[derive(Clone, Debug)]
pub struct CopyMeta(Meta);

impl CopyMeta {
    /// Reads what [`CopySource::meta`] gave. None if it is of another version of the format.
    ///
    /// # Errors
    /// It isn't a meta, or one of other trees.
    pub fn decode(bytes: &[u8], trees: &[TreeSpec]) -> Result<Option<Self>, Malformed> {
        const NOT_ONE: Malformed = Malformed("what should be the meta of a tree isn't one");
        let generation = bytes.get(24..32).filter(|_| bytes.len() == PAGE_BYTES).ok_or(NOT_ONE)?;
        let generation = u64::from_le_bytes(generation.try_into().expect("eight bytes"));
        match Meta::decode(bytes, generation % META_PAGES, trees, "the copy".as_ref()) {
            Ok(Ok(meta)) => Ok(Some(Self(meta))),
            Ok(Err(BadMeta::Version(_))) => Ok(None),
            Ok(Err(BadMeta::Magic | BadMeta::Checksum { .. })) | Err(_) => Err(NOT_ONE),
        }
    }

    /// The owner's record in it.
    #[must_use]
    pub fn state(&self) -> &Bytes {
        &self.0.trees.state
    }
}

/// A file that pages are written to, in order.
pub struct CopyTarget<E: Env> {
    env: E,
    options: StoreOptions,
    file: E::File,
    meta: Meta,
    /// What comes next isn't below.
    next: u64,
}

impl<E: Env> CopyTarget<E> {
    /// Makes the file, which must not be there, with room for all of it.
    ///
    /// # Errors
    /// It can't be made; most likely the disk is full.
    pub async fn create(env: E, options: StoreOptions, meta: CopyMeta) -> Result<Self, TreeError> {
        let CopyMeta(meta) = meta;
        let file = env.open(&options.path, OpenOptions::direct(OpenMode::CreateNew)).await?;
        file.allocate(0, meta.pages * PAGE_BYTES as u64).await?;
        Ok(Self { env, options, file, meta, next: META_PAGES })
    }

    /// Where the next part has to begin.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Writes a part's pages. After each write `pace` is called with its bytes.
    ///
    /// # Errors
    /// It can't be written, or isn't a part that comes next.
    pub async fn write(&mut self, mut part: Bytes, mut pace: impl AsyncFnMut(usize)) -> Result<(), TreeError> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("pages of a tree: {what}"));
        while !part.is_empty() {
            if part.len() < RUN_HEADER_BYTES {
                return Err(invalid("they end early").into());
            }
            let (first, pages) = (part.get_u64_le(), u64::from(part.get_u32_le()));
            if first < self.next || first >= self.meta.pages || pages == 0 || pages > self.meta.pages - first {
                return Err(invalid("not those that come next").into());
            }
            let bytes = usize::try_from(pages).map_or(usize::MAX, |pages| pages.saturating_mul(PAGE_BYTES));
            if bytes > part.len() || bytes > IO_BYTES_MAX {
                return Err(invalid("they end early").into());
            }
            let mut buf = AlignedBuf::zeroed(bytes);
            buf.as_mut_slice().copy_from_slice(&part.split_to(bytes));
            self.file.write_at(first * PAGE_BYTES as u64, buf).await.0?;
            self.next = first + pages;
            pace(bytes).await;
        }
        Ok(())
    }

    /// All parts are in: makes them durable, then the meta, and proves every page. What is returned has one checkpoint; the next one makes it two.
    ///
    /// # Errors
    /// It can't be written, or what came isn't what the meta speaks of.
    pub async fn finish(self, pace: impl AsyncFnMut(usize)) -> Result<Store<E>, TreeError> {
        let Self { env, options, file, meta, .. } = self;
        file.sync().await?;
        let mut page = AlignedBuf::zeroed(PAGE_BYTES);
        page.as_mut_slice().copy_from_slice(&meta.encode(options.trees));
        file.write_at(meta.slot().0 * PAGE_BYTES as u64, page).await.0?;
        file.sync().await?;
        drop(file);
        let store = Store::open(env, options, true).await?;
        store.begin_verify().run(pace).await?;
        Ok(store)
    }
}
