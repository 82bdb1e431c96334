//! Answers the kernel's requests from the directory below.

use std::{
    ffi::OsStr,
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{FileExt, PermissionsExt, chown},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use plinth_base::BLOCK_BYTES;
use rustix::fs::{
    AtFlags, FallocateFlags, Mode, OFlags, fallocate, fstatvfs, mkdirat, openat, renameat_with, unlinkat,
};

use super::{flushes::Flushes, nodes};
use crate::direct::is_misaligned;

/// How long the kernel may keep names and attributes. All changes come through this one mount, so it could be for ever.
const CACHE_TTL: Duration = Duration::from_secs(3600);

/// The handler of requests; several threads of the session share it.
pub(super) struct Server {
    nodes: nodes::Nodes,
    flushes: Arc<Flushes>,
}

fn answer(reply: ReplyEmpty, result: Result<(), impl Into<Errno>>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error.into()),
    }
}

fn answer_entry(reply: ReplyEntry, result: io::Result<FileAttr>) {
    match result {
        Ok(attr) => reply.entry(&CACHE_TTL, &attr, Generation(0)),
        Err(error) => reply.error(error.into()),
    }
}

fn check_alignment(flags: OpenFlags, offset: u64, bytes: u64) -> io::Result<()> {
    if is_misaligned(flags, offset, bytes) { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(()) }
}

impl Server {
    pub(super) fn new(backing: &Path, flushes: Arc<Flushes>) -> io::Result<Self> {
        Ok(Self { nodes: nodes::Nodes::new(backing)?, flushes })
    }

