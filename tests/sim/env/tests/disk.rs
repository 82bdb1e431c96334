//! Files, names and crashes, through the traits.

use std::{collections::BTreeSet, io, path::Path, time::Duration};

use plinth_base::{AlignedBuf, BLOCK_BYTES};
use plinth_env::{Env, File, OpenMode, OpenOptions, SyncMethod, TaskQueue};
use plinth_sim_env::{Chance, Faults, Latency, Limit, OpKind, Sim, SimEnv, SimFile, SimOptions, Stopped};

const FILE: &str = "/data/file";

fn filled(byte: u8, blocks: usize) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(blocks * BLOCK_BYTES);
    buf.as_mut_slice().fill(byte);
    buf
}

/// A machine with one durable file of zeroes.
fn sim_with_file(seed: u64, blocks: usize) -> Sim {
    let sim = Sim::new(seed, SimOptions::default());
    sim.write_file(Path::new(FILE), &vec![0; blocks * BLOCK_BYTES]).expect("the disk is empty");
    sim
}

async fn open(env: &SimEnv, sync_method: SyncMethod) -> SimFile {
    let options = OpenOptions { sync_method, ..OpenOptions::direct(OpenMode::Write) };
    env.open(Path::new(FILE), options).await.expect("the file is there")
}

async fn create(env: &SimEnv, path: &str) -> SimFile {
    env.open(Path::new(path), OpenOptions::direct(OpenMode::CreateNew)).await.expect("the file is new")
}

fn block_of(sim: &Sim, index: usize) -> Vec<u8> {
    let content = sim.read_file(Path::new(FILE)).expect("the file is durable");
    content[index * BLOCK_BYTES..(index + 1) * BLOCK_BYTES].to_vec()
}

#[test]
fn acknowledged_durable_write_survives_every_crash() {
    for method in [SyncMethod::WriteDsync, SyncMethod::LinkedSync, SyncMethod::ThreadDsync] {
        for seed in 0..100 {
            let sim = sim_with_file(seed, 4);
            let env = sim.env();
            sim.block_on(async {
                let file = open(&env, method).await;
                file.write_durable(4096, filled(7, 2)).await.0.expect("no faults are set");
            });
            sim.crash();
            assert_eq!(block_of(&sim, 1), vec![7; 4096]);
            assert_eq!(block_of(&sim, 2), vec![7; 4096]);
        }
    }
}

#[test]
fn durable_write_in_flight_is_whole_torn_or_lost_and_never_acknowledged_and_lost() {
    for method in [SyncMethod::WriteDsync, SyncMethod::LinkedSync] {
        let mut outcomes = BTreeSet::new();
        for seed in 0..400 {
            let sim = sim_with_file(seed, 1);
            let env = sim.env();
            let file = sim.block_on(open(&env, method));
            let acknowledged =
                match sim.block_on_within(file.write_durable(0, filled(9, 1)), Limit::DiskEvents(seed % 6)) {
                    Ok((result, _)) => result.is_ok(),
                    Err(Stopped::Limit) => false,
                    Err(stopped) => panic!("{stopped}"),
                };
            sim.crash();
            let sectors = block_of(&sim, 0).chunks(512).filter(|s| **s == [9; 512]).count();
            assert!(!acknowledged || sectors == 8, "seed {seed}: acknowledged, {sectors} sectors left");
            outcomes.insert((acknowledged, sectors.min(1) + usize::from(sectors == 8)));
        }
        // Not acknowledged: lost, torn and whole; acknowledged: whole.
        assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), [(false, 0), (false, 1), (false, 2), (true, 2)]);
    }
}

#[test]
fn operation_whose_future_was_dropped_goes_on_to_its_end() {
    let sim = sim_with_file(1, 1);
    let env = sim.env();
    let file = sim.block_on(open(&env, SyncMethod::LinkedSync));
    let stopped = sim.block_on_within(file.write_durable(0, filled(5, 1)), Limit::DiskEvents(1));
    assert!(matches!(stopped, Err(Stopped::Limit)));
    sim.run_for(Duration::from_secs(1));
    assert_eq!(sim.read_durable(Path::new(FILE)), Some(vec![5; 4096]));
}

