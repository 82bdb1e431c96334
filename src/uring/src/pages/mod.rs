//! The pages of a tree file, read through one mapping that all executors share.
//!
//! What makes reads safe on an executor is knowledge, not luck: a page is handed out only if it was verified since it came
//! into memory and is known to be there still. [`residency`] keeps that knowledge, [`mapping`] asks the kernel, helper threads
//! load and verify, and [`sweeper`] lets the knowledge age. `docs/decisions/residency.md` has the measurements.
//!
//! Invariants: a page without a stamp is never touched by an executor; a stamp is set only after the page's bytes were
//! verified against their checksum or written by a checkpoint; the mapping never moves while the file is open.

mod mapping;
mod residency;
mod sigbus;
mod sweeper;

use std::{
    io,
    ops::Range,
    os::fd::{BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use plinth_base::{Corrupt, PageRun, crc32c};
use plinth_env::{PageError, PageSource, PageWant};

use self::{
    mapping::Mapping,
    residency::{Ask, Residency},
};
pub(crate) use self::{mapping::populate_read_works, sigbus::install as install_sigbus_handler, sweeper::Sweeper};
use crate::{
    file::retry,
    probe::{Feature, Features},
};

/// The pages of one file, mapped for its life.
pub struct MappedPages {
    mapping: Mapping,
    residency: Residency,
    /// For reads that must fail with an error instead of a signal.
    fd: OwnedFd,
    path: PathBuf,
    page_bytes: usize,
    features: Features,
}

impl MappedPages {
    /// Reserves `bytes_max` of addresses for `fd`. The file may be shorter, and grow up to there.
    pub(crate) fn open(
        fd: BorrowedFd<'_>,
        path: &Path,
        page_bytes: usize,
        bytes_max: u64,
        features: Features,
    ) -> io::Result<Arc<Self>> {
        let os_page_bytes = rustix::param::page_size();
        let sound = page_bytes >= os_page_bytes && page_bytes.is_multiple_of(os_page_bytes);
        let pages = bytes_max / page_bytes.max(1) as u64;
        if !sound || pages == 0 {
            let message = format!("pages of {page_bytes} bytes can't be mapped: the system's have {os_page_bytes}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let bytes = usize::try_from(pages).ok().and_then(|pages| pages.checked_mul(page_bytes));
        let bytes = bytes.ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        Ok(Arc::new(Self {
            mapping: Mapping::open(fd, path, page_bytes, bytes)?,
            residency: Residency::new(bytes / page_bytes)?,
            fd: fd.try_clone_to_owned()?,
            path: path.to_owned(),
            page_bytes,
            features,
        }))
    }

    /// Where the pages lie that hold what `want` asks for: page numbers, or nothing if that is not within the file's reservation.
    fn pages_of(&self, want: &PageWant) -> Option<Range<usize>> {
        let first = usize::try_from(want.run.first.0).ok()?;
        let count = (want.bytes as usize).div_ceil(self.page_bytes);
        let end = first.checked_add(count)?;
        (count <= want.run.count as usize && end <= self.residency.pages()).then_some(first..end)
    }

    fn bytes_of(&self, pages: &Range<usize>) -> Range<usize> {
        pages.start * self.page_bytes..pages.end * self.page_bytes
    }

    /// Brings the pages into memory and verifies them; blocks, so it runs on a helper thread.
    pub(crate) fn load(&self, wants: &[PageWant]) -> Result<(), PageError> {
        // All reads start before the first one is waited for. Populating alone would be slow even for one page: the read
        // that it starts waits in the block layer for up to a clock tick (docs/decisions/residency.md).
        for pages in wants.iter().filter(|want| self.get(want).is_none()).filter_map(|want| self.pages_of(want)) {
            self.mapping.will_need(self.bytes_of(&pages));
        }
        wants.iter().try_for_each(|want| self.load_one(want))
    }

    fn load_one(&self, want: &PageWant) -> Result<(), PageError> {
        let Some(pages) = self.pages_of(want) else {
            let got = format!("page {} in a file of at most {} pages", want.run.first, self.residency.pages());
            return Err(self.corrupt(want, "a page of the tree".to_owned(), got));
        };
        if self.get(want).is_some() {
            return Ok(());
        }
        let len = u64::try_from(rustix::fs::fstat(&self.fd).map_err(io_error)?.st_size).unwrap_or(0);
        let bytes = self.bytes_of(&pages);
        if len < (bytes.start + want.bytes as usize) as u64 {
            return Err(self.corrupt(want, "a page of the tree".to_owned(), format!("the end of the file, at {len}")));
        }
        let in_file = bytes.start..bytes.end.min(usize::try_from(len).unwrap_or(usize::MAX));
        self.bring_in(in_file.clone()).map_err(PageError::Io)?;
        let found = crc32c(0, self.mapping.bytes(in_file.start..in_file.start + want.bytes as usize));
        if found != want.checksum {
            let (want_text, got) = (format!("checksum {:08x}", want.checksum), format!("{found:08x}"));
            return Err(self.corrupt(want, want_text, got));
        }
        self.residency.mark(pages);
        Ok(())
    }

    fn bring_in(&self, bytes: Range<usize>) -> io::Result<()> {
        if self.features.has(Feature::PopulateRead) {
            return self.mapping.populate(bytes);
        }
        let mut scratch = vec![0; bytes.len()];
        let mut done = 0;
        while done < scratch.len() {
            match retry(|| rustix::io::pread(&self.fd, &mut scratch[done..], (bytes.start + done) as u64))? {
                0 => return Ok(()),
                got => done += got,
            }
        }
        Ok(())
    }

    fn corrupt(&self, want: &PageWant, want_text: String, got: String) -> PageError {
        let offset = want.run.first.0.saturating_mul(self.page_bytes as u64);
        PageError::Corrupt(Corrupt { file: self.path.clone(), offset, want: want_text, got })
    }

    /// Forgets pages of `range` that the kernel has dropped. Pages stamped lately are left alone.
    fn sweep(&self, range: Range<usize>) {
        self.residency.sweep(range, |pages| self.mapping.resident(self.bytes_of(&pages), self.page_bytes));
    }

    /// Takes the file's pages out of the page cache, as memory pressure would. For tests and measurements.
    pub fn evict_all(&self) -> io::Result<()> {
        self.mapping.evict()?;
        retry(|| rustix::fs::fdatasync(&self.fd))?;
        retry(|| rustix::fs::fadvise(&self.fd, 0, None, rustix::fs::Advice::DontNeed))
    }

    fn run_pages(&self, run: PageRun) -> Range<usize> {
        let clamp = |page: u64| usize::try_from(page).unwrap_or(usize::MAX).min(self.residency.pages());
        clamp(run.first.0)..clamp(run.end().0)
    }
}

fn io_error(errno: rustix::io::Errno) -> PageError {
    PageError::Io(errno.into())
}

impl PageSource for MappedPages {
    fn get(&self, want: &PageWant) -> Option<&[u8]> {
        let pages = self.pages_of(want)?;
        let bytes = self.bytes_of(&pages);
        let ask = |block, how| match how {
            Ask::Cached => self.mapping.cached(self.bytes_of(&block), self.page_bytes),
            Ask::Mapped => self.mapping.mapped(self.bytes_of(&block), self.page_bytes),
        };
        let there = self.residency.check(pages, ask);
        there.then(|| self.mapping.bytes(bytes.start..bytes.start + want.bytes as usize))
    }

    fn prefetch(&self, want: &PageWant) {
        if let Some(pages) = self.pages_of(want) {
            let start = pages.start * self.page_bytes;
            self.mapping.prefetch(start..start + want.bytes as usize);
        }
    }

    fn forget(&self, run: PageRun) {
        self.residency.clear(self.run_pages(run));
    }

    fn note_written(&self, run: PageRun) {
        self.residency.mark(self.run_pages(run));
    }
}

#[cfg(test)]
mod tests;
