//! A server's program: which one it is, and how it is started.

use std::{
    fs::{File, OpenOptions},
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use rustix::thread::{CpuSet, sched_setaffinity};

use super::{Server, ports::free_ports};
use crate::{failure::Failure, results::ProgramFacts};

/// etcd's default of 2 GiB is used up by a few minutes of puts: old revisions stay until they are compacted.
const QUOTA_BYTES: u64 = 64 << 30;
/// What `--version` of each server has.
const PLINTH_LINE: &str = "Git SHA: plinth";
const ETCD_LINE: &str = "etcd Version: ";

/// Which server a program is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// This project's.
    Plinth,
    /// The peer.
    Etcd,
}

impl Kind {
    /// As tables and scenario files call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plinth => "plinth",
            Self::Etcd => "etcd",
        }
    }
}

/// A server's program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// Which one it is.
    pub kind: Kind,
    /// Where it is.
    pub path: PathBuf,
}

/// How a program is started.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// Its alone.
    pub data_dir: &'a Path,
    /// Where it runs.
    pub cores: &'a [usize],
    /// Where the members of its cluster talk to each other; empty if it is alone.
    pub peers: &'a [SocketAddr],
    /// Which of them it is.
    pub member: usize,
    /// Behind everything else.
    pub flags: &'a [String],
}

impl Program {
    /// Fails unless it is a file.
    pub fn expect_there(&self) -> Result<(), Failure> {
        if self.path.is_file() {
            return Ok(());
        }
        let hint = match self.kind {
            Kind::Plinth => "`cargo build --release` makes it",
            Kind::Etcd => "`cargo xtask peers` fetches it",
        };
        Err(Failure::Trouble(format!("there is no {}: {hint}", self.path.display())))
    }

    /// The server that `path` says it is.
    pub fn recognised(path: PathBuf) -> Result<Self, Failure> {
        let refused = |why: String| Failure::Trouble(format!("{}: {why}", path.display()));
        let text = version_text(&path).map_err(|error| refused(format!("starting it: {error}")))?;
        let begins = |start: &str| text.lines().any(|line| line.starts_with(start));
        // plinth says first which etcd it stands in for.
        let kind = match (begins(PLINTH_LINE), begins(ETCD_LINE)) {
            (true, _) => Kind::Plinth,
            (false, true) => Kind::Etcd,
            (false, false) => return Err(refused("its `--version` is neither plinth's nor etcd's".to_owned())),
        };
        Ok(Self { kind, path })
    }

    /// Its name and version. (plinth says first which etcd it stands in for, and then what it is.)
    pub fn version(&self) -> String {
        let text = version_text(&self.path).unwrap_or_default();
        let behind = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("unknown").to_owned();
        match self.kind {
            Kind::Plinth => behind("Git SHA: "),
            Kind::Etcd => format!("etcd {}", behind(ETCD_LINE)),
        }
    }

    /// For a results file; `name` is what tables call it.
    #[must_use]
    pub fn facts(&self, name: &str) -> ProgramFacts {
        ProgramFacts { name: name.to_owned(), version: self.version(), path: self.path.display().to_string() }
    }

    /// Starts it alone on `cores` and a port of its own. Its output goes to a file beside `data_dir`.
    pub fn start(&self, data_dir: &Path, cores: &[usize]) -> Result<Server, Failure> {
        self.start_as(Start { data_dir, cores, peers: &[], member: 0, flags: &[] })
    }

    /// The same, as it is told.
    pub fn start_as(&self, how: Start<'_>) -> Result<Server, Failure> {
        self.start_by(Command::new(&self.path), how)
    }

    /// Alone, as a member of a cgroup from its first instruction on: it sizes itself by the limits that it finds.
    pub fn start_in(&self, cgroup: &Path, data_dir: &Path, cores: &[usize]) -> Result<Server, Failure> {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(cgroup.join("cgroup.procs")).arg(&self.path);
        self.start_by(command, Start { data_dir, cores, peers: &[], member: 0, flags: &[] })
    }

    fn start_by(&self, mut command: Command, how: Start<'_>) -> Result<Server, Failure> {
        let trouble = |error: io::Error| Failure::Trouble(format!("starting {}: {error}", self.path.display()));
        let [port, own_peer_port] = free_ports().map_err(trouble)?;
        let endpoint = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let log = how.data_dir.with_extension("log");
        let out = OpenOptions::new().create(true).append(true).open(&log).map_err(trouble)?;
        command.args(self.args(how, endpoint, own_peer_port));
        command.stdin(Stdio::null()).stdout(File::try_clone(&out).map_err(trouble)?).stderr(out);
        let child = spawn_on(command, how.cores).map_err(trouble)?;
        Server::new(child, endpoint, how.data_dir, log).map_err(trouble)
    }

