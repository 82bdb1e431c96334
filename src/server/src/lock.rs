//! The lock on a directory: a file `LOCK` that holds the owner's pid, under an exclusive flock.
//!
//! Invariant: while a [`DirLock`] lives, no other process has one for the same directory. The kernel drops the flock
//! with the process, however it ends; the file stays and means nothing by itself.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::start_error::StartError;

/// The name of the lock file.
pub const LOCK_FILE: &str = "LOCK";

/// A directory that is this process's own as long as this lives.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the lock of `dir`, which must exist. `flag` is the flag that named it.
    pub fn acquire(dir: &Path, flag: &str) -> Result<Self, StartError> {
        let path = dir.join(LOCK_FILE);
        let fail = |what: &str, error: std::io::Error| {
            StartError::failed(format!(
                "cannot {what} {}: {error}; run as the owner of the directory, or choose another with --{flag}",
                path.display()
            ))
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| fail("write", error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(dir, flag, &mut file)),
            Err(TryLockError::Error(error)) => return Err(fail("lock", error)),
        }
        file.set_len(0)
            .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()))
            .map_err(|error| fail("write", error))?;
        Ok(Self { _file: file })
    }

    /// Takes the lock of a stopped node's directory for a tool that only reads: nothing is written, not even the pid.
    pub fn acquire_to_read(dir: &Path) -> Result<Self, StartError> {
        let path = dir.join(LOCK_FILE);
        let fail = |error: std::io::Error| {
            StartError::failed(format!("cannot lock {}: {error}: name a data directory of plinth", path.display()))
        };
        let mut file = File::open(&path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(in_use(dir, "data-dir", &mut file)),
            Err(TryLockError::Error(error)) => Err(fail(error)),
        }
    }
}

fn in_use(dir: &Path, flag: &str, file: &mut File) -> StartError {
    let mut text = String::new();
    // The owner may be about to write its pid; then there is none to name.
    let owner = match file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok()) {
        Some(pid) => format!("pid {pid}"),
        None => "pid unknown".to_owned(),
    };
    StartError::failed(format!(
        "{} is in use by another plinth ({owner}): stop that one, or choose another directory with --{flag}",
        dir.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_refused_with_the_pid_of_the_first() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = DirLock::acquire(dir.path(), "data-dir").expect("nobody else has it");
        let error = DirLock::acquire(dir.path(), "data-dir").expect_err("it is taken");
        assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
        assert!(error.to_string().contains("--data-dir"), "{error}");
        drop(first);
        DirLock::acquire(dir.path(), "data-dir").expect("it is free again");
    }

    #[test]
    fn a_reader_keeps_owners_out_and_leaves_the_file_alone() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert!(DirLock::acquire_to_read(dir.path()).is_err(), "there is nothing to read");
        let path = dir.path().join(LOCK_FILE);
        std::fs::write(&path, "99999\n").expect("written");
        let reader = DirLock::acquire_to_read(dir.path()).expect("nobody has the flock");
        assert!(DirLock::acquire(dir.path(), "data-dir").is_err());
        drop(reader);
        assert_eq!(std::fs::read_to_string(&path).expect("readable"), "99999\n");
        let _owner = DirLock::acquire(dir.path(), "data-dir").expect("it is free again");
        assert!(DirLock::acquire_to_read(dir.path()).is_err());
    }

    #[test]
    fn a_lock_file_left_by_a_dead_owner_does_not_matter() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join(LOCK_FILE), "99999\nrubbish").expect("written");
        let _lock = DirLock::acquire(dir.path(), "data-dir").expect("nobody has the flock");
        let text = std::fs::read_to_string(dir.path().join(LOCK_FILE)).expect("readable");
        assert_eq!(text, format!("{}\n", std::process::id()));
    }
}
