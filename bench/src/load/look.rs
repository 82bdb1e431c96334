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
    server: Option<ServerSample>,
}

/// The processes of a server.
#[derive(Clone, Copy)]
struct ServerSample {
    /// CPU time of the first one.
    first_cpu: Duration,
    /// All of them together.
    all: ProcessSample,
    disk: Option<DiskSample>,
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
        let (now, then) = (self.server?, before.server?);
        let disk = now.disk.zip(then.disk).map(|(now, then)| DiskUse {
            flushes: now.flushes - then.flushes,
            writes: now.writes - then.writes,
            written_bytes: now.written_bytes - then.written_bytes,
        });
        Some(ServerUse {
            cpu: now.all.cpu.saturating_sub(then.all.cpu),
            first_cpu: now.first_cpu.saturating_sub(then.first_cpu),
            memory_bytes: now.all.memory_bytes,
            switches: now.all.switches.saturating_sub(then.all.switches),
            disk,
        })
    }
}

/// All members together. They share a disk, which counts once.
fn look_at_server(members: &[Watched]) -> Result<Option<ServerSample>, Failure> {
    let mut sample: Option<ServerSample> = None;
    for Watched { pid, data_dir } in members {
        let process = ProcessSample::read(*pid);
        let process = process.map_err(|error| Failure::Trouble(format!("looking at process {pid}: {error}")))?;
        sample = Some(match sample {
            Some(others) => ServerSample { all: others.all.with(&process), ..others },
            None => {
                let disk = data_dir.as_deref().map(look_at_disk).transpose()?;
                ServerSample { first_cpu: process.cpu, all: process, disk }
            }
        });
    }
    Ok(sample)
}

fn look_at_disk(dir: &Path) -> Result<DiskSample, Failure> {
    let sample = Disk::below(dir).and_then(|disk| disk.sample());
    sample.map_err(|error| Failure::Trouble(format!("looking at the disk of {}: {error}", dir.display())))
}
