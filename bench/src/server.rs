//! A server under test, as a process: plinth or etcd, alone on its data directory and on its cores.

mod cluster;
mod ports;
mod program;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use plinth_client::{Client, http_request};
use plinth_rpc::etcdserverpb::{
    CompactionRequest, CompactionResponse, MemberAddRequest, MemberAddResponse, MemberRemoveRequest,
    MemberRemoveResponse, MoveLeaderRequest, MoveLeaderResponse, RangeRequest, StatusResponse,
};
use prost::Message;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::{Builder, Runtime};

pub use self::{
    cluster::{Cluster, Home, Lead, MEMBERS},
    program::{Kind, Program, Start},
};
use crate::{cleanup, failure::Failure, load::Watched};

/// How long a start may take, recovery of a large database included.
const READY_MAX: Duration = Duration::from_secs(180);
const STOP_MAX: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(2);
/// How much of the server's log an error shows.
const LOG_TAIL_BYTES: usize = 2000;

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    spawned: Instant,
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

/// How a server stands in its cluster, as it says itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Its member's id.
    pub id: u64,
    /// The id of the member that leads; 0: none that it knows of.
    pub leader: u64,
    /// Raft's.
    pub term: u64,
}

impl Server {
    /// A process that was started just now.
    fn new(child: Child, endpoint: SocketAddr, data_dir: &Path, log: PathBuf) -> io::Result<Self> {
        cleanup::register_child(child.id());
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        Ok(Self { child, spawned: Instant::now(), endpoint, data_dir: data_dir.to_path_buf(), log, runtime })
    }

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

    /// Waits until it answers a linearizable range; gives how long that took from its start on.
    pub fn wait_until_ready(&mut self) -> Result<Duration, Failure> {
        let deadline = Instant::now() + READY_MAX;
        loop {
            if let Some(status) = self.exited() {
                return Err(self.trouble(&format!("it ended with {status} instead of starting")));
            }
            let request = RangeRequest { key: b"ready"[..].into(), ..Default::default() };
            let endpoint = self.endpoint;
            let answer = self.runtime.block_on(async { Client::connect(endpoint).await?.range(&request).await });
            match answer {
                Ok(_) => return Ok(self.spawned.elapsed()),
                Err(status) if Instant::now() > deadline => {
                    return Err(self.trouble(&format!("it does not answer within {} s: {status}", READY_MAX.as_secs())));
                }
                Err(_) => thread::sleep(POLL),
            }
        }
    }

    /// What Maintenance/Status says.
    pub fn status(&self) -> Result<State, Failure> {
        let answer = self.whole_status()?;
        let bytes = |size: i64| u64::try_from(size).unwrap_or(0);
        Ok(State {
            revision: answer.header.map_or(0, |header| header.revision),
            db_size: bytes(answer.db_size),
            db_size_in_use: bytes(answer.db_size_in_use),
        })
    }

    /// Who leads, as Maintenance/Status says it.
    pub fn standing(&self) -> Result<Standing, Failure> {
        let answer = self.whole_status()?;
        let id = answer.header.map_or(0, |header| header.member_id);
        Ok(Standing { id, leader: answer.leader, term: answer.raft_term })
    }

    /// Asks this server, which leads, to let the member of that id lead.
    pub fn move_leader(&self, target_id: u64) -> Result<(), Failure> {
        let request = MoveLeaderRequest { target_id };
        self.ask::<MoveLeaderResponse>("/etcdserverpb.Maintenance/MoveLeader", &request).map(drop)
    }

    /// Has the member of that id removed from the cluster.
    pub fn remove_member(&self, id: u64) -> Result<(), Failure> {
        let request = MemberRemoveRequest { id };
        self.ask::<MemberRemoveResponse>("/etcdserverpb.Cluster/MemberRemove", &request).map(drop)
    }

    /// Has a member added to the cluster that others reach at `peer`.
    pub fn add_member(&self, peer: SocketAddr) -> Result<(), Failure> {
        let request = MemberAddRequest { peer_ur_ls: vec![format!("http://{peer}")], is_learner: false };
        self.ask::<MemberAddResponse>("/etcdserverpb.Cluster/MemberAdd", &request).map(drop)
    }

    /// How far it has applied raft's log.
    pub fn applied_index(&self) -> Result<u64, Failure> {
        Ok(self.whole_status()?.raft_applied_index)
    }

    fn ask<A: Message + Default>(&self, path: &'static str, request: &impl Message) -> Result<A, Failure> {
        let endpoint = self.endpoint;
        let answer = self.runtime.block_on(async { Client::connect(endpoint).await?.unary::<A>(path, request).await });
        answer.map_err(|status| self.trouble(&format!("{path}: {status}")))
    }

    fn whole_status(&self) -> Result<StatusResponse, Failure> {
        let endpoint = self.endpoint;
        let answer = self.runtime.block_on(async { Client::connect(endpoint).await?.status().await });
        answer.map_err(|status| self.trouble(&format!("Status: {status}")))
    }

    /// Compacts at a revision, and waits until what it leaves behind is removed.
    pub fn compact(&self, revision: i64) -> Result<(), Failure> {
        let request = CompactionRequest { revision, physical: true };
        self.ask::<CompactionResponse>("/etcdserverpb.KV/Compact", &request).map(drop)
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
        self.wait_until_stopped()
    }

    fn wait_until_stopped(&mut self) -> Result<(), Failure> {
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
