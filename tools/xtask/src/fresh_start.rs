//! `cargo xtask fresh-start`: what the README promises. A plain `cargo run --release` in an empty folder serves etcdctl of both
//! versions on port 2379, ends with 143 on SIGTERM, and the next start still has the data.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    peers,
    shell::{Outcome, command, output, root},
};

const READY: &str = "ready to serve client requests";
/// Long enough to build the server.
const READY_TIMEOUT: Duration = Duration::from_secs(1800);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// 128 + SIGTERM.
const STOPPED_BY_SIGTERM: i32 = 143;

pub(crate) fn run() -> Outcome {
    peers::run(&[])?;
    let folder = TempDir::new().map_err(|error| error.to_string())?;
    let mut server = Server::start(folder.path())?;
    expect(&etcdctl("3.5", &["put", "fresh", "start"])?, "OK")?;
    expect(&etcdctl("3.4", &["get", "fresh", "--print-value-only"])?, "start")?;
    server.stop()?;
    let mut server = Server::start(folder.path())?;
    expect(&etcdctl("3.5", &["get", "fresh", "--print-value-only"])?, "start")?;
    expect(&etcdctl("3.4", &["del", "fresh"])?, "1")?;
    server.stop()?;
    println!("a fresh start serves both etcdctls and keeps its data");
    Ok(())
}

/// `cargo run --release`, which becomes the server.
struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    fn start(folder: &Path) -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        let log = folder.join("log");
        let file = File::create(&log).map_err(text)?;
        let child = Command::new("cargo")
            .args(["run", "--quiet", "--release", "--manifest-path"])
            .arg(root().join("Cargo.toml"))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(text)?)
            .stderr(file)
            .spawn()
            .map_err(text)?;
        let mut server = Self { child, log };
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let end = Instant::now() + READY_TIMEOUT;
        while !self.log().contains(READY) {
            if let Some(status) = self.child.try_wait().map_err(|error| error.to_string())? {
                return Err(format!("the server ended with {status}:\n{}", self.log()));
            }
            if Instant::now() > end {
                return Err(format!("the server does not say {READY:?}:\n{}", self.log()));
            }
            sleep(POLL);
        }
        Ok(())
    }

    /// SIGTERM, and the exit code that supervisors of etcd know.
    fn stop(&mut self) -> Result<(), String> {
        output(command("kill", &["-TERM", &self.child.id().to_string()]))?;
        let end = Instant::now() + STOP_TIMEOUT;
        loop {
            match self.child.try_wait().map_err(|error| error.to_string())? {
                Some(status) if status.code() == Some(STOPPED_BY_SIGTERM) => return Ok(()),
                Some(status) => return Err(format!("stopped with {status}, not 143:\n{}", self.log())),
                None if Instant::now() > end => return Err(format!("does not stop:\n{}", self.log())),
                None => sleep(POLL),
            }
        }
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Output of etcdctl against its default endpoint.
fn etcdctl(version: &str, args: &[&str]) -> Result<String, String> {
    let mut etcdctl = command(root().join("target/peers").join(version).join("etcdctl"), args);
    etcdctl.env("ETCDCTL_API", "3");
    output(etcdctl)
}

fn expect(got: &str, want: &str) -> Result<(), String> {
    if got.trim() == want { Ok(()) } else { Err(format!("want: {want}\ngot:  {got}")) }
}
