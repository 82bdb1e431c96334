//! Signals: clean stops, kills, and being stopped for a while.

use std::{thread::sleep, time::Duration};

use rustix::process::Signal;

use crate::{
    kv::failed,
    node::{Bench, private_dir},
    outcome::{Outcome, ensure, ensure_contains},
};

/// What a start says that has work left from a crash.
const REPLAYS: &str = "entries of the log are replayed";
/// Longer than an election timeout.
const STOPPED_FOR: Duration = Duration::from_secs(3);

fn stops_with(bench: &Bench, signal: Signal, code: i32) -> Outcome {
    let dir = private_dir()?;
    let mut node = bench.start(dir.path(), &[])?;
    let kv = node.kv()?;
    for i in 0..100 {
        kv.put(&format!("key/{i}"), b"value").map_err(failed("put"))?;
    }
    node.signal(signal)?;
    let status = node.wait()?;
    ensure(status.code() == Some(code), || format!("it ended with {status}, not {code}:\n{}", node.log()))?;
    bench.ensure_sound(dir.path())?;
    let node = bench.start(dir.path(), &[])?;
    let log = node.log();
    ensure(!log.contains(REPLAYS), || format!("the stop was not clean:\n{log}"))?;
    let count = node.kv()?.count("key/").map_err(failed("count"))?;
    ensure(count == 100, || format!("{count} of 100 keys are there"))?;
    node.stop()
}

pub(super) fn sigterm_exits_143_and_the_next_start_replays_nothing(bench: &Bench) -> Outcome {
    stops_with(bench, Signal::TERM, 143)
}

pub(super) fn ctrl_c_exits_130(bench: &Bench) -> Outcome {
    stops_with(bench, Signal::INT, 130)
}

pub(super) fn sigkill_loses_nothing_acknowledged(bench: &Bench) -> Outcome {
    let dir = private_dir()?;
    let node = bench.start(dir.path(), &[])?;
    let kv = node.kv()?;
    for i in 0..500 {
        kv.put(&format!("key/{i}"), format!("value {i}").as_bytes()).map_err(failed("put"))?;
    }
    node.kill()?;
    let node = bench.start(dir.path(), &[])?;
    ensure_contains(&node.log(), &[REPLAYS])?;
    let kv = node.kv()?;
    for i in 0..500 {
        let value = kv.get(&format!("key/{i}")).map_err(failed("get"))?;
        ensure(value.as_deref() == Some(format!("value {i}").as_bytes()), || format!("key/{i} is {value:?}"))?;
    }
    node.stop()?;
    bench.ensure_sound(dir.path())
}

pub(super) fn being_stopped_and_continued_is_survived(bench: &Bench) -> Outcome {
    let dir = private_dir()?;
    let mut node = bench.start(dir.path(), &[])?;
    let kv = node.kv()?;
    kv.put("before", b"1").map_err(failed("put"))?;
    node.signal(Signal::STOP)?;
    sleep(STOPPED_FOR);
    node.signal(Signal::CONT)?;
    // On the connection of before: it was not closed.
    kv.put("after", b"2").map_err(failed("put on the old connection"))?;
    ensure(kv.get("before").map_err(failed("get"))?.is_some(), || "what was written before is gone".to_owned())?;
    node.ensure_runs()?;
    node.stop()
}
