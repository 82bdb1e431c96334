//! Which files a process writes to.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

/// Descriptors above this one are not what a supervisor gave: input, output, errors.
const STANDARD_MAX: u32 = 2;

/// The directory of a file that a process has open for writing and that lies on a block device; the deepest one, because data directories are
/// deeper than logs. `None` if there is no such file, as with a process of somebody else.
#[must_use]
pub fn written_directory(pid: u32) -> Option<PathBuf> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let written = open.flatten().filter_map(|entry| written(pid, &entry.path()).ok().flatten());
    written.max_by_key(|directory| directory.components().count())
}

fn written(pid: u32, link: &Path) -> io::Result<Option<PathBuf>> {
    let number: u32 = link.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or(0);
    let target = fs::read_link(link)?;
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}"))?;
    let is_file = fs::metadata(&target).is_ok_and(|data| data.is_file());
    let is_data = number > STANDARD_MAX && is_file && is_written(&info) && super::Disk::below(&target).is_ok();
    Ok(target.parent().filter(|_| is_data).map(Path::to_path_buf))
}

/// Whether the flags in an `fdinfo` file, which are octal, allow writing.
fn is_written(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).unwrap_or(0);
    OFlags::from_bits_retain(flags).intersects(OFlags::WRONLY | OFlags::RDWR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_a_file_that_is_written_is_found() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let deep = folder.path().join("a/b/c/d/e/f/g");
        fs::create_dir_all(&deep).expect("writable");
        let file = fs::File::create(deep.join("1.wal")).expect("writable");
        // Where temporary files lie on no block device there is nothing to be found.
        let expected = super::super::Disk::below(&deep).is_ok().then(|| fs::canonicalize(&deep).expect("it is there"));
        assert_eq!(written_directory(std::process::id()).filter(|found| found.ends_with("f/g")), expected);
        drop(file);
        assert_eq!(written_directory(0), None, "there is no such process");
    }

    #[test]
    fn flags_are_octal_and_the_lowest_two_bits_count() {
        assert!(is_written("pos:\t0\nflags:\t0100002\n") && is_written("flags:\t01\n"));
        assert!(!is_written("flags:\t0100000\n") && !is_written("pos:\t0\n"));
    }
}
