//! Whether a directory is one whose flushes are worth measuring, before anything is made there.

use std::{fs, io, path::Path};

use super::files::{Sizes, free_bytes};
use crate::{facts::Facts, failure::Failure};

const MIB: u64 = 1 << 20;

/// Refuses a directory that isn't there, and file systems whose flushes mean nothing unless `anyway`.
pub fn check(dir: &Path, facts: &Facts, anyway: bool) -> Result<(), Failure> {
    let place = dir.display();
    let trouble = |text: String| Err(Failure::Trouble(text));
    match fs::metadata(dir) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return trouble(format!("{place} is no directory: give one on the disk to measure")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return trouble(format!("there is no directory {place}: make it first, on the disk to measure"));
        }
        Err(error) => return trouble(format!("looking at {place}: {error}")),
    }
    let Some(mount) = facts.mount.as_ref().filter(|_| !anyway) else { return Ok(()) };
    let hint = "give a directory on a disk, or --anyway to measure it all the same";
    if mount.is_memory() {
        return trouble(format!(
            "{place} is on {}, which lies in memory: its flushes mean nothing; {hint}",
            mount.file_system
        ));
    }
    if mount.is_overlay() {
        return trouble(format!(
            "{place} is on {}, and which layer it writes to isn't seen from here: its flushes mean nothing for a disk; {hint}",
            mount.file_system
        ));
    }
    Ok(())
}

/// Refuses a directory that has too little room.
pub fn check_room(dir: &Path, sizes: Sizes) -> Result<(), Failure> {
    let free = free_bytes(dir).map_err(Failure::file(dir, "asking for the free space of"))?;
    let needed = sizes.needed();
    let Some(free) = free.filter(|free| *free < needed) else { return Ok(()) };
    let (needed, free) = (needed.div_ceil(MIB), free / MIB);
    let text = format!("{} has {free} MiB free, and {needed} MiB are needed (--quick needs less)", dir.display());
    Err(Failure::Trouble(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Mount;

    fn facts(file_system: &str) -> Facts {
        let mut facts = Facts::look(Path::new("/"));
        facts.mount = Some(Mount {
            file_system: file_system.to_owned(),
            options: "rw".to_owned(),
            source: "none".to_owned(),
            number: "0:9".to_owned(),
        });
        facts
    }

    #[test]
    fn memory_and_overlay_are_refused_unless_it_is_wanted_anyway() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for file_system in ["tmpfs", "ramfs", "overlay"] {
            let refused = check(dir.path(), &facts(file_system), false).expect_err("meaningless");
            assert!(refused.to_string().contains("flushes mean nothing"), "{refused}");
            assert_eq!(refused.exit_code(), 1);
            assert!(check(dir.path(), &facts(file_system), true).is_ok());
        }
        assert!(check(dir.path(), &facts("ext4"), false).is_ok());
    }

    #[test]
    fn what_is_no_directory_is_refused_in_one_line() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let missing = dir.path().join("missing");
        let file = dir.path().join("file");
        fs::write(&file, "").expect("written");
        for (path, word) in [(missing, "there is no directory"), (file, "is no directory")] {
            let refused = check(&path, &facts("ext4"), true).expect_err("not a directory").to_string();
            assert!(refused.contains(word) && !refused.contains('\n'), "{refused}");
        }
    }

    #[test]
    fn too_little_room_says_how_much_is_needed() {
        let sizes = Sizes { file: 1 << 50, neighbour: 0, own_files: 0 };
        let refused = check_room(Path::new("/"), sizes).expect_err("nobody has that much").to_string();
        assert!(refused.contains("2281701376 MiB are needed"), "{refused}");
        assert!(check_room(Path::new("/"), Sizes { file: 0, neighbour: 0, own_files: 0 }).is_ok());
    }
}
