//! A bare ring that makes writes durable, for whoever measures a device: no executor; one thread submits, and blocks until something has ended.
//!
//! It is set up as the storage ring of an executor is, and its entries are the same, so that its latencies are those of a log.
//!
//! Invariant: buffer and file live until the kernel has answered every entry that names them; dropping the ring waits for that.

use std::{fs::File, io, marker::PhantomData, os::fd::AsRawFd};

use io_uring::{IoUring, opcode, squeue, types};
use plinth_base::AlignedBuf;

use crate::{
    probe::{self, StartError},
    ring,
};

/// The most writes that can be under way.
pub const WRITES_MAX: usize = 64;

/// How a write becomes durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durable {
    /// One write with RWF_DSYNC.
    Dsync,
    /// A write, and an fdatasync that is linked to it.
    LinkedSync,
}

/// The ring, with the one file and the one buffer that it writes from. It stays on the thread that made it.
pub struct WriteRing {
    uring: IoUring,
    file: File,
    buf: AlignedBuf,
    bytes: u32,
    durable: Durable,
    slots: Vec<Slot>,
    stays_here: PhantomData<*const ()>,
}

/// A write, or the place for one.
#[derive(Clone, Copy, Default)]
struct Slot {
    /// Entries in the kernel.
    out: u32,
    /// The first error among its entries.
    error: Option<i32>,
}

impl WriteRing {
    /// Sets up a ring that writes the first `bytes` of `buf`, for at most `writes` at a time.
    ///
    /// # Errors
    /// The machine has no io_uring, or doesn't let this process use it.
    pub fn new(file: File, buf: AlignedBuf, bytes: usize, durable: Durable, writes: usize) -> Result<Self, StartError> {
        assert!((1..=buf.len()).contains(&bytes), "{bytes} bytes of a buffer of {}", buf.len());
        assert!((1..=WRITES_MAX).contains(&writes), "{writes} writes at a time");
        let features = probe::check()?;
        let uring = ring::build(&features).map_err(|error| StartError::io("setting up an io_uring", error))?;
        let bytes = u32::try_from(bytes).expect("a buffer of less than 4 GiB");
        let slots = vec![Slot::default(); writes];
        Ok(Self { uring, file, buf, bytes, durable, slots, stays_here: PhantomData })
    }

    /// Queues a write at `offset`; [`WriteRing::wait`] brings it to the kernel. `slot` names it until it has ended.
    pub fn start(&mut self, slot: usize, offset: u64) {
        assert_eq!(self.slots[slot].out, 0, "slot {slot} has a write under way");
        let fd = types::Fd(self.file.as_raw_fd());
        let write = opcode::Write::new(fd, self.buf.as_slice().as_ptr(), self.bytes).offset(offset);
        let name = slot as u64;
        match self.durable {
            Durable::Dsync => self.push(slot, &[write.rw_flags(libc::RWF_DSYNC).build().user_data(name << 1)]),
            Durable::LinkedSync => {
                let sync = opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build();
                let write = write.build().flags(squeue::Flags::IO_LINK);
                self.push(slot, &[write.user_data(name << 1), sync.user_data(name << 1 | 1)]);
            }
        }
    }

    #[allow(unsafe_code)]
    fn push(&mut self, slot: usize, entries: &[squeue::Entry]) {
        // SAFETY: the entries name `file` and the first `bytes` of `buf`, which nobody writes to, and which live as long as the ring; `drop`
        // waits until the kernel has answered every entry that `out` counts.
        let pushed = unsafe { self.uring.submission().push_multiple(entries) };
        pushed.expect("the queue has room for two entries of each of WRITES_MAX writes");
        self.slots[slot].out = u32::try_from(entries.len()).expect("one or two");
    }

    /// Brings what is queued to the kernel and blocks until a write has ended: its slot, and what became of it.
    ///
    /// # Errors
    /// The ring itself doesn't work any more. With nothing under way there is nothing to wait for, which is an error too.
    pub fn wait(&mut self) -> io::Result<(usize, io::Result<()>)> {
        loop {
            if self.slots.iter().all(|slot| slot.out == 0) {
                return Err(io::Error::other("no write is under way"));
            }
            self.enter()?;
            while let Some((name, result)) = self.answered() {
                if let Some(ended) = self.complete(name, result) {
                    return Ok(ended);
                }
            }
        }
    }

