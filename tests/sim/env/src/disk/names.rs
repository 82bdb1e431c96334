//! Directories: which names there are, which of them a crash can't take away, and the changes between the two.
//!
//! Invariant: `durable` with every pending change applied in order is `live`. A crash keeps, of each directory, a prefix of its
//! changes; a directory's sync makes its changes durable, and of others only what they can't be without.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use plinth_base::Prng;

use super::counters::Counters;

/// A file, whatever its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct InodeId(pub(crate) u64);

/// A change of names.
#[derive(Clone, Debug)]
pub(crate) enum NameOp {
    Create { path: PathBuf, inode: InodeId },
    MakeDir { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, inode: InodeId },
    Remove { path: PathBuf },
}

impl NameOp {
    /// The directories whose entries it changes.
    fn dirs(&self) -> BTreeSet<PathBuf> {
        match self {
            Self::Create { path, .. } | Self::MakeDir { path } | Self::Remove { path } => [parent(path)].into(),
            Self::Rename { from, to, .. } => [parent(from), parent(to)].into(),
        }
    }
}

/// The directory that holds `path`; the empty path for a name without one.
pub(crate) fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_path_buf()
}

/// All names at one point of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Namespace {
    pub(crate) files: BTreeMap<PathBuf, InodeId>,
    dirs: BTreeSet<PathBuf>,
}

impl Namespace {
    /// Whether the directory exists; the root and the working directory always do.
    pub(crate) fn has_dir(&self, path: &Path) -> bool {
        path.parent().is_none() || path == Path::new(".") || self.dirs.contains(path)
    }

    /// The directories in `path`.
    pub(crate) fn dirs_in<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a PathBuf> {
        self.dirs.iter().filter(move |dir| dir.parent() == Some(path))
    }

    fn apply(&mut self, op: &NameOp) {
        match op {
            NameOp::Create { path, inode } => {
                self.files.insert(path.clone(), *inode);
            }
            NameOp::MakeDir { path } => {
                self.dirs.insert(path.clone());
            }
            NameOp::Rename { from, to, inode } => {
                self.files.remove(from);
                self.files.insert(to.clone(), *inode);
            }
            NameOp::Remove { path } => {
                self.files.remove(path);
            }
        }
    }

    /// Forgets what lies in directories that don't exist.
    fn drop_orphans(&mut self) {
        loop {
            let lost: Vec<_> = self.dirs.iter().filter(|dir| !self.has_dir(&parent(dir))).cloned().collect();
            if lost.is_empty() {
                break;
            }
            for dir in lost {
                self.dirs.remove(&dir);
            }
        }
        let files = std::mem::take(&mut self.files);
        self.files = files.into_iter().filter(|(path, _)| self.has_dir(&parent(path))).collect();
    }
}

/// Names with their unsynced changes.
#[derive(Debug, Default)]
pub(crate) struct Names {
    live: Namespace,
    durable: Namespace,
    pending: Vec<(u64, NameOp)>,
    last_seq: u64,
}

impl Names {
    pub(crate) fn live(&self) -> &Namespace {
        &self.live
    }

    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Makes a change that is seen at once and may be lost in a crash.
    pub(crate) fn change(&mut self, op: NameOp) {
        self.last_seq += 1;
        self.live.apply(&op);
        self.pending.push((self.last_seq, op));
    }

    /// Makes the changes of `dir` up to `seq` durable.
    pub(crate) fn sync_dir(&mut self, dir: &Path, seq: u64) {
        // Backwards: a rename between two directories needs the earlier changes of both.
        let mut dirs = BTreeSet::from([dir.to_path_buf()]);
        let mut settled = BTreeSet::new();
        for (op_seq, op) in self.pending.iter().rev().filter(|(op_seq, _)| *op_seq <= seq) {
            let op_dirs = op.dirs();
            if !op_dirs.is_disjoint(&dirs) {
                dirs.extend(op_dirs);
                settled.insert(*op_seq);
            }
        }
        for (op_seq, op) in std::mem::take(&mut self.pending) {
            if settled.contains(&op_seq) {
                self.durable.apply(&op);
            } else {
                self.pending.push((op_seq, op));
            }
        }
    }

    /// Loses power.
    pub(crate) fn crash(&mut self, prng: &mut Prng, counters: &mut Counters) {
        let mood = prng.below(4);
        let mut cut = BTreeSet::new();
        for (_, op) in std::mem::take(&mut self.pending) {
            let dirs = op.dirs();
            let spared = match mood {
                0 => true,
                1 => false,
                _ => prng.chance(1, 2),
            };
            if spared && dirs.is_disjoint(&cut) {
                self.durable.apply(&op);
                counters.add("name change kept");
            } else {
                cut.extend(dirs);
                counters.add("name change lost");
            }
        }
        self.durable.drop_orphans();
        self.live = self.durable.clone();
    }
}
