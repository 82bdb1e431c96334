//! `plinth-bench fsync` as a process: what it refuses, what it leaves behind, what it writes.
//!
//! Some cases mount file systems, which takes root; without it they say that they were skipped.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;
use tempfile::TempDir;

fn command(args: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plinth-bench"));
    command.arg("fsync").args(args).arg("--dir").arg(dir).stdin(Stdio::null());
    command
}

fn run(args: &[&str], dir: &Path) -> Output {
    command(args, dir).output().expect("the program runs")
}

/// What a run says when it gives up, which is one line, and with which code.
fn refusal(args: &[&str], dir: &Path) -> (String, Option<i32>) {
    let output = run(args, dir);
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    (text.trim_end().to_owned(), output.status.code())
}

fn scratch() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).expect("readable").filter_map(Result::ok).all(|entry| entry.file_name() == "lost+found")
}

/// Starts a run, and returns when it has made its directory.
fn started(args: &[&str], dir: &Path) -> Child {
    let child = command(args, dir).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
    while is_empty(dir) {
        thread::sleep(Duration::from_millis(5));
    }
    child
}

/// A file system mounted for a test.
struct Mounted {
    dir: TempDir,
}

impl Mounted {
    /// None, said aloud, where it can't be mounted.
    fn new(args: &[&str], source: &Path) -> Option<Self> {
        let dir = scratch();
        let mounted = geteuid()
            .is_root()
            .then(|| Command::new("mount").args(args).arg(source).arg(dir.path()).stderr(Stdio::null()).status());
        if mounted.is_some_and(|status| status.is_ok_and(|status| status.success())) {
            return Some(Self { dir });
        }
        println!("skipped: mounting file systems needs root");
        None
    }

    /// A small ext4 on a loop device.
    fn ext4(image: &Path, bytes: u64) -> Option<Self> {
        File::create(image).and_then(|file| file.set_len(bytes)).expect("writable");
        let made = Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(image).status();
        if !made.is_ok_and(|status| status.success()) {
            println!("skipped: no mkfs.ext4");
            return None;
        }
        Self::new(&["-o", "loop"], image)
    }

    fn path(&self) -> PathBuf {
        self.dir.path().to_path_buf()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(self.dir.path()).status().ok();
    }
}

#[test]
fn directories_that_make_no_sense_are_refused_in_one_line() {
    let dir = scratch();
    let (text, code) = refusal(&[], &dir.path().join("missing"));
    assert!(text.starts_with("there is no directory") && code == Some(1), "{text}");
    let file = dir.path().join("file");
    File::create(&file).expect("writable");
    let (text, code) = refusal(&["--anyway"], &file);
    assert!(text.contains("is no directory") && code == Some(1), "{text}");
    let (text, code) = refusal(&["--quick"], Path::new("/proc"));
    assert!(text.starts_with("making a directory in /proc") && code == Some(1), "{text}");
    let (text, code) = refusal(&["--quick", "--full"], dir.path());
    assert!(text.contains("don't go together") && code == Some(2), "{text}");
}

#[test]
fn flushes_of_memory_mean_nothing() {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("readable");
    if !mounts.lines().any(|line| line.contains(" /dev/shm tmpfs ")) {
        println!("skipped: no tmpfs at /dev/shm");
        return;
    }
    let (text, code) = refusal(&["--quick"], Path::new("/dev/shm"));
    assert!(text.contains("tmpfs") && text.contains("flushes mean nothing") && code == Some(1), "{text}");
}

