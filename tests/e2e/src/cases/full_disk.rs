//! A disk that fills up.

use std::{fs, path::Path, process::Command};

use plinth_rpc::etcdserverpb::AlarmType;
use tempfile::TempDir;

use crate::{
    kv::{Kv, failed},
    machine::Mounted,
    node::Bench,
    outcome::{Ended, Outcome, ensure, ensure_contains},
};

const DISK_BYTES: u64 = 256 << 20;
const VALUE_BYTES: usize = 64 << 10;
/// So many puts are more than the disk can hold.
const PUTS_MAX: usize = 2 * DISK_BYTES as usize / VALUE_BYTES;
/// etcd's words.
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
/// Log and checkpoints small beside the disk.
const ARGS: &[&str] = &["--checkpoint-log-bytes", "8388608"];

fn key(i: usize) -> String {
    format!("full/{i:06}")
}

/// A value that says whose it is.
fn value(i: usize) -> Vec<u8> {
    let mut value = format!("{i}:").into_bytes();
    value.resize(VALUE_BYTES, b'.');
    value
}

/// Puts until the server says that the disk is full; how many puts were acknowledged.
fn fill(kv: &Kv) -> Result<usize, Ended> {
    for i in 0..PUTS_MAX {
        if let Err(status) = kv.put(&key(i), &value(i)) {
            ensure_contains(&status.to_string(), &["ResourceExhausted", NO_SPACE])?;
            return Ok(i);
        }
    }
    Err(Ended::Failed(format!("{PUTS_MAX} puts went onto a disk of {DISK_BYTES} bytes")))
}

fn ensure_all_there(kv: &Kv, keys: std::ops::Range<usize>) -> Outcome {
    for i in keys {
        let read = kv.get(&key(i)).map_err(failed("get on a full disk"))?;
        ensure(read.as_deref() == Some(&value(i)[..]), || format!("{} is not what was acknowledged", key(i)))?;
    }
    Ok(())
}

fn ensure_alarm(kv: &Kv) -> Outcome {
    let alarms = kv.alarms().map_err(failed("listing alarms"))?;
    let raised = alarms.iter().any(|member| member.alarm() == AlarmType::Nospace);
    ensure(raised, || format!("NOSPACE is not among the alarms {alarms:?}"))
}

pub(super) fn a_full_disk_stops_writes_only_and_loses_nothing(bench: &Bench) -> Outcome {
    let scratch = TempDir::new()?;
    let disk = Mounted::ext4(&scratch.path().join("image"), DISK_BYTES)?;
    let data = disk.path().join("data");
    let mut node = bench.start(&data, ARGS)?;
    let kv = node.kv()?;
    let acknowledged = fill(&kv)?;
    ensure(acknowledged > 100, || format!("full after {acknowledged} puts:\n{}", node.log()))?;
    ensure_alarm(&kv)?;
    ensure_all_there(&kv, 0..acknowledged)?;
    let deleted = acknowledged / 2;
    for i in 0..deleted {
        let there = kv.delete(&key(i)).map_err(failed("delete on a full disk"))?;
        ensure(there, || format!("{} was gone before it was deleted", key(i)))?;
    }
    node.ensure_runs()?;
    node.kill()?;

    let node = bench.start(&data, ARGS)?;
    let kv = node.kv()?;
    ensure_all_there(&kv, deleted..acknowledged)?;
    let count = kv.count("full/").map_err(failed("count"))?;
    let left = (acknowledged - deleted) as i64;
    // The put that was refused may not be there either.
    ensure(count == left, || format!("{count} keys are there, not {left}"))?;
    ensure_alarm(&kv)?;
    node.stop()?;
    bench.ensure_sound(&data)?;
    room_is_found_again(bench, &data, disk)
}

/// An operator gives the node more room: here, by copying the directory to a larger disk. Then takes the alarm back.
fn room_is_found_again(bench: &Bench, data: &Path, disk: Mounted) -> Outcome {
    let larger = TempDir::new()?;
    let copy = larger.path().join("data");
    let copied = Command::new("cp").arg("-r").arg(data).arg(&copy).status()?;
    ensure(copied.success(), || format!("cp ended with {copied}"))?;
    drop(disk);
    ensure(fs::exists(copy.join("PLINTH"))?, || "the copy has no marker".to_owned())?;
    let node = bench.start(&copy, ARGS)?;
    let kv = node.kv()?;
    kv.disarm().map_err(failed("disarm"))?;
    kv.put("full/again", b"room").map_err(failed("put with room again"))?;
    node.stop()
}
