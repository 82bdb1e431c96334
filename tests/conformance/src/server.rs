//! The server under test: its own process, its own data, free ports of the loopback interface.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// What every etcd logs when it can be used.
const READY: &str = "ready to serve client requests";
const READY_TIMEOUT: Duration = Duration::from_secs(30);
const READY_POLL: Duration = Duration::from_millis(20);
/// Name of the member.
pub(crate) const MEMBER_NAME: &str = "conformance";

/// Which answers are right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// Those of the version that plinth follows.
    Contract,
    /// Those of etcd 3.5.
    Etcd35,
}

/// A server program, and how it must answer.
#[derive(Clone, Debug)]
pub struct Target {
    /// The program.
    pub binary: PathBuf,
    /// How it must answer.
    pub dialect: Dialect,
}

impl Target {
    /// `etcd` is the one that `cargo xtask peers` fetched, `plinth` the release build below `root`, anything else a program,
    /// which is taken for plinth if its name begins so.
    #[must_use]
    pub fn named(name: &str, root: &Path) -> Self {
        match name {
            "etcd" => Self { binary: root.join("target/peers/3.5/etcd"), dialect: Dialect::Etcd35 },
            "plinth" => Self { binary: root.join("target/release/plinth"), dialect: Dialect::Contract },
            path => {
                let binary = PathBuf::from(path);
                let is_plinth = binary.file_name().is_some_and(|file| file.to_string_lossy().starts_with("plinth"));
                let dialect = if is_plinth { Dialect::Contract } else { Dialect::Etcd35 };
                Self { binary, dialect }
            }
        }
    }
}

/// A running server. It is killed, and its data removed, when this goes.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    binary: PathBuf,
    extra: Vec<String>,
    folder: TempDir,
    pub client_addr: SocketAddr,
    pub peer_addr: SocketAddr,
}

impl Server {
    /// Starts `binary` with etcd's flags and `extra`, and waits until it says that it can be used.
    pub fn start(binary: &Path, extra: &[String]) -> io::Result<Self> {
        let folder = TempDir::with_prefix("plinth-conformance-")?;
        let (client_addr, peer_addr) = free_ports()?;
        let child = spawn(binary, extra, folder.path(), client_addr, peer_addr)?;
        let (binary, extra) = (binary.to_owned(), extra.to_owned());
        let mut server = Self { child, binary, extra, folder, client_addr, peer_addr };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Kills the process and starts another one just like it, on the same data.
    pub fn restart(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = spawn(&self.binary, &self.extra, self.folder.path(), self.client_addr, self.peer_addr)?;
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> io::Result<()> {
        let end = Instant::now() + READY_TIMEOUT;
        loop {
            if self.log().contains(READY) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("the server ended with {status}:\n{}", self.log())));
            }
            if Instant::now() > end {
                return Err(io::Error::other(format!("the server does not say {READY:?}:\n{}", self.log())));
            }
            std::thread::sleep(READY_POLL);
        }
    }

    /// Whether the process still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The last lines that the server has logged.
    pub fn log_tail(&self) -> String {
        const LINES_MAX: usize = 20;
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES_MAX)..].join("\n")
    }

    fn log(&self) -> String {
        let bytes = fs::read(self.folder.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(binary: &Path, extra: &[String], folder: &Path, client: SocketAddr, peer: SocketAddr) -> io::Result<Child> {
    let log = File::create(folder.join("log"))?;
    Command::new(binary)
        .args(flags(&folder.join("data"), client, peer))
        .args(extra)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", binary.display())))
}

fn flags(data: &Path, client: SocketAddr, peer: SocketAddr) -> Vec<String> {
    vec![
        format!("--name={MEMBER_NAME}"),
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls=http://{client}"),
        format!("--advertise-client-urls=http://{client}"),
        format!("--listen-peer-urls=http://{peer}"),
        format!("--initial-advertise-peer-urls=http://{peer}"),
        format!("--initial-cluster={MEMBER_NAME}=http://{peer}"),
    ]
}

/// Two ports that nobody holds at the moment; both are held until both are known.
fn free_ports() -> io::Result<(SocketAddr, SocketAddr)> {
    let (first, second) = (TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    Ok((first.local_addr()?, second.local_addr()?))
}
