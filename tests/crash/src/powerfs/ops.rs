//! Answers the kernel's requests from a [`Disk`], and decides which of them make what durable.

use std::{
    ffi::OsStr,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use plinth_base::BLOCK_BYTES;
use plinth_fuse::direct::is_misaligned;

use super::{
    file::FileImage,
    image::{Body, DirImage, FsError, Node},
    power::Disk,
};

/// How long the kernel may keep names and attributes. All changes come through this one mount, so it could be for ever.
const CACHE_TTL: Duration = Duration::from_secs(3600);
/// The kernel's pages of a file stay when it is opened again: its own writes keep them right, and a mapping holds them.
const OPEN_FLAGS: FopenFlags = FopenFlags::FOPEN_KEEP_CACHE;
const NAME_BYTES_MAX: u32 = 255;

impl From<FsError> for Errno {
    fn from(error: FsError) -> Self {
        match error {
            FsError::NotFound => Self::ENOENT,
            FsError::Exists => Self::EEXIST,
            FsError::NotADirectory => Self::ENOTDIR,
            FsError::IsADirectory => Self::EISDIR,
            FsError::NotEmpty => Self::ENOTEMPTY,
            FsError::NoSpace => Self::ENOSPC,
        }
    }
}

/// The handler of requests; several threads of the session share it.
pub(super) struct Server(pub(super) Arc<Disk>);

fn attr(ino: u64, node: &Node) -> FileAttr {
    let (kind, bytes, blocks, nlink) = match &node.body {
        Body::File(file) => (FileType::RegularFile, file.len(), file.allocated_blocks(), 1),
        Body::Dir(_) => (FileType::Directory, 0, 0, 2),
    };
    FileAttr {
        ino: INodeNo(ino),
        size: bytes,
        blocks: blocks * (BLOCK_BYTES as u64 / 512),
        atime: node.modified,
        mtime: node.modified,
        ctime: node.modified,
        crtime: node.modified,
        kind,
        perm: node.perm,
        nlink,
        uid: node.owner.0,
        gid: node.owner.1,
        rdev: 0,
        blksize: BLOCK_BYTES as u32,
        flags: 0,
    }
}

fn new_node(req: &Request, body: Body, mode: u32, umask: u32) -> Node {
    let perm = (mode & !umask & 0o7777) as u16;
    Node { body, perm, owner: (req.uid(), req.gid()), modified: SystemTime::now(), opens: 0 }
}

fn answer(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Server {
    fn make(&self, parent: INodeNo, name: &OsStr, node: Node) -> Result<FileAttr, Errno> {
        self.0.change(|image, _, _| {
            let ino = image.create(parent.0, name, node)?;
            Ok(attr(ino, image.node(ino)?))
        })
    }
}

impl Filesystem for Server {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Names and reads from several threads at once; not needed, so a kernel without it is fine.
        config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS).ok();
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.0.look(|image| {
            let ino = image.lookup(parent.0, name)?;
            Ok(attr(ino, image.node(ino)?))
        });
        match found {
            Ok(attr) => reply.entry(&CACHE_TTL, &attr, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.look(|image| Ok(attr(ino.0, image.node(ino.0)?))) {
            Ok(attr) => reply.attr(&CACHE_TTL, &attr),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changed = self.0.change(|image, _, _| {
            if let Some(bytes) = size {
                image.file_mut(ino.0)?.set_len(bytes);
            }
            let node = image.node_mut(ino.0)?;
            node.perm = mode.map_or(node.perm, |mode| (mode & 0o7777) as u16);
            node.owner = (uid.unwrap_or(node.owner.0), gid.unwrap_or(node.owner.1));
            node.modified = match mtime {
                Some(TimeOrNow::SpecificTime(at)) => at,
                _ => SystemTime::now(),
            };
            Ok(attr(ino.0, node))
        });
        match changed {
            Ok(attr) => reply.attr(&CACHE_TTL, &attr),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        match self.make(parent, name, new_node(req, Body::Dir(DirImage::default()), mode, umask)) {
            Ok(attr) => reply.entry(&CACHE_TTL, &attr, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.0.change(|image, _, _| image.remove(parent.0, name, false)));
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.0.change(|image, _, _| image.remove(parent.0, name, true)));
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
        if flags.intersects(RenameFlags::RENAME_EXCHANGE | RenameFlags::RENAME_WHITEOUT) {
            return reply.error(Errno::EINVAL);
        }
        let no_replace = flags.contains(RenameFlags::RENAME_NOREPLACE);
        let (from, to) = ((parent.0, name), (new_parent.0, new_name));
        answer(reply, self.0.change(|image, _, _| image.rename(from, to, no_replace)));
    }

    fn open(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let opened = self.0.change(|image, _, _| {
            image.node_mut(ino.0)?.opens += 1;
            Ok(())
        });
        match opened {
            Ok(()) => reply.opened(FileHandle(0), OPEN_FLAGS),
            Err(error) => reply.error(error),
        }
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut node = new_node(req, Body::File(FileImage::default()), mode, umask);
        node.opens = 1;
        match self.make(parent, name, node) {
            Ok(attr) => reply.created(&CACHE_TTL, &attr, Generation(0), FileHandle(0), OPEN_FLAGS),
            Err(error) => reply.error(error),
        }
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let released = self.0.change(|image, _, _| {
            let node = image.node_mut(ino.0)?;
            node.opens = node.opens.saturating_sub(1);
            if node.opens == 0 {
                image.collect();
            }
            Ok(())
        });
        answer(reply, released);
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
        if is_misaligned(flags, offset, u64::from(size)) {
            return reply.error(Errno::EINVAL);
        }
        match self.0.look(|image| Ok(image.file(ino.0)?.read(offset, u64::from(size)))) {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(error),
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
        let range = offset..offset + data.len() as u64;
        if is_misaligned(flags, offset, data.len() as u64) {
            return reply.error(Errno::EINVAL);
        }
        let written = self.0.change(|image, dsync_writes, stats| {
            image.check_room(image.file(ino.0)?.missing_blocks(range.clone()))?;
            image.file_mut(ino.0)?.write(offset, data);
            image.node_mut(ino.0)?.modified = SystemTime::now();
            stats.writes += 1;
            if flags.0 & libc::O_DSYNC != 0 {
                stats.dsync_writes += 1;
                dsync_writes.entry((ino.0, req.pid())).or_default().push(range);
            }
            Ok(data.len() as u32)
        });
        match written {
            Ok(bytes) => reply.written(bytes),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        // Sent at every close, which makes nothing durable.
        reply.ok();
    }

    fn fsync(&self, req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let pid = req.pid();
        let synced = self.0.sync(|image, dsync_writes, stats| {
            // The thread that wrote with O_DSYNC can't ask for another sync before this one is answered.
            if let Some(ranges) = dsync_writes.remove(&(ino.0, pid)) {
                stats.range_syncs += 1;
                let file = image.file_mut(ino.0)?;
                ranges.into_iter().for_each(|range| file.flush_range(range));
                Ok(())
            } else {
                stats.file_syncs += 1;
                image.sync_file(ino.0)
            }
        });
        answer(reply, synced);
    }

    fn fsyncdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let synced = self.0.sync(|image, _, stats| {
            stats.dir_syncs += 1;
            image.sync_dir(ino.0)
        });
        answer(reply, synced);
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
        let range = offset..offset + length;
        let done = self.0.change(|image, _, _| {
            let file = image.file(ino.0)?;
            match mode {
                0 | libc::FALLOC_FL_KEEP_SIZE => {
                    image.check_room(file.missing_blocks(range.clone()))?;
                    image.file_mut(ino.0)?.allocate(range, mode != 0);
                    Ok(true)
                }
                PUNCH => {
                    image.file_mut(ino.0)?.punch(range);
                    Ok(true)
                }
                _ => Ok(false),
            }
        });
        match done {
            Ok(true) => reply.ok(),
            Ok(false) => reply.error(Errno::EOPNOTSUPP),
            Err(error) => reply.error(error),
        }
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.0.look(|image| {
            let skip = usize::try_from(offset).unwrap_or(usize::MAX);
            for (i, (name, child)) in image.entries(ino.0)?.iter().enumerate().skip(skip) {
                let kind = attr(*child, image.node(*child)?).kind;
                if reply.add(INodeNo(*child), i as u64 + 1, kind, name) {
                    break;
                }
            }
            Ok(())
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        match self.0.look(|image| Ok(image.blocks())) {
            Ok((blocks, used)) => {
                let free = blocks.saturating_sub(used);
                reply.statfs(blocks, free, free, 0, 0, BLOCK_BYTES as u32, NAME_BYTES_MAX, BLOCK_BYTES as u32);
            }
            Err(error) => reply.error(error),
        }
    }
}

const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
