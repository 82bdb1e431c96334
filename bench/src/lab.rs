//! What every comparison shares: the programs, the cores, the times, and directories that are filled once and copied for each turn.
//!
//! A server is started for its turn on a fresh copy of its filled directory and stopped after it: each turn begins in the same state, whatever
//! the turns before it wrote, and nobody else runs meanwhile.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    args::Args,
    cleanup::Scratch,
    facts::Facts,
    failure::Failure,
    load::{self, Clients, Distribution, Op, Outcome, Pace, Plan, Shape, seconds},
    procfs::Disturbance,
    server::{Kind, Program, Server},
};

/// The options that all of them take.
pub const USAGE: &str = "\
  --plinth PATH       default target/release/plinth
  --etcd PATH         default target/peers/3.5/etcd
  --dir DIR           on the disk to use; what is made there is removed; default target/tmp
  --server-core N     default 0
  --load-core N       default 1
  --warmup S          seconds before anything is counted; default 10
  --seconds S         seconds that are counted; default 30
  --turns N           of each server, in pairs; default 5
  --repeats N         times a disturbed turn is repeated at most; default 3
  --keys N, --key-bytes N, --value-bytes N, --seed N
                      as `load` has them
  --quick             a look whether all works: 1 s, 2 s, 1 turn, no repeats, 10000 keys
  --json FILE         where the results go";

/// How turns are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Method {
    /// Before anything is counted.
    pub warmup: Duration,
    /// While everything is.
    pub measured: Duration,
    /// Of each server.
    pub turns: usize,
    /// Of one disturbed turn, at most.
    pub repeats_max: usize,
    /// Keys and values.
    pub shape: Shape,
    /// Of the choice of keys.
    pub seed: u64,
}

/// The place where servers are measured.
#[derive(Debug)]
pub struct Lab {
    /// This project's server.
    pub plinth: Program,
    /// Its peer, wanted only by comparisons.
    etcd: PathBuf,
    /// How turns are made.
    pub method: Method,
    /// The server's core.
    pub server_core: usize,
    /// The load's core.
    pub load_core: usize,
    /// Whether this is only a look whether all works.
    pub is_quick: bool,
    scratch: Scratch,
    json: Option<PathBuf>,
}

impl Lab {
    /// Takes the common options out of `args`.
    pub fn new(args: &mut Args) -> Result<Self, Failure> {
        let quick = args.switch("--quick");
        let (warmup, measured, turns, repeats, keys) =
            if quick { (1.0, 2.0, 1, 0, 10_000) } else { (10.0, 30.0, 5, 3, 100_000) };
        let method = Method {
            warmup: seconds("--warmup", args.value("--warmup", warmup)?)?,
            measured: seconds("--seconds", args.value("--seconds", measured)?)?,
            turns: args.value("--turns", turns)?,
            repeats_max: args.value("--repeats", repeats)?,
            shape: Shape {
                keys: args.value("--keys", keys)?,
                key_bytes: args.value("--key-bytes", 32)?,
                value_bytes: args.value("--value-bytes", 256)?,
            },
            seed: args.value("--seed", 1)?,
        };
        if method.turns == 0 || method.measured.is_zero() {
            return Err(Failure::Usage("--turns and --seconds are more than 0".to_owned()));
        }
        let dir = args.value("--dir", PathBuf::from("target/tmp"))?;
        Ok(Self {
            plinth: Program::new(Kind::Plinth, args.value("--plinth", PathBuf::from("target/release/plinth"))?)?,
            etcd: args.value("--etcd", PathBuf::from("target/peers/3.5/etcd"))?,
            method,
            server_core: args.value("--server-core", 0)?,
            load_core: args.value("--load-core", 1)?,
            is_quick: quick,
            scratch: Scratch::new(&dir)?,
            json: args.optional("--json")?,
        })
    }

    /// The peer, which must be there.
    pub fn etcd(&self) -> Result<Program, Failure> {
        Program::new(Kind::Etcd, self.etcd.clone())
    }

    /// A directory or file of this lab's own; what has the name goes.
    pub fn path(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.scratch.path().join(name);
        if path.is_dir() {
            fs::remove_dir_all(&path).map_err(Failure::file(&path, "removing"))?;
        }
        Ok(path)
    }

    /// The directory on the disk that is used.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// A run of the method's times.
    #[must_use]
    pub fn plan(&self, server: &Server, op: Op, clients: Clients) -> Plan {
        Plan {
            endpoints: vec![server.endpoint()],
            op,
            mix: Vec::new(),
            clients,
            pace: Pace::Closed,
            warmup: self.method.warmup,
            measured: self.method.measured,
            total: None,
            requests_max: None,
            shape: self.method.shape,
            distribution: Distribution::Uniform,
            limit: 0,
            leases: 1,
            watchers: None,
            seed: self.method.seed,
            core: Some(self.load_core),
            executor: None,
            watched: vec![server.watched()],
            live: false,
        }
    }

    /// Fills a directory of `program`'s with the keys of `shape`, each written once, and stops it cleanly.
    pub fn fill(&self, name: &str, program: &Program, shape: Shape) -> Result<PathBuf, Failure> {
        self.fill_in_rounds(name, program, shape, 1)
    }

    /// The same, each key written `rounds` times.
    pub fn fill_in_rounds(&self, name: &str, program: &Program, shape: Shape, rounds: u64) -> Result<PathBuf, Failure> {
        let filled = self.path(&format!("{name}-filled"))?;
        let mut server = program.start(&filled, &[self.server_core])?;
        server.wait_until_ready()?;
        for _ in 0..rounds {
            self.write_all(&server, shape)?;
        }
        server.stop()?;
        Ok(filled)
    }

