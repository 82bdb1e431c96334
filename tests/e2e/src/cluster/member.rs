//! One member: its place in the network, its directory, and its process while it has one.

use std::{path::Path, time::Duration};

use plinth_client::HttpResponse;
use plinth_fuse::slowfs::SlowFs;
use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    caller::{CLIENT_PORT, Caller, http_get},
    log_disk::LogDisk,
    net::{Namespace, address},
    proxy::PEER_PORT,
};
use crate::{
    node::{Bench, Node, Refusal, private_dir, refusal_of},
    outcome::{Ended, Outcome, ensure},
};

/// A server dies with the test: whatever ends it, none is left.
const WITH_US: &[&str] = &["setpriv", "--pdeathsig", "KILL"];
/// The exit code of a clean stop by SIGTERM.
const STOPPED: i32 = 143;
/// How members with disks of their own flush their logs, one each.
const SYNC_METHODS: [&str; 3] = ["write-dsync", "linked-sync", "thread-dsync"];
/// A member that is well answers HTTP in this time.
const HTTP_MAX: Duration = Duration::from_secs(5);

/// A member, running or not.
pub(crate) struct Member {
    number: usize,
    namespace: Namespace,
    /// As the other members know it.
    peer_url: String,
    dir: TempDir,
    /// Flags beside its name, directory and addresses: whose member it is.
    flags: Vec<String>,
    /// Where its log lies, if not in its directory. Gone before its process is killed: that can't end while a flush is stuck.
    disk: Option<LogDisk>,
    node: Option<Node>,
    is_frozen: bool,
    /// What its processes said that have ended.
    said: String,
}

impl Member {
    /// A member without data. The others reach it at `peer_url`.
    pub(crate) fn new(number: usize, namespace: Namespace, peer_url: String) -> Result<Self, Ended> {
        let dir = private_dir()?;
        let (flags, disk, node, said) = (Vec::new(), None, None, String::new());
        Ok(Self { number, namespace, peer_url, dir, flags, disk, node, is_frozen: false, said })
    }

    /// From its first start on its log lies on this disk.
    pub(crate) fn set_disk(&mut self, disk: LogDisk) {
        self.disk = Some(disk);
    }

    /// The disk of its log.
    pub(crate) fn disk(&self) -> Result<&SlowFs, Ended> {
        let disk = self.disk.as_ref().ok_or_else(|| Ended::Failed(format!("{} has one disk only", self.name())))?;
        Ok(disk.fs())
    }

    /// Makes its disk sound, if it has one that may be something else.
    pub(crate) fn heal_disk(&self) {
        if let Some(disk) = &self.disk {
            disk.fs().heal();
        }
    }

    /// What `--initial-cluster` says of it.
    pub(crate) fn entry(&self) -> String {
        format!("{}={}", self.name(), self.peer_url)
    }

    /// As the others know it.
    pub(crate) fn peer_url(&self) -> &str {
        &self.peer_url
    }

    /// Its disk is replaced by an empty one.
    pub(crate) fn forget(&mut self) -> Outcome {
        assert!(self.node.is_none(), "{} still writes there", self.name());
        self.dir = private_dir()?;
        Ok(())
    }

    fn name(&self) -> String {
        format!("m{}", self.number)
    }

    pub(crate) fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    /// The flags of its next processes beside its name, directory and addresses.
    pub(crate) fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    /// Starts its process; it may take a while until it serves.
    pub(crate) fn spawn(&mut self, bench: &Bench) -> Outcome {
        assert!(self.node.is_none(), "{} runs already", self.name());
        self.node = Some(self.process(bench)?);
        Ok(())
    }