    /// One system call that submits and waits for an entry.
    fn enter(&mut self) -> io::Result<()> {
        match self.uring.submit_and_wait(1) {
            Ok(_) => Ok(()),
            Err(error) if ring::is_transient(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// An entry that the kernel has answered.
    fn answered(&mut self) -> Option<(u64, i32)> {
        let entry = self.uring.completion().next()?;
        Some((entry.user_data(), entry.result()))
    }

    /// Takes the result of an entry; gives the write if that was its last one.
    fn complete(&mut self, name: u64, result: i32) -> Option<(usize, io::Result<()>)> {
        let (at, is_write) = ((name >> 1) as usize, name & 1 == 0);
        let slot = &mut self.slots[at];
        slot.out -= 1;
        let is_short = is_write && (0..).contains(&result) && result.unsigned_abs() != self.bytes;
        if result < 0 || is_short {
            // A write that failed cancels its sync: what counts came first.
            slot.error.get_or_insert(if is_short { 0 } else { -result });
        }
        if slot.out > 0 {
            return None;
        }
        let ended = match slot.error.take() {
            None => Ok(()),
            Some(0) => Err(io::Error::new(io::ErrorKind::WriteZero, "the device took only a part of the write")),
            Some(code) => Err(ring::os_error(code)),
        };
        Some((at, ended))
    }
}

impl Drop for WriteRing {
    fn drop(&mut self) {
        // The kernel may still read the buffer: it is freed only when every entry was answered.
        while self.slots.iter().any(|slot| slot.out > 0) {
            if self.enter().is_err() {
                // Nothing can be known about the buffer any more.
                std::process::abort();
            }
            while let Some((name, result)) = self.answered() {
                self.complete(name, result);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use plinth_base::BLOCK_BYTES;

    use super::*;

    fn ring(path: &Path, durable: Durable, writes: usize) -> WriteRing {
        let file = File::options().write(true).create(true).truncate(false).open(path).expect("a scratch file");
        let mut buf = AlignedBuf::zeroed(BLOCK_BYTES);
        buf.as_mut_slice().fill(7);
        WriteRing::new(file, buf, BLOCK_BYTES, durable, writes).expect("io_uring works here")
    }

    #[test]
    fn every_write_that_was_started_ends_once_and_is_there() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        for durable in [Durable::Dsync, Durable::LinkedSync] {
            let path = dir.path().join(format!("{durable:?}"));
            let mut ring = ring(&path, durable, 4);
            (0..4).for_each(|slot| ring.start(slot, (slot * BLOCK_BYTES) as u64));
            let mut ended: Vec<usize> = (0..4)
                .map(|_| {
                    let (slot, result) = ring.wait().expect("the ring works");
                    result.expect("the write did too");
                    slot
                })
                .collect();
            ended.sort_unstable();
            assert_eq!(ended, [0, 1, 2, 3]);
            assert!(ring.wait().is_err(), "nothing is under way");
            assert_eq!(fs::read(&path).expect("written"), vec![7; 4 * BLOCK_BYTES]);
        }
    }

    #[test]
    fn a_write_that_fails_says_why_and_the_next_one_works() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let path = dir.path().join("file");
        let mut ring = ring(&path, Durable::LinkedSync, 1);
        ring.start(0, i64::MAX as u64);
        let (slot, result) = ring.wait().expect("the ring works");
        let code = result.expect_err("no file is that long").raw_os_error();
        assert!(slot == 0 && code != Some(libc::ECANCELED), "the write's own error, not that of its sync: {code:?}");
        ring.start(0, 0);
        assert!(ring.wait().expect("the ring works").1.is_ok());
    }

    #[test]
    fn a_ring_that_is_dropped_waits_for_its_writes() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let path = dir.path().join("file");
        let mut ring = ring(&path, Durable::Dsync, 2);
        ring.start(0, 0);
        ring.start(1, BLOCK_BYTES as u64);
        drop(ring);
        assert_eq!(fs::read(&path).expect("written").len(), 2 * BLOCK_BYTES);
    }
}
