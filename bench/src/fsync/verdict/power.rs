//! What a power cut does to writes that were called durable. No program can see that: what can be seen is what the devices say about their caches,
//! and how long flushes take.
//!
//! Flash takes some hundred microseconds to store a page. A drive whose flush is much faster has not stored anything then: either its cache
//! outlives the power (capacitors), or its flush does nothing. A disk that turns has to wait for its place to come by.

use super::{Finding, Record, time};
use crate::{
    facts::{Device, Kind},
    fsync::{method::Method, summary::Summary},
};

const PROTECTION: (&str, &str) = ("power-loss-protection", "the drive's cache outlives the power");
const LIES: (&str, &str) = ("lies", "flushes do nothing");

/// A flush that takes less stores nothing on flash.
const FLUSH_FAST_US: f64 = 150.0;
/// One that takes more does.
const FLUSH_SLOW_US: f64 = 400.0;
/// A write past all caches that takes less stores nothing on flash.
const STORE_US_MIN: f64 = 250.0;
/// Half a turn of the fastest disks (15,000 a minute): writes in sequence wait for nearly a whole one.
const TURN_US_MIN: f64 = 2000.0;

/// Flushes of several writers may be sent as one; fewer than one for so many syncs of ours means that they aren't sent.
const COUNTED_MIN: u64 = 4;

/// Models by which clouds name their network volumes, where these look like drives.
const NETWORK_MODELS: [&str; 6] =
    ["Elastic Block Store", "PersistentDisk", "nvme_card-pd", "Virtual Disk", "MSFT NVMe Accelerator", "BlockVolume"];

/// The drives, if they can be seen; else what hides them.
enum Sight<'a> {
    Drives(Vec<&'a Device>),
    Hidden(String),
}

