//! What a start refuses: directories, flags and ports that it can't or mustn't use.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, path::Path};

use crate::{
    machine::as_nobody,
    node::{Bench, Node, contents, private_dir, refusal},
    outcome::{Outcome, ensure, ensure_contains},
};

/// Fails unless the start is refused with `code` and one line that has all `parts`.
fn is_refused(bench: &Bench, dir: &Path, args: &[&str], code: i32, parts: &[&str]) -> Outcome {
    let refusal = bench.refusal(dir, args)?;
    ensure(refusal.code == Some(code), || format!("exit code {:?}, not {code}: {}", refusal.code, refusal.line))?;
    ensure_contains(&refusal.line, parts)
}

pub(super) fn a_second_node_on_a_directory_is_refused_with_the_pid_of_the_first(bench: &Bench) -> Outcome {
    let dir = private_dir()?;
    let first = bench.start(dir.path(), &[])?;
    let pid = format!("pid {}", first.pid());
    is_refused(bench, dir.path(), &[], 1, &["in use by another plinth", &pid, "--data-dir"])?;
    let checked = bench.check(dir.path())?;
    ensure(checked.status.code() == Some(1), || format!("plinthutl ended with {}", checked.status))?;
    ensure_contains(&String::from_utf8_lossy(&checked.stderr), &["in use by another plinth", &pid])?;
    first.stop()
}

pub(super) fn a_directory_of_etcd_is_refused(bench: &Bench) -> Outcome {
    let dir = private_dir()?;
    fs::create_dir_all(dir.path().join("member/wal"))?;
    fs::create_dir_all(dir.path().join("member/snap"))?;
    fs::write(dir.path().join("member/wal/0000000000000000-0000000000000000.wal"), b"etcd's")?;
    fs::write(dir.path().join("member/snap/db"), b"etcd's")?;
    let before = contents(dir.path())?;
    is_refused(bench, dir.path(), &[], 1, &["holds the data of etcd", "--data-dir"])?;
    ensure(contents(dir.path())? == before, || "the directory was changed".to_owned())
}

pub(super) fn a_directory_of_another_format_is_refused(bench: &Bench) -> Outcome {
    let dir = private_dir()?;
    bench.start(dir.path(), &[])?.stop()?;
    let marker = dir.path().join("PLINTH");
    let text = fs::read_to_string(&marker)?;
    let line = text.lines().next().unwrap_or_default().replace("\"format\":1", "\"format\":9") + "\n";
    let checksum = plinth_base::crc32c(0, line.as_bytes());
    fs::write(&marker, format!("{line}crc32c {checksum:08x}\n"))?;
    let before = contents(&dir.path().join("tree"))?;
    is_refused(bench, dir.path(), &[], 1, &["has format 9", "reads format 1", "choose another directory"])?;
    ensure(contents(&dir.path().join("tree"))? == before, || "the data was changed".to_owned())
}

pub(super) fn an_unwritable_directory_is_refused(bench: &Bench) -> Outcome {
    let dir = private_dir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let inside = dir.path().join("data");
    // root may write anywhere: it has to become somebody else.
    let wrapper = if rustix::process::geteuid().is_root() { as_nobody(bench)? } else { &[] };
    if wrapper.is_empty() {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555))?;
    }
    let refused = refusal(bench.command_under(wrapper, &inside, &[]))?;
    ensure(refused.code == Some(1), || format!("exit code {:?}: {}", refused.code, refused.line))?;
    ensure_contains(&refused.line, &["Permission denied", "--data-dir", &inside.display().to_string()])?;
    // One that exists, and that somebody else owns.
    fs::create_dir(&inside)?;
    fs::set_permissions(&inside, fs::Permissions::from_mode(0o555))?;
    let refused = refusal(bench.command_under(wrapper, &inside, &["--log-level=error"]))?;
    ensure(refused.code == Some(1), || format!("exit code {:?}: {}", refused.code, refused.line))?;
    ensure_contains(&refused.line, &["Permission denied", "--data-dir", &inside.display().to_string()])
}

pub(super) fn an_unknown_flag_exits_2_with_one_line(bench: &Bench) -> Outcome {
    let dir = private_dir()?;
    is_refused(bench, dir.path(), &["--data-dri=x"], 2, &["--data-dri", "--data-dir"])?;
    is_refused(bench, dir.path(), &["--xyzzy"], 2, &["--xyzzy"])?;
    ensure(fs::read_dir(dir.path())?.next().is_none(), || "something was written".to_owned())
}

pub(super) fn a_bad_value_exits_2_with_one_line(bench: &Bench) -> Outcome {
    let dir = private_dir()?;
    for (arg, flag) in [
        ("--heartbeat-interval=fast", "--heartbeat-interval"),
        ("--log-format=xml", "--log-format"),
        ("--grpc-keepalive-timeout=5", "--grpc-keepalive-timeout"),
        ("--cores=none", "--cores"),
    ] {
        is_refused(bench, dir.path(), &[arg], 2, &[flag])?;
    }
    Ok(())
}

fn port_is_refused(bench: &Bench, port: u16, cores: &str) -> Outcome {
    let dir = private_dir()?;
    let url = format!("http://127.0.0.1:{port}");
    let (taken, hint) = (format!("127.0.0.1:{port}"), format!("ss -ltnp sport = :{port}"));
    let args = ["--listen-client-urls", &url, "--cores", cores];
    is_refused(bench, dir.path(), &args, 1, &[&taken, "another program holds the port", &hint])
}

pub(super) fn a_port_of_another_program_is_refused(bench: &Bench) -> Outcome {
    let other = TcpListener::bind("127.0.0.1:0")?;
    port_is_refused(bench, other.local_addr()?.port(), "1")
}

/// Servers of several executors share their port among themselves, and still not with each other.
pub(super) fn a_port_of_another_plinth_is_refused(bench: &Bench) -> Outcome {
    let cores = if std::thread::available_parallelism()?.get() > 1 { "2" } else { "1" };
    let dir = private_dir()?;
    let first = Node::start(bench.command(dir.path(), &["--cores", cores]))?;
    let port = first.addr()?.port();
    port_is_refused(bench, port, cores)?;
    port_is_refused(bench, port, "1")?;
    first.stop()
}
