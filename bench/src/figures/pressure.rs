//! Random ranges and puts on a database of which only a part fits into the server's memory cgroup: the shard's thread must never wait for
//! the disk in a page fault.

use std::{fs, path::PathBuf, thread, time::Duration};

use serde_json::json;

use super::{Figures, Part, aim::Aim, drop_page_cache};
use crate::{
    failure::Failure,
    load::{self, Clients, Op, Outcome, Plan, Told},
    metrics::Metrics,
    results,
    server::Server,
};

const MEMORY_BYTES_MAX: u64 = 256 << 20;
const READERS: Clients = Clients { connections: 8, streams: 8 };
const WRITERS: Clients = Clients { connections: 1, streams: 8 };
/// From getrusage with RUSAGE_THREAD, by each executor for its own thread.
const MAJOR_FAULTS: &str = "plinth_executor_major_faults_total";
/// Executors read it once a second.
const USAGE_INTERVAL: Duration = Duration::from_millis(1500);
const TURNS: &str = "plinth_shard_turn_duration_seconds";

pub(super) fn run(figures: &mut Figures) -> Result<Part, Failure> {
    let large = figures.filled_large()?;
    let lab = &figures.lab;
    // What other groups have cached isn't charged to this one.
    drop_page_cache()?;
    let group = Group::new()?;
    let mut server = lab.plinth.start_in(&group.folder, &large, &[lab.server_core])?;
    server.wait_until_ready()?;
    let before = settled(&server)?;
    let plan = |op, clients| Plan { shape: figures.large, ..lab.plan(&server, op, clients) };
    let (reads, writes) = both(&plan(Op::Range { serializable: false }, READERS), &plan(Op::Put, WRITERS))?;
    let after = settled(&server)?;
    let used = group.used_bytes();
    server.stop()?;
    let faults = after.since(&before, MAJOR_FAULTS);
    let turns = after.buckets_since(&before, TURNS);
    let loads = after.since(&before, "plinth_executor_helper_jobs_total");
    let mut text = format!(
        "{} keys of {} bytes, memory cgroup of {} MiB ({} MiB used at the end), {} s:\n\n{}{}\
         major faults of the executors' threads: {faults}; jobs of helper threads, page loads among them: {loads:.0}\n",
        figures.large.keys,
        figures.large.value_bytes,
        MEMORY_BYTES_MAX >> 20,
        used >> 20,
        lab.method.measured.as_secs_f64(),
        Told::of(&reads).to_text(),
        Told::of(&writes).to_text()
    );
    text += &format!("\n{}", histogram(&turns));
    let aims = vec![Aim::at_most("major faults of executors' threads under memory pressure", 0.0, faults)];
    let json = json!({
        "reads": results::encode(&Told::of(&reads)),
        "writes": results::encode(&Told::of(&writes)),
        "major_faults": faults,
        "helper_jobs": loads,
        "turn_seconds_and_count": turns.iter().map(|(bound, count)| json!([bound, count])).collect::<Vec<_>>(),
    });
    Ok(Part { text, json, aims })
}

/// Two loads at the same time.
fn both(reads: &Plan, writes: &Plan) -> Result<(Outcome, Outcome), Failure> {
    thread::scope(|scope| {
        let writer = scope.spawn(|| load::run(writes));
        let reads = load::run(reads);
        let writes = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((reads?, writes?))
    })
}

/// Scrapes when every executor has read its thread's usage since the last thing that happened.
fn settled(server: &Server) -> Result<Metrics, Failure> {
    thread::sleep(USAGE_INTERVAL);
    Ok(Metrics(server.metrics()?))
}

/// A table of the buckets that are not empty.
fn histogram(buckets: &[(f64, f64)]) -> String {
    let mut text = "| a turn took at most | turns |\n|---|---|\n".to_owned();
    for (bound, count) in buckets.iter().filter(|(_, count)| *count > 0.0) {
        let bound = if bound.is_finite() { format!("{:.0} µs", bound * 1e6) } else { "longer".to_owned() };
        text += &format!("| {bound} | {count:.0} |\n");
    }
    text
}

/// A memory cgroup of this process's own; it goes when it is dropped, which its members must not outlive.
struct Group {
    folder: PathBuf,
    /// v1 and v2 name their files differently.
    usage_file: &'static str,
}

impl Group {
    fn new() -> Result<Self, Failure> {
        let name = format!("plinth-bench-{}", std::process::id());
        let v1 = PathBuf::from("/sys/fs/cgroup/memory");
        let (folder, limit_file, usage_file) = if v1.is_dir() {
            (v1.join(name), "memory.limit_in_bytes", "memory.usage_in_bytes")
        } else {
            (PathBuf::from("/sys/fs/cgroup").join(name), "memory.max", "memory.current")
        };
        fs::create_dir(&folder).map_err(Failure::file(&folder, "this part needs a memory cgroup: making"))?;
        let group = Self { folder, usage_file };
        let limit = group.folder.join(limit_file);
        fs::write(&limit, MEMORY_BYTES_MAX.to_string()).map_err(Failure::file(&limit, "writing"))?;
        Ok(group)
    }

    fn used_bytes(&self) -> u64 {
        let text = fs::read_to_string(self.folder.join(self.usage_file)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A member that was killed just now may still be leaving: then an empty group stays.
        fs::remove_dir(&self.folder).ok();
    }
}
