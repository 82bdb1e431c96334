//! Files on the storage ring, and on helper threads for what the ring needn't do.

use std::{
    cell::Cell,
    future::{Future, ready},
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use futures_util::future::Either;
use plinth_base::{AlignedBuf, bug};
use plinth_env::{File, OpenMode, OpenOptions, SyncMethod};
use rustix::{
    fs::{Advice, FallocateFlags, Mode, OFlags},
    io::{Errno, ReadWriteFlags},
};

use crate::{
    helpers::Pool,
    probe::Feature,
    ring::{Kind, Outcome, Request, os_error},
    runtime::Executor,
};

/// How much a file grows per write where the file system can't reserve space.
const GROW_BYTES: usize = 256 << 10;

/// A cached file is written out to its device whenever so much has been written to it: what waits in the page cache for a sync would go
/// out in one burst, and a write of the log that comes in between would wait for all of it.
const WRITE_OUT_BYTES: usize = 512 << 10;

/// A file of the real environment.
#[derive(Clone)]
pub struct UringFile(Rc<Inner>);

struct Inner {
    fd: Arc<OwnedFd>,
    path: PathBuf,
    options: OpenOptions,
    executor: Rc<Executor>,
    /// Bytes written through the page cache since it was last written out.
    cached_bytes: Cell<usize>,
    /// The blocking thread, if the method wants one.
    sync_thread: Option<Rc<Pool>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Closing the last descriptor of a removed file frees its blocks, which takes a while.
        let fd = Arc::clone(&self.fd);
        drop(self.executor.process.files.try_detached(move || drop(fd)));
    }
}

impl UringFile {
    pub(crate) fn new(fd: OwnedFd, path: PathBuf, options: OpenOptions, executor: Rc<Executor>) -> io::Result<Self> {
        let sync_thread = match options.sync_method {
            SyncMethod::ThreadDsync => Some(executor.sync_thread()?),
            SyncMethod::WriteDsync | SyncMethod::LinkedSync => None,
        };
        let cached_bytes = Cell::new(0);
        Ok(Self(Rc::new(Inner { fd: Arc::new(fd), path, options, executor, cached_bytes, sync_thread })))
    }

    /// The path by which it was opened.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }

    fn on_ring(&self, kind: Kind, offset: u64, buf: AlignedBuf) -> impl Future<Output = Outcome> + 'static {
        let fd = Arc::clone(&self.0.fd);
        self.0.executor.ring.start(Request::new(kind, fd, self.0.options.direct, offset, buf))
    }

    /// An error here is one of an earlier write, and no later sync reports it again.
    async fn write_out_if_due(&self, written: usize) -> io::Result<()> {
        let waiting = self.0.cached_bytes.get() + written;
        if waiting < WRITE_OUT_BYTES {
            self.0.cached_bytes.set(waiting);
            return Ok(());
        }
        self.0.cached_bytes.set(0);
        self.on_ring(Kind::WriteOut, 0, AlignedBuf::zeroed(0)).await.0
    }

    fn on_thread<T: Send + 'static>(
        &self,
        job: impl FnOnce(&OwnedFd) -> io::Result<T> + Send + 'static,
    ) -> impl Future<Output = io::Result<T>> + 'static {
        let fd = Arc::clone(&self.0.fd);
        self.0.executor.counters.helper_jobs.add(1);
        self.0.executor.process.files.call(move || job(&fd))
    }
}

