//! What a page of figures says about where they were made.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use rustix::{
    fs::{major, minor},
    system::uname,
};
use serde_json::{Value, json};

use crate::procfs::Disk;

/// Facts about the machine and the disk below a directory. What can't be found out is "unknown".
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    cpu: String,
    is_virtual: bool,
    cores: usize,
    memory_mib: u64,
    kernel: String,
    disk: String,
    write_cache: String,
    fua: bool,
    scheduler: String,
    file_system: String,
    mount_options: String,
}

impl Machine {
    /// Looks around.
    #[must_use]
    pub fn look(dir: &Path) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let disk = Disk::below(dir).ok();
        let queue = |name| disk.as_ref().map_or_else(unknown, |disk| disk.queue(name));
        let device = fs::metadata(dir).map(|data| format!("{}:{}", major(data.dev()), minor(data.dev())));
        let (file_system, mount_options) =
            parse_mount(&mountinfo, &device.unwrap_or_default()).unwrap_or((unknown(), unknown()));
        Self {
            cpu: cpu_field(&cpuinfo, "model name").unwrap_or_else(unknown),
            is_virtual: cpu_field(&cpuinfo, "flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory_kib(&meminfo) / 1024,
            kernel: uname().release().to_string_lossy().into_owned(),
            disk: disk.as_ref().map_or_else(unknown, |disk| disk.name.clone()),
            write_cache: queue("write_cache"),
            fua: queue("fua") == "1",
            scheduler: queue("scheduler"),
            file_system,
            mount_options,
        }
    }

    /// On one line.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!(
            "{} cores of {}{}, {} MiB, Linux {}; disk {} ({}, {}, scheduler {}), {} ({})",
            self.cores,
            self.cpu,
            if self.is_virtual { " (virtual machine)" } else { "" },
            self.memory_mib,
            self.kernel,
            self.disk,
            self.write_cache,
            if self.fua { "FUA" } else { "no FUA" },
            self.scheduler,
            self.file_system,
            self.mount_options
        )
    }

    /// For a results file.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "cpu": self.cpu,
            "virtual": self.is_virtual,
            "cores": self.cores,
            "memory_mib": self.memory_mib,
            "kernel": self.kernel,
            "disk": self.disk,
            "write_cache": self.write_cache,
            "fua": self.fua,
            "scheduler": self.scheduler,
            "file_system": self.file_system,
            "mount_options": self.mount_options,
        })
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn cpu_field(cpuinfo: &str, name: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory_kib(meminfo: &str) -> u64 {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    rest.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Type and options of the file system on a device, `major:minor`.
fn parse_mount(mountinfo: &str, device: &str) -> Option<(String, String)> {
    let line = mountinfo.lines().find(|line| line.split(' ').nth(2) == Some(device))?;
    let (mount, file_system) = line.split_once(" - ")?;
    Some((file_system.split(' ').next()?.to_owned(), mount.split(' ').nth(5)?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_a_device_is_found_by_its_numbers() {
        let mountinfo =
            "21 1 0:19 / /proc rw - proc proc rw\n36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext4 /dev/root rw\n";
        assert_eq!(parse_mount(mountinfo, "98:0"), Some(("ext4".to_owned(), "rw,noatime".to_owned())));
        assert_eq!(parse_mount(mountinfo, "98:1"), None);
    }

    #[test]
    fn fields_of_proc_are_read() {
        assert_eq!(cpu_field("a\t: b\nmodel name\t: Fast One\n", "model name"), Some("Fast One".to_owned()));
        assert_eq!(memory_kib("MemTotal:       2048 kB\n"), 2048);
    }
}
