//! Power cuts at random points and at every point.

use std::{cell::RefCell, time::Duration};

use plinth_base::{GroupId, LogIndex, Mark, Prng, Term};
use plinth_env::{Env, SyncMethod};
use plinth_sim_env::{Limit, Sim, SimEnv, SimOptions, Stopped};
use plinth_wal::{Position, WalError};

use crate::{
    model::{self, Model, Op},
    shard::{Shard, create, options},
};

/// Random calls, turns and releases until the power goes.
async fn work(shard: &mut Shard, env: &SimEnv, prng: &mut Prng, model: &RefCell<Model>) -> Result<(), WalError> {
    loop {
        for _ in 0..prng.below(8) {
            shard.random_call(prng, &mut model.borrow_mut());
        }
        if prng.chance(1, 4) {
            shard.random_release(prng, &mut model.borrow_mut());
        }
        shard.turn(&mut model.borrow_mut())?;
        if prng.chance(1, 20) {
            shard.check_random_read(prng, model).await?;
        }
        if prng.chance(1, 50) {
            drain(shard, env, model).await?;
            if let Some(flush) = shard.wal.begin_seal() {
                let done = flush.run().await;
                shard.wal.finish_flush(done)?;
            }
        }
        env.sleep(Duration::from_micros(prng.below(300))).await;
    }
}

async fn drain(shard: &mut Shard, env: &SimEnv, model: &RefCell<Model>) -> Result<(), WalError> {
    while shard.wal.in_flight() || shard.wal.pending_bytes() > 0 {
        shard.turn(&mut model.borrow_mut())?;
        env.sleep(Duration::from_micros(100)).await;
    }
    Ok(())
}

/// One life after another on one disk; the error says what was lost or invented.
fn lives(seed: u64, count: u32, lie_about_flush: bool) -> Result<u64, String> {
    let mut prng = Prng::new(seed);
    let sim = Sim::new(seed, SimOptions::default());
    let env = sim.env();
    sim.block_on(async { drop(create(&env).await) });
    sim.change_faults(|faults| faults.lie_about_flush = lie_about_flush);
    let model = RefCell::new(Model::default());
    for life in 0..count {
        // The last life is only looked at.
        let is_last = life + 1 == count;
        let events = if prng.chance(1, 4) { prng.below(60) } else { 200 + prng.below(2000) };
        let limit = if is_last { Limit::None } else { Limit::DiskEvents(events) };
        let env = sim.env();
        let mut life_prng = prng.fork();
        let result = sim.block_on_within(
            async {
                let (mut shard, recovered) = Shard::open(env.clone()).await.map_err(|error| error.to_string())?;
                shard.check_recovered(&model, &recovered).await?;
                if is_last {
                    return Ok(());
                }
                work(&mut shard, &env, &mut life_prng, &model).await.map_err(|error| error.to_string())
            },
            limit,
        );
        match result {
            Ok(Ok(())) => {}
            Ok(Err(what)) => return Err(format!("life {life}: {what}")),
            Err(Stopped::Limit) => {}
            Err(stopped) => return Err(format!("life {life}: {stopped}")),
        }
        if prng.chance(1, 5) { sim.kill() } else { sim.crash() }
    }
    Ok(model.into_inner().acked_count)
}