    fn args(&self, how: Start<'_>, endpoint: SocketAddr, own_peer_port: u16) -> Vec<String> {
        let url = format!("http://{endpoint}");
        let mut args = vec![
            "--data-dir".to_owned(),
            how.data_dir.display().to_string(),
            "--listen-client-urls".to_owned(),
            url.clone(),
            "--advertise-client-urls".to_owned(),
            url,
            "--quota-backend-bytes".to_owned(),
            QUOTA_BYTES.to_string(),
        ];
        let own_peer = SocketAddr::from((Ipv4Addr::LOCALHOST, own_peer_port));
        match (self.kind, how.peers) {
            // It talks to nobody.
            (Kind::Plinth, []) => {}
            (Kind::Etcd, []) => args.extend(peer_args("default", own_peer, &format!("default=http://{own_peer}"))),
            (_, peers) => {
                let all = peers.iter().enumerate().map(|(number, peer)| format!("m{number}=http://{peer}"));
                let all = all.collect::<Vec<_>>().join(",");
                args.extend(peer_args(&format!("m{}", how.member), peers[how.member], &all));
            }
        }
        if self.kind == Kind::Plinth {
            let list: Vec<String> = how.cores.iter().map(|core| format!("{core}-{core}")).collect();
            args.extend(["--cores".to_owned(), list.join(",")]);
        }
        args.extend_from_slice(how.flags);
        args
    }
}

fn peer_args(name: &str, own: SocketAddr, all: &str) -> Vec<String> {
    let own = format!("http://{own}");
    let pairs = [
        ("--name", name),
        ("--listen-peer-urls", &own),
        ("--initial-advertise-peer-urls", &own),
        ("--initial-cluster", all),
    ];
    pairs.iter().flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()]).collect()
}

fn version_text(path: &Path) -> io::Result<String> {
    let output = Command::new(path).arg("--version").stdin(Stdio::null()).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program(folder: &Path, name: &str, output: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\nprintf '{output}'\n")).expect("writable");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
        path
    }

    #[test]
    fn a_program_is_what_its_version_says() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let make = |name, output| program(folder.path(), name, output);
        let plinth = make("a", "etcd Version: 3.5.21\\nGit SHA: plinth-0.1.0\\n");
        let plinth = Program::recognised(plinth).expect("it says so");
        assert_eq!((plinth.kind, plinth.version().as_str()), (Kind::Plinth, "plinth-0.1.0"));
        let etcd = Program::recognised(make("b", "etcd Version: 3.5.1\\nGit SHA: e8732fb5f\\n")).expect("it says so");
        assert_eq!((etcd.kind, etcd.version().as_str()), (Kind::Etcd, "etcd 3.5.1"));
        let refused = |path| Program::recognised(path).expect_err("it is neither").to_string();
        assert!(refused(make("c", "v1.2")).ends_with("/c: its `--version` is neither plinth's nor etcd's"));
        assert!(refused(folder.path().join("none")).contains("/none: starting it: "));
        assert!(refused(folder.path().to_path_buf()).contains(": starting it: "));
    }

    #[test]
    fn a_member_names_itself_and_all_others() {
        let peers = [1, 2, 3].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let flags = ["--snapshot-count=7".to_owned()];
        let how = Start { data_dir: Path::new("/d"), cores: &[0], peers: &peers, member: 1, flags: &flags };
        let args = |kind| Program { kind, path: PathBuf::new() }.args(how, peers[0], 9).join(" ");
        let cluster = "--name m1 --listen-peer-urls http://127.0.0.1:2 --initial-advertise-peer-urls http://127.0.0.1:2 \
                       --initial-cluster m0=http://127.0.0.1:1,m1=http://127.0.0.1:2,m2=http://127.0.0.1:3";
        assert!(args(Kind::Etcd).ends_with(&format!("{cluster} --snapshot-count=7")));
        assert!(args(Kind::Plinth).ends_with(&format!("{cluster} --cores 0-0 --snapshot-count=7")));
        let alone = Start { peers: &[], ..how };
        let args = Program { kind: Kind::Etcd, path: PathBuf::new() }.args(alone, peers[0], 9).join(" ");
        assert!(args.contains("--name default --listen-peer-urls http://127.0.0.1:9 "), "{args}");
    }
}
