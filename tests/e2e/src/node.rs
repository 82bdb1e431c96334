//! The server as a process.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{
    kv::Kv,
    outcome::{Ended, Outcome, ensure},
};

/// How long anything may take that should be quick: a start, a stop, a refusal. Only a hang is found by it.
const WAIT_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);
const READY: &str = "ready to serve client requests";
/// What precedes the address in the line of a listener.
const ADDRESS_FIELD: &str = "\"address\":\"";

/// The programs under test.
pub(crate) struct Bench {
    pub(crate) plinth: PathBuf,
    pub(crate) plinthutl: PathBuf,
}

impl Bench {
    pub(crate) fn new(plinth: &Path, plinthutl: Option<&Path>) -> Result<Self, String> {
        let find = |path: &Path| {
            fs::canonicalize(path).map_err(|error| {
                format!(
                    "{}: {error}; `cargo build --release -p plinth-server -p plinth-plinthutl` makes it",
                    path.display()
                )
            })
        };
        let plinth = find(plinth)?;
        let plinthutl = find(plinthutl.unwrap_or(&plinth.with_file_name("plinthutl")))?;
        Ok(Self { plinth, plinthutl })
    }

    /// The server's command line with a directory, a free port, one core, and `args`.
    pub(crate) fn command(&self, data_dir: &Path, args: &[&str]) -> Command {
        self.command_under(&[], data_dir, args)
    }

    /// The same, started by `wrapper`: another program with its own arguments.
    pub(crate) fn command_under(&self, wrapper: &[&str], data_dir: &Path, args: &[&str]) -> Command {
        let mut command = self.bare_command(wrapper, data_dir);
        command.args(["--listen-client-urls", "http://127.0.0.1:0", "--advertise-client-urls", "http://127.0.0.1:1"]);
        command.args(args);
        command
    }

    /// The server's command line, started by `wrapper`, with a directory and one core: it would serve etcd's own ports.
    pub(crate) fn bare_command(&self, wrapper: &[&str], data_dir: &Path) -> Command {
        let mut command = match wrapper.split_first() {
            None => Command::new(&self.plinth),
            Some((program, rest)) => {
                let mut command = Command::new(program);
                command.args(rest).arg(&self.plinth);
                command
            }
        };
        // A nearly empty environment, as supervisors give it.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.arg("--data-dir").arg(data_dir).args(["--cores", "1"]).stdin(Stdio::null());
        command
    }

    /// Starts a server and waits until it serves.
    pub(crate) fn start(&self, data_dir: &Path, args: &[&str]) -> Result<Node, Ended> {
        Node::start(self.command(data_dir, args))
    }

    /// Runs `plinthutl check`.
    pub(crate) fn check(&self, data_dir: &Path) -> Result<Output, Ended> {
        Ok(self.check_command(data_dir, None).output()?)
    }

    fn check_command(&self, data_dir: &Path, wal_dir: Option<&Path>) -> Command {
        let mut command = Command::new(&self.plinthutl);
        command.arg("check").arg(data_dir);
        if let Some(wal_dir) = wal_dir {
            command.arg("--wal-dir").arg(wal_dir);
        }
        command
    }

    /// Fails unless `plinthutl check` finds the stopped directory sound.
    pub(crate) fn ensure_sound(&self, data_dir: &Path) -> Outcome {
        self.ensure_sound_with(data_dir, None)
    }

    /// The same of one whose log lies elsewhere, if it does.
    pub(crate) fn ensure_sound_with(&self, data_dir: &Path, wal_dir: Option<&Path>) -> Outcome {
        let checked = self.check_command(data_dir, wal_dir).output()?;
        ensure(checked.status.success(), || String::from_utf8_lossy(&checked.stderr).into_owned())
    }

    /// Runs a server that must refuse to start: gives its exit code and the one line that it says.
    pub(crate) fn refusal(&self, data_dir: &Path, args: &[&str]) -> Result<Refusal, Ended> {
        refusal(self.command(data_dir, args))
    }
}

/// A server that did not start.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Option<i32>,
    pub(crate) line: String,
}

/// Runs a command that must end by itself, having said why in one line: the last one, and the only error.
pub(crate) fn refusal(command: Command) -> Result<Refusal, Ended> {
    refusal_of(Node::spawn(command)?)
}

