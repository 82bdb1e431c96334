//! Files on a real file system: every sync method, direct and cached, what the trait promises about ends and drops.

use std::{future::Future, io, path::PathBuf, sync::Arc};

use plinth_base::{AlignedBuf, BLOCK_BYTES};
use plinth_env::{Env, File, OpenMode, OpenOptions, SyncMethod, TaskQueue};
use plinth_uring::{ExecutorContext, Runtime, UringEnv, probe::HIDE_FEATURES_VAR, run_on};

/// Runs `test` on one executor with a scratch directory on the disk that holds the build (not a memory file system).
fn on_executor<Fut: Future<Output = ()> + 'static>(test: impl Fn(UringEnv, PathBuf) -> Fut + Clone + Send + 'static) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a scratch directory");
    let path = dir.path().to_owned();
    for runtime in [Runtime::Own, Runtime::Glommio] {
        let (test, path) = (test.clone(), path.join(format!("{runtime:?}")));
        std::fs::create_dir(&path).expect("a directory of its own");
        run_on(runtime, &[first_core()], move |context: ExecutorContext| test(context.env, path.clone()))
            .expect("the runtime starts");
    }
}

fn first_core() -> usize {
    let available = plinth_uring::cores::Available::of_this_process().expect("affinity can be read");
    available.affinity[0]
}

fn filled(bytes: usize, with: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(bytes);
    buf.as_mut_slice().fill(with);
    buf
}

fn options(mode: OpenMode, direct: bool, sync_method: SyncMethod) -> OpenOptions {
    OpenOptions { mode, direct, sync_method }
}

#[test]
fn what_was_written_durably_is_read_back_by_every_method_direct_and_cached() {
    on_executor(|env, dir| async move {
        let methods = [SyncMethod::WriteDsync, SyncMethod::LinkedSync, SyncMethod::ThreadDsync];
        for (index, method) in methods.into_iter().enumerate() {
            for direct in [false, true] {
                let path = dir.join(format!("f{index}{direct}"));
                let file = env.open(&path, options(OpenMode::CreateNew, direct, method)).await.expect("created");
                for block in 0..8u8 {
                    let at = u64::from(block) * 2 * BLOCK_BYTES as u64;
                    let (result, buf) = file.write_durable(at, filled(2 * BLOCK_BYTES, block + 1)).await;
                    result.expect("written");
                    assert_eq!(buf.len(), 2 * BLOCK_BYTES, "the buffer comes back");
                }
                assert_eq!(file.len().await.expect("length"), 16 * BLOCK_BYTES as u64);
                file.sync().await.expect("synced");
                file.drop_cache().await.expect("dropped");
                let (result, buf) = file.read_at(3 * BLOCK_BYTES as u64, AlignedBuf::zeroed(2 * BLOCK_BYTES)).await;
                result.expect("read");
                assert!(buf.as_slice()[..BLOCK_BYTES].iter().all(|b| *b == 2));
                assert!(buf.as_slice()[BLOCK_BYTES..].iter().all(|b| *b == 3));
            }
        }
    });
}

#[test]
fn reads_beyond_the_end_give_zeroes() {
    on_executor(|env, dir| async move {
        let path = dir.join("short");
        std::fs::write(&path, vec![7; BLOCK_BYTES + 100]).expect("written");
        for direct in [false, true] {
            let file = env.open(&path, options(OpenMode::Read, direct, SyncMethod::WriteDsync)).await.expect("open");
            let (result, buf) = file.read_at(0, filled(4 * BLOCK_BYTES, 9)).await;
            result.expect("read");
            assert!(buf.as_slice()[..BLOCK_BYTES + 100].iter().all(|b| *b == 7), "direct: {direct}");
            assert!(buf.as_slice()[BLOCK_BYTES + 100..].iter().all(|b| *b == 0), "direct: {direct}");
            let (result, buf) = file.read_at(1 << 20, filled(BLOCK_BYTES, 9)).await;
            result.expect("read");
            assert!(buf.as_slice().iter().all(|b| *b == 0));
        }
    });
}

