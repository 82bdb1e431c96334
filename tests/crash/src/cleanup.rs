//! Leaves nothing behind: whatever ends this process, its servers are killed, its mounts detached and its files removed.

use std::{
    path::Path,
    process,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{disk, powerfs};

static CHILDREN: Mutex<Vec<u32>> = Mutex::new(Vec::new());

fn children() -> MutexGuard<'static, Vec<u32>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers a process that must not outlive this one.
pub fn register_child(pid: u32) {
    children().push(pid);
}

/// Forgets a process that was waited for.
pub fn forget_child(pid: u32) {
    children().retain(|child| *child != pid);
}

/// Kills every registered process and detaches every mount.
pub fn clean_up() {
    for pid in std::mem::take(&mut *children()) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // It may be gone already.
            kill_process(pid, Signal::KILL).ok();
        }
    }
    powerfs::detach_all();
    disk::remove_scratch(|pid| pid == process::id());
}

/// From here on signals and panics clean up before they end the process; also removes what earlier runs left.
pub fn install() -> std::io::Result<()> {
    powerfs::detach_stale();
    disk::remove_scratch(|pid| !Path::new("/proc").join(pid.to_string()).exists());
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            clean_up();
            process::exit(128 + signal);
        }
    })?;
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default_hook(info);
        clean_up();
    }));
    Ok(())
}
