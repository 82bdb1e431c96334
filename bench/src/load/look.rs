//! What the kernel counts, read before and after a run.

use std::{path::Path, time::Duration};

use super::{DiskUse, Plan, ServerUse, Watched, thread::thread_cpu};
use crate::{
    failure::Failure,
    procfs::{CpuSample, Disk, DiskSample, Disturbance, ProcessSample},
};

/// Everything that is read before and after.
pub struct Look {
    /// CPU time of the thread that looks.
    pub own_cpu: Duration,
    cpu: CpuSample,
    server: Option<(ProcessSample, Option<DiskSample>)>,
}

impl Look {
    /// Looks at the machine, and at the server if it is watched.
    pub fn now(plan: &Plan) -> Result<Self, Failure> {
        let trouble = |error: std::io::Error| Failure::Trouble(format!("reading what the kernel counts: {error}"));
        let server = look_at_server(&plan.watched)?;
        Ok(Self { own_cpu: thread_cpu(), cpu: CpuSample::read().map_err(trouble)?, server })
    }

    /// What others did since `before`.
    pub fn disturbance_since(&self, before: &Self, plan: &Plan) -> Disturbance {
        let server = plan.watched.iter().map(|watched| watched.pid);
        let taking_part: Vec<u32> = server.chain([std::process::id()]).collect();
        self.cpu.since(&before.cpu, &taking_part)
    }

    /// What the server used since `before`.
    pub fn server_since(&self, before: &Self) -> Option<ServerUse> {
        let ((now, disk), (then, disk_then)) = (self.server?, before.server?);
        let disk = disk.zip(disk_then).map(|(now, then)| DiskUse {
            flushes: now.flushes - then.flushes,
            writes: now.writes - then.writes,
            written_bytes: now.written_bytes - then.written_bytes,
        });
        Some(ServerUse {
            cpu: now.cpu.saturating_sub(then.cpu),
            memory_bytes: now.memory_bytes,
            switches: now.switches.saturating_sub(then.switches),
            disk,
        })
    }
}

/// All members together. They share a disk, which counts once.
fn look_at_server(members: &[Watched]) -> Result<Option<(ProcessSample, Option<DiskSample>)>, Failure> {
    let mut all: Option<(ProcessSample, Option<DiskSample>)> = None;
    for Watched { pid, data_dir } in members {
        let process = ProcessSample::read(*pid);
        let process = process.map_err(|error| Failure::Trouble(format!("looking at process {pid}: {error}")))?;
        all = match all {
            Some((others, disk)) => Some((others.with(&process), disk)),
            None => Some((process, data_dir.as_deref().map(look_at_disk).transpose()?)),
        };
    }
    Ok(all)
}

fn look_at_disk(dir: &Path) -> Result<DiskSample, Failure> {
    let sample = Disk::below(dir).and_then(|disk| disk.sample());
    sample.map_err(|error| Failure::Trouble(format!("looking at the disk of {}: {error}", dir.display())))
}