fn look(record: Record<'_>) -> Sight<'_> {
    let hidden = |text: &str| Sight::Hidden(text.to_owned());
    let Some(mount) = &record.facts.mount else { return hidden("the file system isn't known") };
    if mount.is_remote() {
        return Sight::Hidden(format!("{} is stored by another machine", mount.file_system));
    }
    if mount.is_overlay() {
        return hidden("which layer of the overlay a file lies on isn't seen from here");
    }
    let Some(device) = &record.facts.device else { return hidden("there is no block device to be seen") };
    for layer in device.all() {
        let name = &layer.name;
        let what = match layer.kind {
            Kind::Virtio | Kind::Xen => "is the hypervisor's: what lies below decides",
            Kind::Network => "is another machine's",
            Kind::Loop => "is a file: its flush is an fsync of that file",
            Kind::Memory => "is memory",
            Kind::Mapped | Kind::Unknown => "is of a kind that isn't known here",
            _ if is_network_volume(layer) => "is a volume of the cloud's: its promise counts, not a drive's",
            _ => continue,
        };
        return Sight::Hidden(format!("{name} {what}"));
    }
    if record.facts.cpu.is_virtual {
        return hidden("this is a virtual machine: its drives may be the host's software");
    }
    Sight::Drives(device.drives())
}

fn is_network_volume(device: &Device) -> bool {
    device.model.as_ref().is_some_and(|model| NETWORK_MODELS.iter().any(|name| model.contains(name)))
}

fn has_volatile_cache(drives: &[&Device]) -> bool {
    drives.iter().any(|drive| drive.write_cache.as_deref() != Some("write through"))
}

fn turns(drives: &[&Device]) -> bool {
    drives.iter().any(|drive| drive.rotational == Some(true))
}

fn is_carried_by_usb(drives: &[&Device]) -> bool {
    drives.iter().any(|drive| drive.kind == Kind::Usb)
}

/// The medians of a direct write, of the fdatasync after it, and of both.
fn medians(record: Record<'_>) -> Option<(f64, f64, f64)> {
    let cell = record.plain(Method::DirectFdatasync)?;
    Some((cell.write_p50_us?, cell.sync_p50_us?, cell.p50_us?))
}

pub(super) fn protection(record: Record<'_>) -> Finding {
    let drives = match look(record) {
        Sight::Drives(drives) => drives,
        Sight::Hidden(reason) => return Finding::unknown(PROTECTION, reason),
    };
    let Some((_, flush, both)) = medians(record) else {
        return Finding::unknown(PROTECTION, "direct write and fdatasync couldn't be measured");
    };
    let (cached, turns) = (has_volatile_cache(&drives), turns(&drives));
    let found = |answer: &str, reason: String| Finding::new(PROTECTION, answer, reason);
    let (flush_text, both_text) = (time(flush), time(both));
    match (turns, cached) {
        (true, _) if both >= TURN_US_MIN => {
            found("unlikely", format!("a disk that turns, and a durable write waits for it: {both_text}"))
        }
        (true, true) => {
            Finding::unknown(PROTECTION, format!("a durable write takes {both_text}, less than half a turn"))
        }
        (true, false) => found(
            "likely",
            format!(
                "no volatile cache, and a durable write takes {both_text}, less than half a turn: a controller's cache with a battery"
            ),
        ),
        (false, false) if both < STORE_US_MIN => found(
            "likely",
            format!(
                "the drive says that it has no volatile cache, and a write takes {both_text}: too little to store it in flash"
            ),
        ),
        (false, false) => found(
            "unlikely",
            format!("the drive stores each write before it answers ({both_text}): its cache is off, or it has none"),
        ),
        (false, true) if is_carried_by_usb(&drives) => {
            found("unlikely", "drives behind USB have no capacitors".to_owned())
        }
        (false, true) if flush < FLUSH_FAST_US => found(
            "likely",
            format!(
                "a flush takes {flush_text}: too little to store anything in flash, so the cache needn't be emptied (or the flush is a lie)"
            ),
        ),
        (false, true) if flush > FLUSH_SLOW_US => found(
            "unlikely",
            format!("a volatile cache, and a flush takes {flush_text}: it is emptied into flash each time"),
        ),
        (false, true) => Finding::unknown(PROTECTION, format!("a flush takes {flush_text}, which fits both")),
    }
}

pub(super) fn lies(record: Record<'_>) -> Finding {
    let found = |answer: &str, reason: String| Finding::new(LIES, answer, reason);
    if let Some(finding) = told_by_mount(record) {
        return finding;
    }
    if let Some(reason) = missing_flushes(record) {
        return found("likely", reason);
    }
    let drives = look(record);
    let Some((write, flush, both)) = medians(record) else {
        return Finding::unknown(LIES, "direct write and fdatasync couldn't be measured");
    };
    let drives = match drives {
        Sight::Drives(drives) => drives,
        Sight::Hidden(reason) => {
            let reason = format!("{reason}; here a flush takes {} beside a write of {}", time(flush), time(write));
            return Finding::unknown(LIES, reason);
        }
    };
    let (cached, turns, usb) = (has_volatile_cache(&drives), turns(&drives), is_carried_by_usb(&drives));
    let (write_text, flush_text, both_text) = (time(write), time(flush), time(both));
    match (turns, cached) {
        (true, true) if both < TURN_US_MIN => found(
            "likely",
            format!("a disk that turns with a volatile cache, and a durable write takes only {both_text}"),
        ),
        (true, false) if both < TURN_US_MIN => Finding::unknown(
            LIES,
            format!(
                "a durable write takes {both_text}, less than half a turn: a controller's cache answers, and whether it outlives the power isn't seen"
            ),
        ),
        (true, _) => found("unlikely", format!("a durable write takes {both_text}, as a turning disk does")),
        (false, false) if usb => {
            Finding::unknown(LIES, "a USB bridge that says nothing of its drive's cache is sent no flushes".to_owned())
        }
        (false, false) => found(
            "unlikely",
            "the drive says that it has no volatile cache, so none are sent and none are needed".to_owned(),
        ),
        (false, true) if flush < FLUSH_FAST_US && usb => {
            found("likely", format!("a drive behind USB has no capacitors, and its flush takes only {flush_text}"))
        }
        (false, true) if flush < FLUSH_FAST_US => Finding::unknown(
            LIES,
            format!(
                "a flush takes {flush_text} beside a write of {write_text}: capacitors or a lie, which only pulling the plug tells apart; look the model up"
            ),
        ),
        (false, true) => {
            found("unlikely", format!("a flush takes {flush_text} beside a write of {write_text}: it does something"))
        }
    }
}

fn told_by_mount(record: Record<'_>) -> Option<Finding> {
    let mount = record.facts.mount.as_ref()?;
    let yes = |reason: String| Some(Finding::new(LIES, "yes", reason));
    if mount.is_memory() {
        return yes(format!("{} lies in memory", mount.file_system));
    }
    if mount.has_option("nobarrier") || mount.option("barrier") == Some("0") {
        return yes("the file system is mounted with barriers off: it sends no flushes".to_owned());
    }
    if mount.is_overlay() && mount.has_option("volatile") {
        return yes("the overlay is mounted with `volatile`: it leaves syncs out".to_owned());
    }
    None
}

/// Whether the kernel's own count shows that syncs don't become flushes.
fn missing_flushes(record: Record<'_>) -> Option<String> {
    let drives = record.facts.device.as_ref()?.drives();
    let are_sent_flushes = drives.iter().all(|drive| drive.write_cache.as_deref() == Some("write back"));
    let Summary { device_flushes, flushes, .. } = record.plain(Method::DirectFdatasync)?;
    let counted = (*device_flushes).filter(|counted| are_sent_flushes && counted * COUNTED_MIN < *flushes)?;
    let names: Vec<&str> = drives.iter().map(|drive| drive.name.as_str()).collect();
    Some(format!("{} has a volatile cache, and was sent {counted} flushes for {flushes} syncs", names.join(" + ")))
}
