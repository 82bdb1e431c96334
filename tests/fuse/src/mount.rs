//! Brings a file system into the name space, and always out again: a mount whose server is gone hangs whoever looks at it.
//!
//! Every mount of this process is listed; it leaves the list and the name space when its guard is dropped, when a signal or
//! a panic calls [`detach_all`], and at the latest when the next run finds it through [`detach_stale`]. A process that
//! dies leaves a mount whose operations fail, since the kernel aborts a connection without a reader.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use fuser::{BackgroundSession, Config, Filesystem, MountOption, Session};
use rustix::mount::{UnmountFlags, unmount};

/// Threads that answer requests: a delayed sync must not hold up reads.
const THREADS: usize = 4;
/// How long the session may take to end once it is detached.
const END_MAX: Duration = Duration::from_secs(10);
/// The source of a mount as /proc/self/mountinfo shows it is this and the process id.
const SOURCE_PREFIX: &str = "plinth-fuse-";

/// Why there is no mount.
#[derive(Debug)]
pub enum MountError {
    /// This machine has no FUSE, or doesn't let this process use it: the test can't run here.
    Unavailable(String),
    /// Something else is wrong.
    Failed(io::Error),
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) => write!(f, "FUSE can't be used here: {why}"),
            Self::Failed(error) => write!(f, "mounting failed: {error}"),
        }
    }
}

impl std::error::Error for MountError {}

static MOUNTED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn mounted() -> MutexGuard<'static, Vec<PathBuf>> {
    MOUNTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The guard of one mount.
pub struct Mount {
    path: PathBuf,
    session: Option<BackgroundSession>,
}

impl Mount {
    /// Mounts what `server` answers on the directory `at`, which must exist.
    pub fn new(server: impl Filesystem, at: &Path) -> Result<Self, MountError> {
        check_device()?;
        let mut config = Config::default();
        config.n_threads = Some(THREADS);
        config.clone_fd = true;
        config.mount_options = vec![
            MountOption::FSName(format!("{SOURCE_PREFIX}{}", std::process::id())),
            MountOption::DefaultPermissions,
            MountOption::NoAtime,
        ];
        let path = at.canonicalize().map_err(MountError::Failed)?;
        let session = Session::new(server, &path, &config).map_err(|error| unavailable(error, "mount"))?;
        // Listed before anything can fail, so that a signal from here on finds it.
        mounted().push(path.clone());
        let mut mount = Self { path, session: None };
        mount.session = Some(session.spawn().map_err(MountError::Failed)?);
        Ok(mount)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        detach(&self.path);
        mounted().retain(|path| *path != self.path);
        if let Some(session) = self.session.take() {
            let deadline = Instant::now() + END_MAX;
            while !session.guard.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            if session.guard.is_finished() {
                // Errors of a connection that was aborted on purpose say nothing.
                session.join().ok();
            } else {
                eprintln!("the file system at {} is still in use", self.path.display());
            }
        }
    }
}

fn check_device() -> Result<(), MountError> {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    opened.map(drop).map_err(|error| unavailable(error, "/dev/fuse"))
}

fn unavailable(error: io::Error, what: &str) -> MountError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported => {
            MountError::Unavailable(format!("{what}: {error}"))
        }
        _ if error.raw_os_error() == Some(libc::ENODEV) => MountError::Unavailable(format!("{what}: {error}")),
        _ => MountError::Failed(error),
    }
}

/// Takes a mount out of the name space at once, and fails every request that is under way.
fn detach(path: &Path) {
    // FORCE aborts the connection, so that nobody waits for an answer any more; DETACH goes ahead with files still open.
    if unmount(path, UnmountFlags::FORCE | UnmountFlags::DETACH).is_ok() {
        return;
    }
    // Without the right to unmount, the setuid helper that mounted does it. It fails if the mount is gone: all the better.
    let helper = Command::new("fusermount3").args(["-u", "-z", "-q"]).arg(path).stderr(Stdio::null()).status();
    helper.ok();
}

/// Detaches every mount of this process: for signal handlers' threads and panic hooks.
pub fn detach_all() {
    let paths = std::mem::take(&mut *mounted());
    paths.iter().for_each(|path| detach(path));
}

/// Detaches what earlier processes left because they were killed.
pub fn detach_stale() {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else { return };
    for (path, pid) in mounts.lines().filter_map(parse_mount) {
        if !Path::new("/proc").join(pid.to_string()).exists() {
            detach(&path);
        }
    }
}

/// Mount point and process id, if the line of mountinfo is about a mount of ours (proc(5) has the format).
fn parse_mount(line: &str) -> Option<(PathBuf, u32)> {
    let (mount, source) = line.split_once(" - ")?;
    let pid = source.split(' ').nth(1)?.strip_prefix(SOURCE_PREFIX)?.parse().ok()?;
    let path = mount.split(' ').nth(4)?;
    Some((PathBuf::from(path.replace("\\040", " ")), pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_mounts_are_recognised_in_mountinfo() {
        let own = "99 28 0:41 / /tmp/a\\040b/mnt rw,noatime - fuse plinth-fuse-4711 rw,user_id=0";
        assert_eq!(parse_mount(own), Some((PathBuf::from("/tmp/a b/mnt"), 4711)));
        assert_eq!(parse_mount("28 1 254:0 / / rw,relatime - ext4 /dev/vda rw"), None);
        assert_eq!(parse_mount("garbage"), None);
    }
}
