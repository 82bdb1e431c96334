//! The file that pages are copied to.

use std::{io, ops::Range};

use bytes::{Buf, Bytes};
use futures_util::future::join_all;
use plinth_base::{AlignedBuf, Mark, limits::IO_BYTES_MAX};
use plinth_env::{Env, File, OpenMode, OpenOptions};

use super::{
    CopyMeta, RUN_HEADER_BYTES,
    blocks::Blocks,
    progress::{Progress, remove_if_there},
    since::Since,
};
use crate::{
    bitmap::Bitmap,
    error::TreeError,
    layout::PAGE_BYTES,
    meta::{META_PAGES, Meta},
    open::read_bitmaps,
    store::{Store, StoreOptions},
    verify::prove,
};

/// Writes that are under way at once.
const WRITES_MAX: usize = 32;

/// A file that pages are written to.
///
/// Invariant: every page that its meta's generation uses, and that is not in a missing block, was written as that generation has it, or is among the pages that were
/// accepted last and are written before anything is noted.
pub struct CopyTarget<E: Env> {
    env: E,
    options: StoreOptions,
    file: E::File,
    meta: Meta,
    missing: Blocks,
    /// There are blocks for all that isn't a hole in this generation.
    has_room: bool,
    /// A generation that every page was proven of, if this is that or has become a copy of one behind it without a third one between them, and the pages that it uses.
    proven: Option<(u64, Bitmap)>,
    /// Pages were accepted that aren't written yet.
    is_ahead: bool,
}

/// Pages to be written: the first one's number, and their bytes.
#[must_use = "goes to CopyTarget::write"]
pub struct AcceptedPages(Vec<(u64, Bytes)>);

impl<E: Env> CopyTarget<E> {
    /// Makes the file. What another copy has left behind is removed. The bitmaps come first, and room is made for what isn't a hole when they are there: the file
    /// that is copied may be much longer than what it takes.
    ///
    /// # Errors
    /// It can't be made.
    pub async fn create(env: E, options: StoreOptions, meta: CopyMeta) -> Result<Self, TreeError> {
        let CopyMeta(meta) = meta;
        Self::remove(&env, &options).await?;
        let file = env.open(&options.path, OpenOptions::direct(OpenMode::CreateNew)).await?;
        file.set_len(meta.pages * PAGE_BYTES as u64).await?;
        let missing = Blocks::all_of(meta.pages);
        Ok(Self { env, options, file, meta, missing, has_room: false, proven: None, is_ahead: false })
    }

    /// Goes on with a copy that was interrupted, if what is there is of the same file and of the same generation, or of the one since which is known what has changed.
    ///
    /// # Errors
    /// The disk is full, or fails.
    pub async fn resume(
        env: E,
        options: StoreOptions,
        meta: CopyMeta,
        since: Option<&Since>,
    ) -> Result<Option<Self>, TreeError> {
        let Some(Progress { meta: found, missing }) = Progress::load(&env, &options.path, options.trees).await else {
            return Ok(None);
        };
        let generation = found.generation;
        let is_same = generation == meta.0.generation;
        if found.file_id != meta.0.file_id || !is_same && since.is_none_or(|since| since.from() != generation) {
            return Ok(None);
        }
        let Ok(file) = env.open(&options.path, OpenOptions::direct(OpenMode::Write)).await else { return Ok(None) };
        if file.len().await? < found.pages * PAGE_BYTES as u64 {
            return Ok(None);
        }
        let mut target =
            Self { env, options, file, meta: found, missing, has_room: false, proven: None, is_ahead: false };
        if let Some(since) = since.filter(|_| !is_same) {
            target.advance(meta, since).await?;
        }
        target.make_room().await?;
        Mark::CopyResumed.hit();
        Ok(Some(target))
    }

    /// Removes the file and what is known of it.
    ///
    /// # Errors
    /// One is there and can't be removed.
    pub async fn remove(env: &E, options: &StoreOptions) -> Result<(), TreeError> {
        Progress::remove(env, &options.path).await?;
        Ok(remove_if_there(env, &options.path).await?)
    }

