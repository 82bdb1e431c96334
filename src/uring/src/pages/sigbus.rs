//! SIGBUS: a page of a mapped file couldn't be read, because the device failed or the file was cut by somebody else.
//!
//! Nobody can go on after that. The handler writes which file and page it was to standard error and aborts. It uses only what is
//! allowed in a signal handler: atomics, write(2), abort(3). Faults outside our mappings go to the handler that was there before.
#![allow(unsafe_code)]

use std::{
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
    ptr::null_mut,
    sync::{
        OnceLock,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
};

/// Mappings that the handler knows at the same time; more work, but without a name in the message.
const MAPPINGS_MAX: usize = 64;

/// Bytes of a path that the message shows, from its end.
const NAME_BYTES_MAX: usize = 200;

struct Slot {
    /// 0 if unused; written last.
    start: AtomicUsize,
    bytes: AtomicUsize,
    page_bytes: AtomicUsize,
    name: [AtomicU8; NAME_BYTES_MAX],
}

static SLOTS: [Slot; MAPPINGS_MAX] = [const {
    Slot {
        start: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        page_bytes: AtomicUsize::new(1),
        name: [const { AtomicU8::new(0) }; NAME_BYTES_MAX],
    }
}; MAPPINGS_MAX];

/// Marks a slot that is being filled.
const CLAIMED: usize = 1;

/// A mapping that the handler can name, until this is dropped.
pub(super) struct Registration(usize);

impl Registration {
    /// None if all slots are taken.
    pub(super) fn new(start: usize, bytes: usize, page_bytes: usize, path: &Path) -> Option<Self> {
        let claim = |slot: &Slot| slot.start.compare_exchange(0, CLAIMED, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        let index = SLOTS.iter().position(claim)?;
        let slot = &SLOTS[index];
        let path = path.as_os_str().as_bytes();
        let tail = &path[path.len().saturating_sub(NAME_BYTES_MAX)..];
        let padded = tail.iter().copied().chain(std::iter::repeat(0));
        for (place, byte) in slot.name.iter().zip(padded) {
            place.store(byte, Ordering::Relaxed);
        }
        slot.bytes.store(bytes, Ordering::Relaxed);
        slot.page_bytes.store(page_bytes, Ordering::Relaxed);
        slot.start.store(start, Ordering::Release);
        Some(Self(index))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        SLOTS[self.0].start.store(0, Ordering::Release);
    }
}

/// The handler that was there before.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// Installs the handler, once per process.
pub(crate) fn install() -> io::Result<()> {
    if PREVIOUS.get().is_some() {
        return Ok(());
    }
    // SAFETY: sigaction is plain data; all zero is "default action, no flags".
    let (mut action, mut previous): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
    // SAFETY: a null action only asks; the pointer is to a live sigaction.
    if unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut previous) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // Set before the handler can run.
    if PREVIOUS.set(previous).is_err() {
        return Ok(());
    }
    action.sa_sigaction = handle as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: `handle` has the signature that SA_SIGINFO demands and does only what a signal handler may.
    if unsafe { libc::sigaction(libc::SIGBUS, &raw const action, null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

extern "C" fn handle(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to a handler installed with SA_SIGINFO.
    let addr = unsafe { (*info).si_addr() } as usize;
    for slot in &SLOTS {
        let start = slot.start.load(Ordering::Acquire);
        if start > CLAIMED && (start..start + slot.bytes.load(Ordering::Relaxed)).contains(&addr) {
            report(slot, addr - start);
            // SAFETY: abort may be called in a handler.
            unsafe { libc::abort() };
        }
    }
    // Not ours: with the old handler back, the access faults again and meets it.
    if let Some(previous) = PREVIOUS.get() {
        // SAFETY: `previous` is what sigaction returned for this signal.
        unsafe { libc::sigaction(libc::SIGBUS, previous, null_mut()) };
    }
}

/// Writes the message. No allocation, no lock.
fn report(slot: &Slot, offset: usize) {
    let mut line = Line { bytes: [0; 512], len: 0 };
    line.put(b"plinth: fatal: page ");
    line.put_number(offset / slot.page_bytes.load(Ordering::Relaxed).max(1));
    line.put(b" (offset ");
    line.put_number(offset);
    line.put(b") of ");
    for byte in &slot.name {
        match byte.load(Ordering::Relaxed) {
            0 => break,
            byte => line.put(&[byte]),
        }
    }
    line.put(b" can't be read: the device failed or the file was cut (SIGBUS)\n");
    // SAFETY: the buffer is live and `len` long; write may be called in a handler.
    let _ = unsafe { libc::write(libc::STDERR_FILENO, line.bytes.as_ptr().cast(), line.len) };
}

struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl Line {
    fn put(&mut self, text: &[u8]) {
        for byte in text {
            if self.len < self.bytes.len() {
                self.bytes[self.len] = *byte;
                self.len += 1;
            }
        }
    }

    fn put_number(&mut self, number: usize) {
        let mut digits = [0; 20];
        let (mut rest, mut at) = (number, digits.len());
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.put(&digits[at..]);
    }
}
