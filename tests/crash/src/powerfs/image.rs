//! All files and directories of the simulated disk, live and durable.
//!
//! The model is the strictest that POSIX allows: creating, renaming or removing a name is durable only after a sync of the
//! directory that holds the name; syncing the new file itself does not help. Operations on names reach the disk in order:
//! a cut undoes all of them from some point on, each whole. A sync of a directory makes every earlier operation durable
//! that touches it, and what those depend on through renames between directories.
//!
//! [`NameModel::Journal`] is what ext4 and XFS do beyond POSIX: a sync of any file commits all earlier operations on names.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    io,
    path::Path,
    time::SystemTime,
};

use plinth_base::{BLOCK_BYTES, Prng};

use super::file::{CutReport, FileImage};

/// The inode number of the root directory, as FUSE wants it.
pub const ROOT: u64 = 1;

/// Why an operation is refused, as errno says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FsError {
    /// ENOENT.
    NotFound,
    /// EEXIST.
    Exists,
    /// ENOTDIR.
    NotADirectory,
    /// EISDIR.
    IsADirectory,
    /// ENOTEMPTY.
    NotEmpty,
    /// ENOSPC.
    NoSpace,
}

/// Which syncs make operations on names durable.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum NameModel {
    /// Only that of the directory, as POSIX has it.
    #[default]
    Strict,
    /// That of any file or directory, as journalling file systems have it.
    Journal,
}

/// The names in a directory.
#[derive(Clone, Default)]
pub struct DirImage {
    live: BTreeMap<OsString, u64>,
    durable: BTreeMap<OsString, u64>,
}

/// What an inode holds.
#[derive(Clone)]
pub enum Body {
    /// A regular file.
    File(FileImage),
    /// A directory.
    Dir(DirImage),
}

/// An inode.
#[derive(Clone)]
pub struct Node {
    /// Its content.
    pub body: Body,
    /// Permission bits.
    pub perm: u16,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Last change.
    pub modified: SystemTime,
    /// Open handles: a file without a name lives as long as it has one.
    pub opens: u32,
}

/// Operations on names that have not reached the disk; each changes one or two names at once.
type DirOp = Vec<NameChange>;

#[derive(Clone)]
struct NameChange {
    dir: u64,
    name: OsString,
    to: Option<u64>,
}

/// The disk.
#[derive(Clone)]
pub struct Image {
    nodes: BTreeMap<u64, Node>,
    unsynced: Vec<DirOp>,
    next_ino: u64,
    capacity_blocks: u64,
    names: NameModel,
}

impl Default for Image {
    fn default() -> Self {
        Self::new()
    }
}

