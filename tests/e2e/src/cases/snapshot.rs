//! Snapshots: what etcd's tools and an etcd make of them, and clients that don't read.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use plinth_base::crc32c;
use plinth_rpc::etcdserverpb as pb;
use tempfile::TempDir;

use crate::{
    bbolt,
    kv::{Kv, failed},
    machine::Peers,
    node::{Bench, Node, private_dir},
    outcome::{Ended, Outcome, ensure},
};

/// How long an etcd may take to serve. Only a hang is found by it.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A history with everything that a backend can hold: versions before and behind a compaction, deletions, transactions, leases, values of several pages.
fn make_history(kv: &Kv) -> Result<(), plinth_client::Status> {
    for i in 0..400_usize {
        kv.put(&format!("key/{:03}", i % 150), &vec![b'0' + (i % 10) as u8; [1, 70, 900, 5000][i % 4]])?;
        if i % 20 == 7 {
            kv.delete(&format!("key/{:03}", i % 150))?;
        }
    }
    kv.put("large", &vec![b'l'; 1_200_000])?;
    kv.compact(150)?;
    for i in 0..20 {
        kv.grant(1000 + i, 3600)?;
        kv.put_with_lease(&format!("leased/{i}"), b"leased", 1000 + i)?;
    }
    kv.delete_in_txn(&["key/001", "key/002", "key/003"])
}

/// Ends a case unless the program exits with 0; its output.
pub(super) fn run(program: &Path, args: &[&str]) -> Result<String, Ended> {
    let output = Command::new(program).args(args).env("ETCDCTL_API", "3").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let why = || format!("{} {args:?}: {}{text}", program.display(), String::from_utf8_lossy(&output.stderr));
    ensure(output.status.success(), why)?;
    Ok(text)
}

/// `snapshot status` of a file: hash, revision, keys.
fn status(program: &Path, file: &Path) -> Result<String, Ended> {
    let text = run(program, &["snapshot", "status", &file.to_string_lossy(), "--write-out", "simple"])?;
    Ok(text.split(", ").take(3).collect::<Vec<_>>().join(", "))
}

/// An etcd on what was restored.
fn start_etcd(program: &Path, data: &Path) -> Result<(Node, Kv), Ended> {
    let mut command = Command::new(program);
    command.arg("--data-dir").arg(data).args(["--listen-client-urls", "http://127.0.0.1:0"]);
    command.args(["--advertise-client-urls", "http://127.0.0.1:1", "--listen-peer-urls", "http://127.0.0.1:0"]);
    let mut node = Node::spawn(command)?;
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        node.ensure_runs()?;
        // etcd 3.5 says where it serves insecurely once it does.
        let log = node.log();
        let line = log.lines().find(|line| line.contains("serving client traffic insecurely"));
        let address = line.and_then(|line| line.split("\"address\":\"").nth(1)).and_then(|rest| rest.split('"').next());
        if let Some(address) = address.and_then(|address| address.parse().ok()) {
            return Ok((node, Kv::connect(address)?));
        }
        ensure(Instant::now() < deadline, || format!("the etcd doesn't become ready:\n{log}"))?;
        sleep(Duration::from_millis(20));
    }
}

pub(super) fn a_snapshot_is_taken_by_etcds_tools_and_by_an_etcd(bench: &Bench) -> Outcome {
    let peers = Peers::find()?;
    let (dir, scratch) = (private_dir()?, TempDir::new()?);
    let node = bench.start(dir.path(), &[])?;
    let kv = node.kv()?;
    make_history(&kv).map_err(failed("history"))?;
    let endpoint = format!("--endpoints={}", node.addr()?);
    let mut statuses = Vec::new();
    let mut file = PathBuf::new();
    for etcdctl in [&peers.etcdctl34, &peers.etcdctl35] {
        file = scratch.path().join(format!("{}.snap", statuses.len()));
        run(etcdctl, &[&endpoint, "snapshot", "save", &file.to_string_lossy()])?;
        statuses.push(status(etcdctl, &file)?);
    }
    statuses.push(status(&peers.etcdutl35, &file)?);
    ensure(statuses.iter().all(|it| *it == statuses[0]), || format!("the tools disagree: {statuses:?}"))?;
    let current = kv.hash_kv(0).map_err(failed("HashKV"))?;
    let revision = current.header.unwrap_or_default().revision;
    ensure(statuses[0].contains(&revision.to_string()), || format!("{statuses:?} is not at {revision}"))?;

    let restored = scratch.path().join("restored");
    run(
        &peers.etcdutl35,
        &["snapshot", "restore", &file.to_string_lossy(), "--data-dir", &restored.to_string_lossy()],
    )?;
    let (etcd, other) = start_etcd(&peers.etcd35, &restored)?;
    // 3.5.1 doesn't hash the compacted revision itself.
    for at in [0, 151, 152, 200, 300, 400, revision] {
        let (own, its) =
            (kv.hash_kv(at).map_err(failed("HashKV"))?, other.hash_kv(at).map_err(failed("HashKV of etcd"))?);
        ensure(own.hash == its.hash && own.compact_revision == its.compact_revision, || {
            format!("at {at} HashKV is {own:?}, and of etcd {its:?}")
        })?;
    }
    for prefix in ["key/", "large", "leased/"] {
        let (own, its) = (kv.count(prefix).map_err(failed("count"))?, other.count(prefix).map_err(failed("count"))?);
        ensure(own == its && own > 0, || format!("{own} keys with {prefix}, and {its} in etcd"))?;
    }
    let (own, its) = (kv.leases().map_err(failed("leases"))?, other.leases().map_err(failed("leases of etcd"))?);
    ensure(own == its && own.len() == 20, || format!("the leases {own:?}, and {its:?} in etcd"))?;
    // The tree that etcd goes on with is one that it can change.
    for i in 0..400 {
        other.put(&format!("key/{:03}", i % 200), &[b'n'; 300]).map_err(failed("put to etcd"))?;
    }
    other.compact(revision + 300).map_err(failed("compaction of etcd"))?;
    // The file is locked as long as it runs.
    etcd.kill()?;
    let checked = run(&peers.etcdutl35, &["snapshot", "status", &restored.join("member/snap/db").to_string_lossy()]);
    ensure(checked.is_ok(), || format!("what etcd made of it: {checked:?}"))?;
    node.stop()
}

