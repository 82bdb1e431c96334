//! Files as the log and the tree use them.

use std::{future::Future, io};

use plinth_base::AlignedBuf;

/// How a durable write reaches the device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SyncMethod {
    /// One write with RWF_DSYNC on the ring.
    WriteDsync,
    /// A write and an fdatasync, linked on the ring.
    LinkedSync,
    /// pwritev2 with RWF_DSYNC on a thread of its own that blocks.
    ThreadDsync,
}

/// What must and what may exist already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// The file must exist; it can't be written.
    Read,
    /// The file must exist.
    Write,
    /// The file must not exist; mode 0600. Not durable before `Env::sync_dir`.
    CreateNew,
}

/// How to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenOptions {
    /// What must and what may exist already.
    pub mode: OpenMode,
    /// Past the page cache (O_DIRECT): offsets and lengths are whole blocks then.
    pub direct: bool,
    /// What [`File::write_durable`] does.
    pub sync_method: SyncMethod,
}

impl OpenOptions {
    /// Direct I/O and RWF_DSYNC, as the log wants it.
    #[must_use]
    pub fn direct(mode: OpenMode) -> Self {
        Self { mode, direct: true, sync_method: SyncMethod::WriteDsync }
    }

    /// Through the page cache, as the tree wants it, whose readers map the same file.
    #[must_use]
    pub fn cached(mode: OpenMode) -> Self {
        Self { mode, direct: false, sync_method: SyncMethod::LinkedSync }
    }
}

/// An entry of a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DirEntry {
    /// Its name in the directory.
    pub name: String,
    /// Whether it is a directory itself.
    pub is_dir: bool,
    /// Length in bytes of a file, 0 for anything else.
    pub bytes: u64,
}

/// Room on a file system, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskSpace {
    /// All of it.
    pub total_bytes: u64,
    /// What an unprivileged process can still use.
    pub available_bytes: u64,
}

/// An open file. Clones name the same file; it is closed with the last one.
///
/// Buffers are moved in and come back with the result, so that a ring can hold them while the operation is under way. An
/// operation goes on to its end even if its future is dropped. Each is at most `limits::IO_BYTES_MAX` long; a short
/// read or write never reaches the caller: reads behind the end give zeroes, a write is whole or an error.
///
/// A write is durable only through `write_durable` or a later `sync`; until then a crash keeps, loses or tears it, block by block.
#[expect(clippy::len_without_is_empty, reason = "a length of a file costs a call, and nobody asks whether it is 0")]
pub trait File: Clone + 'static {
    /// Fills `buf` from `offset`.
    fn read_at(&self, offset: u64, buf: AlignedBuf) -> impl Future<Output = (io::Result<()>, AlignedBuf)> + 'static;

    /// Writes the whole of `buf` at `offset`.
    fn write_at(&self, offset: u64, buf: AlignedBuf) -> impl Future<Output = (io::Result<()>, AlignedBuf)> + 'static;

    /// Writes the whole of `buf` at `offset`; durable when it completes, and with it everything written to the file before,
    /// if the method is [`SyncMethod::LinkedSync`]: don't rely on that.
    fn write_durable(
        &self,
        offset: u64,
        buf: AlignedBuf,
    ) -> impl Future<Output = (io::Result<()>, AlignedBuf)> + 'static;

    /// Makes every completed write durable, and the length with it (fdatasync).
    fn sync(&self) -> impl Future<Output = io::Result<()>> + 'static;

    /// Length in bytes.
    fn len(&self) -> impl Future<Output = io::Result<u64>> + 'static;

    /// Reserves space for `offset..offset + bytes` and makes the file at least that long; what is new reads as zero. Fails with
    /// [`io::ErrorKind::StorageFull`] when the device is full, and then nothing was reserved that a later call can't use.
    fn allocate(&self, offset: u64, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static;

    /// Gives the blocks of `offset..offset + bytes` back to the file system; they read as zero. The length stays.
    fn punch_hole(&self, offset: u64, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static;

    /// Cuts the file to `bytes`, or makes it longer with zeroes.
    fn set_len(&self, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static;

    /// Drops what the page cache holds of the file, so that reads come from the device.
    fn drop_cache(&self) -> impl Future<Output = io::Result<()>> + 'static;
}
