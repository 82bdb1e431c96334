//! A device that fails or is full.

use std::time::Duration;

use plinth_base::{GroupId, LogIndex, Term};
use plinth_env::{Env, SyncMethod};
use plinth_sim_env::{OpKind, Sim, SimEnv, SimOptions};
use plinth_wal::{HardState, Wal, WalError, WalOptions};

use crate::{
    model::entry,
    shard::{create, flush, maintain, options, read_all},
};

const GROUP: GroupId = GroupId(0);

async fn started(env: &SimEnv) -> Wal<SimEnv> {
    let mut wal = create(env).await;
    wal.start_group(GROUP, LogIndex(0), Term(0));
    wal.append(entry(0, 1, 1, 100));
    flush(&mut wal).await;
    wal
}

#[test]
fn wal_failed_write_poisons_the_log_and_is_never_retried() {
    let sim = Sim::new(1, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut wal = started(&env).await;
        wal.append(entry(0, 2, 1, 100));
        sim.fail_op(OpKind::Write, "", 0);
        let done = wal.begin_flush().expect("an entry waits").run().await;
        let error = wal.finish_flush(done).expect_err("the write failed");
        assert!(matches!(error, WalError::Io { what: "writing a batch", .. }), "{error}");
        assert_eq!(wal.group_durable(GROUP).map(|state| state.last.index), Some(LogIndex(1)));
        wal.append(entry(0, 3, 1, 100));
        assert!(wal.begin_flush().is_none() && wal.begin_seal().is_none() && wal.begin_maintenance().is_none());
        assert!(matches!(wal.read(GROUP, LogIndex(1), 100).await, Err(WalError::Poisoned)));
    });
    sim.crash();
    let env = sim.env();
    let (_, recovered) = sim.block_on(Wal::open(&env, options())).expect("a failed write leaves a sound log");
    assert!(recovered.groups[&GROUP].last.index >= LogIndex(1));
}

/// The device has the batch and may still lose it: the flush failed, the process ended, and the next one reads it all the same.
#[test]
fn wal_batch_whose_flush_failed_stays_once_recovery_reported_it() {
    let options = WalOptions { sync_method: SyncMethod::LinkedSync, ..options() };
    for seed in 0..64 {
        let sim = Sim::new(seed, SimOptions::default());
        sim.block_on(async {
            drop(started(&sim.env()).await);
            let (mut wal, _) = Wal::open(&sim.env(), options.clone()).await.expect("sound");
            // Large enough to be torn.
            wal.append(entry(0, 2, 1, 30_000));
            let mut skip = 0;
            if seed % 2 == 1 {
                // The next one begins a segment: zeroes, the directory, the start and the batch itself are synced in turn.
                flush(&mut wal).await;
                wal.append(entry(0, 3, 1, 30_000));
                skip = seed / 2 % 4;
            }
            sim.fail_op(OpKind::Sync, "", skip);
            let done = wal.begin_flush().expect("an entry waits").run().await;
            assert!(wal.finish_flush(done).is_err());
        });
        sim.kill();
        let (_, reported) = sim.block_on(Wal::open(&sim.env(), options.clone())).expect("sound");
        sim.crash();
        let (_, left) = sim.block_on(Wal::open(&sim.env(), options.clone())).expect("sound");
        assert_eq!(reported.groups, left.groups, "seed {seed}: what was reported is gone");
    }
}

#[test]
fn wal_failed_directory_sync_in_maintenance_poisons_the_log() {
    let sim = Sim::new(2, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut wal = started(&env).await;
        for index in 2..12 {
            wal.append(entry(0, index, 1, 9_000));
            flush(&mut wal).await;
        }
        maintain(&mut wal).await;
        wal.release(GROUP, LogIndex(11));
        let maintenance = wal.begin_maintenance().expect("a segment was released");
        sim.fail_op(OpKind::Sync, "", 0);
        assert!(wal.finish_maintenance(maintenance.run(async |_| {}).await).is_err());
        wal.append(entry(0, 12, 1, 10));
        assert!(wal.begin_flush().is_none());
    });
}

