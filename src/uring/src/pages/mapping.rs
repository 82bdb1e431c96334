//! One read-only mapping for a file's life, and what the kernel is asked about it.
//!
//! Invariant: `addr..addr + bytes` is a mapping of ours, of the same file, from `open` to `drop`; offsets are checked
//! against it before any pointer is made.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    ops::Range,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::fs::FileExt,
    },
    path::Path,
    ptr::{NonNull, null_mut},
};

use super::sigbus::Registration;

/// Pages of the system asked for with one read of the page map.
const ASK_PAGES_MAX: usize = 128;

/// What the processor brings into its cache at once.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE_BYTES: usize = 64;

/// Bytes of an entry of /proc/self/pagemap.
const ENTRY_BYTES: usize = 8;

pub(super) struct Mapping {
    addr: NonNull<u8>,
    bytes: usize,
    os_page_bytes: usize,
    /// /proc/self/pagemap, if it can be read.
    pagemap: Option<File>,
    _registration: Option<Registration>,
}

// SAFETY: the mapping is read-only memory of the process; nothing in it belongs to a thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; all methods take &self and only read the mapping or advise the kernel about it.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `bytes` of `fd`, beyond its end too: what is written there later shows up.
    pub(super) fn open(fd: BorrowedFd<'_>, path: &Path, page_bytes: usize, bytes: usize) -> io::Result<Self> {
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let addr = unsafe { libc::mmap(null_mut(), bytes, libc::PROT_READ, flags, fd.as_raw_fd(), 0) };
        if addr == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let addr = NonNull::new(addr.cast::<u8>()).expect("mmap never maps the null page unless told to");
        let registration = Registration::new(addr.as_ptr() as usize, bytes, page_bytes, path);
        let mapping = Self {
            addr,
            bytes,
            os_page_bytes: rustix::param::page_size(),
            pagemap: File::open("/proc/self/pagemap").ok(),
            _registration: registration,
        };
        // Read-ahead would fill memory with pages that nobody verified or wants.
        mapping.advise(0..bytes, libc::MADV_RANDOM)?;
        Ok(mapping)
    }

    /// The bytes of `range`, which the caller knows to be in memory and not written as long as the slice is used.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.bytes, "{range:?} of {} mapped bytes", self.bytes);
        // SAFETY: the range lies in the mapping (asserted), which lives as long as &self. The tree doesn't write a page that a
        // pinned root reaches, which is what PageSource demands of every reader, so the bytes don't change under the slice.
        unsafe { std::slice::from_raw_parts(self.addr.as_ptr().add(range.start), range.len()) }
    }

    /// Starts reading `range` into the page cache without waiting. Only a hint.
    pub(super) fn will_need(&self, range: Range<usize>) {
        let _ = self.advise(range, libc::MADV_WILLNEED);
    }

    /// Brings `range` into memory and into the page table; waits for the device.
    pub(super) fn populate(&self, range: Range<usize>) -> io::Result<()> {
        loop {
            match self.advise(range.clone(), libc::MADV_POPULATE_READ) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => {}
                // What a touch would have answered with SIGBUS.
                Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {
                    return Err(io::Error::from_raw_os_error(libc::EIO));
                }
                result => return result,
            }
        }
    }

    /// Unmaps all pages (they come back when touched), so that the page cache can drop them.
    pub(super) fn evict(&self) -> io::Result<()> {
        self.advise(0..self.bytes, libc::MADV_DONTNEED)
    }

    /// Asks the processor for the bytes of `range`, wherever they are: what isn't in memory is left alone.
    pub(super) fn prefetch(&self, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.bytes, "{range:?} of {} mapped bytes", self.bytes);
        #[cfg(target_arch = "x86_64")]
        for at in range.step_by(CACHE_LINE_BYTES) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: the address lies in the mapping (asserted); a prefetch reads nothing that the program sees and never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.addr.as_ptr().add(at).cast()) };
        }
    }

    /// For each `page_bytes` of `range`, whether all of it is in memory.
    pub(super) fn resident(&self, range: Range<usize>, page_bytes: usize) -> Vec<bool> {
        let mut answers = vec![0u8; range.len() / self.os_page_bytes];
        if self.mincore(range, &mut answers).is_err() {
            // Nothing is known: forgetting is always safe.
            answers.fill(0);
        }
        answers.chunks(page_bytes / self.os_page_bytes).map(|page| page.iter().all(|byte| byte & 1 != 0)).collect()
    }

    /// For each `page_bytes` of `range`, at most 128, a bit: whether all of it is in memory.
    pub(super) fn cached(&self, range: Range<usize>, page_bytes: usize) -> u128 {
        bits(self.resident(range, page_bytes))
    }

    /// For each `page_bytes` of `range`, at most 128, a bit: whether all of it is in the page table, so that a touch doesn't fault at all.
    ///
    /// mincore would also count pages that reclaim has unmapped and is about to drop: a touch of those can go to the device.
    pub(super) fn mapped(&self, range: Range<usize>, page_bytes: usize) -> u128 {
        let Some(pagemap) = &self.pagemap else { return self.cached(range, page_bytes) };
        let mut entries = [0u8; ENTRY_BYTES * ASK_PAGES_MAX];
        let step = ASK_PAGES_MAX * self.os_page_bytes / page_bytes * page_bytes;
        let mut answers = 0;
        for start in range.clone().step_by(step) {
            let pages = (range.end.min(start + step) - start).div_ceil(self.os_page_bytes);
            let entries = &mut entries[..pages * ENTRY_BYTES];
            let first = (self.addr.as_ptr() as usize + start) / self.os_page_bytes;
            if pagemap.read_exact_at(entries, (first * ENTRY_BYTES) as u64).is_err() {
                continue;
            }
            // The top bit of a little-endian entry: present.
            let is_there = |page: &[u8]| page.chunks(ENTRY_BYTES).all(|entry| entry[ENTRY_BYTES - 1] & 0x80 != 0);
            let page_entries = page_bytes / self.os_page_bytes * ENTRY_BYTES;
            answers |= bits(entries.chunks(page_entries).map(is_there)) << ((start - range.start) / page_bytes);
        }
        answers
    }

    fn mincore(&self, range: Range<usize>, answers: &mut [u8]) -> io::Result<()> {
        assert!(range.start <= range.end && range.end <= self.bytes, "{range:?} of {} mapped bytes", self.bytes);
        assert!(answers.len() >= range.len().div_ceil(self.os_page_bytes), "one answer per page");
        loop {
            // SAFETY: the range lies in the mapping (asserted) and the kernel writes one byte per page of it, for which there
            // is room (asserted).
            let result =
                unsafe { libc::mincore(self.addr.as_ptr().add(range.start).cast(), range.len(), answers.as_mut_ptr()) };
            match result {
                0 => return Ok(()),
                _ => match io::Error::last_os_error() {
                    // The kernel had no memory for its own list for a moment.
                    error if error.raw_os_error() == Some(libc::EAGAIN) => {}
                    error => return Err(error),
                },
            }
        }
    }

    fn advise(&self, range: Range<usize>, advice: i32) -> io::Result<()> {
        assert!(range.start <= range.end && range.end <= self.bytes, "{range:?} of {} mapped bytes", self.bytes);
        // SAFETY: the range lies in the mapping (asserted). The advices used here never change what the file's bytes are: a
        // dropped page of a shared file mapping is read again from the file.
        let result = unsafe { libc::madvise(self.addr.as_ptr().add(range.start).cast(), range.len(), advice) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Bit `i` is answer `i`.
fn bits(answers: impl IntoIterator<Item = bool>) -> u128 {
    answers.into_iter().enumerate().fold(0, |bits, (at, answer)| bits | u128::from(answer) << at)
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no slice of it outlives self.
        unsafe { libc::munmap(self.addr.as_ptr().cast(), self.bytes) };
    }
}

/// Whether the kernel has MADV_POPULATE_READ: tried on memory of our own.
pub(crate) fn populate_read_works() -> bool {
    let bytes = rustix::param::page_size();
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice, checked, used and removed here.
    unsafe {
        let addr = libc::mmap(null_mut(), bytes, libc::PROT_READ, flags, -1, 0);
        if addr == libc::MAP_FAILED {
            return false;
        }
        let works = libc::madvise(addr, bytes, libc::MADV_POPULATE_READ) == 0;
        libc::munmap(addr, bytes);
        works
    }
}
