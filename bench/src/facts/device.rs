//! The block device that a file system lies on, and what lies below that, down to the drives.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::{major, minor};
use serde::{Deserialize, Serialize};

use super::{Mount, entries, name_of, read, read_bool, read_number};

/// A stack deeper than this is a mistake of ours.
const LAYERS_MAX: usize = 16;

/// What a device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A part of the device below.
    Partition,
    /// A logical volume.
    Lvm,
    /// dm-crypt.
    Crypt,
    /// Several ways to one device.
    Multipath,
    /// Another target of the device mapper.
    Mapped,
    /// md.
    Raid,
    /// A file that looks like a device.
    Loop,
    /// An NVMe drive in this machine.
    Nvme,
    /// A drive behind a network: NVMe over fabrics, iSCSI, Fibre Channel, nbd, rbd, drbd.
    Network,
    /// SATA.
    Ata,
    /// SAS, or what a RAID controller shows.
    Scsi,
    /// A stick, or a drive behind a bridge.
    Usb,
    /// An SD card or its like.
    Mmc,
    /// A hypervisor's.
    Virtio,
    /// A hypervisor's.
    Xen,
    /// Memory that looks like a device.
    Memory,
    /// None of these.
    Unknown,
}

/// A device, and those that it consists of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Device {
    /// As the kernel calls it, such as `nvme0n1`.
    pub name: String,
    /// `major:minor`.
    pub number: String,
    /// What it is.
    pub kind: Kind,
    /// The level of a RAID, the name of a mapped device, the file of a loop.
    #[serde(default)]
    pub detail: Option<String>,
    /// Of a drive, vendor first where that is told apart.
    #[serde(default)]
    pub model: Option<String>,
    /// Whether it says that it turns. (Hypervisors often say so of what doesn't.)
    #[serde(default)]
    pub rotational: Option<bool>,
    /// `write back`: it has a cache that loses its content with the power, and is sent flushes. `write through`: it has none.
    #[serde(default)]
    pub write_cache: Option<String>,
    /// Whether a single write can go past that cache.
    #[serde(default)]
    pub fua: Option<bool>,
    /// The I/O scheduler in use.
    #[serde(default)]
    pub scheduler: Option<String>,
    /// The smallest unit that it takes, in bytes.
    #[serde(default)]
    pub logical_block: Option<u64>,
    /// The smallest unit that it writes without reading first, in bytes.
    #[serde(default)]
    pub physical_block: Option<u64>,
    /// The NUMA node that it is attached to.
    #[serde(default)]
    pub numa_node: Option<u64>,
    /// What it lies on; empty for a drive, or where that can't be seen.
    #[serde(default)]
    pub below: Vec<Device>,
}

/// The device of a mount. A file system on several devices, or with device numbers of its own as btrfs has, is found by its source.
pub fn below(root: &Path, mount: &Mount) -> Option<Device> {
    let by_number = root.join("sys/dev/block").join(&mount.number);
    let by_source = || {
        let source = mount.source.strip_prefix('/')?;
        let name =
            fs::canonicalize(root.join(source)).map_or_else(|_| name_of(Path::new(source)), |path| name_of(&path));
        fs::canonicalize(root.join("sys/class/block").join(name)).ok()
    };
    let folder = fs::canonicalize(by_number).ok().or_else(by_source)?;
    Some(Device::look(root, &folder, LAYERS_MAX))
}

impl Device {
    fn look(root: &Path, folder: &Path, layers_max: usize) -> Self {
        let (kind, detail) = kind(folder);
        let queue = folder.join("queue");
        let on_device = |name: &str| read(&folder.join("device").join(name));
        let below = if layers_max == 0 { Vec::new() } else { folders_below(root, folder, kind, detail.as_deref()) };
        Self {
            name: name_of(folder),
            number: read(&folder.join("dev")).unwrap_or_default(),
            kind,
            detail,
            model: model(on_device("vendor").as_deref(), on_device("model").as_deref()),
            rotational: read_bool(&queue.join("rotational")),
            write_cache: read(&queue.join("write_cache")),
            fua: read_bool(&queue.join("fua")),
            scheduler: read(&queue.join("scheduler")).map(|text| active_scheduler(&text)),
            logical_block: read_number(&queue.join("logical_block_size")),
            physical_block: read_number(&queue.join("physical_block_size")),
            numa_node: numa_node(folder),
            below: below.iter().map(|folder| Self::look(root, folder, layers_max - 1)).collect(),
        }
    }