    /// Writes each key of `shape` once.
    pub fn write_all(&self, server: &Server, shape: Shape) -> Result<(), Failure> {
        let clients = Clients { connections: 8, streams: 64 };
        load::fill(&Plan { shape, ..self.plan(server, Op::Put, clients) })?;
        Ok(())
    }

    /// Starts `program` on a filled directory itself, for parts that only read.
    pub fn start_in_place(&self, program: &Program, filled: &Path) -> Result<Server, Failure> {
        let mut server = program.start(filled, &[self.server_core])?;
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Starts `program` on a fresh copy of `filled`.
    pub fn start_on_copy(&self, program: &Program, filled: &Path, cores: &[usize]) -> Result<Server, Failure> {
        let data_dir = self.path("turn")?;
        copy_tree(filled, &data_dir)?;
        let mut server = program.start(&data_dir, cores)?;
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Runs, again while it is disturbed and may be repeated. What remains disturbed says so itself.
    pub fn undisturbed<T>(
        &self,
        disturbance: impl Fn(&T) -> Disturbance,
        mut run: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut repeats = 0;
        loop {
            let outcome = run()?;
            if !disturbance(&outcome).is_too_much() || repeats == self.method.repeats_max {
                return Ok(outcome);
            }
            repeats += 1;
        }
    }

    /// One turn on a fresh copy, undisturbed if possible.
    pub fn turn(&self, program: &Program, filled: &Path, op: Op, clients: Clients) -> Result<Outcome, Failure> {
        self.undisturbed(
            |outcome: &Outcome| outcome.disturbance,
            || {
                let server = self.start_on_copy(program, filled, &[self.server_core])?;
                let outcome = load::run(&self.plan(&server, op, clients))?;
                server.stop()?;
                outcome.expect_no_errors()?;
                Ok(outcome)
            },
        )
    }

    /// The machine, and where its figures are made.
    #[must_use]
    pub fn machine(&self) -> Facts {
        Facts::look(self.dir())
    }

    /// Machine, programs and method on three lines.
    pub fn to_text(&self) -> Result<String, Failure> {
        let Method { warmup, measured, turns, shape, .. } = self.method;
        Ok(format!(
            "{}\n{} and {}; server on core {}, load on core {}; {} s after {} s of warm-up, median of {turns} in turns\n\
             keys of {} bytes, values of {}, uniform over {} keys",
            self.machine().to_text(),
            self.plinth.version(),
            self.etcd()?.version(),
            self.server_core,
            self.load_core,
            measured.as_secs_f64(),
            warmup.as_secs_f64(),
            shape.key_bytes,
            shape.value_bytes,
            shape.keys
        ))
    }

    /// Writes `results` with machine and method to the file that was asked for.
    pub fn write_json(&self, command: &str, results: &Value) -> Result<(), Failure> {
        let Some(path) = &self.json else { return Ok(()) };
        let document = json!({
            "format": RESULTS_FORMAT,
            "command": command,
            "machine": self.machine().to_json(),
            "plinth": self.plinth.version(),
            "etcd": self.etcd()?.version(),
            "method": {
                "server_core": self.server_core,
                "load_core": self.load_core,
                "warmup_seconds": self.method.warmup.as_secs_f64(),
                "seconds": self.method.measured.as_secs_f64(),
                "turns": self.method.turns,
                "repeats_max": self.method.repeats_max,
                "keys": self.method.shape.keys,
                "key_bytes": self.method.shape.key_bytes,
                "value_bytes": self.method.shape.value_bytes,
                "seed": self.method.seed,
            },
            "results": results,
        });
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(Failure::file(parent, "making"))?;
        }
        fs::write(path, format!("{document}\n")).map_err(Failure::file(path, "writing"))?;
        eprintln!("results: {}", path.display());
        Ok(())
    }
}

/// The first line of every results file's meaning: readers refuse another one.
const RESULTS_FORMAT: &str = "plinth-bench results 1";

/// Copies a directory; the copy is on the disk when this returns, so that its writing disturbs nobody.
fn copy_tree(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir(to).map_err(Failure::file(to, "making"))?;
    for entry in fs::read_dir(from).map_err(Failure::file(from, "reading"))? {
        let entry = entry.map_err(Failure::file(from, "reading"))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_tree(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(Failure::file(&source, "copying"))?;
            let copied = fs::File::open(&target).and_then(|file| file.sync_all());
            copied.map_err(Failure::file(&target, "syncing"))?;
        }
    }
    // etcd insists on it.
    let mode = fs::metadata(from).map_err(Failure::file(from, "reading"))?.permissions();
    fs::set_permissions(to, mode).map_err(Failure::file(to, "setting the mode of"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_every_file_and_the_mode() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let from = dir.path().join("from");
        fs::create_dir_all(from.join("wal")).expect("writable");
        fs::write(from.join("wal/1"), b"one").expect("writable");
        fs::set_permissions(&from, fs::Permissions::from_mode(0o700)).expect("ours");
        let to = dir.path().join("to");
        copy_tree(&from, &to).expect("nothing is in the way");
        assert_eq!(fs::read(to.join("wal/1")).expect("copied"), b"one");
        assert_eq!(fs::metadata(&to).expect("there").permissions().mode() & 0o777, 0o700);
    }
}
