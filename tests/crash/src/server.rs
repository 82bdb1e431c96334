//! The server under test, as a process.

use std::{
    fs::{File, OpenOptions},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use plinth_client::{Client, http_request};
use rustix::process::{Pid, Signal, kill_process};

use crate::{cleanup, options::Options, workload};

/// How long a start may take, recovery included.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long a clean stop may take.
const STOP_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);
/// What a server stopped by SIGTERM exits with.
const STOPPED: i32 = 128 + 15;
/// How much of the server's log an error shows.
const LOG_TAIL_BYTES: usize = 2000;

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    addr: SocketAddr,
    log: PathBuf,
}

/// A port that nobody listens on at the moment.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

impl Server {
    /// Starts the server; what it prints goes to the end of the file `log`.
    pub fn start(options: &Options, data_dir: &Path, port: u16, log: &Path) -> io::Result<Self> {
        let out = OpenOptions::new().create(true).append(true).open(log)?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let url = format!("http://{addr}");
        let mut command = Command::new(&options.binary);
        command.arg("--data-dir").arg(data_dir);
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]).args(&options.server_args);
        command.stdin(Stdio::null()).stdout(File::try_clone(&out)?).stderr(out);
        let child = command.spawn()?;
        cleanup::register_child(child.id());
        Ok(Self { child, addr, log: log.to_owned() })
    }

    /// Where clients find it.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The exit status, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// A connection, once the server answers; the error says why it never did.
    pub async fn ready(&mut self) -> Result<Client, String> {
        let deadline = Instant::now() + READY_MAX;
        loop {
            if let Some(status) = self.exited() {
                return Err(format!("the server ended with {status} instead of starting:\n{}", self.log_tail()));
            }
            let why = match Client::connect(self.addr).await {
                Ok(client) => match workload::ping(&client).await {
                    Ok(()) => return Ok(client),
                    Err(status) => status,
                },
                Err(status) => status,
            };
            if Instant::now() > deadline {
                let tail = self.log_tail();
                return Err(format!("the server did not answer within {} s: {why}\n{tail}", READY_MAX.as_secs()));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The value of a counter in /metrics, summed over its labels; `None` if there is no such counter.
    pub async fn counter(&self, name: &str) -> io::Result<Option<f64>> {
        let text = http_request(self.addr, "GET", "/metrics", b"").await?.text();
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
        });
        Ok(values.reduce(|a, b| a + b))
    }

    /// SIGKILL, and wait until it is gone.
    pub fn kill(self) {
        drop(self);
    }

    /// SIGTERM, and wait for the end.
    pub async fn stop(mut self) -> Result<(), String> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a process id");
        kill_process(pid, Signal::TERM).map_err(|error| format!("SIGTERM: {error}"))?;
        let deadline = Instant::now() + STOP_MAX;
        loop {
            if let Some(status) = self.exited() {
                if status.code() == Some(STOPPED) || status.signal() == Some(STOPPED - 128) {
                    return Ok(());
                }
                return Err(format!("after SIGTERM the server ended with {status}:\n{}", self.log_tail()));
            }
            if Instant::now() > deadline {
                return Err(format!("the server runs on {} s after SIGTERM:\n{}", STOP_MAX.as_secs(), self.log_tail()));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The end of what it printed.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned()
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