impl Image {
    /// Room when none is set: 64 GiB, more than the host has memory for, so that it never matters.
    const CAPACITY_BLOCKS: u64 = (64 << 30) / BLOCK_BYTES as u64;

    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        let root = Node {
            body: Body::Dir(DirImage::default()),
            perm: 0o755,
            owner: (0, 0),
            modified: SystemTime::UNIX_EPOCH,
            opens: 0,
        };
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            unsynced: Vec::new(),
            next_ino: ROOT + 1,
            capacity_blocks: Self::CAPACITY_BLOCKS,
            names: NameModel::Strict,
        }
    }

    /// An empty disk with another model of names.
    #[must_use]
    pub fn with_names(names: NameModel) -> Self {
        Self { names, ..Self::new() }
    }

    /// Limits the disk to `bytes`; what is already there stays.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.capacity_blocks = bytes / BLOCK_BYTES as u64;
    }

    /// All blocks of the disk and those in use, of [`BLOCK_BYTES`] each.
    #[must_use]
    pub fn blocks(&self) -> (u64, u64) {
        let used = self.nodes.values().map(|node| match &node.body {
            Body::File(file) => file.allocated_blocks(),
            Body::Dir(_) => 0,
        });
        (self.capacity_blocks, used.sum())
    }

    /// Fails with [`FsError::NoSpace`] unless `blocks` more fit.
    pub fn check_room(&self, blocks: u64) -> Result<(), FsError> {
        let (capacity, used) = self.blocks();
        if blocks > 0 && used + blocks > capacity { Err(FsError::NoSpace) } else { Ok(()) }
    }

    /// An inode.
    pub fn node(&self, ino: u64) -> Result<&Node, FsError> {
        self.nodes.get(&ino).ok_or(FsError::NotFound)
    }

    /// An inode, to be changed.
    pub fn node_mut(&mut self, ino: u64) -> Result<&mut Node, FsError> {
        self.nodes.get_mut(&ino).ok_or(FsError::NotFound)
    }

    /// The content of a file.
    pub fn file(&self, ino: u64) -> Result<&FileImage, FsError> {
        match &self.node(ino)?.body {
            Body::File(file) => Ok(file),
            Body::Dir(_) => Err(FsError::IsADirectory),
        }
    }

    /// The content of a file, to be changed.
    pub fn file_mut(&mut self, ino: u64) -> Result<&mut FileImage, FsError> {
        match &mut self.node_mut(ino)?.body {
            Body::File(file) => Ok(file),
            Body::Dir(_) => Err(FsError::IsADirectory),
        }
    }

    /// The live names of a directory, in order.
    pub fn entries(&self, dir: u64) -> Result<&BTreeMap<OsString, u64>, FsError> {
        match &self.node(dir)?.body {
            Body::Dir(entries) => Ok(&entries.live),
            Body::File(_) => Err(FsError::NotADirectory),
        }
    }

    /// What `name` in `dir` names.
    pub fn lookup(&self, dir: u64, name: &OsStr) -> Result<u64, FsError> {
        self.entries(dir)?.get(name).copied().ok_or(FsError::NotFound)
    }

    /// Makes a file or directory.
    pub fn create(&mut self, dir: u64, name: &OsStr, node: Node) -> Result<u64, FsError> {
        match self.lookup(dir, name) {
            Ok(_) => return Err(FsError::Exists),
            Err(FsError::NotFound) => {}
            Err(other) => return Err(other),
        }
        let ino = self.next_ino;
        self.next_ino += 1;
        self.nodes.insert(ino, node);
        self.change_names(vec![NameChange { dir, name: name.to_owned(), to: Some(ino) }]);
        Ok(ino)
    }

    /// Removes a file's name (`dir_wanted` false) or an empty directory.
    pub fn remove(&mut self, dir: u64, name: &OsStr, dir_wanted: bool) -> Result<(), FsError> {
        let ino = self.lookup(dir, name)?;
        self.check_removable(ino, dir_wanted)?;
        self.change_names(vec![NameChange { dir, name: name.to_owned(), to: None }]);
        self.collect();
        Ok(())
    }

    fn check_removable(&self, ino: u64, dir_wanted: bool) -> Result<(), FsError> {
        match (&self.node(ino)?.body, dir_wanted) {
            (Body::Dir(_), false) => Err(FsError::IsADirectory),
            (Body::File(_), true) => Err(FsError::NotADirectory),
            (Body::Dir(entries), true) if !entries.live.is_empty() => Err(FsError::NotEmpty),
            _ => Ok(()),
        }
    }

    /// Renames, replacing what has the new name unless `no_replace`.
    pub fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), no_replace: bool) -> Result<(), FsError> {
        let ino = self.lookup(from.0, from.1)?;
        match self.lookup(to.0, to.1) {
            Ok(_) if no_replace => return Err(FsError::Exists),
            Ok(old) if old == ino => return Ok(()),
            Ok(old) => self.check_removable(old, matches!(self.node(ino)?.body, Body::Dir(_)))?,
            Err(FsError::NotFound) => {}
            Err(other) => return Err(other),
        }
        self.change_names(vec![
            NameChange { dir: from.0, name: from.1.to_owned(), to: None },
            NameChange { dir: to.0, name: to.1.to_owned(), to: Some(ino) },
        ]);
        self.collect();
        Ok(())
    }

    fn change_names(&mut self, op: DirOp) {
        for change in &op {
            if let Some(Node { body: Body::Dir(entries), modified, .. }) = self.nodes.get_mut(&change.dir) {
                apply(&mut entries.live, change);
                *modified = SystemTime::now();
            }
        }
        self.unsynced.push(op);
    }

    /// All content of a file becomes durable: fsync, fdatasync.
    pub fn sync_file(&mut self, ino: u64) -> Result<(), FsError> {
        self.file_mut(ino)?.flush();
        self.commit_journal();
        Ok(())
    }

    fn commit_journal(&mut self) {
        if self.names == NameModel::Journal {
            for op in std::mem::take(&mut self.unsynced) {
                self.make_durable(&op);
            }
        }
    }

    /// The names in `dir` become durable: fsync of the directory.
    pub fn sync_dir(&mut self, dir: u64) -> Result<(), FsError> {
        self.entries(dir)?;
        self.commit_journal();
        // From the newest back: an operation that touches one of these directories takes its other directory with it.
        let mut dirs = BTreeSet::from([dir]);
        let mut take = vec![false; self.unsynced.len()];
        for (i, op) in self.unsynced.iter().enumerate().rev() {
            if op.iter().any(|change| dirs.contains(&change.dir)) {
                dirs.extend(op.iter().map(|change| change.dir));
                take[i] = true;
            }
        }
        let (done, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.unsynced).into_iter().zip(take).partition(|x| x.1);
        self.unsynced = left.into_iter().map(|(op, _)| op).collect();
        for (op, _) in done {
            self.make_durable(&op);
        }
        self.collect();
        Ok(())
    }

    fn make_durable(&mut self, op: &DirOp) {
        for change in op {
            if let Some(Node { body: Body::Dir(entries), .. }) = self.nodes.get_mut(&change.dir) {
                apply(&mut entries.durable, change);
            }
        }
    }

    /// Forgets inodes that no name, live or durable or on its way, and no open handle leads to.
    pub fn collect(&mut self) {
        let mut named = BTreeSet::from([ROOT]);
        for node in self.nodes.values() {
            if let Body::Dir(entries) = &node.body {
                named.extend(entries.live.values().chain(entries.durable.values()));
            }
        }
        named.extend(self.unsynced.iter().flatten().filter_map(|change| change.to));
        self.nodes.retain(|ino, node| node.opens > 0 || named.contains(ino));
    }

    /// The power goes. What is left: everything flushed, and of the rest what `seed` says.
    #[must_use]
    pub fn cut(mut self, seed: u64) -> (Self, CutReport) {
        let mut prng = Prng::new(seed);
        let mut report = CutReport::default();
        let mut unsynced = std::mem::take(&mut self.unsynced);
        let kept = prng.index(unsynced.len() + 1);
        report.dir_ops_kept = kept as u64;
        report.dir_ops_dropped = (unsynced.len() - kept) as u64;
        for op in unsynced.drain(..kept) {
            self.make_durable(&op);
        }
        for node in self.nodes.values_mut() {
            node.opens = 0;
            match &mut node.body {
                Body::File(file) => file.cut(&mut prng, &mut report),
                Body::Dir(entries) => entries.live.clone_from(&entries.durable),
            }
        }
        self.drop_unreachable();
        (self, report)
    }

    /// A directory whose own name is gone takes along what was in it.
    fn drop_unreachable(&mut self) {
        let mut reached = BTreeSet::from([ROOT]);
        let mut todo = vec![ROOT];
        while let Some(dir) = todo.pop() {
            if let Some(Node { body: Body::Dir(entries), .. }) = self.nodes.get(&dir) {
                todo.extend(entries.live.values().filter(|ino| reached.insert(**ino)));
            }
        }
        self.nodes.retain(|ino, _| reached.contains(ino));
    }

    /// Copies the live files below `dir` of the disk into a directory of the host, to look at them later.
    pub fn export(&self, to: &Path) -> io::Result<()> {
        self.export_dir(ROOT, to)
    }

    fn export_dir(&self, dir: u64, to: &Path) -> io::Result<()> {
        std::fs::create_dir_all(to)?;
        let entries = self.entries(dir).map_err(|error| io::Error::other(format!("{error:?}")))?;
        for (name, ino) in entries {
            match &self.nodes[ino].body {
                Body::Dir(_) => self.export_dir(*ino, &to.join(name))?,
                Body::File(file) => std::fs::write(to.join(name), file.read(0, file.len()))?,
            }
        }
        Ok(())
    }
}

fn apply(entries: &mut BTreeMap<OsString, u64>, change: &NameChange) {
    match change.to {
        Some(ino) => entries.insert(change.name.clone(), ino),
        None => entries.remove(&change.name),
    };
}

#[cfg(test)]
mod tests;
