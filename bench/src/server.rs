//! A server under test, as a process: plinth or etcd, alone on its data directory and on its cores.

use std::{
    fs::{File, OpenOptions},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use plinth_client::{Client, http_request};
use plinth_rpc::etcdserverpb::{CompactionRequest, CompactionResponse, RangeRequest};
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{CpuSet, sched_setaffinity},
};
use tokio::runtime::{Builder, Runtime};

use crate::{cleanup, failure::Failure, load::Watched};

/// How long a start may take, recovery of a large database included.
const READY_MAX: Duration = Duration::from_secs(180);
const STOP_MAX: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(2);
/// How much of the server's log an error shows.
const LOG_TAIL_BYTES: usize = 2000;
/// etcd's default of 2 GiB is used up by a few minutes of puts: old revisions stay until they are compacted.
const QUOTA_BYTES: u64 = 64 << 30;

/// Which server a program is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// This project's.
    Plinth,
    /// The peer.
    Etcd,
}

/// A server's program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// Which one it is.
    pub kind: Kind,
    /// Where it is.
    pub path: PathBuf,
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    endpoint: SocketAddr,
    data_dir: PathBuf,
    log: PathBuf,
    runtime: Runtime,
}

/// What a server says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// The newest one.
    pub revision: i64,
    /// Bytes of its database's file.
    pub db_size: u64,
    /// The same without what is free.
    pub db_size_in_use: u64,
}

impl Program {
    /// `path` as it was given; it must be a file.
    pub fn new(kind: Kind, path: PathBuf) -> Result<Self, Failure> {
        if path.is_file() {
            return Ok(Self { kind, path });
        }
        let hint = match kind {
            Kind::Plinth => "`cargo build --release` makes it",
            Kind::Etcd => "`cargo xtask peers` fetches it",
        };
        Err(Failure::Trouble(format!("there is no {}: {hint}", path.display())))
    }

    /// Its name and version. (plinth says first which etcd it stands in for, and then what it is.)
    pub fn version(&self) -> String {
        let output = Command::new(&self.path).arg("--version").output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let behind = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("unknown").to_owned();
        match self.kind {
            Kind::Plinth => behind("Git SHA: "),
            Kind::Etcd => format!("etcd {}", behind("etcd Version: ")),
        }
    }

    /// Starts it on `cores` and a port of its own. Its output goes to a file beside `data_dir`.
    pub fn start(&self, data_dir: &Path, cores: &[usize]) -> Result<Server, Failure> {
        self.start_as(Command::new(&self.path), data_dir, cores)
    }

    /// The same, as a member of a cgroup from its first instruction on: it sizes itself by the limits that it finds.
    pub fn start_in(&self, cgroup: &Path, data_dir: &Path, cores: &[usize]) -> Result<Server, Failure> {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(cgroup.join("cgroup.procs")).arg(&self.path);
        self.start_as(command, data_dir, cores)
    }

    fn start_as(&self, mut command: Command, data_dir: &Path, cores: &[usize]) -> Result<Server, Failure> {
        let trouble = |error: io::Error| Failure::Trouble(format!("starting {}: {error}", self.path.display()));
        let endpoint = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().map_err(trouble)?));
        let log = data_dir.with_extension("log");
        let out = OpenOptions::new().create(true).append(true).open(&log).map_err(trouble)?;
        command.args(self.args(data_dir, endpoint, cores).map_err(trouble)?);
        command.stdin(Stdio::null()).stdout(File::try_clone(&out).map_err(trouble)?).stderr(out);
        let child = spawn_on(command, cores).map_err(trouble)?;
        cleanup::register_child(child.id());
        let runtime = Builder::new_current_thread().enable_io().enable_time().build().map_err(trouble)?;
        Ok(Server { child, endpoint, data_dir: data_dir.to_path_buf(), log, runtime })
    }

    fn args(&self, data_dir: &Path, endpoint: SocketAddr, cores: &[usize]) -> io::Result<Vec<String>> {
        let url = format!("http://{endpoint}");
        let mut args = vec![
            "--data-dir".to_owned(),
            data_dir.display().to_string(),
            "--listen-client-urls".to_owned(),
            url.clone(),
            "--advertise-client-urls".to_owned(),
            url,
            "--quota-backend-bytes".to_owned(),
            QUOTA_BYTES.to_string(),
        ];
        match self.kind {
            Kind::Plinth => {
                let list: Vec<String> = cores.iter().map(|core| format!("{core}-{core}")).collect();
                args.extend(["--cores".to_owned(), list.join(",")]);
            }
            Kind::Etcd => {
                let peer = format!("http://{}:{}", Ipv4Addr::LOCALHOST, free_port()?);
                args.extend(["--listen-peer-urls".to_owned(), peer.clone()]);
                args.extend(["--initial-advertise-peer-urls".to_owned(), peer.clone()]);
                args.extend(["--initial-cluster".to_owned(), format!("default={peer}")]);
            }
        }
        Ok(args)
    }
}