    fn process(&self, bench: &Bench) -> Result<Node, Ended> {
        let own = address(self.number);
        let mut command = bench.bare_command(WITH_US, self.dir.path());
        command.args(["--name", &self.name()]).args(&self.flags);
        command.args(["--listen-peer-urls", &format!("http://{own}:{PEER_PORT}")]);
        command.args(["--initial-advertise-peer-urls", &self.peer_url]);
        command.args(["--listen-client-urls", &format!("http://127.0.0.1:{CLIENT_PORT}")]);
        command.args(["--advertise-client-urls", &format!("http://{own}:{CLIENT_PORT}")]);
        if let Some(disk) = &self.disk {
            command.arg("--wal-dir").arg(disk.wal_dir());
            command.args(["--wal-sync-method", SYNC_METHODS[self.number % SYNC_METHODS.len()]]);
        }
        let _inside = self.namespace.enter()?;
        Node::spawn(command)
    }

    /// Waits until it serves.
    pub(crate) fn await_ready(&mut self) -> Outcome {
        self.running()?.await_ready()
    }

    /// Starts a process that must refuse to.
    pub(crate) fn refusal(&self, bench: &Bench) -> Result<Refusal, Ended> {
        refusal_of(self.process(bench)?)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.node.is_some()
    }

    fn running(&mut self) -> Result<&mut Node, Ended> {
        let name = self.name();
        self.node.as_mut().ok_or_else(|| Ended::Failed(format!("{name} doesn't run")))
    }

    /// Fails if it has ended by itself.
    pub(crate) fn ensure_runs(&mut self) -> Outcome {
        self.node.as_mut().map_or(Ok(()), Node::ensure_runs)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) -> Outcome {
        self.signal(Signal::KILL)?;
        self.await_end().map(drop)
    }

    /// SIGSTOP: it does nothing any more, and its connections stay.
    pub(crate) fn freeze(&mut self) -> Outcome {
        self.is_frozen = true;
        self.signal(Signal::STOP)
    }

    /// SIGCONT, if it is frozen.
    pub(crate) fn thaw(&mut self) -> Outcome {
        if std::mem::take(&mut self.is_frozen) { self.signal(Signal::CONT) } else { Ok(()) }
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&mut self) -> Outcome {
        self.signal(Signal::TERM)
    }

    /// Waits for the end of one that was asked to stop.
    pub(crate) fn await_stop(&mut self) -> Outcome {
        let code = self.await_end()?;
        ensure(code == Some(STOPPED), || format!("after SIGTERM {} ended with {code:?}:\n{}", self.name(), self.said))
    }

    /// Waits for the end of one that nobody asked to stop, and gives its exit code.
    pub(crate) fn await_own_end(&mut self) -> Result<Option<i32>, Ended> {
        self.await_end()
    }

    fn signal(&mut self, signal: Signal) -> Outcome {
        self.running()?.signal(signal)
    }

    fn await_end(&mut self) -> Result<Option<i32>, Ended> {
        let status = self.running()?.wait()?;
        self.said = self.log();
        (self.node, self.is_frozen) = (None, false);
        Ok(status.code())
    }

    /// Everything that its processes said.
    pub(crate) fn log(&self) -> String {
        self.node.as_ref().map_or_else(|| self.said.clone(), |node| self.said.clone() + &node.log())
    }

    /// A connection to it, over its own loopback.
    pub(crate) fn connect(&self, deadline: Duration) -> Result<Caller, Ended> {
        Caller::connect(&self.namespace, deadline).map_err(|status| Ended::Failed(format!("{}: {status}", self.name())))
    }

    /// What it answers to this over HTTP.
    pub(crate) fn get(&self, target: &str) -> Result<HttpResponse, Ended> {
        http_get(&self.namespace, target, HTTP_MAX)
            .map_err(|error| Ended::Failed(format!("{} asked for {target}: {error}", self.name())))
    }

    /// Fails unless `plinthutl check` finds what it left sound.
    pub(crate) fn ensure_sound(&self, bench: &Bench) -> Outcome {
        let wal_dir = self.disk.as_ref().map(LogDisk::wal_dir);
        bench.ensure_sound_with(self.dir.path(), wal_dir.as_deref())
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}
