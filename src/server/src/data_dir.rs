//! Takes possession of the data directory before anything of the node runs: makes it, locks it, and refuses what isn't
//! ours.
//!
//! The marker ([`crate::marker`]) is written before anything else of a new member, so a crash in the first start leaves
//! either a directory without marker and without data, or a marked one. With `--wal-dir` the log's directory gets the
//! same lock and the same marker, that one first: a marked log directory without data, left by such a crash, counts as
//! new.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use plinth_base::log::Level;
use plinth_env::SyncMethod;
use plinth_uring::{SCRATCH_FILES, SyncMedians};

use crate::{
    config::Config,
    identity::Identity,
    lock::{DirLock, LOCK_FILE},
    log::Notice,
    marker::{MARKER_FILE, Marker},
    start_error::StartError,
};

/// The log's directory in the data directory.
pub const WAL_NAME: &str = "wal";
/// The trees' directory in the data directory.
pub const TREE_NAME: &str = "tree";

/// What an interrupted first start can leave in a log directory of its own, and what a new file system has.
const TOLERATED_IN_NEW_LOG: &[&str] = &[LOCK_FILE, MARKER_FILE, "PLINTH.tmp", SCRATCH_FILES[0], "lost+found"];

/// A data directory that belongs to this process.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    separate_wal: Option<PathBuf>,
    marker: Option<Marker>,
    _locks: Vec<DirLock>,
}

impl DataDir {
    /// Makes the directories of `config` where they are missing, locks them and checks what they hold.
    /// Also gives what is to be logged.
    pub fn open(config: &Config) -> Result<(Self, Vec<Notice>), StartError> {
        let mut notices = Vec::new();
        let path = open_dir(&config.data_dir, "data-dir", &mut notices)?;
        refuse_etcd(&path, "data-dir")?;
        let mut locks = vec![DirLock::acquire(&path, "data-dir")?];
        let marker = Marker::read(&path)?;
        let mut separate_wal = None;
        if let Some(wal_dir) = &config.wal_dir {
            let wal_dir = open_dir(wal_dir, "wal-dir", &mut notices)?;
            if wal_dir == path {
                return Err(StartError::failed("--wal-dir is the data directory itself: leave it out or name another"));
            }
            refuse_etcd(&wal_dir, "wal-dir")?;
            locks.push(DirLock::acquire(&wal_dir, "wal-dir")?);
            separate_wal = Some(wal_dir);
        }
        let dir = Self { path, separate_wal, marker, _locks: locks };
        dir.check()?;
        Ok((dir, notices))
    }

    /// What was decided at the first start. None: this is the first start; [`DataDir::mark`] comes before anything is
    /// stored.
    #[must_use]
    pub fn marker(&self) -> Option<&Marker> {
        self.marker.as_ref()
    }

    /// Makes the directory the data of a new member, durably. Only at the first start.
    pub fn mark(
        &mut self,
        identity: Identity,
        shards: u16,
        wal_sync_method: SyncMethod,
        wal_sync_medians: Option<SyncMedians>,
    ) -> Result<Marker, StartError> {
        assert!(self.marker.is_none(), "a member's decisions are made once");
        let fail = |dir: &Path, error: io::Error| {
            StartError::failed(format!("cannot write {}: {error}", dir.join(MARKER_FILE).display()))
        };
        let marker = Marker {
            member_id: identity.member_id,
            cluster_id: identity.cluster_id,
            shards,
            wal_sync_method,
            wal_sync_medians,
            separate_wal: self.separate_wal.is_some(),
            instance: Marker::random_instance().map_err(|error| fail(&self.path, error))?,
        };
        for dir in self.separate_wal.iter().chain([&self.path]) {
            marker.write(dir).map_err(|error| fail(dir, error))?;
        }
        self.marker = Some(marker);
        Ok(marker)
    }

    /// The data directory, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the log is kept. Not made here.
    #[must_use]
    pub fn wal_path(&self) -> PathBuf {
        self.separate_wal.clone().unwrap_or_else(|| self.path.join(WAL_NAME))
    }

    /// Directories on the file systems where the log and where the trees will lie, both made: for measuring before there is data.
    #[must_use]
    pub fn measuring_places(&self) -> (&Path, &Path) {
        (self.separate_wal.as_ref().unwrap_or(&self.path), &self.path)
    }

    /// Whether the first start came so far that the group of all keys has its tree.
    #[must_use]
    pub fn has_trees(&self) -> bool {
        self.tree_path().join("group-0.tree").exists()
    }

    /// Where the trees are kept. Not made here.
    #[must_use]
    pub fn tree_path(&self) -> PathBuf {
        self.path.join(TREE_NAME)
    }

