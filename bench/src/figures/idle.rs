//! What a server costs that nobody uses: started on an empty directory and left alone.

use std::{thread, time::Instant};

use serde_json::json;

use super::{Figures, Part, aim::Aim};
use crate::{
    failure::Failure,
    procfs::ProcessSample,
    server::{Program, Server},
};

const MIB: f64 = (1 << 20) as f64;
const MEMORY_MIB_MAX: f64 = 24.0;
const CPU_PERCENT_MAX: f64 = 0.5;

/// Memory in MiB, and CPU in percent of a core.
type Idle = (f64, f64);

pub(super) fn run(figures: &mut Figures) -> Result<Part, Failure> {
    let plinth = measure(figures, &figures.lab.plinth)?;
    let etcd = measure(figures, &figures.lab.etcd()?)?;
    let text = format!(
        "{} s after the start on an empty directory, over {} s:\n\n\
         | idle | plinth | etcd |\n|---|---|---|\n| RssAnon + RssShmem, MiB | {:.1} | {:.1} |\n| CPU, % of a core | {:.2} | {:.2} |\n",
        figures.idle.0.as_secs_f64(),
        figures.idle.1.as_secs_f64(),
        plinth.0,
        etcd.0,
        plinth.1,
        etcd.1
    );
    let one = |(memory, cpu): Idle| json!({ "memory_mib": memory, "cpu_percent_of_a_core": cpu });
    let aims = vec![
        Aim::at_most("idle: RssAnon + RssShmem, MiB", MEMORY_MIB_MAX, plinth.0),
        Aim::at_most("idle: CPU, % of a core", CPU_PERCENT_MAX, plinth.1),
    ];
    Ok(Part { text, json: json!({ "plinth": one(plinth), "etcd": one(etcd) }), aims })
}

/// As users start it: an executor on each core.
fn measure(figures: &Figures, program: &Program) -> Result<Idle, Failure> {
    let lab = &figures.lab;
    let mut server = program.start(&lab.path("idle")?, &[lab.server_core, lab.load_core])?;
    server.wait_until_ready()?;
    thread::sleep(figures.idle.0);
    let (before, began) = (sample(&server)?, Instant::now());
    thread::sleep(figures.idle.1);
    let (after, elapsed) = (sample(&server)?, began.elapsed());
    server.stop()?;
    let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64() / elapsed.as_secs_f64();
    Ok((after.memory_bytes as f64 / MIB, 100.0 * cpu))
}

fn sample(server: &Server) -> Result<ProcessSample, Failure> {
    ProcessSample::read(server.pid()).map_err(|error| Failure::Trouble(format!("looking at the idle server: {error}")))
}