#[test]
fn space_is_reserved_cut_and_given_back() {
    on_executor(|env, dir| async move {
        let path = dir.join("space");
        let file = env.open(&path, OpenOptions::cached(OpenMode::CreateNew)).await.expect("created");
        file.allocate(0, 1 << 20).await.expect("allocated");
        assert_eq!(file.len().await.expect("length"), 1 << 20);
        let blocks = || std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&path).expect("there"));
        assert!(blocks() * 512 >= 1 << 20);

        file.write_at(0, filled(8 * BLOCK_BYTES, 5)).await.0.expect("written");
        file.punch_hole(0, 4 * BLOCK_BYTES as u64).await.expect("punched");
        let (_, buf) = file.read_at(0, filled(8 * BLOCK_BYTES, 1)).await;
        assert!(buf.as_slice()[..4 * BLOCK_BYTES].iter().all(|b| *b == 0));
        assert!(buf.as_slice()[4 * BLOCK_BYTES..].iter().all(|b| *b == 5));
        assert_eq!(file.len().await.expect("length"), 1 << 20);

        file.set_len(100).await.expect("cut");
        assert_eq!(file.len().await.expect("length"), 100);
    });
}

#[test]
fn dropped_futures_leave_their_operations_running_to_the_end() {
    const WRITES: usize = 600;
    on_executor(|env, dir| async move {
        let path = dir.join("dropped");
        let file = env.open(&path, OpenOptions::direct(OpenMode::CreateNew)).await.expect("created");
        file.allocate(0, (WRITES * BLOCK_BYTES) as u64).await.expect("allocated");
        for block in 0..WRITES {
            let mut write = Box::pin(file.write_at((block * BLOCK_BYTES) as u64, filled(BLOCK_BYTES, 0x5a)));
            if block % 3 == 0 {
                // Polled once, then dropped in mid-flight.
                std::future::poll_fn(|cx| {
                    let _ = write.as_mut().poll(cx);
                    std::task::Poll::Ready(())
                })
                .await;
            }
        }
        file.sync().await.expect("synced");
        loop {
            let (result, buf) = file.read_at(0, AlignedBuf::zeroed(100 * BLOCK_BYTES)).await;
            result.expect("read");
            if buf.as_slice().iter().all(|b| *b == 0x5a) {
                break;
            }
        }
        drop(file);
        // The runtime waits for what is under way before it ends.
        let end = env.open(&path, OpenOptions::direct(OpenMode::Write)).await.expect("open");
        drop(end.write_at(0, filled(BLOCK_BYTES, 0xa5)));
    });
}

#[test]
fn everything_works_without_the_features_of_newer_kernels() {
    if std::env::var_os(HIDE_FEATURES_VAR).is_some() {
        // This is the run that the lines below start.
        return;
    }
    // Every test of this file once more, in a process that hides them.
    let itself = std::env::current_exe().expect("the test's binary");
    let hidden = std::process::Command::new(itself).env(HIDE_FEATURES_VAR, "all").output().expect("started");
    assert!(hidden.status.success(), "{}", String::from_utf8_lossy(&hidden.stdout));
}

#[test]
fn many_operations_at_once_all_complete_with_their_own_data() {
    on_executor(|env, dir| async move {
        let file = env.open(&dir.join("many"), OpenOptions::cached(OpenMode::CreateNew)).await.expect("created");
        let writes: Vec<_> =
            (0..2000u64).map(|i| file.write_at(i * BLOCK_BYTES as u64, filled(BLOCK_BYTES, (i % 251) as u8))).collect();
        for write in writes {
            write.await.0.expect("written");
        }
        let reads: Vec<_> =
            (0..2000u64).map(|i| file.read_at(i * BLOCK_BYTES as u64, AlignedBuf::zeroed(BLOCK_BYTES))).collect();
        for (i, read) in reads.into_iter().enumerate() {
            let (result, buf) = read.await;
            result.expect("read");
            assert!(buf.as_slice().iter().all(|b| *b == (i % 251) as u8), "block {i}");
        }
    });
}