/// The same of a server that was started.
pub(crate) fn refusal_of(mut node: Node) -> Result<Refusal, Ended> {
    let status = node.wait()?;
    let log = node.log();
    let errors: Vec<&str> = log.lines().filter(|line| !line.contains("\"level\":\"info\"")).collect();
    match errors[..] {
        [line] => Ok(Refusal { code: status.code(), line: line.to_owned() }),
        _ => Err(Ended::Failed(format!("one line was expected, and {status}:\n{log}"))),
    }
}

/// A server, running or ended; killed when dropped.
pub(crate) struct Node {
    child: Child,
    scratch: TempDir,
}

impl Node {
    /// Starts it with its output in a file.
    pub(crate) fn spawn(mut command: Command) -> Result<Self, Ended> {
        let scratch = TempDir::new()?;
        let log = File::create(scratch.path().join("log"))?;
        let child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(Self { child, scratch })
    }

    /// Starts it and waits until it serves.
    pub(crate) fn start(command: Command) -> Result<Self, Ended> {
        let mut node = Self::spawn(command)?;
        node.await_ready()?;
        Ok(node)
    }

    /// Waits until it serves.
    pub(crate) fn await_ready(&mut self) -> Outcome {
        let deadline = Instant::now() + WAIT_MAX;
        while !self.log().contains(READY) {
            self.ensure_runs()?;
            ensure(Instant::now() < deadline, || format!("it doesn't become ready:\n{}", self.log()))?;
            sleep(POLL);
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it printed.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.scratch.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// Where it serves, as its log says.
    pub(crate) fn addr(&self) -> Result<SocketAddr, Ended> {
        let log = self.log();
        let text = log.split(ADDRESS_FIELD).nth(1).and_then(|rest| rest.split('"').next());
        text.and_then(|text| text.parse().ok()).ok_or_else(|| Ended::Failed(format!("no address in:\n{log}")))
    }

    /// A client of it.
    pub(crate) fn kv(&self) -> Result<Kv, Ended> {
        Kv::connect(self.addr()?)
    }

    /// What it answers to a GET over HTTP/1, headers included.
    pub(crate) fn http_get(&self, path: &str) -> Result<String, Ended> {
        let mut stream = TcpStream::connect(self.addr()?)?;
        stream.set_read_timeout(Some(WAIT_MAX))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: plinth\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Fails if it has ended.
    pub(crate) fn ensure_runs(&mut self) -> Outcome {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(Ended::Failed(format!("the server ended with {status}:\n{}", self.log()))),
        }
    }

    /// Memory of its own, in bytes: what is mapped from files doesn't count.
    pub(crate) fn anonymous_bytes(&self) -> Result<u64, Ended> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.parse::<u64>().ok());
        kib.map(|kib| kib << 10).ok_or_else(|| Ended::Failed(format!("no RssAnon in:\n{status}")))
    }

    pub(crate) fn signal(&self, signal: Signal) -> Outcome {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a process id");
        kill_process(pid, signal).map_err(|error| Ended::Failed(error.to_string()))
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus, Ended> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure(Instant::now() < deadline, || format!("it doesn't end:\n{}", self.log()))?;
            sleep(POLL);
        }
    }

    /// SIGTERM; fails unless it ends as supervisors expect.
    pub(crate) fn stop(mut self) -> Outcome {
        self.signal(Signal::TERM)?;
        let status = self.wait()?;
        ensure(status.code() == Some(143), || format!("after SIGTERM it ended with {status}:\n{}", self.log()))
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) -> Outcome {
        self.child.kill()?;
        self.wait().map(drop)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A new directory as plinth wants it for its data: open to its owner only.
pub(crate) fn private_dir() -> io::Result<TempDir> {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir()
}

/// The files below `dir` with their contents, for a comparison before and after.
pub(crate) fn contents(dir: &Path) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(contents(&path)?);
        } else {
            files.push((path.clone(), fs::read(path)?));
        }
    }
    files.sort();
    Ok(files)
}

/// Flips a bit of the file's byte at `offset`.
pub(crate) fn flip(file: &Path, offset: u64) -> io::Result<()> {
    let open = File::options().read(true).write(true).open(file)?;
    let mut byte = [0];
    open.read_exact_at(&mut byte, offset)?;
    byte[0] ^= 0x10;
    open.write_all_at(&byte, offset)?;
    open.sync_all()
}
