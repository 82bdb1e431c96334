use std::os::unix::fs::symlink;

use super::*;

/// A made-up `/proc` and `/sys`.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("a file in a directory")).expect("made");
        fs::write(path, text).expect("written");
        self
    }

    fn link(&self, path: &str, to: &str) -> &Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("a link in a directory")).expect("made");
        symlink(self.0.path().join(to), path).expect("linked");
        self
    }

    /// A drive with its queue, at a place below sys/devices.
    fn drive(&self, at: &str, number: &str, cache: &str) -> &Self {
        let at = format!("sys/devices/{at}");
        for (file, text) in [
            ("dev", number),
            ("queue/write_cache", cache),
            ("queue/fua", "1"),
            ("queue/scheduler", "mq-deadline [none] bfq"),
            ("queue/logical_block_size", "512"),
            ("queue/physical_block_size", "4096"),
            ("queue/rotational", "0"),
        ] {
            self.file(&format!("{at}/{file}"), &format!("{text}\n"));
        }
        self.link(&format!("sys/dev/block/{number}"), &at)
    }

    fn mount(&self, number: &str, file_system: &str, source: &str) -> &Self {
        let line = format!("36 1 {number} / /data rw,noatime - {file_system} {source} rw\n");
        self.file("proc/self/mountinfo", &line)
    }

    fn facts(&self) -> Facts {
        Facts::collect(self.0.path(), Some(36), Path::new("/data"))
    }
}

#[test]
fn a_partition_of_an_nvme_drive_shows_the_drive() {
    let tree = Tree::new();
    let drive = "pci0/nvme/nvme0/nvme0n1";
    tree.drive(drive, "259:0", "write through")
        .file(&format!("sys/devices/{drive}/device/model"), "Fast One 960 \n")
        .file(&format!("sys/devices/{drive}/device/transport"), "pcie\n")
        .file(&format!("sys/devices/{drive}/device/numa_node"), "1\n")
        .file(&format!("sys/devices/{drive}/nvme0n1p2/partition"), "2\n")
        .file(&format!("sys/devices/{drive}/nvme0n1p2/dev"), "259:2\n")
        .link("sys/dev/block/259:2", &format!("sys/devices/{drive}/nvme0n1p2"))
        .mount("259:2", "xfs", "/dev/nvme0n1p2");
    let facts = tree.facts();
    let device = facts.device.as_ref().expect("found");
    assert_eq!((device.kind, device.whole().kind), (Kind::Partition, Kind::Nvme));
    assert_eq!(device.chain(), "nvme0n1p2 (partition) on nvme0n1 (NVMe, Fast One 960)");
    let drive = device.drives()[0];
    assert_eq!((drive.scheduler.as_deref(), drive.write_cache.as_deref()), (Some("none"), Some("write through")));
    assert_eq!((drive.fua, drive.numa_node, drive.logical_block), (Some(true), Some(1), Some(512)));
    assert!(facts.to_text().contains("disk nvme0n1 (write through, FUA, scheduler none), xfs (rw,noatime)"));
    let again: Facts = serde_json::from_value(facts.to_json()).expect("what was written is read");
    assert_eq!(again, facts);
}

#[test]
fn crypt_on_a_mirror_of_two_drives_is_followed_down() {
    let tree = Tree::new();
    tree.drive("virtual/block/dm-0", "252:0", "write back")
        .file("sys/devices/virtual/block/dm-0/dm/uuid", "CRYPT-LUKS2-0a-data\n")
        .file("sys/devices/virtual/block/dm-0/dm/name", "data\n")
        .link("sys/devices/virtual/block/dm-0/slaves/md0", "sys/devices/virtual/block/md0")
        .drive("virtual/block/md0", "9:0", "write back")
        .file("sys/devices/virtual/block/md0/md/level", "raid1\n")
        .link("sys/devices/virtual/block/md0/slaves/nvme0n1", "sys/devices/pci0/nvme0n1")
        .link("sys/devices/virtual/block/md0/slaves/nvme1n1", "sys/devices/pci1/nvme1n1")
        .drive("pci0/nvme0n1", "259:0", "write back")
        .drive("pci1/nvme1n1", "259:1", "write through")
        .mount("252:0", "ext4", "/dev/mapper/data");
    let device = tree.facts().device.expect("found");
    assert_eq!(device.chain(), "dm-0 (dm-crypt, data) on md0 (RAID, raid1) on nvme0n1 (NVMe) + nvme1n1 (NVMe)");
    assert_eq!(device.drives().len(), 2);
}

#[test]
fn a_file_system_with_numbers_of_its_own_is_found_by_its_source() {
    let tree = Tree::new();
    tree.drive("pci0/ata1/host0/block/sda", "8:0", "write back")
        .file("sys/devices/pci0/ata1/host0/block/sda/device/vendor", "ATA     \n")
        .file("sys/devices/pci0/ata1/host0/block/sda/device/model", "Slow One\n")
        .file("sys/devices/pci0/ata1/host0/numa_node", "-1\n")
        .file("sys/devices/pci0/numa_node", "1\n")
        .link("sys/class/block/sda", "sys/devices/pci0/ata1/host0/block/sda")
        .mount("0:42", "btrfs", "/dev/sda");
    let device = tree.facts().device.expect("found");
    assert_eq!((device.kind, device.model.as_deref()), (Kind::Ata, Some("Slow One")));
    assert_eq!(device.numa_node, Some(1), "that of its place on the bus");
}

