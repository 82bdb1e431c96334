//! A copy of a data directory.

use std::{fs, path::Path};

use crate::failure::Failure;

/// Copies a directory; the copy is on the disk when this returns, so that its writing disturbs nobody.
pub fn copy_tree(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir(to).map_err(Failure::file(to, "making"))?;
    for entry in fs::read_dir(from).map_err(Failure::file(from, "reading"))? {
        let entry = entry.map_err(Failure::file(from, "reading"))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_tree(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(Failure::file(&source, "copying"))?;
            let copied = fs::File::open(&target).and_then(|file| file.sync_all());
            copied.map_err(Failure::file(&target, "syncing"))?;
        }
    }
    // etcd insists on it.
    let mode = fs::metadata(from).map_err(Failure::file(from, "reading"))?.permissions();
    fs::set_permissions(to, mode).map_err(Failure::file(to, "setting the mode of"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_every_file_and_the_mode() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let from = dir.path().join("from");
        fs::create_dir_all(from.join("wal")).expect("writable");
        fs::write(from.join("wal/1"), b"one").expect("writable");
        fs::set_permissions(&from, fs::Permissions::from_mode(0o700)).expect("ours");
        let to = dir.path().join("to");
        copy_tree(&from, &to).expect("nothing is in the way");
        assert_eq!(fs::read(to.join("wal/1")).expect("copied"), b"one");
        assert_eq!(fs::metadata(&to).expect("there").permissions().mode() & 0o777, 0o700);
    }
}
