//! `versus`, `probe` and `show` as processes: what they refuse, what they exit with, and that nothing stays.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// What it said on stderr, and its exit code.
fn refusal(args: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_plinth-bench")).args(args).stdin(Stdio::null()).output();
    let output = output.expect("it runs");
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
}

/// A program that says it is an etcd, and ends instead of serving.
fn broken_etcd(folder: &Path) -> PathBuf {
    let path = folder.join("etcd");
    let script =
        "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'etcd Version: 9.9'; else echo 'no disk today'; exit 3; fi\n";
    fs::write(&path, script).expect("writable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("ours");
    path
}

#[test]
fn a_server_that_does_not_start_is_told_with_its_own_words_and_nothing_stays() {
    let folder = TempDir::new().expect("a temporary directory");
    let (dir, etcd) = (folder.path().join("dir"), broken_etcd(folder.path()));
    let (dir_arg, etcd) = (dir.display().to_string(), etcd.display().to_string());
    for members in ["1", "3"] {
        let args = ["versus", "put-1", "--quick", "--a", &etcd, "--b", &etcd, "--members", members, "--dir", &dir_arg];
        let (text, code) = refusal(&args);
        assert!(text.contains("it ended with exit status: 3 instead of starting"), "{text}");
        assert!(text.contains("no disk today") && text.ends_with("1 of 1 scenarios failed: put-1\n"), "{text}");
        assert_eq!(code, Some(1));
        assert_eq!(fs::read_dir(&dir).expect("it was made").count(), 0, "its directories are gone");
    }
}

#[test]
fn what_is_wrong_with_a_command_line_is_one_line_and_code_2() {
    for args in [
        &["versus", "no-such-scenario"][..],
        &["versus", "--members", "2"],
        &["versus", "--all", "put-1"],
        &["versus", "--frob"],
        &["probe"],
        &["probe", "--endpoint", "nowhere"],
    ] {
        let (text, code) = refusal(args);
        assert_eq!((text.lines().count(), code), (1, Some(2)), "{args:?}: {text}");
    }
}

#[test]
fn what_is_wrong_elsewhere_is_one_line_and_code_1() {
    let folder = TempDir::new().expect("a temporary directory");
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("cut.json"), "{\"format\": \"plinth-bench res").expect("writable");
    fs::write(path("old.json"), "{\"format\": \"plinth-bench results 1\"}").expect("writable");
    fs::write(path("bad.toml"), "description = \"x\"\n[load]\nop = \"nonsense\"\n").expect("writable");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let closed = listener.local_addr().expect("it is bound").to_string();
    drop(listener);
    for (args, wanted) in [
        (["show", &path("none.json")], "reading "),
        (["show", &path("cut.json")], "is cut off after "),
        (["show", &path("old.json")], "has results of version 1, and "),
        (["versus", &path("bad.toml")], "scenario bad, [load]: --op "),
    ] {
        let (text, code) = refusal(&args);
        assert_eq!((text.lines().count(), code), (1, Some(1)), "{args:?}: {text}");
        assert!(text.contains(wanted), "{text}");
    }
    let (text, code) = refusal(&["probe", "--endpoint", &closed]);
    assert!(text.contains("can't be reached") && text.lines().count() == 1 && code == Some(1), "{text}");
}

#[test]
fn a_results_file_that_could_not_be_written_is_refused_before_any_work() {
    let folder = TempDir::new().expect("a temporary directory");
    let place = folder.path().display().to_string();
    let (text, code) = refusal(&["versus", "put-1", "--quick", "--dir", &place, "--json", &place]);
    assert!(text.contains("is a directory: results go to a file") && code == Some(1), "{text}");
}
