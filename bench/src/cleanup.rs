//! Leaves nothing behind: whatever ends this process, its servers are killed and its directories removed.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use tempfile::TempDir;

use crate::failure::Failure;

/// How often a directory is removed in which something is made all the while.
const REMOVALS_MAX: usize = 100;

/// What must not outlive this process.
static KEPT: Mutex<Kept> = Mutex::new(Kept { children: Vec::new(), folders: Vec::new() });

struct Kept {
    children: Vec<u32>,
    folders: Vec<PathBuf>,
}

fn kept() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers a process.
pub fn register_child(pid: u32) {
    kept().children.push(pid);
}

/// Forgets a process that was waited for.
pub fn forget_child(pid: u32) {
    kept().children.retain(|child| *child != pid);
}

/// A directory that goes away with all it holds.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    /// A fresh one in `parent`, which is made if it isn't there.
    pub fn new(parent: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(parent).map_err(Failure::file(parent, "making"))?;
        // Held while it is made: a signal in between would leave it behind.
        let mut kept = kept();
        let made = tempfile::Builder::new().prefix("plinth-bench-").tempdir_in(parent);
        let made = made.map_err(Failure::file(parent, "making a directory in"))?;
        kept.folders.push(made.path().to_path_buf());
        Ok(Self(made))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let path = self.0.path().to_path_buf();
        kept().folders.retain(|folder| *folder != path);
    }
}

/// From here on a signal cleans up before it ends the process.
pub fn install() -> Result<(), Failure> {
    let trouble = |error: std::io::Error| Failure::Trouble(format!("cannot catch signals: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(trouble)?;
    let body = move || {
        if let Some(signal) = signals.forever().next() {
            clean_up();
            process::exit(128 + signal);
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(body).map_err(trouble)?;
    Ok(())
}

fn clean_up() {
    // Held to the end: nothing is started any more.
    let kept = kept();
    for pid in kept.children.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
        // It may be gone already.
        kill_process(pid, Signal::KILL).ok();
    }
    for folder in &kept.folders {
        // A dying server, or a thread of this process, may still make a file there while it is being emptied.
        for _ in 0..REMOVALS_MAX {
            if fs::remove_dir_all(folder).is_ok() || !folder.exists() {
                break;
            }
        }
    }
}
