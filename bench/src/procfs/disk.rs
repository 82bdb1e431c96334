//! The block device below a directory.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::{major, minor};

/// `stat` counts sectors of this size, whatever the device has.
const SECTOR_BYTES: u64 = 512;
/// Places in the `stat` file (Documentation/block/stat.rst), from 0.
const WRITES: usize = 4;
const WRITE_SECTORS: usize = 6;
const FLUSHES: usize = 15;

/// A whole device; partitions don't count flushes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disk {
    /// As the kernel calls it, such as `nvme0n1`.
    pub name: String,
    folder: PathBuf,
}

/// What went to a device so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskSample {
    /// Flush requests.
    pub flushes: u64,
    /// Write requests.
    pub writes: u64,
    /// Bytes in them.
    pub written_bytes: u64,
}

impl Disk {
    /// The device that holds `path`. Fails where there is none, as on tmpfs.
    pub fn below(path: &Path) -> io::Result<Self> {
        let device = fs::metadata(path)?.dev();
        let folder = PathBuf::from(format!("/sys/dev/block/{}:{}", major(device), minor(device)));
        let folder = fs::canonicalize(&folder).map_err(|_| {
            io::Error::new(io::ErrorKind::Unsupported, format!("{} lies on no block device", path.display()))
        })?;
        let is_partition = folder.join("partition").exists();
        let folder = folder.parent().filter(|_| is_partition).map_or(folder.clone(), Path::to_path_buf);
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, folder })
    }

    /// A whole device by the kernel's name for it.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), folder: Path::new("/sys/block").join(name) }
    }

    /// Its counters now.
    pub fn sample(&self) -> io::Result<DiskSample> {
        let stat = fs::read_to_string(self.folder.join("stat"))?;
        parse(&stat).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the device counts no flushes"))
    }
}

fn parse(stat: &str) -> Option<DiskSample> {
    let numbers: Vec<u64> = stat.split_ascii_whitespace().filter_map(|field| field.parse().ok()).collect();
    let number = |at: usize| numbers.get(at).copied();
    Some(DiskSample {
        flushes: number(FLUSHES)?,
        writes: number(WRITES)?,
        written_bytes: number(WRITE_SECTORS)? * SECTOR_BYTES,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flushes_and_writes_are_read_and_an_old_kernel_is_an_error() {
        let stat = "1 2 3 4 50 6 70 8 0 10 11 12 13 14 15 160 17\n";
        let sample = parse(stat).expect("17 fields");
        assert_eq!(sample, DiskSample { flushes: 160, writes: 50, written_bytes: 70 * 512 });
        assert_eq!(parse("1 2 3 4 5 6 7 8 9 10 11"), None);
    }

    #[test]
    fn a_file_system_without_a_device_has_no_disk() {
        assert!(Disk::below(Path::new("/proc")).is_err());
        assert!(Disk::named("nothing").sample().is_err());
    }
}