#[test]
fn flush_that_lies_loses_acknowledged_writes() {
    let lost = (0..40).filter(|seed| {
        let sim = sim_with_file(*seed, 1);
        sim.change_faults(|faults| faults.lie_about_flush = true);
        let env = sim.env();
        sim.block_on(async {
            let file = open(&env, SyncMethod::LinkedSync).await;
            file.write_durable(0, filled(7, 1)).await.0.expect("it lies");
            file.sync().await.expect("it lies");
        });
        sim.crash();
        block_of(&sim, 0) != vec![7; 4096]
    });
    assert!(lost.count() > 15);
}

#[test]
fn name_is_durable_only_after_its_directory_was_synced() {
    let outcome = |seed, sync_parent: bool, sync_dir: bool| {
        let sim = Sim::new(seed, SimOptions::default());
        let env = sim.env();
        sim.block_on(async {
            env.create_dir(Path::new("/a/b")).await.expect("the disk is empty");
            let file = create(&env, "/a/b/f").await;
            file.write_durable(0, filled(1, 1)).await.0.expect("no faults are set");
            if sync_dir {
                env.sync_dir(Path::new("/a/b")).await.expect("it exists");
            }
            if sync_parent {
                env.sync_dir(Path::new("/a")).await.expect("it exists");
                env.sync_dir(Path::new("/")).await.expect("it exists");
            }
        });
        sim.crash();
        sim.read_file(Path::new("/a/b/f")).is_some()
    };
    assert!((0..100).all(|seed| outcome(seed, true, true)));
    for (sync_parent, sync_dir) in [(true, false), (false, true), (false, false)] {
        let survived = (0..100).filter(|seed| outcome(*seed, sync_parent, sync_dir)).count();
        assert!(survived > 5 && survived < 95, "{survived} of 100 with {sync_parent} {sync_dir}");
    }
}

#[test]
fn rename_leaves_the_old_or_the_new_file_and_after_sync_dir_the_new_one() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let sim = Sim::new(seed, SimOptions::default());
        sim.write_file(Path::new("/d/name"), b"old").expect("the disk is empty");
        sim.write_file(Path::new("/d/temp"), b"new").expect("the disk is empty");
        let env = sim.env();
        let synced = seed % 2 == 0;
        sim.block_on(async {
            env.rename(Path::new("/d/temp"), Path::new("/d/name")).await.expect("both exist");
            if synced {
                env.sync_dir(Path::new("/d")).await.expect("it exists");
            }
        });
        sim.crash();
        let name = sim.read_file(Path::new("/d/name")).expect("the name never goes");
        let temp = sim.read_file(Path::new("/d/temp"));
        assert!((name == b"new" && temp.is_none()) || (name == b"old" && temp.as_deref() == Some(b"new")));
        assert!(!synced || name == b"new");
        seen.insert(name);
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn removed_file_may_come_back_until_its_directory_is_synced() {
    let back = |seed, synced: bool| {
        let sim = sim_with_file(seed, 1);
        let env = sim.env();
        sim.block_on(async {
            env.remove_file(Path::new(FILE)).await.expect("it exists");
            if synced {
                env.sync_dir(Path::new("/data")).await.expect("it exists");
            }
        });
        assert_eq!(sim.read_file(Path::new(FILE)), None);
        sim.crash();
        sim.read_file(Path::new(FILE)).is_some()
    };
    assert!((0..50).all(|seed| !back(seed, true)));
    assert!((0..50).any(|seed| back(seed, false)));
}

#[test]
fn changes_of_one_directory_survive_as_a_prefix() {
    for seed in 0..200 {
        let sim = Sim::new(seed, SimOptions::default());
        let env = sim.env();
        sim.block_on(async {
            for index in 0..6 {
                create(&env, &format!("/{index}")).await;
            }
        });
        sim.crash();
        let left: Vec<_> = sim.files().into_iter().map(|(path, _)| path).collect();
        let want: Vec<_> = (0..left.len()).map(|index| Path::new("/").join(index.to_string())).collect();
        assert_eq!(left, want, "seed {seed}");
    }
}

