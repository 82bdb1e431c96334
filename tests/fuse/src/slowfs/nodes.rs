//! The files of the directory below, by the numbers that the kernel knows them under.
//!
//! Invariant: a node holds its file open from the first answer that names it to the kernel's last `forget`, so its number stays that file's, renamed or
//! removed as it may be.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use fuser::{FileAttr, FileType, INodeNo};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, fstat, openat, statat};

/// A place in the directory below: good for metadata, and to open what is there.
type Place = Arc<OwnedFd>;

struct Node {
    place: Place,
    /// Open for reading and writing once somebody wanted that.
    file: Option<Arc<File>>,
    /// How often the kernel was told of it and hasn't forgotten.
    lookups: u64,
}

/// See the module.
pub(super) struct Nodes {
    root: Place,
    known: Mutex<HashMap<u64, Node>>,
}

impl Nodes {
    pub(super) fn new(backing: &Path) -> io::Result<Self> {
        let root = openat(CWD, backing, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { root: Arc::new(root), known: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u64, Node>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Where a node is.
    pub(super) fn place(&self, ino: INodeNo) -> io::Result<Place> {
        if ino == INodeNo::ROOT {
            return Ok(Arc::clone(&self.root));
        }
        self.known().get(&ino.0).map(|node| Arc::clone(&node.place)).ok_or_else(not_found)
    }

    /// The attributes of a node.
    pub(super) fn attr(&self, ino: INodeNo) -> io::Result<FileAttr> {
        Ok(attr(ino, &fstat(&*self.place(ino)?)?))
    }

    /// Looks a name up, which counts: the kernel is told.
    pub(super) fn lookup(&self, parent: INodeNo, name: &OsStr) -> io::Result<FileAttr> {
        let parent = self.place(parent)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = openat(&*parent, name, flags, Mode::empty())?;
        let stat = fstat(&place)?;
        let ino = number(&stat);
        let mut known = self.known();
        let new = || Node { place: Arc::new(place), file: None, lookups: 0 };
        known.entry(ino.0).or_insert_with(new).lookups += 1;
        Ok(attr(ino, &stat))
    }

    pub(super) fn forget(&self, ino: INodeNo, lookups: u64) {
        let mut known = self.known();
        let Some(node) = known.get_mut(&ino.0) else { return };
        node.lookups = node.lookups.saturating_sub(lookups);
        if node.lookups == 0 {
            known.remove(&ino.0);
        }
    }

    /// A file, open for reading and writing. Neither direct nor synchronous: data becomes durable by flushes alone, and these are told apart from writes.
    pub(super) fn file(&self, ino: INodeNo) -> io::Result<Arc<File>> {
        let mut known = self.known();
        let node = known.get_mut(&ino.0).ok_or_else(not_found)?;
        if let Some(file) = &node.file {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::options().read(true).write(true).open(path(&node.place))?);
        node.file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Names below a directory, in order.
    pub(super) fn names(&self, ino: INodeNo) -> io::Result<Vec<(OsString, INodeNo, FileType)>> {
        let place = self.place(ino)?;
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path(&place))? {
            let name = entry?.file_name();
            let stat = statat(&*place, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            names.push((name, number(&stat), kind(&stat)));
        }
        names.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }
}

/// A path that leads to a place whatever it is called by now.
pub(super) fn path(place: &Place) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", place.as_raw_fd()))
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

/// The kernel's number of what lies below. 1 is the root's; the directory below is all on one file system.
fn number(stat: &Stat) -> INodeNo {
    INodeNo(stat.st_ino + 1)
}

fn kind(stat: &Stat) -> FileType {
    let is_dir = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
    if is_dir { FileType::Directory } else { FileType::RegularFile }
}

fn attr(ino: INodeNo, stat: &Stat) -> FileAttr {
    let modified = UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
    FileAttr {
        ino,
        size: u64::try_from(stat.st_size).expect("a file isn't shorter than nothing"),
        blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
        atime: modified,
        mtime: modified,
        ctime: modified,
        crtime: modified,
        kind: kind(stat),
        perm: (stat.st_mode & 0o7777) as u16,
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: 0,
        blksize: plinth_base::BLOCK_BYTES as u32,
        flags: 0,
    }
}
