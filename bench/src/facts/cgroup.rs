//! What the control groups of this process allow, of version 1 and of version 2. The tightest limit on the way up counts.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{read, read_number};

/// Version 1 says "no limit" with a number about as large as this.
const NO_LIMIT_BYTES: u64 = 1 << 60;
/// Files of version 1 that hold a device back.
const THROTTLES_V1: [(&str, &str); 4] = [
    ("blkio.throttle.read_bps_device", "rbps"),
    ("blkio.throttle.write_bps_device", "wbps"),
    ("blkio.throttle.read_iops_device", "riops"),
    ("blkio.throttle.write_iops_device", "wiops"),
];

/// Limits; what is absent isn't limited.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Of memory, in MiB.
    #[serde(default)]
    pub memory_mib: Option<u64>,
    /// CPU time per time, in cores.
    #[serde(default)]
    pub cpus: Option<f64>,
    /// Throttles of the devices below the directory, such as `wbps=1048576`: bytes or operations per second, reading or writing.
    #[serde(default)]
    pub io: Vec<String>,
}

impl Limits {
    /// Looks at all groups that this process is in; `devices` are the numbers of those whose throttles are wanted.
    pub fn look(root: &Path, devices: &[String]) -> Self {
        let groups = read(&root.join("proc/self/cgroup")).unwrap_or_default();
        let fs = root.join("sys/fs/cgroup");
        // Where both versions are in use, version 2 has a place of its own.
        let unified = [fs.join("unified"), fs.clone()].into_iter().find(|dir| dir.join("cgroup.procs").exists());
        let v2 = unified.map(|mount| dirs(&groups, "", &mount)).unwrap_or_default();
        let v1 = |controller: &str| dirs(&groups, controller, &fs.join(controller));
        let memory = smallest(&v2, "memory.max")
            .into_iter()
            .chain(smallest(&v2, "memory.high"))
            .chain(smallest(&v1("memory"), "memory.limit_in_bytes"))
            .min();
        let quotas = v2.iter().filter_map(|dir| quota(&read(&dir.join("cpu.max"))?));
        let quotas = quotas.chain(v1("cpu").into_iter().filter_map(|dir| quota_v1(&dir)));
        let mut io: Vec<String> = v2.iter().flat_map(|dir| throttles(dir, devices)).collect();
        io.extend(v1("blkio").iter().flat_map(|dir| throttles_v1(dir, devices)));
        io.sort();
        io.dedup();
        Self { memory_mib: memory.map(|bytes| bytes >> 20), cpus: quotas.min_by(f64::total_cmp), io }
    }
}

/// The directories of the group of a controller and of all groups above it; the controller without a name is version 2. In a container's own
/// namespace the path may not exist below the mount, whose root then is the container's own group.
fn dirs(groups: &str, controller: &str, mount: &Path) -> Vec<PathBuf> {
    let path = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        controllers.split(',').any(|name| name == controller).then(|| path.trim_start_matches('/'))
    });
    let Some(path) = path else { return Vec::new() };
    let full = mount.join(path);
    full.ancestors().take_while(|dir| dir.starts_with(mount)).map(Path::to_path_buf).collect()
}

fn smallest(dirs: &[PathBuf], file: &str) -> Option<u64> {
    dirs.iter().filter_map(|dir| read_number(&dir.join(file))).filter(|bytes| *bytes < NO_LIMIT_BYTES).min()
}

/// Cores from `quota period`, both in microseconds; the quota may be `max`.
fn quota(text: &str) -> Option<f64> {
    let (quota, period) = text.split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then(|| quota / period)
}

/// The quota of version 1 is -1 if there is none.
fn quota_v1(dir: &Path) -> Option<f64> {
    let part = |name: &str| read(&dir.join(name))?.parse::<f64>().ok().filter(|us| *us > 0.0);
    Some(part("cpu.cfs_quota_us")? / part("cpu.cfs_period_us")?)
}

/// `io.max` has lines such as `8:0 rbps=max wbps=1048576 riops=max wiops=max`.
fn throttles(dir: &Path, devices: &[String]) -> Vec<String> {
    let text = read(&dir.join("io.max")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let ours = lines.filter(|(number, _)| devices.iter().any(|device| device == number));
    ours.flat_map(|(_, limits)| limits.split(' ').filter(|limit| !limit.ends_with("=max")).map(str::to_owned)).collect()
}

fn throttles_v1(dir: &Path, devices: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (file, name) in THROTTLES_V1 {
        let text = read(&dir.join(file)).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        let ours = lines.filter(|(number, _)| devices.iter().any(|device| device == number));
        found.extend(ours.map(|(_, limit)| format!("{name}={limit}")));
    }
    found
}