    /// Becomes a copy of a newer generation of the same file. `since` is what has changed since this one's, or since an even older one.
    ///
    /// # Errors
    /// The file can't be made longer, or this is of another one.
    pub async fn advance(&mut self, meta: CopyMeta, since: &Since) -> Result<(), TreeError> {
        let CopyMeta(meta) = meta;
        if meta.file_id != self.meta.file_id
            || meta.pages < self.meta.pages
            || since.blocks().file_pages() != meta.pages
        {
            return Err(invalid("a later generation that isn't one"));
        }
        if meta.pages > self.meta.pages {
            self.file.set_len(meta.pages * PAGE_BYTES as u64).await?;
        }
        self.has_room = false;
        self.missing.add(since.blocks());
        let is_next = since.from() == self.meta.generation && since.keeps_shared_pages();
        self.proven.take_if(|(generation, _)| !is_next || *generation != self.meta.generation);
        self.meta = meta;
        Ok(())
    }

    /// The generation that it will be.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.meta.generation
    }

    /// Pages that are to be asked for next, in order, at most so many ranges of them: those with the bitmaps alone, if one of these is missing. Empty if nothing is.
    #[must_use]
    pub fn next(&self, ranges_max: usize) -> Vec<Range<u64>> {
        let bitmaps: Vec<_> = self.missing_bitmaps().take(ranges_max).collect();
        if bitmaps.is_empty() { self.missing.runs().take(ranges_max).collect() } else { bitmaps }
    }

    fn missing_bitmaps(&self) -> impl Iterator<Item = Range<u64>> {
        let run = self.meta.bitmap_run();
        self.missing.runs_in(run.first.0, run.end().0)
    }

    /// Once the bitmaps are there: a disk that can't hold what they speak of refuses it now, and not when most of it has come.
    async fn make_room(&mut self) -> Result<(), TreeError> {
        if self.has_room || self.missing_bitmaps().next().is_some() {
            return Ok(());
        }
        let (_, holes) = read_bitmaps(&self.file, &self.meta, &self.options.path).await?;
        let mut from = 0;
        while from < self.meta.pages {
            let end = holes.find(true, from);
            if from < end {
                self.file.allocate(from * PAGE_BYTES as u64, (end - from) * PAGE_BYTES as u64).await?;
            }
            from = holes.find(false, end);
        }
        self.has_room = true;
        Ok(())
    }

    /// Blocks that are missing, and all that there are.
    #[must_use]
    pub fn left(&self) -> (u64, u64) {
        (self.missing.count(), self.missing.count_of_file())
    }

    /// Takes all pages that the sender has of `wanted`, which was asked for, below `until`. They don't count as missing any more; they are written next.
    ///
    /// # Errors
    /// They aren't a part of these pages.
    pub fn accept(&mut self, wanted: &[Range<u64>], until: u64, mut part: Bytes) -> Result<AcceptedPages, TreeError> {
        assert!(!self.is_ahead, "what was accepted is written before the next is");
        if wanted.first().is_none_or(|first| until <= first.start) {
            return Err(invalid("none of those that were asked for"));
        }
        let mut accepted = Vec::new();
        let (mut next, end) = (META_PAGES, until.min(self.meta.pages));
        while !part.is_empty() {
            if part.len() < RUN_HEADER_BYTES {
                return Err(invalid("they end early"));
            }
            let (first, pages) = (part.get_u64_le(), u64::from(part.get_u32_le()));
            if first < next || first >= end || pages == 0 || pages > end - first {
                return Err(invalid("not those that come next"));
            }
            if !wanted.iter().any(|range| range.contains(&first) && range.contains(&(first + pages - 1))) {
                return Err(invalid("not those that were asked for"));
            }
            let bytes = usize::try_from(pages).map_or(usize::MAX, |pages| pages.saturating_mul(PAGE_BYTES));
            if bytes > part.len() || bytes > IO_BYTES_MAX {
                return Err(invalid("they end early"));
            }
            self.accept_run(first, part.split_to(bytes), &mut accepted);
            next = first + pages;
        }
        for range in wanted.iter().take_while(|range| range.start < until) {
            self.missing.remove(range.start, range.end.min(until));
        }
        self.is_ahead = true;
        Ok(AcceptedPages(accepted))
    }

    /// What was proven isn't written again: nothing would prove it a second time.
    fn accept_run(&self, first: u64, bytes: Bytes, accepted: &mut Vec<(u64, Bytes)>) {
        let Some((_, proven)) = &self.proven else { return accepted.push((first, bytes)) };
        let end = first + (bytes.len() / PAGE_BYTES) as u64;
        let byte = |page: u64| usize::try_from(page - first).expect("a part is small") * PAGE_BYTES;
        let mut at = first;
        while at < end {
            // The file may have grown since.
            let until = (at..end).find(|page| proven.get(*page)).unwrap_or(end);
            if at < until {
                accepted.push((at, bytes.slice(byte(at)..byte(until))));
            }
            at = (until..end).find(|page| !proven.get(*page)).unwrap_or(end);
        }
    }

    /// Writes what was accepted. After each write `pace` is called with its bytes.
    ///
    /// # Errors
    /// It can't be written, or there is no room for what will come, or the bitmaps aren't those of the meta: the copy is of no use any more.
    pub async fn write(&mut self, accepted: AcceptedPages, mut pace: impl AsyncFnMut(usize)) -> Result<(), TreeError> {
        for batch in accepted.0.chunks(WRITES_MAX) {
            let write = |(first, bytes): &(u64, Bytes)| {
                let mut buf = AlignedBuf::zeroed(bytes.len());
                buf.as_mut_slice().copy_from_slice(bytes);
                self.file.write_at(first * PAGE_BYTES as u64, buf)
            };
            for ((_, bytes), (result, _)) in batch.iter().zip(join_all(batch.iter().map(write)).await) {
                result?;
                pace(bytes.len()).await;
            }
        }
        self.is_ahead = false;
        self.make_room().await
    }

    /// Makes durable what is there, so that another process can go on with it.
    ///
    /// # Errors
    /// It can't be written.
    pub async fn save(&self) -> Result<(), TreeError> {
        assert!(!self.is_ahead, "what is noted was written");
        self.file.sync().await?;
        let meta = self.meta.encode(self.options.trees);
        Ok(Progress::save(&self.env, &self.options.path, &meta, &self.missing).await?)
    }

    /// Nothing is missing: proves every page, but for those that were proven when this was a copy of an older generation. Says how many were looked at. After each read
    /// `pace` is called with its bytes.
    ///
    /// # Errors
    /// It can't be written or read, or what came isn't what the meta speaks of.
    pub async fn prove(&mut self, pace: impl AsyncFnMut(usize)) -> Result<u64, TreeError> {
        assert!(self.missing.is_empty(), "what is missing can't be proven");
        // Whoever interrupts the proof finds that only the proof is left to do.
        self.save().await?;
        let proven = self.proven.take().map_or_else(Bitmap::default, |(_, used)| used);
        let of = (&self.meta, self.options.trees);
        let (used, count) = prove(&self.env, &self.options.path, of, &proven, pace).await?;
        self.proven = Some((self.meta.generation, used));
        Ok(count)
    }

    /// Everything was proven: makes the meta durable. What is returned has one checkpoint; the next one makes it two.
    ///
    /// # Errors
    /// It can't be written.
    pub async fn finish(self) -> Result<Store<E>, TreeError> {
        let Self { env, options, file, meta, proven, .. } = self;
        assert!(proven.is_some_and(|(generation, _)| generation == meta.generation), "what isn't proven isn't a tree");
        // From here on the file may change.
        Progress::remove(&env, &options.path).await?;
        let mut metas = AlignedBuf::zeroed(META_PAGES as usize * PAGE_BYTES);
        let at = meta.slot().0 as usize * PAGE_BYTES;
        metas.as_mut_slice()[at..][..PAGE_BYTES].copy_from_slice(&meta.encode(options.trees));
        file.write_at(0, metas).await.0?;
        file.sync().await?;
        drop(file);
        Store::open(env, options, true).await
    }
}

fn invalid(what: &str) -> TreeError {
    io::Error::new(io::ErrorKind::InvalidData, format!("pages of a tree: {what}")).into()
}