/// A port that nobody listens on at the moment.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Starts a program that inherits the affinity of the thread that starts it.
fn spawn_on(mut command: Command, cores: &[usize]) -> io::Result<Child> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    let starter = thread::spawn(move || {
        sched_setaffinity(None, &set)?;
        command.spawn()
    });
    starter.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Server {
    /// Where clients find it.
    #[must_use]
    pub fn endpoint(&self) -> SocketAddr {
        self.endpoint
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// For a load that looks at it.
    #[must_use]
    pub fn watched(&self) -> Watched {
        Watched { pid: self.pid(), data_dir: Some(self.data_dir.clone()) }
    }

    /// Waits until it answers a linearizable range.
    pub fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_MAX;
        loop {
            if let Some(status) = self.exited() {
                return Err(self.trouble(&format!("it ended with {status} instead of starting")));
            }
            let request = RangeRequest { key: b"ready"[..].into(), ..Default::default() };
            let endpoint = self.endpoint;
            let answer = self.runtime.block_on(async { Client::connect(endpoint).await?.range(&request).await });
            match answer {
                Ok(_) => return Ok(()),
                Err(status) if Instant::now() > deadline => {
                    return Err(self.trouble(&format!("it does not answer within {} s: {status}", READY_MAX.as_secs())));
                }
                Err(_) => thread::sleep(POLL),
            }
        }
    }

    /// What Maintenance/Status says.
    pub fn status(&self) -> Result<State, Failure> {
        let endpoint = self.endpoint;
        let answer = self.runtime.block_on(async { Client::connect(endpoint).await?.status().await });
        let answer = answer.map_err(|status| self.trouble(&format!("Status: {status}")))?;
        let bytes = |size: i64| u64::try_from(size).unwrap_or(0);
        Ok(State {
            revision: answer.header.map_or(0, |header| header.revision),
            db_size: bytes(answer.db_size),
            db_size_in_use: bytes(answer.db_size_in_use),
        })
    }

    /// Compacts at a revision, and waits until what it leaves behind is removed.
    pub fn compact(&self, revision: i64) -> Result<(), Failure> {
        let request = CompactionRequest { revision, physical: true };
        let endpoint = self.endpoint;
        let answer: Result<CompactionResponse, _> = self
            .runtime
            .block_on(async { Client::connect(endpoint).await?.unary("/etcdserverpb.KV/Compact", &request).await });
        answer.map_err(|status| self.trouble(&format!("Compact: {status}")))?;
        Ok(())
    }

    /// Its /metrics.
    pub fn metrics(&self) -> Result<String, Failure> {
        let answer = self.runtime.block_on(http_request(self.endpoint, "GET", "/metrics", b""));
        let answer = answer.map_err(|error| self.trouble(&format!("/metrics: {error}")))?;
        Ok(answer.text())
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(mut self) -> Result<(), Failure> {
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + STOP_MAX;
        while self.exited().is_none() {
            if Instant::now() > deadline {
                return Err(self.trouble(&format!("it runs on {} s after SIGTERM", STOP_MAX.as_secs())));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(self) {
        drop(self);
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a child has a process id");
        kill_process(pid, signal).map_err(|error| self.trouble(&format!("signalling it: {error}")))
    }

    fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    fn trouble(&self, what: &str) -> Failure {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned();
        Failure::Trouble(format!("the server at {}: {what}\n{tail}", self.endpoint))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        self.child.kill().ok();
        self.child.wait().ok();
        cleanup::forget_child(self.child.id());
    }
}
