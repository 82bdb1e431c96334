//! One storage operation as a state machine: which ring entries it needs next, and what their results mean.
//!
//! Invariant: the buffer and the descriptor belong to the request until every entry that was submitted for it has completed.
//! Short transfers are continued, interrupted ones repeated; what reaches the caller is whole or an error.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
};

use io_uring::{opcode, squeue, types};
use plinth_base::{AlignedBuf, BLOCK_BYTES, bug, limits::IO_BYTES_MAX};

/// How often in a row an entry may come back with EINTR or EAGAIN without any progress.
const RETRIES_MAX: u32 = 64;

/// Waits for what is on its way, starts the rest, waits for that.
const WRITE_OUT_FLAGS: u32 =
    libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Fill the buffer; what lies behind the file's end reads as zero.
    Read,
    /// Write the buffer.
    Write,
    /// Write the buffer with RWF_DSYNC.
    WriteDsync,
    /// Write the buffer, then fdatasync, linked.
    WriteThenSync,
    /// fdatasync.
    Sync,
    /// Everything written so far goes to the device, and the answer comes when it is there; nothing is durable by it (sync_file_range).
    WriteOut,
    /// Wait until the descriptor is ready for these poll(2) events.
    Poll(u32),
    /// Read an eventfd.
    Event,
    /// fallocate, which makes the file longer where needed.
    Allocate {
        /// Length of the range.
        bytes: u64,
    },
}

impl Kind {
    /// What is issued: the same, unless a known bug leaves the flush out. A sync without one is a write of its empty buffer.
    fn issued(self) -> Self {
        match self {
            Self::WriteDsync | Self::WriteThenSync | Self::Sync if bug!(SkipFlush) => Self::Write,
            kind => kind,
        }
    }
}

/// An operation with all that the kernel may touch while it is under way.
pub(crate) struct Request {
    kind: Kind,
    fd: Arc<OwnedFd>,
    offset: u64,
    buf: AlignedBuf,
    /// Whole blocks only (O_DIRECT).
    direct: bool,
    /// Bytes of the buffer that are transferred.
    done: usize,
    retries: u32,
    /// Entries in the kernel.
    outstanding: u32,
    /// Results of the entries of this round, by part.
    results: [i32; 2],
}

/// What a round of entries has led to.
#[derive(Debug)]
pub(crate) enum Step {
    /// Another entry of this round is still out.
    Wait,
    /// More entries are needed.
    Again,
    /// It is over.
    Done(io::Result<()>),
}

impl Request {
    pub(crate) fn new(kind: Kind, fd: Arc<OwnedFd>, direct: bool, offset: u64, buf: AlignedBuf) -> Self {
        assert!(buf.len() <= IO_BYTES_MAX, "a single transfer of {} bytes", buf.len());
        assert!(!direct || offset.is_multiple_of(BLOCK_BYTES as u64), "direct I/O at {offset}");
        Self { kind: kind.issued(), fd, offset, buf, direct, done: 0, retries: 0, outstanding: 0, results: [0; 2] }
    }

    /// Whether it may take for ever: nobody waits for its end, and it is cancelled when it is no longer wanted.
    pub(crate) fn is_patient(&self) -> bool {
        matches!(self.kind, Kind::Poll(_) | Kind::Event)
    }

    /// Whether the kernel has an entry of it.
    pub(crate) fn is_out(&self) -> bool {
        self.outstanding > 0
    }

    /// How many entries the next round takes.
    pub(crate) fn entries(&self) -> u32 {
        if self.kind == Kind::WriteThenSync { 2 } else { 1 }
    }