impl File for UringFile {
    fn read_at(&self, offset: u64, buf: AlignedBuf) -> impl Future<Output = Outcome> + 'static {
        self.on_ring(Kind::Read, offset, buf)
    }

    fn write_at(&self, offset: u64, buf: AlignedBuf) -> impl Future<Output = Outcome> + 'static {
        let bytes = buf.len();
        let written = self.on_ring(Kind::Write, offset, buf);
        if self.0.options.direct {
            return Either::Left(written);
        }
        let file = self.clone();
        Either::Right(async move {
            let (result, buf) = written.await;
            let result = match result {
                Ok(()) => file.write_out_if_due(bytes).await,
                Err(error) => Err(error),
            };
            (result, buf)
        })
    }

    fn write_durable(&self, offset: u64, buf: AlignedBuf) -> impl Future<Output = Outcome> + 'static {
        let kind = match self.0.options.sync_method {
            SyncMethod::WriteDsync => Kind::WriteDsync,
            SyncMethod::LinkedSync | SyncMethod::ThreadDsync => Kind::WriteThenSync,
        };
        let Some(thread) = &self.0.sync_thread else {
            return Either::Left(self.on_ring(kind, offset, buf));
        };
        self.0.executor.counters.helper_jobs.add(1);
        let fd = Arc::clone(&self.0.fd);
        Either::Right(thread.call(move || {
            let result = write_all_dsync(&fd, offset, buf.as_slice());
            (result, buf)
        }))
    }

    fn sync(&self) -> impl Future<Output = io::Result<()>> + 'static {
        let done = self.on_ring(Kind::Sync, 0, AlignedBuf::zeroed(0));
        async move { done.await.0 }
    }

    fn len(&self) -> impl Future<Output = io::Result<u64>> + 'static {
        // The inode of an open file is in memory.
        ready(file_len(&self.0.fd))
    }

    fn allocate(&self, offset: u64, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let file = self.clone();
        let on_ring = self.0.executor.process.features.has(Feature::FallocateOp);
        async move {
            let result = if on_ring {
                file.on_ring(Kind::Allocate { bytes }, offset, AlignedBuf::zeroed(0)).await.0
            } else {
                file.on_thread(move |fd| fallocate(fd, FallocateFlags::empty(), offset, bytes)).await
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    file.on_thread(move |fd| grow_with_zeroes(fd, offset + bytes)).await
                }
                result => result,
            }
        }
    }

    fn punch_hole(&self, offset: u64, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        self.on_thread(move |fd| fallocate(fd, flags, offset, bytes))
    }

    fn set_len(&self, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        self.on_thread(move |fd| retry(|| rustix::fs::ftruncate(fd, bytes)))
    }

    fn drop_cache(&self) -> impl Future<Output = io::Result<()>> + 'static {
        self.on_thread(|fd| {
            // Pages that still wait for their write stay in the cache.
            retry(|| rustix::fs::fdatasync(fd))?;
            retry(|| rustix::fs::fadvise(fd, 0, None, Advice::DontNeed))
        })
    }
}

/// Opens or creates a file; blocks.
pub(crate) fn open(path: &Path, options: OpenOptions) -> io::Result<OwnedFd> {
    let mut flags = OFlags::CLOEXEC
        | match options.mode {
            OpenMode::Read => OFlags::RDONLY,
            OpenMode::Write => OFlags::RDWR,
            OpenMode::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
        };
    flags.set(OFlags::DIRECT, options.direct);
    let opened = retry(|| rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR));
    opened.map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL) if options.direct => {
            if options.mode == OpenMode::CreateNew {
                // Linux makes the file before it refuses the flag.
                let _ = std::fs::remove_file(path);
            }
            io::Error::new(
                io::ErrorKind::Unsupported,
                format!("the file system of {} has no direct I/O (O_DIRECT)", path.display()),
            )
        }
        _ => error,
    })
}

fn file_len(fd: &OwnedFd) -> io::Result<u64> {
    u64::try_from(rustix::fs::fstat(fd)?.st_size).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn fallocate(fd: &OwnedFd, flags: FallocateFlags, offset: u64, bytes: u64) -> io::Result<()> {
    retry(|| rustix::fs::fallocate(fd, flags, offset, bytes))
}

/// For file systems without fallocate: what lies behind the end is written as zeroes, so that it takes its space now.
fn grow_with_zeroes(fd: &OwnedFd, bytes: u64) -> io::Result<()> {
    let zeroes = AlignedBuf::zeroed(GROW_BYTES);
    let mut at = file_len(fd)?;
    while at < bytes {
        let chunk = GROW_BYTES.min(usize::try_from(bytes - at).unwrap_or(GROW_BYTES));
        match retry(|| rustix::io::pwrite(fd, &zeroes.as_slice()[..chunk], at))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            put => at += put as u64,
        }
    }
    Ok(())
}

/// pwritev2 with RWF_DSYNC until all is written; blocks.
fn write_all_dsync(fd: &OwnedFd, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let flags = if bug!(SkipFlush) { ReadWriteFlags::empty() } else { ReadWriteFlags::DSYNC };
    let mut done = 0;
    while done < bytes.len() {
        let rest = [IoSlice::new(&bytes[done..])];
        match retry(|| rustix::io::pwritev2(fd, &rest, offset + done as u64, flags))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            put => done += put,
        }
    }
    Ok(())
}

/// Repeats an interrupted system call; errors get the kinds that `plinth_env::File` promises.
pub(crate) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result.map_err(|errno| os_error(errno.raw_os_error())),
        }
    }
}
