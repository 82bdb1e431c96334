//! How much memory this process may use.

use std::{fs, path::Path};

use crate::cgroup::{self, Controller};

/// Bytes of memory: the machine's, or the tightest limit of the process's control groups if that is less.
#[must_use]
pub fn memory_bytes() -> u64 {
    bytes_under(Path::new("/"))
}

fn bytes_under(root: &Path) -> u64 {
    let number = |dir: &Path, file: &str| fs::read_to_string(dir.join(file)).ok()?.trim().parse::<u64>().ok();
    // Above memory.high the kernel slows the process down until it has less.
    let v2 = ["memory.max", "memory.high"]
        .into_iter()
        .flat_map(|file| cgroup::values(root, Controller::Unified, |dir| number(dir, file)));
    let v1 = cgroup::values(root, Controller::V1("memory"), |dir| number(dir, "memory.limit_in_bytes"));
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    v2.chain(v1).chain(total_bytes(&meminfo)).min().unwrap_or(u64::MAX)
}

/// From `MemTotal: N kB`.
fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::write_under;

    #[test]
    fn the_tightest_of_machine_and_groups_counts() {
        let root = tempfile::tempdir().expect("a scratch directory");
        let write = |path: &str, text: &str| write_under(root.path(), path, text);
        assert_eq!(bytes_under(root.path()), u64::MAX, "nobody says anything");
        write("proc/meminfo", "MemTotal:       24576 kB\nMemFree: 12 kB\n");
        assert_eq!(bytes_under(root.path()), 24 << 20);
        write("proc/self/cgroup", "7:memory:/x\n0::/a/b\n");
        write("sys/fs/cgroup/a/memory.max", "8388608\n");
        write("sys/fs/cgroup/a/b/memory.max", "max\n");
        assert_eq!(bytes_under(root.path()), 8 << 20, "version 2, set further up");
        write("sys/fs/cgroup/a/b/memory.high", "6291456\n");
        assert_eq!(bytes_under(root.path()), 6 << 20);
        // Without a limit version 1 has a very large number.
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(bytes_under(root.path()), 6 << 20);
        write("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "4194304\n");
        assert_eq!(bytes_under(root.path()), 4 << 20);
    }
}