    fn check(&self) -> Result<(), StartError> {
        match &self.marker {
            Some(marker) => self.check_known(marker),
            None => self.check_new(),
        }
    }

    /// A marked directory must come with its own log.
    fn check_known(&self, marker: &Marker) -> Result<(), StartError> {
        let Some(wal_dir) = &self.separate_wal else {
            if marker.separate_wal {
                return Err(StartError::failed(format!(
                    "the member in {} keeps its log in a directory of its own: name it with --wal-dir",
                    self.path.display()
                )));
            }
            return Ok(());
        };
        if !marker.separate_wal {
            return Err(StartError::failed(format!(
                "the member in {} keeps its log in {}: leave out --wal-dir",
                self.path.display(),
                self.path.join(WAL_NAME).display()
            )));
        }
        match Marker::read(wal_dir)? {
            Some(other) if other.instance == marker.instance => Ok(()),
            _ => Err(StartError::failed(format!(
                "{} is not the log of the member in {}: give both directories of one member",
                wal_dir.display(),
                self.path.display()
            ))),
        }
    }

    /// A directory without marker must not hold data.
    fn check_new(&self) -> Result<(), StartError> {
        for name in [WAL_NAME, TREE_NAME] {
            if !is_empty_or_missing(&self.path.join(name), &[])? {
                return Err(StartError::failed(format!(
                    "{} holds data in {name}/ but its marker {MARKER_FILE} is missing: restore the directory whole, or choose \
                     another with --data-dir",
                    self.path.display()
                )));
            }
        }
        match &self.separate_wal {
            Some(wal_dir) if !is_empty_or_missing(wal_dir, TOLERATED_IN_NEW_LOG)? => Err(StartError::failed(format!(
                "{} is not empty, but the data directory {} is new: choose an empty directory with --wal-dir, or the data \
                     directory that belongs to this log",
                wal_dir.display(),
                self.path.display()
            ))),
            _ => Ok(()),
        }
    }
}

/// Makes `dir` if it is missing, with mode 0700, and gives its absolute path.
fn open_dir(dir: &Path, flag: &str, notices: &mut Vec<Notice>) -> Result<PathBuf, StartError> {
    let fail = |what: &str, error: io::Error| {
        StartError::failed(format!("cannot {what} {}: {error}; choose another directory with --{flag}", dir.display()))
    };
    create_durably(dir).map_err(|error| fail("make the directory", error))?;
    let path = dir.canonicalize().map_err(|error| fail("open", error))?;
    let metadata = fs::metadata(&path).map_err(|error| fail("open", error))?;
    if !metadata.is_dir() {
        return Err(StartError::failed(format!("{} is not a directory: choose another with --{flag}", dir.display())));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode != 0o700 {
        notices.push(Notice::new(
            Level::Warn,
            "the directory's permissions should be 0700: others may read or change the data",
            vec![("path", path.display().to_string()), ("mode", format!("{mode:04o}"))],
        ));
    }
    Ok(path)
}

/// Makes `dir` and its missing parents, and syncs each parent, so that a crash can't take a directory back that data
/// lies in.
fn create_durably(dir: &Path) -> io::Result<()> {
    if dir.as_os_str().is_empty() || dir.exists() {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(Path::new(""));
    create_durably(parent)?;
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    File::open(parent)?.sync_all()
}

/// Refuses a directory of etcd itself: its format is another, and it must not be touched.
fn refuse_etcd(dir: &Path, flag: &str) -> Result<(), StartError> {
    let found = [dir.join("member/wal"), dir.to_owned()].into_iter().any(|place| has_etcd_log(&place))
        || dir.join("member/snap/db").exists();
    if found {
        return Err(StartError::failed(format!(
            "{} holds the data of etcd, which plinth doesn't read and won't touch: choose another directory with --{flag}",
            dir.display()
        )));
    }
    Ok(())
}

/// Whether `dir` has files named as etcd's log names them, `SEQUENCE-INDEX.wal` in hex.
fn has_etcd_log(dir: &Path) -> bool {
    let is_etcd_name = |name: &str| {
        let stem = name.strip_suffix(".wal").and_then(|stem| stem.split_once('-'));
        stem.is_some_and(|(a, b)| [a, b].iter().all(|part| part.len() == 16 && u64::from_str_radix(part, 16).is_ok()))
    };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_str().is_some_and(is_etcd_name))
}

/// Whether `dir` holds nothing but `tolerated`.
fn is_empty_or_missing(dir: &Path, tolerated: &[&str]) -> Result<bool, StartError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(StartError::failed(format!("cannot read {}: {error}", dir.display()))),
    };
    for entry in entries {
        let entry = entry.map_err(|error| StartError::failed(format!("cannot read {}: {error}", dir.display())))?;
        if !tolerated.iter().any(|name| entry.file_name() == *name) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
