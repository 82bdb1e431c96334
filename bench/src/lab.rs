//! What every comparison shares: the programs, the cores, the times, and directories that are filled once and copied for each turn.
//!
//! A server is started for its turn on a fresh copy of its filled directory and stopped after it: each turn begins in the same state, whatever
//! the turns before it wrote, and nobody else runs meanwhile.

mod copy;
mod filled;
mod told;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

pub use self::{filled::Filled, told::head};

use self::{copy::copy_tree, told::MethodFacts};
use crate::{
    args::Args,
    cleanup::Scratch,
    facts::Facts,
    failure::Failure,
    load::{self, Clients, Distribution, Op, Outcome, Pace, Plan, Shape, seconds},
    peer,
    procfs::Disturbance,
    results::{self, Document, ProgramFacts},
    server::{Cluster, Home, Kind, Program, Server, Start},
};

/// The options that all of them take.
pub const USAGE: &str = "\
  --plinth PATH       default target/release/plinth
  --etcd PATH         default auto: that of `cargo xtask peers`, fetched if it isn't there
  --dir DIR           on the disk to use; what is made there is removed; default target/tmp
  --server-core N     default 0
  --load-core N       default 1
  --warmup S          seconds before anything is counted; default 10
  --seconds S         seconds that are counted; default 30
  --turns N           of each server, in pairs; default 5
  --repeats N         times a disturbed turn is repeated at most; default 3
  --seed N            of the choice of keys; default 1
  --quick             a look whether all works: 1 s, 2 s, 1 turn, no repeats, 10000 keys
  --json FILE         where the results go";

/// Keys of a look whether all works.
pub const QUICK_KEYS: u64 = 10_000;

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
    /// This project's server. Whether it is there, [`Program::expect_there`] says.
    pub plinth: Program,
    /// Its peer, wanted only by comparisons: a path, or `auto`.
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
        let (warmup, measured, turns, repeats) = if quick { (1.0, 2.0, 1, 0) } else { (10.0, 30.0, 5, 3) };
        let method = Method {
            warmup: seconds("--warmup", args.value("--warmup", warmup)?)?,
            measured: seconds("--seconds", args.value("--seconds", measured)?)?,
            turns: args.value("--turns", turns)?,
            repeats_max: args.value("--repeats", repeats)?,
            shape: Shape { keys: if quick { QUICK_KEYS } else { 100_000 }, key_bytes: 32, value_bytes: 256 },
            seed: args.value("--seed", 1)?,
        };
        if method.turns == 0 || method.measured.is_zero() {
            return Err(Failure::Usage("--turns and --seconds are more than 0".to_owned()));
        }
        let dir = args.value("--dir", PathBuf::from("target/tmp"))?;
        let json: Option<PathBuf> = args.optional("--json")?;
        json.as_deref().map_or(Ok(()), results::expect_writable)?;
        Ok(Self {
            plinth: Program {
                kind: Kind::Plinth,
                path: args.value("--plinth", PathBuf::from("target/release/plinth"))?,
            },
            etcd: args.value("--etcd", PathBuf::from(peer::AUTO))?,
            method,
            server_core: args.value("--server-core", 0)?,
            load_core: args.value("--load-core", 1)?,
            is_quick: quick,
            scratch: Scratch::new(&dir)?,
            json,
        })
    }

    /// Takes the options of keys and values.
    pub fn take_shape(&mut self, args: &mut Args) -> Result<(), Failure> {
        let Shape { keys, key_bytes, value_bytes } = self.method.shape;
        self.method.shape = Shape {
            keys: args.value("--keys", keys)?,
            key_bytes: args.value("--key-bytes", key_bytes)?,
            value_bytes: args.value("--value-bytes", value_bytes)?,
        };
        Ok(())
    }

    /// The peer, which is there.
    pub fn etcd(&self) -> Result<Program, Failure> {
        let path = if self.etcd == Path::new(peer::AUTO) { peer::find_or_fetch()? } else { self.etcd.clone() };
        let etcd = Program { kind: Kind::Etcd, path };
        etcd.expect_there()?;
        Ok(etcd)
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

    /// A run of the method's times on a server that is watched.
    #[must_use]
    pub fn plan(&self, server: &Server, op: Op, clients: Clients) -> Plan {
        Plan { watched: vec![server.watched()], ..self.plan_at(server.endpoint(), op, clients) }
    }

    /// A run of the method's times.
    #[must_use]
    pub fn plan_at(&self, endpoint: SocketAddr, op: Op, clients: Clients) -> Plan {
        Plan {
            endpoints: vec![endpoint],
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
            watched: Vec::new(),
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

    /// A fresh copy of a filled directory, with all that a server needs to know of it.
    pub fn copy_of(&self, filled: &Home) -> Result<Home, Failure> {
        let dir = self.path("turn")?;
        copy_tree(filled.dir(), &dir)?;
        Ok(filled.moved_to(dir))
    }

    /// Starts `program` on a fresh copy of `filled`.
    pub fn start_on_copy(&self, program: &Program, filled: &Path, cores: &[usize]) -> Result<Server, Failure> {
        self.start_on_copy_with(program, filled, cores, &[])
    }

    /// The same with flags.
    pub fn start_on_copy_with(
        &self,
        program: &Program,
        filled: &Path,
        cores: &[usize],
        flags: &[String],
    ) -> Result<Server, Failure> {
        let copy = self.copy_of(&Home::alone(filled.to_path_buf()))?;
        let mut server = program.start_as(Start { data_dir: copy.dir(), cores, peers: &[], member: 0, flags })?;
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Makes a home in `dir` for `members` of `program`, has them write the keys of `shape` so many times, and stops them cleanly.
    pub fn fill_members(
        &self,
        dir: PathBuf,
        program: &Program,
        members: usize,
        flags: &[String],
        (shape, rounds): (Shape, u64),
    ) -> Result<Home, Failure> {
        let home = Home::new(dir, members)?;
        let mut cluster = Cluster::start(program, &home, &self.cores_of(&home), flags)?;
        cluster.wait_until_ready()?;
        for _ in 0..rounds {
            self.write_all(cluster.leader()?, shape)?;
        }
        cluster.stop()?;
        Ok(home)
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

    /// The cores of a server; a cluster shares all of them with the load.
    #[must_use]
    pub fn cores_of(&self, home: &Home) -> Vec<usize> {
        if home.is_alone() { vec![self.server_core] } else { vec![self.server_core, self.load_core] }
    }

    /// The machine, and where its figures are made.
    #[must_use]
    pub fn machine(&self) -> Facts {
        Facts::look(self.dir())
    }

    /// Machine, programs, method and results in one.
    #[must_use]
    pub fn document(
        &self,
        command: &str,
        programs: Vec<ProgramFacts>,
        shape: Option<Shape>,
        results: Value,
    ) -> Document {
        let machine = self.machine();
        let machine = results::Machine { text: machine.to_text(), facts: machine.to_json() };
        let method = results::encode(&MethodFacts::of(self, shape));
        Document::new(command, machine, programs, method, results)
    }

    /// Writes a document to the file that was asked for.
    pub fn write_json(&self, document: &Document) -> Result<(), Failure> {
        let Some(path) = &self.json else { return Ok(()) };
        results::write(path, document)?;
        eprintln!("results: {}", path.display());
        Ok(())
    }
}
