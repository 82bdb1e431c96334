//! The figures of docs/benchmarks.md, part by part, and the aims they are held to.
//!
//! An aim that is not reached is told, and fails nothing: times depend on the machine.
//!
//! | part | what it shows |
//! |---|---|
//! | `put`, `range` | both servers in turns, for 1 and 512 clients |
//! | `single` | one client's put against an empty call and a bare write to the disk |
//! | `path` | what a request takes: system calls, ring entries, wakes, flushes |
//! | `idle` | memory and CPU of a server that nobody uses |
//! | `pressure` | reads of a database that is larger than its memory |
//! | `restart` | from SIGKILL under load to the first answer |
//! | `watch` | what watchers cost those who put, and how late events come |
//! | `list` | a range over all keys: time and memory |
//! | `count` | the number of all keys |
//! | `compaction` | puts while versions are compacted |
//! | `snapshot` | puts while a snapshot is taken, and its memory |
//! | `size` | the database's size after rounds of puts and compactions |
//! | `same` | a server against itself: whether intervals hold what they promise |
//! | `probe` | what a put's time goes into, as `probe` tells it of both servers |
//! | `load` | what the load itself costs, and whether it sees a server that stands still |
//! | `fio` | `plinth-bench fsync` beside fio |
//! | `cluster-put`, `cluster-range` | clusters of three members in turns |
//! | `catch-up` | puts while a new member catches up, heartbeats, and the leader's memory |
//! | `slow-follower` | puts beside a follower whose flushes are slow |
//! | `background` | puts beside checkpoints, a compaction, a backup, a scrub |

mod aim;
mod background;
mod beside;
mod catch_up;
mod cluster;
mod compaction;
mod count;
mod fio;
mod generator;
mod idle;
mod list;
mod path;
mod pressure;
mod probe;
mod ratios;
mod restart;
mod same;
mod single;
mod size;
mod slow_follower;
mod snapshot;
mod table;
mod told;
mod watch;

use std::{path::PathBuf, time::Duration};

use serde_json::Value;

pub use self::told::text_of;
use self::{aim::Aim, told::Told};
use crate::{
    args::Args,
    failure::Failure,
    lab::{self, Filled, Lab},
    load::{Op, Shape, seconds},
    results,
};

const PARTS: [&str; 22] = [
    "put",
    "range",
    "single",
    "path",
    "idle",
    "pressure",
    "restart",
    "watch",
    "list",
    "count",
    "compaction",
    "snapshot",
    "size",
    "same",
    "probe",
    "load",
    "fio",
    "cluster-put",
    "cluster-range",
    "catch-up",
    "slow-follower",
    "background",
];
/// Of values in lists.
const LIST_VALUE_BYTES: usize = 1024;

/// What parts share.
struct Figures {
    lab: Lab,
    /// How long an idle server is left alone, and then watched.
    idle: (Duration, Duration),
    /// The large database: 1 M keys of 1 KiB.
    large: Shape,
    /// The directories of both servers, once a part wants them.
    filled: Option<Filled>,
    /// plinth's large directory, once a part wants it.
    filled_large: Option<PathBuf>,
    /// The large directories of both, which nobody writes to, once a part wants them.
    filled_large_pair: Option<Filled>,
    /// Versions that a compaction removes.
    revisions: u64,
    /// What checkpoints write of changes.
    changes_bytes: u64,
}

/// What a part gave.
struct Part {
    /// Tables and lines.
    text: String,
    /// The same and more.
    json: Value,
    /// What it is held to.
    aims: Vec<Aim>,
}

fn usage() -> String {
    format!(
        "\
usage: plinth-bench figures [PART...] [options]
  parts: {}; default: all of them
  --idle-wait S       before an idle server is watched; default 60
  --idle-seconds S    while it is; default 60
  --large-keys N      keys of 1 KiB in the large database; default 1000000
  --revisions N       superseded versions that a compaction removes; default 1000000
  --changes N         MiB of changes that checkpoints write; default 1024
  --keys N, --key-bytes N, --value-bytes N
                      as `load` has them
{}",
        PARTS.join(", "),
        lab::USAGE
    )
}

