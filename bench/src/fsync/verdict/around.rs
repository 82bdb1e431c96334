//! What else on this machine makes flushes slower than the drive does.

use super::{Finding, Record, choice, time};
use crate::{
    facts::{Device, Facts},
    procfs::Disturbance,
};

const SCHEDULER: (&str, &str) = ("scheduler", "the I/O scheduler");
const SLEEP: (&str, &str) = ("sleep", "cores that sleep while a flush is under way");
const NUMA: (&str, &str) = ("numa", "the drive's NUMA node");
const LIMITS: (&str, &str) = ("limits", "limits of control groups");
const OTHERS: (&str, &str) = ("others", "what others did meanwhile");

/// Waking up for longer than this part of a flush is seen in it.
const WAKE_PART: f64 = 0.1;
/// Less than a core and a bit can't serve and flush at the same time.
const CPUS_MIN: f64 = 1.0;

pub(super) fn scheduler(record: Record<'_>) -> Finding {
    let drives = record.facts.device.as_ref().map(Device::drives).unwrap_or_default();
    let known: Vec<(&Device, &str)> =
        drives.into_iter().filter_map(|drive| Some((drive, drive.scheduler.as_deref()?))).collect();
    if known.is_empty() {
        return Finding::unknown(SCHEDULER, "no device says which one it has");
    }
    let names: Vec<String> = known.iter().map(|(drive, scheduler)| format!("{} has {scheduler}", drive.name)).collect();
    let is_fair = known.iter().any(|(_, scheduler)| matches!(*scheduler, "bfq" | "cfq"));
    let is_slow = known.iter().any(|(drive, scheduler)| drive.rotational == Some(false) && *scheduler != "none");
    let names = names.join(", ");
    match (is_fair, is_slow) {
        (true, _) => Finding::new(
            SCHEDULER,
            "change it",
            format!(
                "{names}, which holds flushes back to be fair to others: `none`, or `mq-deadline` for disks that turn"
            ),
        ),
        (_, true) => {
            Finding::new(SCHEDULER, "could be none", format!("{names}; `none` has a little less to do for each write"))
        }
        _ => Finding::new(SCHEDULER, "fine", names),
    }
}

pub(super) fn sleep(record: Record<'_>) -> Finding {
    let cpu = &record.facts.cpu;
    let governors = if cpu.governors.is_empty() { "not known".to_owned() } else { cpu.governors.join(", ") };
    let Some(deepest) = cpu.wake_us_max() else {
        return Finding::unknown(SLEEP, format!("the kernel says nothing of idle states here; governor {governors}"));
    };
    let Some(p50) = choice::best(record.cells).and_then(|best| best.p50_us) else {
        return Finding::unknown(SLEEP, "no median to compare with");
    };
    let wake = deepest.latency_us as f64;
    let reason =
        format!("waking up from {} takes {}, a flush {}; governor {governors}", deepest.name, time(wake), time(p50));
    if wake > WAKE_PART * p50 {
        Finding::new(
            SLEEP,
            "matter",
            format!("{reason}; switch deep states off (`cpupower idle-set -D 10`) to see the difference"),
        )
    } else {
        Finding::new(SLEEP, "don't matter", reason)
    }
}

pub(super) fn numa(record: Record<'_>) -> Finding {
    let drives = record.facts.device.as_ref().map(Device::drives).unwrap_or_default();
    let on = |drive: &&Device| Some(format!("{} is attached to node {}", drive.name, drive.numa_node?));
    let attached: Vec<String> = drives.iter().filter_map(on).collect();
    match record.facts.cpu.numa_nodes {
        Some(1) => Finding::new(NUMA, "doesn't matter", "all cores are on one node"),
        Some(nodes) if !attached.is_empty() => {
            let reason = format!("{} of {nodes}: keep the server's cores there", attached.join(", "));
            Finding::new(NUMA, "matters", reason)
        }
        _ => Finding::unknown(NUMA, "the kernel doesn't say where the drive is attached"),
    }
}

pub(super) fn limits(record: Record<'_>) -> Finding {
    let limits = &record.facts.limits;
    if !limits.io.is_empty() {
        let reason = format!("the device is throttled for this process: {}", limits.io.join(", "));
        return Finding::new(LIMITS, "throttled", reason);
    }
    match limits.cpus {
        Some(cpus) if cpus < CPUS_MIN => Finding::new(
            LIMITS,
            "throttled",
            format!("{cpus:.2} cores: whoever has used them up waits for the next period"),
        ),
        _ => Finding::new(LIMITS, "none that matter", "no throttle of the device, and a core or more"),
    }
}

pub(super) fn others(record: Record<'_>) -> Finding {
    let Facts { steal_percent: Some(steal_percent), foreign_percent, .. } = *record.facts else {
        return Finding::unknown(OTHERS, "not measured");
    };
    let foreign_percent = foreign_percent.unwrap_or(0.0);
    let told =
        format!("{steal_percent:.1} % of all cores' time was stolen, {foreign_percent:.1} % went to other programs");
    if (Disturbance { steal_percent, foreign_percent }).is_too_much() {
        return Finding::new(OTHERS, "disturbed", format!("{told}: measure again when it is quiet"));
    }
    Finding::new(OTHERS, "quiet", told)
}
