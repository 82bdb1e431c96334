//! Runs of etcdctl.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Exit code; -1 for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs the etcdctl of `version` below `peers` against the server at `addr`.
pub(crate) fn etcdctl(
    peers: &Path,
    version: &str,
    addr: SocketAddr,
    args: &[String],
    stdin: &str,
) -> io::Result<Finished> {
    let program = peers.join(version).join("etcdctl");
    let mut child = Command::new(&program)
        .args(args)
        .arg(format!("--endpoints=http://{addr}"))
        .env_clear()
        .env("ETCDCTL_API", "3")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            let hint = "`cargo xtask peers` puts it there";
            io::Error::new(error.kind(), format!("{}: {error}; {hint}", program.display()))
        })?;
    child.stdin.take().expect("it is piped").write_all(stdin.as_bytes())?;
    let output = child.wait_with_output()?;
    Ok(Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