#[test]
fn wal_on_a_full_device_keeps_the_batch_and_goes_on_when_there_is_room() {
    let sim = Sim::new(3, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut wal = started(&env).await;
        sim.set_capacity(100 << 10);
        let mut index = 2;
        // Until the segment is full, the device doesn't matter.
        let error = loop {
            wal.append(entry(0, index, 1, 9_000));
            index += 1;
            let done = wal.begin_flush().expect("an entry waits").run().await;
            if let Err(error) = wal.finish_flush(done) {
                break error;
            }
        };
        assert!(matches!(error, WalError::NoSpace { .. }), "{error}");
        assert!(index > 5);
        assert!(wal.begin_flush().is_none(), "it isn't tried again at once");
        wal.set_hard_state(GROUP, HardState { term: Term(3), ..HardState::default() });
        let durable = wal.group_durable(GROUP).expect("started");
        assert_eq!(durable.last.index, LogIndex(index - 2));
        env.sleep(Duration::from_secs(2)).await;
        let done = wal.begin_flush().expect("it is tried again after a while").run().await;
        assert!(matches!(wal.finish_flush(done), Err(WalError::NoSpace { .. })));
        sim.set_capacity(1 << 30);
        env.sleep(Duration::from_secs(2)).await;
        flush(&mut wal).await;
        assert_eq!(read_all(&wal, GROUP, 1 << 20).await.expect("sound").len() as u64, index - 1);
    });
    sim.crash();
    let env = sim.env();
    let (_, recovered) = sim.block_on(Wal::open(&env, options())).expect("sound");
    assert_eq!(recovered.groups[&GROUP].hard_state.term, Term(3));
}

#[test]
fn wal_released_segment_gives_a_full_device_room() {
    let sim = Sim::new(4, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut wal = started(&env).await;
        // Room for three segments and no more: the log lives on what it releases.
        sim.set_capacity(3 * options().segment_bytes + (64 << 10));
        for index in 2..200 {
            wal.append(entry(0, index, 1, 9_000));
            flush(&mut wal).await;
            wal.release(GROUP, LogIndex(index));
            while let Some(maintenance) = wal.begin_maintenance() {
                match wal.finish_maintenance(maintenance.run(async |_| {}).await) {
                    Ok(()) | Err(WalError::NoSpace { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        assert!(wal.stats().disk_bytes <= 4 * options().segment_bytes);
    });
}

#[test]
fn wal_read_error_is_an_error_of_that_read_only() {
    let sim = Sim::new(5, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut wal = started(&env).await;
        sim.fail_op(OpKind::Read, "", 0);
        assert!(matches!(wal.read(GROUP, LogIndex(1), 100).await, Err(WalError::Io { what: "reading", .. })));
        assert_eq!(wal.read(GROUP, LogIndex(1), 100).await.expect("the device is back").len(), 1);
        wal.append(entry(0, 2, 1, 10));
        flush(&mut wal).await;
    });
}

#[test]
fn wal_slow_flush_delays_no_call_and_collects_them_into_one_batch() {
    let sim = Sim::new(6, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut wal = started(&env).await;
        wal.append(entry(0, 2, 1, 10));
        sim.delay_op(OpKind::Write, "", 0, Duration::from_secs(5));
        let flushing = wal.begin_flush().expect("an entry waits");
        for index in 3..100 {
            wal.append(entry(0, index, 1, 10));
            assert!(wal.begin_flush().is_none(), "one batch at a time");
        }
        let first = wal.finish_flush(flushing.run().await).expect("slow, not broken");
        assert!(first.flush_ns >= 5_000_000_000);
        let done = wal.begin_flush().expect("the rest waits").run().await;
        let second = wal.finish_flush(done).expect("sound");
        assert_eq!(second.lsn.0, first.lsn.0 + 1);
        assert_eq!(second.groups[0].last.map(|last| last.index), Some(LogIndex(99)));
        assert_eq!(wal.pending_bytes(), 0);
    });
}
