//! What cases change about the machine, each change undone when its guard is dropped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::{
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::geteuid,
};
use tempfile::TempDir;

use crate::{
    node::Bench,
    outcome::{Ended, Outcome},
};

/// Runs a program as the user nobody, without capabilities.
const AS_NOBODY: &[&str] = &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// What to put before the server's command so that it runs as nobody; needs root.
pub(crate) fn as_nobody(bench: &Bench) -> Result<&'static [&'static str], Ended> {
    need_root()?;
    let (program, rest) = AS_NOBODY.split_first().expect("it is a command");
    let can = Command::new(program).args(rest).arg(&bench.plinth).arg("--version").output();
    match can {
        Ok(output) if output.status.success() => Ok(AS_NOBODY),
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(Ended::Skipped(format!("the server can't be run as nobody: {}", why.trim())))
        }
        Err(error) => Err(Ended::Skipped(format!("setpriv: {error}"))),
    }
}

/// Programs of etcd.
pub(crate) struct Peers {
    pub(crate) etcdctl34: PathBuf,
    pub(crate) etcdctl35: PathBuf,
    pub(crate) etcdutl35: PathBuf,
    pub(crate) etcd35: PathBuf,
}

impl Peers {
    /// Those that `cargo xtask peers` has put there.
    pub(crate) fn find() -> Result<Self, Ended> {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers");
        let find = |program: &str| {
            let path = peers.join(program);
            let why = || Ended::Skipped(format!("{} is not there; `cargo xtask peers` puts it there", path.display()));
            fs::canonicalize(&path).map_err(|_| why())
        };
        Ok(Self {
            etcdctl34: find("3.4/etcdctl")?,
            etcdctl35: find("3.5/etcdctl")?,
            etcdutl35: find("3.5/etcdutl")?,
            etcd35: find("3.5/etcd")?,
        })
    }
}

fn need_root() -> Outcome {
    if geteuid().is_root() { Ok(()) } else { Err(Ended::Skipped("needs root".to_owned())) }
}

/// A mounted file system.
pub(crate) struct Mounted {
    // Its directory is removed after it was unmounted: fields go after `drop`.
    dir: TempDir,
}

impl Mounted {
    /// A ramfs: it knows no direct I/O.
    pub(crate) fn ramfs() -> Result<Self, Ended> {
        need_root()?;
        let dir = TempDir::new()?;
        mount("none", dir.path(), "ramfs", MountFlags::empty(), None)
            .map_err(|error| Ended::Skipped(format!("can't mount a ramfs: {error}")))?;
        Ok(Self { dir })
    }

    /// A new ext4 of so many bytes, in a file on a loop device.
    pub(crate) fn ext4(image: &Path, bytes: u64) -> Result<Self, Ended> {
        need_root()?;
        fs::File::create(image)?.set_len(bytes)?;
        run_or_skip(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(image))?;
        let dir = TempDir::new()?;
        run_or_skip(Command::new("mount").args(["-o", "loop"]).arg(image).arg(dir.path()))?;
        Ok(Self { dir })
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A server that still runs keeps it alive until it ends.
        unmount(self.dir.path(), UnmountFlags::DETACH).ok();
    }
}

fn run_or_skip(command: &mut Command) -> Outcome {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(Ended::Skipped(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))),
        Err(error) => Err(Ended::Skipped(format!("{command:?}: {error}"))),
    }
}

/// A kernel setting, put back when dropped.
pub(crate) struct Sysctl {
    path: PathBuf,
    before: String,
}

impl Sysctl {
    pub(crate) fn set(name: &str, value: &str) -> Result<Self, Ended> {
        let path = Path::new("/proc/sys").join(name);
        let skip = |error: std::io::Error| Ended::Skipped(format!("can't change {}: {error}", path.display()));
        let before = fs::read_to_string(&path).map_err(skip)?;
        fs::write(&path, value).map_err(skip)?;
        Ok(Self { path: path.clone(), before })
    }
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.path, &self.before) {
            eprintln!("{} could not be put back to {}: {error}", self.path.display(), self.before.trim());
        }
    }
}