    /// The entries of the next round; `user_data` of part p is `token | p`.
    pub(crate) fn start_round(&mut self, token: u64) -> (squeue::Entry, Option<squeue::Entry>) {
        assert_eq!(self.outstanding, 0, "a round while entries are out");
        self.outstanding = self.entries();
        let fd = types::Fd(self.fd.as_raw_fd());
        let at = self.offset + self.done as u64;
        let rest = &mut self.buf.as_mut_slice()[self.done..];
        let rest_len = u32::try_from(rest.len()).expect("at most IO_BYTES_MAX");
        let write = |ptr| opcode::Write::new(fd, ptr, rest_len).offset(at);
        let sync = || opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build();
        let (first, second) = match self.kind {
            Kind::Read => (opcode::Read::new(fd, rest.as_mut_ptr(), rest_len).offset(at).build(), None),
            Kind::Poll(events) => (opcode::PollAdd::new(fd, events).build(), None),
            Kind::Event => (opcode::Read::new(fd, rest.as_mut_ptr(), rest_len).build(), None),
            Kind::Write => (write(rest.as_ptr()).build(), None),
            Kind::WriteDsync => (write(rest.as_ptr()).rw_flags(libc::RWF_DSYNC).build(), None),
            Kind::WriteThenSync => {
                (write(rest.as_ptr()).build().flags(squeue::Flags::IO_LINK), Some(sync().user_data(token | 1)))
            }
            Kind::Sync => (sync(), None),
            Kind::WriteOut => (opcode::SyncFileRange::new(fd, 0).flags(WRITE_OUT_FLAGS).build(), None),
            Kind::Allocate { bytes } => (opcode::Fallocate::new(fd, bytes).offset(self.offset).build(), None),
        };
        (first.user_data(token), second)
    }

    /// Takes the result of one entry.
    pub(crate) fn complete(&mut self, part: usize, result: i32) -> Step {
        assert!(self.outstanding > 0, "a completion that nobody waits for");
        self.outstanding -= 1;
        self.results[part] = result;
        if self.outstanding > 0 { Step::Wait } else { self.judge() }
    }

    fn judge(&mut self) -> Step {
        let first = self.results[0];
        if first < 0 {
            return self.judge_error(-first);
        }
        match self.kind {
            Kind::Sync | Kind::WriteOut | Kind::Poll(_) | Kind::Event | Kind::Allocate { .. } => Step::Done(Ok(())),
            Kind::Read => self.judge_read(first as usize),
            Kind::Write | Kind::WriteDsync | Kind::WriteThenSync => self.judge_write(first as usize),
        }
    }

    fn judge_error(&mut self, code: i32) -> Step {
        if matches!(code, libc::EINTR | libc::EAGAIN) && self.retries < RETRIES_MAX {
            self.retries += 1;
            return Step::Again;
        }
        Step::Done(Err(os_error(code)))
    }

    fn judge_read(&mut self, got: usize) -> Step {
        let end = self.done + got;
        if end >= self.buf.len() {
            return Step::Done(Ok(()));
        }
        // Direct I/O can only go on at a block, so it reads the last part again; no progress then means the file's end.
        let next = if self.direct { end / BLOCK_BYTES * BLOCK_BYTES } else { end };
        if got == 0 || next <= self.done {
            self.buf.as_mut_slice()[end..].fill(0);
            return Step::Done(Ok(()));
        }
        self.progress(next)
    }

    fn judge_write(&mut self, put: usize) -> Step {
        let end = self.done + put;
        if end < self.buf.len() {
            let next = if self.direct { end / BLOCK_BYTES * BLOCK_BYTES } else { end };
            if next <= self.done {
                return Step::Done(Err(io::Error::new(io::ErrorKind::WriteZero, "the device took no bytes")));
            }
            // A short write broke the link: its sync was cancelled and is issued again with the rest.
            return self.progress(next);
        }
        match self.results[1] {
            code if self.kind == Kind::WriteThenSync && code < 0 => self.judge_error(-code),
            _ => Step::Done(Ok(())),
        }
    }

    fn progress(&mut self, done: usize) -> Step {
        self.done = done;
        self.retries = 0;
        Step::Again
    }

    /// The buffer, when nothing is out any more.
    pub(crate) fn into_buf(self) -> AlignedBuf {
        assert_eq!(self.outstanding, 0, "the kernel still holds the buffer");
        self.buf
    }
}

/// An error of the operating system, with a full quota seen as a full device.
pub(crate) fn os_error(code: i32) -> io::Error {
    match code {
        libc::EDQUOT => io::Error::new(io::ErrorKind::StorageFull, io::Error::from_raw_os_error(code)),
        libc::EOPNOTSUPP => io::Error::new(io::ErrorKind::Unsupported, io::Error::from_raw_os_error(code)),
        _ => io::Error::from_raw_os_error(code),
    }
}

#[cfg(test)]
mod tests;
