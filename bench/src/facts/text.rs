//! Facts for people: on one line above a page of figures, or one by one.

use std::fmt::Write;

use super::{Device, Facts, Kind};

impl Kind {
    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::Lvm => "LVM",
            Self::Crypt => "dm-crypt",
            Self::Multipath => "multipath",
            Self::Mapped => "device mapper",
            Self::Raid => "RAID",
            Self::Loop => "loop",
            Self::Nvme => "NVMe",
            Self::Network => "network",
            Self::Ata => "SATA",
            Self::Scsi => "SCSI",
            Self::Usb => "USB",
            Self::Mmc => "MMC",
            Self::Virtio => "virtio",
            Self::Xen => "Xen",
            Self::Memory => "memory",
            Self::Unknown => "unknown",
        }
    }
}

impl Device {
    /// Name and kind, and the same of what lies below.
    #[must_use]
    pub fn chain(&self) -> String {
        let words = [Some(self.kind.name()), self.detail.as_deref(), self.model.as_deref()];
        let mut text = format!("{} ({})", self.name, words.into_iter().flatten().collect::<Vec<_>>().join(", "));
        if !self.below.is_empty() {
            let below: Vec<String> = self.below.iter().map(Self::chain).collect();
            text += &format!(" on {}", below.join(" + "));
        }
        text
    }

    fn cache(&self) -> String {
        let fua = match self.fua {
            Some(true) => "FUA",
            Some(false) => "no FUA",
            None => "FUA unknown",
        };
        format!("{}, {fua}, scheduler {}", known(self.write_cache.as_deref()), known(self.scheduler.as_deref()))
    }
}

impl Facts {
    /// On one line.
    #[must_use]
    pub fn to_text(&self) -> String {
        let disk = self.device.as_ref().map_or_else(
            || "no block device".to_owned(),
            |device| format!("disk {} ({})", device.whole().name, device.whole().cache()),
        );
        format!("{}; {disk}, {}", self.machine(), self.file_system())
    }

    /// All of them, a line each.
    #[must_use]
    pub fn to_lines(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            writeln!(text, "  {name:<13}{value}").expect("a string takes everything");
        };
        line("machine", &self.machine());
        line("idle states", &self.idle_states());
        line("limits", &self.limits_text());
        line("file system", &self.file_system());
        match &self.device {
            None => line("device", "none that can be seen"),
            Some(device) => {
                line("device", &device.chain());
                for device in device.all().into_iter().filter(|device| device.kind != Kind::Partition) {
                    line(&device.name, &queue_text(device));
                }
            }
        }
        let direct = self.direct_io.map_or_else(
            || "the kernel doesn't say".to_owned(),
            |align| match align.offset {
                0 => "not possible".to_owned(),
                offset => format!("aligned to {offset} bytes, in memory to {}", align.memory),
            },
        );
        line("direct I/O", &direct);
        text
    }

    fn machine(&self) -> String {
        let cpu = &self.cpu;
        let memory = self.memory_mib.map_or_else(|| "unknown memory".to_owned(), |mib| format!("{mib} MiB"));
        format!(
            "{} cores of {}{}, {memory}, Linux {}",
            cpu.cores,
            known(cpu.model.as_deref()),
            if cpu.is_virtual { " (virtual machine)" } else { "" },
            known(self.kernel.as_deref())
        )
    }

    fn file_system(&self) -> String {
        self.mount.as_ref().map_or_else(
            || "unknown file system".to_owned(),
            |mount| format!("{} ({})", mount.file_system, mount.options),
        )
    }

    fn idle_states(&self) -> String {
        let cpu = &self.cpu;
        let governor = if cpu.governors.is_empty() { "none".to_owned() } else { cpu.governors.join(", ") };
        let state = |state: &super::IdleState| {
            let off = if state.is_disabled { ", off" } else { "" };
            format!("{} ({} µs{off})", state.name, state.latency_us)
        };
        let states: Vec<String> = cpu.idle_states.iter().map(state).collect();
        let states = if states.is_empty() { "unknown".to_owned() } else { states.join(", ") };
        let nodes = cpu.numa_nodes.map_or_else(|| "unknown".to_owned(), |nodes| nodes.to_string());
        format!("{states}; governor {governor}; NUMA nodes {nodes}")
    }

    fn limits_text(&self) -> String {
        let limits = &self.limits;
        let mut parts = Vec::new();
        parts.extend(limits.memory_mib.map(|mib| format!("{mib} MiB of memory")));
        parts.extend(limits.cpus.map(|cpus| format!("{cpus:.2} cores")));
        parts.extend(limits.io.iter().cloned());
        if parts.is_empty() { "none by control groups".to_owned() } else { parts.join(", ") }
    }
}

fn queue_text(device: &Device) -> String {
    let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), |bytes| bytes.to_string());
    let node = device.numa_node.map_or_else(|| "unknown".to_owned(), |node| node.to_string());
    let turns = match device.rotational {
        Some(true) => "says that it turns",
        Some(false) => "doesn't turn",
        None => "unknown whether it turns",
    };
    format!(
        "{}, blocks of {} bytes ({} inside), {turns}, NUMA node {node}",
        device.cache(),
        bytes(device.logical_block),
        bytes(device.physical_block)
    )
}

fn known(text: Option<&str>) -> &str {
    text.unwrap_or("unknown")
}
