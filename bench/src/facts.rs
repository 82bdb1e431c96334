//! What a page of figures says about where they were made: plain data, so that facts recorded on one machine can be read on another.
//!
//! Looking takes a root directory, `/` in earnest: tests look around in a made-up tree. What can't be found out is absent, and told as
//! "unknown".

mod cgroup;
mod cpu;
mod device;
mod mount;
#[cfg(test)]
mod tests;
mod text;

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::{
    cgroup::Limits,
    cpu::{Cpu, IdleState},
    device::{Device, Kind},
    mount::Mount,
};

/// Facts about the machine, and about what lies below a directory.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// Its release.
    pub kernel: Option<String>,
    /// The processors.
    pub cpu: Cpu,
    /// Of the machine, in MiB.
    pub memory_mib: Option<u64>,
    /// What the control groups of this process allow.
    pub limits: Limits,
    /// The file system.
    pub mount: Option<Mount>,
    /// What the file system lies on. None on tmpfs, overlay, network file systems.
    pub device: Option<Device>,
    /// What direct I/O asks for.
    pub direct_io: Option<Alignment>,
    /// Time that the hypervisor gave to others while something was measured, in percent of all cores' time.
    #[serde(default)]
    pub steal_percent: Option<f64>,
    /// CPU time of programs that took no part meanwhile, in the same unit.
    #[serde(default)]
    pub foreign_percent: Option<f64>,
}

/// What direct I/O must be aligned to, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Alignment {
    /// The buffer in memory.
    pub memory: u64,
    /// Offset and length in the file; 0 if the file system knows no direct I/O.
    pub offset: u64,
}

impl Facts {
    /// Looks around.
    #[must_use]
    pub fn look(dir: &Path) -> Self {
        let mount_id = statx(CWD, dir, AtFlags::empty(), StatxFlags::MNT_ID).ok();
        let mount_id = mount_id.filter(|found| found.stx_mask & StatxFlags::MNT_ID.bits() != 0);
        let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf());
        let facts = Self::collect(Path::new("/"), mount_id.map(|found| found.stx_mnt_id), &dir);
        Self { direct_io: alignment(&dir), ..facts }
    }

    /// All that files below `root` say about the directory `dir` on the mount with this number.
    fn collect(root: &Path, mount_id: Option<u64>, dir: &Path) -> Self {
        let mountinfo = fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default();
        let mount = mount::find(&mountinfo, mount_id, dir);
        let device = mount.as_ref().and_then(|mount| device::below(root, mount));
        let numbers: Vec<String> = device.iter().flat_map(Device::all).map(|device| device.number.clone()).collect();
        let meminfo = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
        Self {
            kernel: read(&root.join("proc/sys/kernel/osrelease")),
            cpu: Cpu::look(root),
            memory_mib: memory_kib(&meminfo).map(|kib| kib / 1024),
            limits: Limits::look(root, &numbers),
            mount,
            device,
            direct_io: None,
            steal_percent: None,
            foreign_percent: None,
        }
    }

    /// For a results file.
    #[must_use]
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("plain data with names as keys")
    }
}

/// Asks a file without a name, which is gone when this returns: directories don't say.
fn alignment(dir: &Path) -> Option<Alignment> {
    let file = tempfile::tempfile_in(dir).ok()?;
    let found = statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    (found.stx_mask & StatxFlags::DIOALIGN.bits() != 0).then_some(Alignment {
        memory: u64::from(found.stx_dio_mem_align),
        offset: u64::from(found.stx_dio_offset_align),
    })
}

fn memory_kib(meminfo: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// The text of a file of the kernel's, if it is there and says something.
fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// A number in such a file.
fn read_number(path: &Path) -> Option<u64> {
    read(path)?.parse().ok()
}

/// Whether such a file says 1.
fn read_bool(path: &Path) -> Option<bool> {
    Some(read_number(path)? == 1)
}

/// What is in a directory, sorted by name.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
