//! The server under test: a process with a directory and a port of its own.

use std::{
    fs::{self, File},
    io,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// What it advertises: told, never used.
pub(crate) const ADVERTISED_URL: &str = "http://127.0.0.1:1";
/// Its name.
pub(crate) const NAME: &str = "clients";

const READY: &str = "ready to serve client requests";
/// What precedes the address in the line of a listener.
const ADDRESS_FIELD: &str = "\"address\":\"";
/// Only a hang is found by it.
const READY_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// A running server; killed, and its data removed, when dropped.
pub(crate) struct Server {
    child: Child,
    folder: TempDir,
    url: String,
}

impl Server {
    /// Starts `binary` and waits until it serves.
    pub(crate) fn start(binary: &Path) -> io::Result<Self> {
        let folder = TempDir::new()?;
        let log = File::create(folder.path().join("log"))?;
        let child = Command::new(binary)
            .args(["--name", NAME, "--listen-client-urls", "http://127.0.0.1:0"])
            .args(["--advertise-client-urls", ADVERTISED_URL, "--data-dir"])
            .arg(folder.path().join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut server = Self { child, folder, url: String::new() };
        let deadline = Instant::now() + READY_MAX;
        while !server.log().contains(READY) {
            if !server.is_alive() || Instant::now() > deadline {
                return Err(io::Error::other(format!("it doesn't become ready:\n{}", server.log())));
            }
            sleep(POLL);
        }
        let log = server.log();
        let address = log.split(ADDRESS_FIELD).nth(1).and_then(|rest| rest.split('"').next());
        server.url = format!("http://{}", address.ok_or_else(|| io::Error::other(format!("no address in:\n{log}")))?);
        Ok(server)
    }

    /// Where it serves.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Whether the process still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Everything it printed.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("log")).unwrap_or_default()).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