/// `plinth-bench figures`.
pub fn command(mut args: Args) -> Result<(), Failure> {
    if args.switch("--help") {
        println!("{}", usage());
        return Ok(());
    }
    let mut lab = Lab::new(&mut args)?;
    lab.take_shape(&mut args)?;
    let (idle, large, revisions) = if lab.is_quick { (2.0, 20_000, 100_000) } else { (60.0, 1_000_000, 1_000_000) };
    let changes_mib = if lab.is_quick { 16 } else { 1024 };
    let mut figures = Figures {
        idle: (
            seconds("--idle-wait", args.value("--idle-wait", idle)?)?,
            seconds("--idle-seconds", args.value("--idle-seconds", idle)?)?,
        ),
        large: Shape { keys: args.value("--large-keys", large)?, key_bytes: 32, value_bytes: 1024 },
        lab,
        filled: None,
        filled_large: None,
        filled_large_pair: None,
        revisions: args.value("--revisions", revisions)?,
        changes_bytes: args.value("--changes", changes_mib)? << 20,
    };
    let parts = args.words();
    args.finish()?;
    let parts = if parts.is_empty() { PARTS.map(str::to_owned).to_vec() } else { parts };
    if let Some(unknown) = parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
        return Err(Failure::Usage(format!("there is no part {unknown:?}; there are {}", PARTS.join(", "))));
    }
    figures.lab.plinth.expect_there()?;
    figures.run_all(&parts)
}

impl Figures {
    /// A part that fails is told, and the others go on: an hour's figures are not thrown away for one.
    fn run_all(&mut self, parts: &[String]) -> Result<(), Failure> {
        let programs = vec![self.lab.plinth.facts("plinth"), self.lab.etcd()?.facts("etcd")];
        let shape = Some(self.lab.method.shape);
        let document = |lab: &Lab, told: &Told| lab.document("figures", programs.clone(), shape, results::encode(told));
        let (mut told, mut failed) = (Told::default(), 0);
        print!("{}", lab::head(&document(&self.lab, &told))?);
        for name in parts {
            let outcome = self.run(name);
            failed += usize::from(outcome.is_err());
            print!("{}", told.add(name, outcome));
            self.lab.write_json(&document(&self.lab, &told))?;
        }
        print!("{}", told.aims_text());
        if failed == 0 { Ok(()) } else { Err(Failure::Trouble(format!("{failed} parts failed"))) }
    }

    fn run(&mut self, part: &str) -> Result<Part, Failure> {
        match part {
            "put" => ratios::run(self, Op::Put),
            "range" => ratios::run(self, Op::Range { serializable: false }),
            "single" => single::run(self),
            "path" => path::run(self),
            "idle" => idle::run(self),
            "restart" => restart::run(self),
            "pressure" => pressure::run(self),
            "watch" => watch::run(self),
            "list" => list::run(self),
            "count" => count::run(self),
            "compaction" => compaction::run(self),
            "snapshot" => snapshot::run(self),
            "size" => size::run(self),
            "same" => same::run(self),
            "probe" => probe::run(self),
            "load" => generator::run(self),
            "fio" => fio::run(self),
            "cluster-put" => cluster::puts(self),
            "cluster-range" => cluster::ranges(self),
            "catch-up" => catch_up::run(self),
            "slow-follower" => slow_follower::run(self),
            "background" => background::run(self),
            _ => unreachable!("the names were checked"),
        }
    }

    fn filled(&mut self) -> Result<&Filled, Failure> {
        if self.filled.is_none() {
            self.filled = Some(Filled::new(&self.lab)?);
        }
        Ok(self.filled.as_ref().expect("it was just made"))
    }

    fn filled_large_pair(&mut self) -> Result<(), Failure> {
        if self.filled_large_pair.is_none() {
            self.filled_large_pair = Some(Filled::in_rounds(&self.lab, "-large", self.large, 1)?);
        }
        Ok(())
    }

    /// Used in place: copying it would take longer than filling it.
    fn filled_large(&mut self) -> Result<PathBuf, Failure> {
        if self.filled_large.is_none() {
            eprintln!("filling {} keys of {} bytes", self.large.keys, self.large.value_bytes);
            self.filled_large = Some(self.lab.fill("large", &self.lab.plinth, self.large)?);
        }
        Ok(self.filled_large.clone().expect("it was just made"))
    }
}

/// Empties the page cache, which only root may.
fn drop_page_cache() -> Result<(), Failure> {
    rustix::fs::sync();
    let path = std::path::Path::new("/proc/sys/vm/drop_caches");
    std::fs::write(path, "3")
        .map_err(Failure::file(path, "this part empties the page cache, which takes root: writing"))
}
