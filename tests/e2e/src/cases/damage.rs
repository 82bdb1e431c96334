//! Files whose bytes have changed: never served, named with file and offset, left as they are.

use std::{
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    kv::{Kv, failed},
    machine::Peers,
    node::{Bench, Node, contents, flip, private_dir},
    outcome::{Ended, Outcome, ensure, ensure_contains},
};

const PAGE_BYTES: u64 = 4096;
const KEYS: usize = 400;
/// A checkpoint every few hundred puts.
const OFTEN: &[&str] = &["--checkpoint-log-bytes", "65536"];

/// How long the scrub of the case may take to find something. Only a hang is found by it.
const WAIT_MAX: Duration = Duration::from_secs(60);

fn key(i: usize) -> String {
    format!("damage/{i:05}")
}

fn value(i: usize) -> String {
    format!("the value number {i:05} {}", "x".repeat(300))
}

fn fill(kv: &Kv) -> Outcome {
    for i in 0..KEYS {
        kv.put(&key(i), value(i).as_bytes()).map_err(failed("put"))?;
    }
    Ok(())
}

/// A directory with data, its node ended by `signal`.
fn filled(bench: &Bench, args: &[&str], signal: Signal) -> Result<TempDir, Ended> {
    let dir = private_dir()?;
    let mut node = bench.start(dir.path(), args)?;
    fill(&node.kv()?)?;
    node.signal(signal)?;
    node.wait()?;
    Ok(dir)
}

