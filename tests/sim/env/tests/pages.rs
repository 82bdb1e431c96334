//! Pages: residency, misses, and bytes that are not what the checksum says.

use std::{path::Path, sync::Arc};

use plinth_base::{AlignedBuf, PageId, PageRun, crc32c};
use plinth_env::{Env, File, OpenMode, OpenOptions, PageError, PageSource, PageWant};
use plinth_sim_env::{Chance, OpKind, Sim, SimEnv, SimFile, SimOptions, SimPages};

const FILE: &str = "/tree";
const PAGE: usize = 4096;

/// A machine whose tree file has pages filled with their own number, and no random misses.
fn sim_with_tree(pages: u8) -> Sim {
    let sim = Sim::new(1, SimOptions::default());
    let bytes: Vec<u8> = (0..pages).flat_map(|page| [page; PAGE]).collect();
    sim.write_file(Path::new(FILE), &bytes).expect("the disk is empty");
    sim.change_faults(|faults| faults.page_miss = Chance::NEVER);
    sim
}

async fn open(env: &SimEnv) -> (SimFile, Arc<SimPages>) {
    let file = env.open(Path::new(FILE), OpenOptions::cached(OpenMode::Write)).await.expect("the file is there");
    let pages = env.open_pages(&file, PAGE, 1 << 30).expect("the handle is fresh");
    (file, pages)
}

/// The want of `count` pages from `first`, whose bytes are `content`.
fn want(first: u64, content: &[u8]) -> PageWant {
    let count = content.len().div_ceil(PAGE) as u32;
    let run = PageRun { first: PageId(first), count };
    PageWant { run, bytes: content.len() as u32, checksum: crc32c(0, content) }
}

#[test]
fn page_is_missing_until_loaded_and_after_forget() {
    let sim = sim_with_tree(3);
    let env = sim.env();
    sim.block_on(async {
        let (_, pages) = open(&env).await;
        let want = want(2, &[2; 1000]);
        assert_eq!(pages.get(&want), None);
        env.load_pages(&pages, vec![want]).await.expect("the page is right");
        let slice = pages.get(&want).expect("it was just loaded");
        assert_eq!(slice, [2; 1000]);
        pages.forget(want.run);
        assert_eq!(pages.get(&want), None);
        assert_eq!(slice, [2; 1000], "what was handed out stays");
    });
}

#[test]
fn written_pages_are_there_with_their_new_bytes_and_old_slices_keep_theirs() {
    let sim = sim_with_tree(4);
    let env = sim.env();
    sim.block_on(async {
        let (file, pages) = open(&env).await;
        let old = want(1, &[1; PAGE]);
        env.load_pages(&pages, vec![old]).await.expect("the page is right");
        let old_slice = pages.get(&old).expect("it was just loaded");
        let run = PageRun { first: PageId(1), count: 2 };
        pages.forget(run);
        let mut buf = AlignedBuf::zeroed(2 * PAGE);
        buf.as_mut_slice().fill(77);
        file.write_at(PAGE as u64, buf).await.0.expect("no faults are set");
        pages.note_written(run);
        assert_eq!(pages.get(&want(2, &[77; 300])), Some(&[77; 300][..]));
        let whole = [77; 5000];
        assert_eq!(pages.get(&want(1, &whole)), Some(&whole[..]));
        assert_eq!(old_slice, [1; PAGE]);
        assert_eq!(pages.get(&old), None, "the old page is no longer there");
    });
}

#[test]
fn evictions_strike_at_random_but_never_in_the_poll_that_loaded() {
    let sim = sim_with_tree(1);
    sim.change_faults(|faults| faults.page_miss = Chance::one_in(2));
    let env = sim.env();
    let misses = sim.block_on(async {
        let (_, pages) = open(&env).await;
        let want = want(0, &[0; PAGE]);
        let mut misses = 0;
        for _ in 0..100 {
            env.load_pages(&pages, vec![want]).await.expect("the page is right");
            assert!((0..20).all(|_| pages.get(&want).is_some()), "loaded pages stay until the task yields");
            env.yield_now().await;
            misses += u32::from(pages.get(&want).is_none());
        }
        misses
    });
    assert!(misses > 20 && misses < 80, "{misses} of 100");
}

#[test]
fn wrong_bytes_are_corrupt_with_file_and_offset() {
    let sim = sim_with_tree(3);
    let env = sim.env();
    sim.block_on(async {
        let (_, pages) = open(&env).await;
        let want = want(2, &[2; PAGE]);
        env.load_pages(&pages, vec![want]).await.expect("the page is right");
        assert!(sim.flip_bit(Path::new(FILE), 2 * PAGE as u64 + 17));
        assert_eq!(pages.get(&want), None, "wrong bytes are never handed out");
        let error = env.load_pages(&pages, vec![want]).await.expect_err("a bit is wrong");
        let PageError::Corrupt(corrupt) = error else { panic!("{error}") };
        assert_eq!((corrupt.file.as_path(), corrupt.offset), (Path::new(FILE), 2 * PAGE as u64));
    });
}

#[test]
fn wants_outside_the_file_are_missing_and_corrupt() {
    let sim = sim_with_tree(1);
    let env = sim.env();
    sim.block_on(async {
        let (_, pages) = open(&env).await;
        let beyond = PageRun { first: PageId(u64::MAX / 2), count: 1 };
        let empty = PageRun { first: PageId(0), count: 0 };
        for (run, bytes) in [(beyond, 10), (empty, 0), (PageRun::one(PageId(0)), 4097)] {
            let want = PageWant { run, bytes, checksum: 0 };
            assert_eq!(pages.get(&want), None);
            let error = env.load_pages(&pages, vec![want]).await.expect_err("there is no such page");
            assert!(matches!(error, PageError::Corrupt(_)));
        }
    });
}

#[test]
fn stale_page_is_caught_by_its_checksum() {
    let sim = sim_with_tree(2);
    sim.change_faults(|faults| faults.page_stale = Chance::ALWAYS);
    let env = sim.env();
    sim.block_on(async {
        let (file, pages) = open(&env).await;
        let mut buf = AlignedBuf::zeroed(PAGE);
        buf.as_mut_slice().fill(9);
        file.write_at(PAGE as u64, buf).await.0.expect("no faults are set");
        let want = want(1, &[9; PAGE]);
        let error = env.load_pages(&pages, vec![want]).await.expect_err("the old bytes came");
        assert!(matches!(error, PageError::Corrupt(_)));
        sim.change_faults(|faults| faults.page_stale = Chance::NEVER);
        env.load_pages(&pages, vec![want]).await.expect("the bytes are right now");
    });
    assert_eq!(sim.faults(), [("stale page", 1)]);
}

#[test]
fn load_can_fail_and_dropped_caches_make_pages_missing() {
    let sim = sim_with_tree(2);
    let env = sim.env();
    sim.block_on(async {
        let (file, pages) = open(&env).await;
        let want = want(1, &[1; PAGE]);
        sim.fail_op(OpKind::Load, FILE, 0);
        let error = env.load_pages(&pages, vec![want]).await.expect_err("a fault is planned");
        assert!(matches!(error, PageError::Io(_)));
        for drop_all in [false, true] {
            env.load_pages(&pages, vec![want]).await.expect("the page is right");
            assert!(pages.get(&want).is_some());
            if drop_all {
                sim.drop_caches();
            } else {
                file.drop_cache().await.expect("no faults are set");
            }
            assert_eq!(pages.get(&want), None);
        }
    });
}

#[test]
fn pages_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<SimPages>();
}