#[test]
fn errors_have_the_kinds_that_the_trait_promises() {
    on_executor(|env, dir| async move {
        let kind = |result: io::Result<_>| result.map(|_: plinth_uring::UringFile| ()).expect_err("must fail").kind();
        let missing = env.open(&dir.join("no"), OpenOptions::cached(OpenMode::Write)).await;
        assert_eq!(kind(missing), io::ErrorKind::NotFound);
        std::fs::write(dir.join("there"), b"x").expect("written");
        let there = env.open(&dir.join("there"), OpenOptions::cached(OpenMode::CreateNew)).await;
        assert_eq!(kind(there), io::ErrorKind::AlreadyExists);
        let no_direct = env.open("/proc/self/status".as_ref(), OpenOptions::direct(OpenMode::Read)).await;
        assert_eq!(kind(no_direct), io::ErrorKind::Unsupported);

        // A device that is always full, and one that can't be read.
        let full = env.open("/dev/full".as_ref(), OpenOptions::cached(OpenMode::Write)).await.expect("open");
        let (result, buf) = full.write_at(0, filled(BLOCK_BYTES, 1)).await;
        assert_eq!(result.expect_err("no space").kind(), io::ErrorKind::StorageFull);
        assert_eq!(buf.len(), BLOCK_BYTES);
        let memory = env.open("/proc/self/mem".as_ref(), OpenOptions::cached(OpenMode::Read)).await.expect("open");
        let error = memory.read_at(0, AlignedBuf::zeroed(BLOCK_BYTES)).await.0.expect_err("page 0 is never mapped");
        assert_eq!(error.raw_os_error(), Some(5), "EIO");
    });
}

#[test]
fn directories_are_made_listed_renamed_and_synced() {
    on_executor(|env, dir| async move {
        let sub = dir.join("a/b");
        env.create_dir(&sub).await.expect("made");
        env.create_dir(&sub).await.expect("made again");
        for name in ["z", "m"] {
            env.open(&sub.join(name), OpenOptions::cached(OpenMode::CreateNew)).await.expect("created");
        }
        env.rename(&sub.join("z"), &sub.join("c")).await.expect("renamed");
        env.sync_dir(&sub).await.expect("synced");
        env.create_dir(&sub.join("d")).await.expect("made");
        let names: Vec<_> = env.list_dir(&sub).await.expect("listed").into_iter().map(|e| (e.name, e.is_dir)).collect();
        assert_eq!(names, [("c".to_owned(), false), ("d".to_owned(), true), ("m".to_owned(), false)]);
        env.remove_file(&sub.join("m")).await.expect("removed");
        assert_eq!(env.list_dir(&sub).await.expect("listed").len(), 2);
        let space = env.disk_space(&sub).await.expect("space");
        assert!(space.available_bytes > 0 && space.available_bytes <= space.total_bytes);
    });
}

#[test]
fn clocks_timers_and_random_numbers_work_and_tasks_start_in_their_queue() {
    on_executor(|env, _| async move {
        let start = env.now();
        env.sleep(std::time::Duration::from_millis(5)).await;
        assert!(env.now().since(start) >= std::time::Duration::from_millis(5));
        env.sleep_until(start).await;
        assert_ne!(env.random_u64(), env.random_u64());
        assert!(env.unix_time().as_secs() > 1_700_000_000);

        let ran = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        for queue in [TaskQueue::Consensus, TaskQueue::Serve, TaskQueue::Background] {
            let ran = Arc::clone(&ran);
            env.spawn(queue, async move {
                ran.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            });
        }
        assert_eq!(ran.load(std::sync::atomic::Ordering::Relaxed), 0, "spawning never runs a task");
        let _serving = env.in_flight();
        while ran.load(std::sync::atomic::Ordering::Relaxed) < 3 {
            env.yield_now().await;
        }
    });
}

#[test]
fn measuring_the_sync_methods_leaves_no_file_and_replaces_what_a_crash_left() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a scratch directory");
    for name in plinth_uring::SCRATCH_FILES {
        std::fs::write(dir.path().join(name), "left by a crash").expect("written");
    }
    match plinth_uring::measure_sync_methods(&[first_core()], dir.path(), dir.path()) {
        Ok(medians) => {
            assert!(medians.write_dsync_ns > 0 && medians.linked_sync_ns > 0 && medians.thread_dsync_ns > 0);
        }
        // The machine is busy: that is an answer too.
        Err(plinth_uring::MeasureError::TooSlow) => {}
        Err(error) => panic!("{error}"),
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0);
    let nowhere = dir.path().join("missing");
    let error = plinth_uring::measure_sync_methods(&[first_core()], &nowhere, &nowhere).expect_err("no such directory");
    assert!(matches!(error, plinth_uring::MeasureError::Io(_)), "{error}");
}