/// Waits until something is so.
fn await_or(what: &str, is_so: impl Fn() -> Result<bool, Ended>) -> Outcome {
    let deadline = Instant::now() + WAIT_MAX;
    while !is_so()? {
        ensure(Instant::now() < deadline, || format!("{what} doesn't come"))?;
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Where `text` is in the files below `dir`.
fn find(dir: &Path, text: &str) -> Result<Vec<(PathBuf, u64)>, Ended> {
    let mut found = Vec::new();
    for (path, bytes) in contents(dir)? {
        let places = bytes.windows(text.len()).enumerate().filter(|(_, window)| *window == text.as_bytes());
        found.extend(places.map(|(at, _)| (path.clone(), at as u64)));
    }
    ensure(!found.is_empty(), || format!("{text:?} is in no file below {}", dir.display()))?;
    Ok(found)
}

fn offset_in(line: &str) -> Option<u64> {
    line.split("at offset ").nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn corrupt_log_is_refused(bench: &Bench, signal: Signal) -> Outcome {
    let dir = filled(bench, &[], signal)?;
    let (wal, tree) = (dir.path().join("wal"), dir.path().join("tree"));
    let (file, at) = find(&wal, &value(KEYS / 2))?.remove(0);
    flip(&file, at)?;
    let trees = |dir: &Path| -> Result<Vec<_>, Ended> {
        Ok(contents(dir)?.into_iter().filter(|(path, _)| path.extension().is_some_and(|name| name == "tree")).collect())
    };
    let before = (contents(&wal)?, trees(&tree)?);
    let refused = bench.refusal(dir.path(), &[])?;
    ensure(refused.code == Some(1), || format!("exit code {:?}: {}", refused.code, refused.line))?;
    ensure_contains(&refused.line, &["corrupt", &file.display().to_string(), "offset"])?;
    // A batch is named by where it begins.
    let offset = offset_in(&refused.line);
    ensure(offset.is_some_and(|offset| offset <= at && at - offset < 1 << 20), || {
        format!("the flipped byte is at {at}: {}", refused.line)
    })?;
    ensure((contents(&wal)?, trees(&tree)?) == before, || "the refused start changed the files".to_owned())?;
    // And it is refused again.
    let again = bench.refusal(dir.path(), &[])?;
    ensure_contains(&again.line, &["corrupt", &file.display().to_string()])?;
    flip(&file, at)?;
    let node = bench.start(dir.path(), &[])?;
    let count = node.kv()?.count("damage/").map_err(failed("count"))?;
    ensure(count == KEYS as i64, || format!("mended, it has {count} of {KEYS} keys"))?;
    node.stop()
}

pub(super) fn a_corrupt_log_is_refused_with_file_and_offset_after_a_kill(bench: &Bench) -> Outcome {
    corrupt_log_is_refused(bench, Signal::KILL)
}

pub(super) fn a_corrupt_log_is_refused_with_file_and_offset_after_a_stop(bench: &Bench) -> Outcome {
    corrupt_log_is_refused(bench, Signal::TERM)
}

fn tree_file(dir: &Path) -> PathBuf {
    dir.join("tree/group-0.tree")
}

pub(super) fn a_tree_without_a_sound_meta_is_refused_with_file_and_offset(bench: &Bench) -> Outcome {
    let dir = filled(bench, OFTEN, Signal::TERM)?;
    let file = tree_file(dir.path());
    for page in 0..2 {
        flip(&file, page * PAGE_BYTES + 100)?;
    }
    let before = (contents(&dir.path().join("wal"))?, fs::read(&file)?);
    let refused = bench.refusal(dir.path(), &[])?;
    ensure(refused.code == Some(1), || format!("exit code {:?}: {}", refused.code, refused.line))?;
    ensure_contains(&refused.line, &["corrupt at offset", &file.display().to_string()])?;
    let after = (contents(&dir.path().join("wal"))?, fs::read(&file)?);
    ensure(after == before, || "the refused start changed the files".to_owned())?;
    let checked = bench.check(dir.path())?;
    ensure(checked.status.code() == Some(1), || format!("plinthutl ended with {}", checked.status))?;
    ensure_contains(&String::from_utf8_lossy(&checked.stderr), &["corrupt at offset", &file.display().to_string()])
}

/// Flips a bit in the leaf that holds the key number `i`; gives where.
fn flip_leaf_of(bench: &Bench, dir: &Path, i: usize) -> Result<u64, Ended> {
    bench.ensure_sound(dir)?;
    // The value also lies in pages that are free since their leaf was copied: the checker knows which one counts.
    for (file, at) in find(&dir.join("tree"), &value(i))? {
        flip(&file, at)?;
        let checked = bench.check(dir)?;
        if checked.status.success() {
            flip(&file, at)?;
            continue;
        }
        let page = page_at(at);
        ensure_contains(&String::from_utf8_lossy(&checked.stderr), &[&names(&file, page)])?;
        return Ok(at);
    }
    Err(Ended::Failed(format!("{} is in no page that a checkpoint reaches", key(i))))
}

/// The offset of the page that a byte lies in.
fn page_at(offset: u64) -> u64 {
    offset / PAGE_BYTES * PAGE_BYTES
}

/// Fails unless the node ends by itself and its last line names the page.
fn stops_naming(node: &mut Node, file: &Path, page: u64) -> Outcome {
    let status = node.wait()?;
    let log = node.log();
    ensure(status.code() == Some(1), || format!("it ended with {status}:\n{log}"))?;
    ensure_contains(log.lines().last().unwrap_or_default(), &[&names(file, page)])
}

/// What a line says that names a page of a file.
fn names(file: &Path, page: u64) -> String {
    format!("{} is corrupt at offset {page}:", file.display())
}

/// After a kill, what the newest checkpoint wrote is verified beside the work.
pub(super) fn a_corrupt_page_of_the_newest_checkpoint_stops_the_node_after_a_kill(bench: &Bench) -> Outcome {
    let dir = filled(bench, OFTEN, Signal::TERM)?;
    let node = bench.start(dir.path(), &[])?;
    node.kv()?.put("other", b"1").map_err(failed("put"))?;
    node.kill()?;
    // The clean stop wrote the last key's page.
    let page = page_at(flip_leaf_of(bench, dir.path(), KEYS - 1)?);
    let file = tree_file(dir.path());
    let before = fs::read(&file)?;
    let mut node = Node::spawn(bench.command(dir.path(), &[]))?;
    stops_naming(&mut node, &file, page)?;
    ensure(fs::read(&file)? == before, || "the tree file was changed".to_owned())
}

/// A page that was sound when it was written and isn't when it is read: reads of it fail, what needs it to be written ends the
/// node, and everything else goes on.
pub(super) fn a_corrupt_page_is_never_served(bench: &Bench) -> Outcome {
    let dir = filled(bench, OFTEN, Signal::TERM)?;
    let page = page_at(flip_leaf_of(bench, dir.path(), 0)?);
    let file = tree_file(dir.path());
    // The scrub would be first.
    let mut node = bench.start(dir.path(), &["--scrub-interval", "0"])?;
    let kv = node.kv()?;
    let (mut refused, mut served) = (0, 0);
    for i in 0..KEYS {
        match kv.get(&key(i)) {
            Ok(read) if read.as_deref() == Some(value(i).as_bytes()) => served += 1,
            Ok(read) => return Err(Ended::Failed(format!("{} was served as {read:?}", key(i)))),
            Err(_) => refused += 1,
        }
    }
    ensure(refused > 0 && served > 0, || format!("{refused} reads were refused, {served} served"))?;
    ensure_contains(&node.log(), &[&names(&file, page)])?;
    node.ensure_runs()?;
    let put = kv.put(&key(0), b"new");
    ensure(put.is_err(), || "a change of the damaged page was acknowledged".to_owned())?;
    stops_naming(&mut node, &file, page)
}

/// A page that rots under a node, and that nobody reads: the scrub finds it, the alarm stops writes, reads go on.
pub(super) fn rot_that_nobody_reads_is_found_by_the_scrub_and_raises_the_alarm(bench: &Bench) -> Outcome {
    let etcdctl = Peers::find()?.etcdctl35;
    let dir = filled(bench, OFTEN, Signal::TERM)?;
    let rotten = KEYS / 2;
    let at = flip_leaf_of(bench, dir.path(), rotten)?;
    let (file, page) = (tree_file(dir.path()), page_at(at));
    flip(&file, at)?;
    let mut node = bench.start(dir.path(), &["--scrub-interval", "2s"])?;
    let kv = node.kv()?;
    await_or("a pass over a sound file", || Ok(node.log().contains("a tree file was scrubbed")))?;
    ensure(kv.alarms().map_err(failed("alarms"))?.is_empty(), || "an alarm without a reason".to_owned())?;
    flip(&file, at)?;
    await_or("the alarm", || Ok(!kv.alarms().map_err(failed("alarms"))?.is_empty()))?;
    let listed = super::snapshot::run(&etcdctl, &["--endpoints", &node.addr()?.to_string(), "alarm", "list"])?;
    ensure_contains(&listed, &["alarm:CORRUPT"])?;
    let log = node.log();
    let line = log.lines().find(|line| line.contains("is rotten")).unwrap_or_default();
    ensure_contains(line, &[&names(&file, page), &format!("\"page\":{}", page / PAGE_BYTES)])?;
    let put = kv.put("new", b"1").map_err(|status| status.to_string());
    ensure_contains(&put.err().unwrap_or_default(), &["DataLoss", "etcdserver: corrupt cluster"])?;
    // A leaf holds about ten of these keys.
    for i in (0..KEYS).filter(|i| i.abs_diff(rotten) > 20) {
        let read = kv.get(&key(i)).map_err(failed("get"))?;
        ensure(read.as_deref() == Some(value(i).as_bytes()), || format!("{} was served as {read:?}", key(i)))?;
    }
    let metrics = node.http_get("/metrics")?;
    let found = metrics.lines().find_map(|line| line.strip_prefix("plinth_scrub_corruptions_total "));
    ensure(found.is_some_and(|found| found != "0"), || format!("{found:?} pages are counted as rotten"))?;
    node.ensure_runs()?;
    node.stop()
}
