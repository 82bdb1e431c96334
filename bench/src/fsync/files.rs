//! The files that are written to, all in one directory that goes away.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use plinth_base::{AlignedBuf, Prng};
use rustix::fs::{FallocateFlags, OFlags, fallocate, statvfs};

use super::{
    cell::{Cell, FileKind, Neighbour},
    trouble::Trouble,
};

/// Written at once while a file is made.
const CHUNK_BYTES: usize = 512 << 10;
/// How long files are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Those that are measured: as long as a segment of plinth's log, or less.
    pub file: u64,
    /// The neighbour's.
    pub neighbour: u64,
    /// Files of cells that can't share one, at a time.
    pub own_files: u64,
}

impl Sizes {
    /// All that lies on the device at a time, and a little more for the file system's own needs.
    #[must_use]
    pub fn needed(self) -> u64 {
        let all = self.file * (2 + self.own_files) + self.neighbour;
        all + all / 16
    }
}

/// The files of a run.
#[derive(Debug)]
pub struct Files<'a> {
    dir: &'a Path,
    /// How long they are.
    pub sizes: Sizes,
}

impl<'a> Files<'a> {
    /// Files in `dir`, none of them made yet.
    #[must_use]
    pub fn new(dir: &'a Path, sizes: Sizes) -> Self {
        Self { dir, sizes }
    }

    /// The file of a cell. Recycled ones are shared: one is for direct writes, so that no page of it is ever cached.
    #[must_use]
    pub fn path(&self, cell: Cell, place: usize) -> PathBuf {
        self.dir.join(match cell.file {
            FileKind::Recycled if cell.method.is_direct() => "direct".to_owned(),
            FileKind::Recycled => "buffered".to_owned(),
            FileKind::Preallocated | FileKind::Growing => format!("{}-{place}", cell.file.name()),
        })
    }

    /// The neighbour's file.
    #[must_use]
    pub fn neighbour_path(&self) -> PathBuf {
        self.dir.join("neighbour")
    }

    /// Makes the file of a cell as its first write must find it, unless it is shared and there already.
    pub fn prepare(&self, cell: Cell, path: &Path) -> Result<(), Trouble> {
        match cell.file {
            FileKind::Recycled if path.exists() => Ok(()),
            FileKind::Recycled => write_whole(path, self.sizes.file, cell.method.is_direct()),
            FileKind::Preallocated => {
                let file = File::create(path)?;
                fallocate(&file, FallocateFlags::empty(), 0, self.sizes.file).map_err(|error| match error {
                    rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS => {
                        Trouble::Impossible("the file system reserves no space (fallocate)".to_owned())
                    }
                    error => Trouble::Io(error.into()),
                })?;
                Ok(file.sync_all()?)
            }
            FileKind::Growing => Ok(File::create(path)?.sync_all()?),
        }
    }

    /// Makes the neighbour's file.
    pub fn prepare_neighbour(&self, neighbour: Neighbour) -> Result<(), Trouble> {
        let path = self.neighbour_path();
        if neighbour == Neighbour::None || path.exists() {
            return Ok(());
        }
        write_whole(&path, self.sizes.neighbour, true)
    }

    /// Removes the file of a cell, unless it is shared.
    pub fn remove(&self, cell: Cell, path: &Path) {
        if cell.file != FileKind::Recycled {
            // It goes with its directory at the latest.
            fs::remove_file(path).ok();
        }
    }
}

/// Opens a file for writes that go past the page cache or not.
pub fn open(path: &Path, is_direct: bool) -> Result<File, Trouble> {
    let direct = i32::try_from(OFlags::DIRECT.bits()).expect("the flag fits the system's own type");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    if is_direct {
        options.custom_flags(direct);
    }
    options.open(path).map_err(|error| match error.raw_os_error() {
        Some(code) if is_direct && code == rustix::io::Errno::INVAL.raw_os_error() => {
            Trouble::Impossible("the file system refuses direct I/O".to_owned())
        }
        _ => Trouble::Io(error),
    })
}

/// What is written: nothing that a device could shorten.
#[must_use]
pub fn content(bytes: usize) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(bytes);
    Prng::new(bytes as u64).fill(buf.as_mut_slice());
    buf
}

/// Writes every block of a file, and makes it durable.
pub fn write_whole(path: &Path, bytes: u64, is_direct: bool) -> Result<(), Trouble> {
    let file = open(path, is_direct)?;
    let buf = content(CHUNK_BYTES);
    for offset in (0..bytes).step_by(CHUNK_BYTES) {
        let left = usize::try_from(bytes - offset).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        file.write_all_at(&buf.as_slice()[..left], offset)?;
    }
    Ok(file.sync_all()?)
}

/// Bytes that this process may still write on the file system of `dir`. None if it doesn't say, as ramfs.
pub fn free_bytes(dir: &Path) -> io::Result<Option<u64>> {
    let found = statvfs(dir)?;
    Ok((found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize)))
}