#[test]
fn process_kill_keeps_what_was_written() {
    let sim = sim_with_file(1, 1);
    let env = sim.env();
    sim.block_on(async {
        open(&env, SyncMethod::WriteDsync).await.write_at(0, filled(3, 1)).await.0.expect("no faults are set");
        create(&env, "/data/other").await;
    });
    sim.kill();
    assert_eq!(block_of(&sim, 0), vec![3; 4096]);
    assert!(sim.read_file(Path::new("/data/other")).is_some());
}

#[test]
fn handles_and_environments_of_before_a_crash_are_stale() {
    let sim = sim_with_file(1, 1);
    let (old_env, old_file) = {
        let env = sim.env();
        let file = sim.block_on(open(&env, SyncMethod::WriteDsync));
        (env, file)
    };
    sim.crash();
    old_env.spawn(TaskQueue::Serve, async { panic!("a stale environment runs nothing") });
    sim.block_on(async {
        assert!(old_file.read_at(0, AlignedBuf::zeroed(4096)).await.0.is_err());
        assert!(old_file.write_durable(0, filled(1, 1)).await.0.is_err());
        assert!(old_file.sync().await.is_err());
        assert!(old_env.list_dir(Path::new("/data")).await.is_err());
    });
    assert_eq!(block_of(&sim, 0), vec![0; 4096]);
}

#[test]
fn full_disk_refuses_and_goes_on() {
    let sim = Sim::new(1, SimOptions { capacity_bytes: 10 * 4096, ..SimOptions::default() });
    let env = sim.env();
    sim.block_on(async {
        let file = create(&env, "/f").await;
        file.allocate(0, 8 * 4096).await.expect("there is room");
        assert_eq!(file.len().await.expect("no faults are set"), 8 * 4096);
        let full = file.allocate(8 * 4096, 3 * 4096).await.expect_err("11 blocks don't fit 10");
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.len().await.expect("no faults are set"), 8 * 4096);
        file.write_at(0, filled(1, 8)).await.0.expect("reserved room takes nothing new");
        let full = file.write_at(8 * 4096, filled(1, 3)).await.0.expect_err("11 blocks don't fit 10");
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert_eq!(env.disk_space(Path::new("/")).await.expect("no faults are set").available_bytes, 2 * 4096);
        file.punch_hole(0, 4 * 4096).await.expect("no faults are set");
        file.write_at(8 * 4096, filled(1, 3)).await.0.expect("the hole made room");
    });
}

#[test]
fn holes_and_what_lies_behind_the_end_read_as_zero() {
    let sim = sim_with_file(1, 4);
    let env = sim.env();
    sim.block_on(async {
        let file = open(&env, SyncMethod::WriteDsync).await;
        file.write_at(0, filled(8, 4)).await.0.expect("no faults are set");
        file.punch_hole(4096, 4096).await.expect("no faults are set");
        file.set_len(3 * 4096).await.expect("no faults are set");
        let (result, buf) = file.read_at(0, filled(1, 5)).await;
        result.expect("no faults are set");
        let blocks: Vec<u8> = buf.as_slice().chunks(4096).map(|block| block[100]).collect();
        assert_eq!(blocks, [8, 0, 8, 0, 0]);
    });
}

#[test]
fn planned_faults_strike_the_operation_they_name() {
    let sim = sim_with_file(1, 1);
    let env = sim.env();
    sim.fail_op(OpKind::Sync, "file", 1);
    sim.delay_op(OpKind::Read, "file", 0, Duration::from_secs(9));
    sim.block_on(async {
        let file = open(&env, SyncMethod::WriteDsync).await;
        let start = env.now();
        file.read_at(0, AlignedBuf::zeroed(4096)).await.0.expect("only slow");
        assert!(env.now().since(start) >= Duration::from_secs(9));
        file.write_at(0, filled(1, 1)).await.0.expect("no fault is planned");
        file.sync().await.expect("the first one passes");
        file.write_at(0, filled(2, 1)).await.0.expect("no fault is planned");
        file.sync().await.expect_err("the second one fails");
        file.sync().await.expect("the third one passes");
    });
    assert_eq!(sim.read_durable(Path::new(FILE)), Some(vec![1; 4096]), "a failed sync is never made good");
    assert_eq!(sim.faults(), [("stall", 1), ("sync error", 1)]);
}

