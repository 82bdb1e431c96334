//! The space that a database takes: its quota, and giving it back.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use crate::{
    kv::{Kv, failed},
    node::{Bench, private_dir},
    outcome::{Ended, Outcome, ensure, ensure_contains},
};

/// etcd's words.
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
const VALUE_BYTES: usize = 200_000;
/// Twice of what fits into the quota of the case.
const PUTS_MAX: usize = 2 * (64 << 20) / VALUE_BYTES;

fn key(i: usize) -> String {
    format!("space/{i:06}")
}

fn ensure_no_space(result: Result<(), plinth_client::Status>, what: &str) -> Outcome {
    match result {
        Ok(()) => Err(Ended::Failed(format!("{what} was taken"))),
        Err(status) => ensure_contains(&status.to_string(), &["ResourceExhausted", NO_SPACE]),
    }
}

fn delete_all_and_compact(kv: &Kv) -> Outcome {
    for i in 0..PUTS_MAX {
        if !kv.delete(&key(i)).map_err(failed("delete"))? {
            break;
        }
    }
    let revision = kv.hash_kv(0).map_err(failed("HashKV"))?.header.unwrap_or_default().revision;
    kv.compact(revision).map_err(failed("compact"))
}

pub(super) fn the_alarm_of_the_quota_survives_a_restart_and_ends_when_it_is_cleared(bench: &Bench) -> Outcome {
    const ARGS: &[&str] = &["--quota-backend-bytes", "67108864"];
    let dir = private_dir()?;
    let node = bench.start(dir.path(), ARGS)?;
    let kv = node.kv()?;
    let mut puts = 0;
    while kv.put(&key(puts), &vec![b'v'; VALUE_BYTES]).is_ok() {
        puts += 1;
        ensure(puts < PUTS_MAX, || format!("{puts} puts went into the quota"))?;
    }
    ensure(puts > 50, || format!("the quota took only {puts} puts"))?;
    ensure(kv.alarms().map_err(failed("alarms"))?.len() == 1, || "no alarm".to_owned())?;
    ensure_no_space(kv.put("small", b"v"), "a put")?;
    ensure_no_space(kv.grant(7, 100), "a lease")?;
    node.kill()?;

    let node = bench.start(dir.path(), ARGS)?;
    let kv = node.kv()?;
    ensure_no_space(kv.put("small", b"v"), "a put after the restart")?;
    delete_all_and_compact(&kv)?;
    kv.defragment().map_err(failed("defragment"))?;
    ensure_no_space(kv.put("small", b"v"), "a put before the alarm is cleared")?;
    kv.disarm().map_err(failed("disarm"))?;
    kv.put("small", b"v").map_err(failed("a put with room again"))?;
    kv.grant(7, 100).map_err(failed("a lease with room again"))?;
    node.stop()?;
    bench.ensure_sound(dir.path())
}

pub(super) fn defragment_gives_back_what_was_deleted(bench: &Bench) -> Outcome {
    let dir = private_dir()?;
    let node = bench.start(dir.path(), &[])?;
    let kv = node.kv()?;
    for i in 0..PUTS_MAX {
        kv.put(&key(i), &vec![b'v'; VALUE_BYTES]).map_err(failed("put"))?;
    }
    kv.put("kept", &vec![b'k'; VALUE_BYTES]).map_err(failed("put"))?;
    delete_all_and_compact(&kv)?;
    kv.defragment().map_err(failed("defragment"))?;
    let status = kv.status().map_err(failed("status"))?;
    let free_bytes = status.db_size - status.db_size_in_use;
    ensure(status.db_size_in_use < 2 << 20, || format!("too much is in use: {status:?}"))?;
    // What growing would soon ask for again stays.
    ensure(free_bytes < 20 << 20, || format!("{free_bytes} bytes were not given back: {status:?}"))?;
    let blocks_bytes = blocks_of(&dir.path().join("tree"))?;
    ensure(blocks_bytes < 32 << 20, || format!("the files take {blocks_bytes} bytes of the disk"))?;
    let kept = kv.get("kept").map_err(failed("get"))?;
    ensure(kept.is_some_and(|value| value.len() == VALUE_BYTES), || "what was kept is gone".to_owned())?;
    node.stop()?;
    bench.ensure_sound(dir.path())
}

/// What the files of a directory take of the disk.
fn blocks_of(dir: &Path) -> Result<u64, Ended> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        bytes += entry?.metadata()?.blocks() * 512;
    }
    Ok(bytes)
}