#[test]
fn what_carries_a_drive_is_seen_in_its_place() {
    for (place, kind) in [
        ("pci0/virtio1/block/vda", Kind::Virtio),
        ("pci0/virtio2/host0/block/sda", Kind::Virtio),
        ("pci0/usb1/1-2/host3/block/sdb", Kind::Usb),
        ("platform/host4/session1/block/sdc", Kind::Network),
        ("pci0/host5/block/sdd", Kind::Scsi),
        ("virtual/block/zram0", Kind::Memory),
        ("virtual/block/nbd3", Kind::Network),
        ("vbd-51712/block/xvda", Kind::Xen),
    ] {
        let tree = Tree::new();
        tree.drive(place, "8:0", "write back").mount("8:0", "ext4", "none");
        assert_eq!(tree.facts().device.expect("found").kind, kind, "{place}");
    }
}

#[test]
fn memory_and_network_file_systems_have_no_device() {
    let tree = Tree::new();
    tree.mount("0:25", "tmpfs", "tmpfs");
    let facts = tree.facts();
    assert!(facts.device.is_none() && facts.mount.as_ref().is_some_and(Mount::is_memory));
    assert!(facts.to_text().contains("; no block device, tmpfs (rw,noatime)"), "{}", facts.to_text());
    tree.mount("0:50", "nfs4", "host:/export");
    assert!(tree.facts().mount.is_some_and(|mount| mount.is_remote()));
}

#[test]
fn processors_and_their_sleep_are_seen() {
    let tree = Tree::new();
    let cpu = "sys/devices/system/cpu";
    tree.file("proc/cpuinfo", "processor\t: 0\nmodel name\t: Fast One\nflags\t\t: fpu hypervisor sse\n")
        .file("proc/meminfo", "MemTotal:       4194304 kB\n")
        .file("proc/sys/kernel/osrelease", "6.1.0\n")
        .file(&format!("{cpu}/cpu0/cpufreq/scaling_governor"), "powersave\n")
        .file(&format!("{cpu}/cpu1/cpufreq/scaling_governor"), "powersave\n")
        .file(&format!("{cpu}/cpu0/cpuidle/state0/name"), "C1\n")
        .file(&format!("{cpu}/cpu0/cpuidle/state0/latency"), "2\n")
        .file(&format!("{cpu}/cpu0/cpuidle/state1/name"), "C6\n")
        .file(&format!("{cpu}/cpu0/cpuidle/state1/latency"), "133\n")
        .file(&format!("{cpu}/cpu0/cpuidle/state1/disable"), "1\n")
        .file("sys/devices/system/node/node0/cpulist", "0\n")
        .file("sys/devices/system/node/node1/cpulist", "1\n");
    let facts = tree.facts();
    assert_eq!((facts.memory_mib, facts.kernel.as_deref()), (Some(4096), Some("6.1.0")));
    assert!(facts.cpu.is_virtual && facts.cpu.model.as_deref() == Some("Fast One"));
    assert_eq!((facts.cpu.governors.clone(), facts.cpu.numa_nodes), (vec!["powersave".to_owned()], Some(2)));
    assert_eq!(facts.cpu.wake_us_max().map(|state| state.latency_us), Some(2), "the deeper one is off");
    assert!(facts.to_lines().contains("C1 (2 µs), C6 (133 µs, off); governor powersave; NUMA nodes 2"));
}

#[test]
fn limits_of_both_versions_are_found_and_only_throttles_of_our_devices() {
    let tree = Tree::new();
    tree.drive("pci0/virtio1/block/vda", "254:0", "write back").mount("254:0", "ext4", "/dev/vda");
    assert_eq!(tree.facts().limits, Limits::default());
    tree.file("proc/self/cgroup", "4:memory:/x\n3:blkio:/\n2:cpu,cpuacct:/y\n0::/a/b\n")
        .file("sys/fs/cgroup/cgroup.procs", "1\n")
        .file("sys/fs/cgroup/a/memory.max", "8388608\n")
        .file("sys/fs/cgroup/a/b/memory.max", "max\n")
        .file("sys/fs/cgroup/a/b/cpu.max", "150000 100000\n")
        .file("sys/fs/cgroup/a/cpu.max", "max 100000\n")
        .file("sys/fs/cgroup/a/b/io.max", "254:0 rbps=max wbps=1048576 riops=max wiops=max\n8:0 rbps=1 wbps=1\n");
    let limits = tree.facts().limits;
    assert_eq!((limits.memory_mib, limits.cpus), (Some(8), Some(1.5)));
    assert_eq!(limits.io, ["wbps=1048576"]);
    tree.file("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
        .file("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "4194304\n")
        .file("sys/fs/cgroup/cpu/y/cpu.cfs_quota_us", "50000\n")
        .file("sys/fs/cgroup/cpu/y/cpu.cfs_period_us", "100000\n")
        .file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
        .file("sys/fs/cgroup/blkio/blkio.throttle.write_iops_device", "254:0 500\n8:0 1\n");
    let limits = tree.facts().limits;
    assert_eq!((limits.memory_mib, limits.cpus), (Some(4), Some(0.5)));
    assert_eq!(limits.io, ["wbps=1048576", "wiops=500"]);
}

#[test]
fn this_machine_has_facts() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let facts = Facts::look(dir.path());
    assert!(facts.kernel.is_some() && facts.memory_mib.is_some() && facts.mount.is_some());
    assert!(facts.cpu.cores > 0 && !facts.to_text().contains('\n'));
}