#[test]
fn wal_random_power_cuts_lose_nothing_acknowledged_and_invent_nothing() {
    let mut acked = 0;
    for seed in 0..40 {
        acked += lives(seed, 12, false).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
    assert!(acked > 40_000, "the workload got {acked} calls acknowledged, too few to mean anything");
    for mark in [Mark::TornTailCut, Mark::SegmentRecycled, Mark::RecordSplit] {
        assert!(mark.count() > 0, "no run reached \"{}\"", mark.name());
    }
}

#[test]
fn wal_on_a_disk_that_lies_about_flushes_is_caught_losing_entries() {
    let caught = (0..10).filter(|&seed| lives(seed, 4, true).is_err()).count();
    assert!(caught >= 9, "only {caught} of 10 runs were caught");
}

#[test]
fn wal_run_with_one_seed_is_the_same_every_time() {
    let trace = |seed| {
        let sim = Sim::new(seed, SimOptions::default());
        let env = sim.env();
        let mut prng = Prng::new(seed);
        let model = RefCell::new(Model::default());
        let _ = sim.block_on_within(
            async {
                let mut shard = Shard::new(env.clone(), create(&env).await);
                work(&mut shard, &env, &mut prng, &model).await
            },
            Limit::DiskEvents(2000),
        );
        sim.trace_hash()
    };
    assert_eq!(trace(5), trace(5));
    assert_ne!(trace(5), trace(6));
}

/// A life with everything in it: a rotation, a split entry, a replaced tail, a released segment, a seal.
async fn scenario(shard: &mut Shard, env: &SimEnv, model: &RefCell<Model>) -> Result<(), WalError> {
    let call = |shard: &mut Shard, op| shard.call(&mut model.borrow_mut(), op);
    call(shard, Op::Start(GroupId(0), Position::default()));
    call(shard, Op::Start(GroupId(1), Position::default()));
    for index in 1..=6 {
        call(shard, Op::Append(model::entry(0, index, 1, 9_000)));
        call(shard, Op::Append(model::entry(1, index, 1, 10)));
        shard.turn(&mut model.borrow_mut())?;
        env.sleep(Duration::from_micros(200)).await;
    }
    call(shard, Op::Append(model::entry(0, 7, 1, 120_000)));
    drain(shard, env, model).await?;
    call(shard, Op::Append(model::entry(1, 4, 2, 3_000)));
    drain(shard, env, model).await?;
    for group in [GroupId(0), GroupId(1)] {
        shard.wal.release(group, LogIndex(4));
        model.borrow_mut().release(group, LogIndex(4));
    }
    for index in 8..=12 {
        call(shard, Op::Append(model::entry(0, index, 3, 8_000)));
        drain(shard, env, model).await?;
        shard.wal.release(GroupId(0), LogIndex(index - 1));
        model.borrow_mut().release(GroupId(0), LogIndex(index - 1));
    }
    if let Some(flush) = shard.wal.begin_seal() {
        let done = flush.run().await;
        shard.wal.finish_flush(done)?;
    }
    Ok(())
}

#[test]
fn wal_crash_at_every_disk_event_recovers_what_was_acknowledged() {
    let mut events = 0;
    loop {
        let sim = Sim::new(events, SimOptions::default());
        let env = sim.env();
        let wal = sim.block_on(create(&env));
        let model = RefCell::new(Model::default());
        let mut shard = Shard::new(env.clone(), wal);
        let run = sim.block_on_within(scenario(&mut shard, &env, &model), Limit::DiskEvents(events));
        drop(shard);
        sim.crash();
        // A second cut, during the recovery.
        let _ = sim.block_on_within(Shard::open(sim.env()), Limit::DiskEvents(events % 23));
        sim.crash();
        sim.block_on(async {
            let (shard, recovered) = Shard::open(sim.env()).await.expect("a crash leaves a sound log");
            let checked = shard.check_recovered(&model, &recovered).await;
            checked.unwrap_or_else(|what| panic!("crash after {events} disk events: {what}"));
        });
        if run.is_ok() {
            break;
        }
        events += 1;
    }
    assert!(events > 100, "the scenario has only {events} disk events");
}

#[test]
fn wal_crash_while_it_is_created_leaves_nothing_or_a_log() {
    for events in 0..60 {
        let sim = Sim::new(events, SimOptions::default());
        let env = sim.env();
        let run = sim.block_on_within(create(&env), Limit::DiskEvents(events));
        drop(run);
        sim.crash();
        let env = sim.env();
        sim.block_on(async {
            // Not even the directory may have survived.
            let _ = env.create_dir(crate::shard::DIR.as_ref()).await;
            match plinth_wal::Wal::open(&env, options()).await {
                Ok((_, recovered)) => assert!(recovered.groups.is_empty() && recovered.sealed),
                Err(WalError::NoLog { .. }) => {
                    let wal = plinth_wal::Wal::create(&env, options()).await;
                    assert!(wal.is_ok(), "what an unfinished creation left is replaced");
                }
                Err(error) => panic!("after {events} disk events: {error}"),
            }
        });
    }
}

/// A killed process leaves a batch in the file that is not on the device yet. Once recovery has reported it, it must stay.
#[test]
fn wal_what_recovery_reported_survives_a_power_cut_right_after() {
    let options = plinth_wal::WalOptions { sync_method: SyncMethod::LinkedSync, ..options() };
    let mut read_early = 0;
    for round in 0..300 {
        let sim = Sim::new(round, SimOptions::default());
        let env = sim.env();
        let mut wal = sim.block_on(create(&env));
        drop(wal);
        wal = sim.block_on(plinth_wal::Wal::open(&env, options.clone())).expect("sound").0;
        wal.start_group(GroupId(0), LogIndex(0), Term(0));
        wal.append(model::entry(0, 1, 1, 20_000));
        let flushing = wal.begin_flush().expect("an entry waits");
        let _ = sim.block_on_within(flushing.run(), Limit::DiskEvents(round % 6));
        let was_durable = sim.read_durable(&crate::shard::segment(1));
        sim.kill();
        let recovered = sim.block_on(plinth_wal::Wal::open(&sim.env(), options.clone())).expect("sound").1;
        if was_durable != sim.read_durable(&crate::shard::segment(1)) {
            read_early += 1;
        }
        sim.crash();
        let again = sim.block_on(plinth_wal::Wal::open(&sim.env(), options.clone())).expect("sound").1;
        assert_eq!(recovered.groups, again.groups, "round {round}: what was reported is gone");
    }
    assert!(read_early > 0, "no round found a batch in the file that was not on the device");
}