#[test]
fn random_errors_come_at_about_their_rate() {
    let faults = Faults { read_error: Chance::one_in(4), write_error: Chance::one_in(10), ..Faults::default() };
    let sim = Sim::new(1, SimOptions { faults, ..SimOptions::default() });
    sim.write_file(Path::new(FILE), &[0; 4096]).expect("the disk is empty");
    let env = sim.env();
    sim.block_on(async {
        let file = open(&env, SyncMethod::WriteDsync).await;
        for _ in 0..1000 {
            let (_, buf) = file.read_at(0, AlignedBuf::zeroed(4096)).await;
            let _ = file.write_at(0, buf).await;
        }
    });
    let counts = sim.faults();
    assert!(matches!(counts[..], [("read error", 200..300), ("write error", 60..140)]), "{counts:?}");
}

#[test]
fn what_a_real_file_system_refuses_is_refused() {
    let sim = sim_with_file(1, 1);
    sim.change_faults(|faults| faults.direct_unsupported = true);
    let env = sim.env();
    sim.block_on(async {
        let path = Path::new(FILE);
        let kind = async |options| env.open(path, options).await.err().map(|error| error.kind());
        assert_eq!(kind(OpenOptions::direct(OpenMode::Write)).await, Some(io::ErrorKind::Unsupported));
        assert_eq!(kind(OpenOptions::cached(OpenMode::CreateNew)).await, Some(io::ErrorKind::AlreadyExists));
        let missing = env.open(Path::new("/no/f"), OpenOptions::cached(OpenMode::CreateNew)).await;
        assert_eq!(missing.err().map(|error| error.kind()), Some(io::ErrorKind::NotFound));
        let read_only = env.open(path, OpenOptions::cached(OpenMode::Read)).await.expect("cached works");
        let refused = read_only.write_at(0, filled(1, 1)).await.0.expect_err("opened for reading");
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    });
    sim.change_faults(|faults| faults.direct_unsupported = false);
    sim.block_on(async {
        let file = open(&env, SyncMethod::WriteDsync).await;
        let refused = file.read_at(100, AlignedBuf::zeroed(4096)).await.0.expect_err("not a block's offset");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn directories_list_sorted_entries() {
    let sim = sim_with_file(1, 2);
    sim.write_file(Path::new("/data/sub/x"), b"").expect("there is room");
    sim.write_file(Path::new("/data/a"), b"12345").expect("there is room");
    let env = sim.env();
    let entries = sim.block_on(env.list_dir(Path::new("/data"))).expect("it exists");
    let listed: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.is_dir, e.bytes)).collect();
    assert_eq!(listed, [("a", false, 5), ("file", false, 8192), ("sub", true, 0)]);
}

#[test]
fn flush_is_stuck_or_slow_while_other_operations_go_on() {
    for method in [SyncMethod::WriteDsync, SyncMethod::LinkedSync, SyncMethod::ThreadDsync] {
        let sim = sim_with_file(1, 4);
        let (env, host) = (sim.env(), sim.host(0));
        sim.block_on(async {
            let file = open(&env, method).await;
            let quick = Duration::from_millis(50);
            host.stick_flushes("/data", Duration::from_secs(2));
            assert_eq!(host.stuck_since(), None);
            let began = env.now();
            file.write_at(0, filled(1, 1)).await.0.expect("no faults are set");
            assert!(env.now().since(began) < quick);
            file.write_durable(0, filled(2, 1)).await.0.expect("no faults are set");
            let (since, took) = (host.stuck_since().expect("one had to wait"), env.now().since(began));
            assert!(since.since(began) < 2 * quick, "{since:?}");
            assert!((Duration::from_secs(2)..Duration::from_secs(2) + quick).contains(&took), "{took:?}");
            host.free_flushes();
            host.slow_flushes("/data", Latency::fixed(Duration::from_millis(300)));
            let began = env.now();
            file.sync().await.expect("no faults are set");
            assert!(env.now().since(began) >= Duration::from_millis(300));
            host.free_flushes();
            file.sync().await.expect("no faults are set");
            assert!(env.now().since(began) < Duration::from_millis(300) + 2 * quick);
        });
        let counted = sim.faults();
        assert!(counted.contains(&("flush slow", 1)) && counted.contains(&("flush stuck", 1)), "{counted:?}");
    }
}