/// etcd's Hash: names of buckets, keys and values, but for what members differ in anyway.
fn hash_of(file: &Path) -> Result<u32, Ended> {
    let mut crc = 0;
    for (bucket, pairs) in bbolt::buckets(&fs::read(file)?)? {
        crc = crc32c(crc, &bucket);
        for (key, value) in pairs {
            let is_left_out = bucket == b"meta" && [&b"consistent_index"[..], b"term"].contains(&&key[..]);
            if !is_left_out {
                crc = crc32c(crc32c(crc, &key), &value);
            }
        }
    }
    Ok(crc)
}

/// The contents of two servers differ in what they are called and where they listen, so each is compared with its own: what Hash says with what etcd's
/// algorithm makes of a snapshot, first of an etcd, then of a plinth.
pub(super) fn hash_is_etcds_over_what_a_snapshot_holds(bench: &Bench) -> Outcome {
    let peers = Peers::find()?;
    let (dir, scratch) = (private_dir()?, TempDir::new()?);
    let (etcd, etcd_kv) = start_etcd(&peers.etcd35, &scratch.path().join("etcd"))?;
    let plinth = bench.start(dir.path(), &[])?;
    let plinth_kv = plinth.kv()?;
    for (name, kv) in [("etcd", &etcd_kv), ("plinth", &plinth_kv)] {
        make_history(kv).map_err(failed("history"))?;
        let file = scratch.path().join(format!("{name}.snap"));
        let told = kv.hash().map_err(failed("Hash"))?.hash;
        fs::write(&file, kv.snapshot().map_err(failed("snapshot"))?)?;
        let (found, after) = (hash_of(&file)?, kv.hash().map_err(failed("Hash"))?.hash);
        ensure(told == found && told == after, || {
            format!("{name} says {told:x} and {after:x}, its snapshot {found:x}")
        })?;
    }
    etcd.kill()?;
    plinth.stop()
}

pub(super) fn a_client_that_stops_reading_a_snapshot_keeps_nobody_from_working(bench: &Bench) -> Outcome {
    let dir = private_dir()?;
    let mut node = bench.start(dir.path(), &[])?;
    let kv = node.kv()?;
    for i in 0..200 {
        kv.put(&format!("key/{i}"), &vec![b'x'; 100_000]).map_err(failed("put"))?;
    }
    // Far more than a client's windows hold, so every one of these waits.
    let mut readers = Vec::new();
    for _ in 0..8 {
        let reader = node.kv()?;
        let half = reader.half_a_snapshot().map_err(failed("snapshot"))?;
        readers.push((reader, half));
    }
    let before = node.anonymous_bytes()?;
    for i in 0..200 {
        kv.put(&format!("key/{i}"), b"short").map_err(failed("put beside waiting snapshots"))?;
    }
    let whole = kv.snapshot().map_err(failed("a snapshot beside waiting ones"))?.len();
    ensure(whole > 200 * 100_000, || format!("a snapshot of {whole} bytes"))?;
    let grown = node.anonymous_bytes()?.saturating_sub(before);
    ensure(grown < 64 << 20, || format!("{grown} bytes more for snapshots that nobody reads"))?;
    drop(readers);
    node.ensure_runs()?;
    node.stop()
}

/// The files in a directory are not what a snapshot is made of: it comes from the newest root, which nothing has written yet.
pub(super) fn a_snapshot_has_what_was_acknowledged_before_it(bench: &Bench) -> Outcome {
    let dir = private_dir()?;
    let node = bench.start(dir.path(), &[])?;
    let kv = node.kv()?;
    kv.put("a", b"1").map_err(failed("put"))?;
    let before = kv.hash().map_err(failed("Hash"))?;
    let small = kv.snapshot().map_err(failed("snapshot"))?.len();
    kv.put("b", &vec![b'2'; 50_000]).map_err(failed("put"))?;
    let larger = kv.snapshot().map_err(failed("snapshot"))?.len();
    ensure(larger > small + 50_000, || format!("{small} bytes before, {larger} after"))?;
    let after: pb::HashResponse = kv.hash().map_err(failed("Hash"))?;
    ensure(before.hash != after.hash, || "Hash doesn't see a put".to_owned())?;
    ensure(fs::exists(dir.path())?, || "the directory is gone".to_owned())?;
    node.stop()
}
