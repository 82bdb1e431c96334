//! Mapped pages through the environment: loading off the executor, ageing by the sweeper, the end by SIGBUS.

use std::{
    fs::File as StdFile,
    os::unix::{fs::FileExt, process::ExitStatusExt},
    path::Path,
    process::Command,
    time::Duration,
};

use plinth_base::{AlignedBuf, PageId, PageRun, crc32c};
use plinth_env::{Env, File, OpenMode, OpenOptions, PageError, PageSource, PageWant};
use plinth_uring::{ExecutorContext, cores::Available, run};

const PAGE_BYTES: usize = 4096;

/// Tells the child process of the SIGBUS test which file to cut.
const SIGBUS_VAR: &str = "PLINTH_TEST_SIGBUS_FILE";

fn core() -> usize {
    Available::of_this_process().expect("affinity").affinity[0]
}

fn want(page: u64, content: &[u8]) -> PageWant {
    PageWant { run: PageRun::one(PageId(page)), bytes: content.len() as u32, checksum: crc32c(0, content) }
}

#[test]
fn pages_are_loaded_verified_aged_and_loaded_again() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = dir.path().join("tree");
    run(&[core()], move |context: ExecutorContext| {
        let (env, path) = (context.env, path.clone());
        async move {
            let file = env.open(&path, OpenOptions::cached(OpenMode::CreateNew)).await.expect("created");
            let mut buf = AlignedBuf::zeroed(4 * PAGE_BYTES);
            for (i, byte) in buf.as_mut_slice().iter_mut().enumerate() {
                *byte = (i * 13 / 7) as u8;
            }
            let (result, buf) = file.write_durable(0, buf).await;
            result.expect("written");
            let wants: Vec<_> = buf.as_slice().chunks(PAGE_BYTES).enumerate().map(|(i, c)| want(i as u64, c)).collect();

            let pages = env.open_pages(&file, PAGE_BYTES, 1 << 30).expect("mapped");
            pages.evict_all().expect("evicted");
            assert!(wants.iter().all(|want| pages.get(want).is_none()));
            env.load_pages(&pages, wants.clone()).await.expect("loaded");
            for (want, content) in wants.iter().zip(buf.as_slice().chunks(PAGE_BYTES)) {
                assert_eq!(pages.get(want), Some(content));
            }

            pages.evict_all().expect("evicted");
            while pages.get(&wants[0]).is_some() {
                env.sleep(Duration::from_millis(5)).await;
            }
            env.load_pages(&pages, vec![wants[0]]).await.expect("loaded again");

            let wrong = PageWant { checksum: !wants[1].checksum, ..wants[1] };
            let fresh = env.open_pages(&file, PAGE_BYTES, 1 << 20).expect("mapped again");
            let error = env.load_pages(&fresh, vec![wrong]).await.expect_err("wrong checksum");
            let PageError::Corrupt(corrupt) = error else { panic!("{error}") };
            assert_eq!((corrupt.file, corrupt.offset), (path, PAGE_BYTES as u64));
        }
    })
    .expect("the runtime starts");
}

#[test]
fn a_page_that_can_not_be_read_aborts_the_process_and_names_file_and_page() {
    if let Some(path) = std::env::var_os(SIGBUS_VAR) {
        touch_a_lost_page(Path::new(&path));
        return;
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = dir.path().join("group-7.tree");
    let child = Command::new(std::env::current_exe().expect("the test's binary"))
        .args(["--exact", "a_page_that_can_not_be_read_aborts_the_process_and_names_file_and_page", "--nocapture"])
        .env(SIGBUS_VAR, &path)
        .output()
        .expect("started");
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.signal().is_some(), "{said}");
    assert!(said.contains(&format!("plinth: fatal: page 2 (offset 8192) of {}", path.display())), "{said}");
}

/// Cuts the file behind the back of a reader that knows the page to be in memory.
fn touch_a_lost_page(path: &Path) {
    let path = path.to_owned();
    run(&[core()], move |context: ExecutorContext| {
        let (env, path) = (context.env, path.clone());
        async move {
            let content = [3; PAGE_BYTES];
            let cut = StdFile::create_new(&path).expect("created");
            cut.write_all_at(&content, 2 * PAGE_BYTES as u64).expect("written");
            let file = env.open(&path, OpenOptions::cached(OpenMode::Read)).await.expect("open");
            let pages = env.open_pages(&file, PAGE_BYTES, 1 << 20).expect("mapped");
            env.load_pages(&pages, vec![want(2, &content)]).await.expect("loaded");
            let bytes = pages.get(&want(2, &content)).expect("loaded");
            cut.set_len(0).expect("cut");
            println!("{}", bytes[0]);
        }
    })
    .expect("the runtime starts");
}