    /// Makes a file that isn't there.
    fn make_file(&self, parent: INodeNo, name: &OsStr, mode: Mode) -> io::Result<FileAttr> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        openat(&*self.nodes.place(parent)?, name, flags, mode)?;
        self.nodes.lookup(parent, name)
    }

    fn make_dir(&self, parent: INodeNo, name: &OsStr, mode: Mode) -> io::Result<FileAttr> {
        mkdirat(&*self.nodes.place(parent)?, name, mode)?;
        self.nodes.lookup(parent, name)
    }

    fn remove(&self, parent: INodeNo, name: &OsStr, flags: AtFlags) -> io::Result<()> {
        Ok(unlinkat(&*self.nodes.place(parent)?, name, flags)?)
    }

    fn set(&self, ino: INodeNo, mode: Option<u32>, owner: [Option<u32>; 2], size: Option<u64>) -> io::Result<FileAttr> {
        let path = nodes::path(&self.nodes.place(ino)?);
        if let Some(bytes) = size {
            self.nodes.file(ino)?.set_len(bytes)?;
        }
        if let Some(mode) = mode {
            fs::set_permissions(&path, Permissions::from_mode(mode & 0o7777))?;
        }
        if owner != [None, None] {
            chown(&path, owner[0], owner[1])?;
        }
        self.nodes.attr(ino)
    }

    /// Fewer bytes than wanted are there at the end of the file only.
    fn read_at(&self, ino: INodeNo, offset: u64, bytes: u32) -> io::Result<Vec<u8>> {
        let file = self.nodes.file(ino)?;
        let mut data = vec![0; bytes as usize];
        let mut filled = 0;
        while filled < data.len() {
            match file.read_at(&mut data[filled..], offset + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        data.truncate(filled);
        Ok(data)
    }

    /// Gives the file that it wrote to.
    fn write_at(&self, ino: INodeNo, offset: u64, data: &[u8], flags: OpenFlags) -> io::Result<Arc<File>> {
        check_alignment(flags, offset, data.len() as u64)?;
        let file = self.nodes.file(ino)?;
        file.write_all_at(data, offset)?;
        Ok(file)
    }

    fn sync(&self, file: io::Result<Arc<File>>, is_data_only: bool, reply: ReplyEmpty) {
        match file {
            Ok(file) => {
                let sync = move || if is_data_only { file.sync_data() } else { file.sync_all() };
                self.carry_out_flush(sync, move |outcome| answer(reply, outcome));
            }
            Err(error) => reply.error(error.into()),
        }
    }

    /// Flushes by `sync` and answers: at once if the flush needn't wait, and from a thread of its own otherwise.
    fn carry_out_flush(
        &self,
        sync: impl FnOnce() -> io::Result<()> + Send + 'static,
        answer: impl FnOnce(Result<(), Errno>) + Send + 'static,
    ) {
        let flushes = Arc::clone(&self.flushes);
        let (flush, has_to_wait) = flushes.begin();
        if !has_to_wait {
            return answer(flushes.finish(sync));
        }
        let thread = thread::Builder::new().name("flush".to_owned()).spawn(move || {
            flushes.wait(&flush);
            answer(flushes.finish(sync));
        });
        // A reply that is dropped says EIO.
        if let Err(error) = thread {
            eprintln!("no thread for a flush: {error}");
        }
    }
}

impl Filesystem for Server {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let lacking = |missing| io::Error::other(format!("this kernel's FUSE has no {missing:?}"));
        config.add_capabilities(InitFlags::FUSE_ASYNC_DIO).map_err(lacking)
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer_entry(reply, self.nodes.lookup(parent, name));
    }

    fn forget(&self, _req: &Request, ino: INodeNo, lookups: u64) {
        self.nodes.forget(ino, lookups);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.nodes.attr(ino) {
            Ok(attr) => reply.attr(&CACHE_TTL, &attr),
            Err(error) => reply.error(error.into()),
        }
    }

    // Times are those of the directory below: nothing here sets them.
    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        match self.set(ino, mode, [uid, gid], size) {
            Ok(attr) => reply.attr(&CACHE_TTL, &attr),
            Err(error) => reply.error(error.into()),
        }
    }

    fn mkdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        answer_entry(reply, self.make_dir(parent, name, Mode::from_raw_mode(mode & !umask)));
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.remove(parent, name, AtFlags::empty()));
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.remove(parent, name, AtFlags::REMOVEDIR));
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = || -> io::Result<()> {
            let (from, to) = (self.nodes.place(parent)?, self.nodes.place(new_parent)?);
            let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
            Ok(renameat_with(&*from, name, &*to, new_name, flags)?)
        };
        answer(reply, renamed());
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        match self.make_file(parent, name, Mode::from_raw_mode(mode & !umask)) {
            Ok(attr) => {
                let flags = FopenFlags::empty();
                reply.created(&CACHE_TTL, &attr, Generation(0), FileHandle(0), flags);
            }
            Err(error) => reply.error(error.into()),
        }
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match check_alignment(flags, offset, u64::from(size)).and_then(|()| self.read_at(ino, offset, size)) {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(error.into()),
        }
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let bytes = data.len() as u32;
        let is_dsync = flags.0 & libc::O_DSYNC != 0;
        self.flushes.note_write(is_dsync);
        match self.write_at(ino, offset, data, flags) {
            Err(error) => reply.error(error.into()),
            Ok(_) if !is_dsync => reply.written(bytes),
            Ok(file) => {
                let (flushes, by) = (Arc::clone(&self.flushes), (ino.0, req.pid()));
                self.carry_out_flush(
                    move || file.sync_data(),
                    move |outcome| match outcome {
                        Ok(()) => {
                            flushes.note_dsync(by);
                            reply.written(bytes);
                        }
                        Err(error) => reply.error(error),
                    },
                );
            }
        }
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        // Sent at every close, which makes nothing durable.
        reply.ok();
    }

    fn fsync(&self, req: &Request, ino: INodeNo, _fh: FileHandle, is_data_only: bool, reply: ReplyEmpty) {
        if self.flushes.take_dsync((ino.0, req.pid())) {
            return reply.ok();
        }
        self.sync(self.nodes.file(ino), is_data_only, reply);
    }

    fn fsyncdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, is_data_only: bool, reply: ReplyEmpty) {
        let dir = self.nodes.place(ino).and_then(|place| File::open(nodes::path(&place)));
        self.sync(dir.map(Arc::new), is_data_only, reply);
    }

    fn fallocate(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let flags = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        let done = self.nodes.file(ino).and_then(|file| Ok(fallocate(&*file, flags, offset, length)?));
        answer(reply, done);
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let names = match self.nodes.names(ino) {
            Ok(names) => names,
            Err(error) => return reply.error(error.into()),
        };
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        for (at, (name, child, kind)) in names.iter().enumerate().skip(skip) {
            if reply.add(*child, at as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        match fstatvfs(self.nodes.root()) {
            Ok(at) => {
                let name_bytes_max = u32::try_from(at.f_namemax).unwrap_or(u32::MAX);
                let block_bytes = u32::try_from(at.f_frsize).unwrap_or(BLOCK_BYTES as u32);
                let (blocks, files) = ((at.f_blocks, at.f_bfree, at.f_bavail), (at.f_files, at.f_ffree));
                reply.statfs(blocks.0, blocks.1, blocks.2, files.0, files.1, block_bytes, name_bytes_max, block_bytes);
            }
            Err(error) => reply.error(io::Error::from(error).into()),
        }
    }
}