    /// This one and all below it.
    #[must_use]
    pub fn all(&self) -> Vec<&Self> {
        let mut all = vec![self];
        all.extend(self.below.iter().flat_map(Self::all));
        all
    }

    /// Those with nothing below: the drives, as far as can be seen.
    #[must_use]
    pub fn drives(&self) -> Vec<&Self> {
        self.all().into_iter().filter(|device| device.below.is_empty()).collect()
    }

    /// The one whose queue a write enters: a partition has none of its own.
    #[must_use]
    pub fn whole(&self) -> &Self {
        match (self.kind, self.below.first()) {
            (Kind::Partition, Some(whole)) => whole,
            _ => self,
        }
    }
}

/// Of the nearest thing on the way to the device that has one: its controller, or the controller's place on the bus. A node of -1 is none.
fn numa_node(folder: &Path) -> Option<u64> {
    let device = folder.join("device");
    let mut places = [device.as_path()].into_iter().chain(folder.ancestors());
    places.find_map(|place| read_number(&place.join("numa_node")))
}

fn folders_below(root: &Path, folder: &Path, kind: Kind, detail: Option<&str>) -> Vec<PathBuf> {
    match kind {
        Kind::Partition => folder.parent().map(Path::to_path_buf).into_iter().collect(),
        Kind::Loop => detail.and_then(|file| folder_of_file(root, file)).into_iter().collect(),
        _ => entries(&folder.join("slaves")).iter().filter_map(|slave| fs::canonicalize(slave).ok()).collect(),
    }
}

/// The device that holds the file of a loop.
fn folder_of_file(root: &Path, file: &str) -> Option<PathBuf> {
    let device = fs::metadata(root.join(file.trim_start_matches('/'))).ok()?.dev();
    let number = format!("{}:{}", major(device), minor(device));
    fs::canonicalize(root.join("sys/dev/block").join(number)).ok()
}

fn kind(folder: &Path) -> (Kind, Option<String>) {
    let name = name_of(folder);
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let path = folder.to_string_lossy();
    let lies_on = |parts: &[&str]| parts.iter().any(|part| path.contains(part));
    if folder.join("partition").exists() {
        return (Kind::Partition, None);
    }
    if let Some(level) = read(&folder.join("md/level")) {
        return (Kind::Raid, Some(level));
    }
    if folder.join("dm").exists() {
        let uuid = read(&folder.join("dm/uuid")).unwrap_or_default();
        let kinds = [("CRYPT-", Kind::Crypt), ("LVM-", Kind::Lvm), ("mpath-", Kind::Multipath)];
        let kind = kinds.iter().find(|(prefix, _)| uuid.starts_with(prefix)).map_or(Kind::Mapped, |(_, kind)| *kind);
        return (kind, read(&folder.join("dm/name")));
    }
    let kind = match () {
        () if starts(&["loop"]) => return (Kind::Loop, read(&folder.join("loop/backing_file"))),
        () if starts(&["nvme"]) => match read(&folder.join("device/transport")).as_deref() {
            Some("tcp" | "rdma" | "fc") => Kind::Network,
            _ => Kind::Nvme,
        },
        () if starts(&["nbd", "rbd", "drbd"]) => Kind::Network,
        () if starts(&["zram", "ram"]) => Kind::Memory,
        () if starts(&["mmcblk"]) => Kind::Mmc,
        () if starts(&["xvd"]) => Kind::Xen,
        () if lies_on(&["/virtio"]) => Kind::Virtio,
        () if lies_on(&["/usb"]) => Kind::Usb,
        () if lies_on(&["/session", "/rport"]) => Kind::Network,
        () if lies_on(&["/ata"]) => Kind::Ata,
        () if starts(&["sd"]) => Kind::Scsi,
        () => Kind::Unknown,
    };
    (kind, None)
}

/// SATA drives all have the vendor `ATA`; virtio has a number there.
fn model(vendor: Option<&str>, model: Option<&str>) -> Option<String> {
    let vendor = vendor.filter(|vendor| *vendor != "ATA" && !vendor.starts_with("0x"));
    match (vendor, model) {
        (Some(vendor), Some(model)) if !model.starts_with(vendor) => Some(format!("{vendor} {model}")),
        (_, model) => model.map(str::to_owned),
    }
}

/// The one in brackets.
fn active_scheduler(text: &str) -> String {
    let active = text.split_whitespace().find_map(|name| name.strip_prefix('[')?.strip_suffix(']'));
    active.unwrap_or(text).to_owned()
}