#[test]
fn a_run_leaves_a_document_and_nothing_else() {
    let (dir, out) = (scratch(), scratch());
    let json = out.path().join("deep/results.json");
    let json_arg = json.display().to_string();
    // On a busy disk a short time gives too few writes to choose a method by, and then situations are not measured; or a cell has none at all.
    let runs = ["0.02", "0.2", "2"].into_iter().map(|seconds| {
        let output = run(&["--quick", "--anyway", "--seconds", seconds, "--json", &json_arg], dir.path());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains(&format!("13 cells of {seconds} s")), "{text}");
        let document: Value = serde_json::from_slice(&fs::read(&json).expect("there")).expect("JSON");
        (text, document)
    });
    let cells_of = |document: &Value| document["results"]["cells"].as_array().expect("a list").clone();
    let is_whole = |cell: &Value| !cell["not_possible"].is_null() || cell["flushes"].as_u64() > Some(0);
    let whole = runs.into_iter().find(|(_, document)| {
        let cells = cells_of(document);
        cells.len() == 13 && cells.iter().all(is_whole)
    });
    let (text, document) = whole.expect("some method makes a few writes durable in two seconds");
    assert!(text.contains("| write, fdatasync | 4096 | 1 |") && text.contains("- the method to use: **"), "{text}");
    assert!(is_empty(dir.path()), "its files are gone");
    assert_eq!(document["command"], "fsync");
    assert!(document["format"].is_string() && document["machine"]["facts"]["kernel"].is_string());
    for cell in cells_of(&document).iter().filter(|cell| cell["not_possible"].is_null()) {
        let counts = cell["latency_ns_and_count"].as_array().expect("pairs");
        let counted: u64 = counts.iter().filter_map(|pair| pair[1].as_u64()).sum();
        let series = cell["flushes_of_each_second"].as_array().expect("a list");
        let in_series: u64 = series.iter().filter_map(Value::as_u64).sum();
        assert!(counted > 0 && cell["flushes"].as_u64() == Some(counted) && in_series == counted, "{cell}");
    }
    let shown = Command::new(env!("CARGO_BIN_EXE_plinth-bench")).arg("show").arg(&json).output().expect("it runs");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let table = text.lines().filter(|line| line.starts_with("| ") || line.starts_with("- "));
    assert!(
        table.clone().count() > 13 && table.clone().all(|line| shown.contains(line)),
        "{text}\nwas shown as\n{shown}"
    );
    let topics = document["results"]["verdict"].as_array().expect("a list").iter().map(|finding| &finding["topic"]);
    assert!(topics.clone().any(|topic| topic == "lies") && topics.clone().any(|topic| topic == "etcd-rule"));
}

#[test]
fn ctrl_c_removes_its_files() {
    let dir = scratch();
    let mut child = started(&["--quick", "--anyway", "--seconds", "60"], dir.path());
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a small number")).expect("a child has a pid");
    // Its files should be there already, but may come later: what counts is that none stays.
    kill_process(pid, Signal::INT).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert!(is_empty(dir.path()));
}

#[test]
fn a_reader_that_went_away_leaves_nothing_behind() {
    let dir = scratch();
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    let output = command(&["--quick", "--anyway"], dir.path()).stdout(writer).output().expect("the program runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && text.contains("printing: "), "{text}");
    assert!(is_empty(dir.path()));
}

#[test]
fn a_file_system_without_direct_io_is_measured_without_it() {
    let Some(ramfs) = Mounted::new(&["-t", "ramfs"], Path::new("none")) else { return };
    let output = run(&["--quick", "--anyway", "--seconds", "0.02"], &ramfs.path());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    let direct =
        "| direct write, fdatasync | 4096 | 1 | recycled | - | not possible here: the file system refuses direct I/O |";
    assert!(text.contains(direct) && text.contains("- flushes do nothing: **yes**"), "{text}");
    assert!(is_empty(&ramfs.path()));
}

#[test]
fn a_disk_that_is_too_small_or_fills_up_says_how_much_is_needed() {
    let images = scratch();
    let Some(small) = Mounted::ext4(&images.path().join("small"), 32 << 20) else { return };
    let (text, code) = refusal(&["--quick"], &small.path());
    assert!(text.contains("MiB free, and 51 MiB are needed") && code == Some(1), "{text}");
    let Some(large) = Mounted::ext4(&images.path().join("large"), 96 << 20) else { return };
    let mut child = started(&["--quick", "--seconds", "1"], &large.path());
    // The last files are made when the first ones were measured for seconds: there is no room for them any more.
    let mut filler = File::create(large.path().join("filler")).expect("there is room for a name");
    while filler.write_all(&[1; 1 << 20]).is_ok() {}
    let status = child.wait().expect("it ends");
    let mut text = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut text).expect("text");
    assert!(status.code() == Some(1) && text.contains("is full: 51 MiB must stay free"), "{text}");
    fs::remove_file(large.path().join("filler")).expect("ours");
    assert!(is_empty(&large.path()));
}

#[test]
fn a_file_system_that_is_read_only_is_refused() {
    let images = scratch();
    let Some(disk) = Mounted::ext4(&images.path().join("image"), 96 << 20) else { return };
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(disk.path()).status();
    assert!(remounted.is_ok_and(|status| status.success()));
    let (text, code) = refusal(&["--quick"], &disk.path());
    assert!(text.contains("Read-only file system") && code == Some(1), "{text}");
}
