//! Random page reads over a file larger than memory, while checkpoint-like writes run: do executors take major faults?
//!
//! Run it in a memory cgroup smaller than the file:
//! `cargo run --release -p plinth-uring --example residency_pressure -- FILE [MIB] [SECONDS]` (1024 MiB, 30 s unless said otherwise). Prints what happened;
//! fails if the executor had a major fault after the first seconds.

use std::{cell::Cell, process::ExitCode, rc::Rc, sync::Arc, time::Duration};

use plinth_base::{AlignedBuf, PageId, PageRun, Prng, crc32c};
use plinth_env::{Env, File, OpenMode, OpenOptions, PageSource, PageWant, TaskQueue};
use plinth_uring::{ExecutorContext, MappedPages, UringEnv, UringFile, cores::Available, run};

const PAGE_BYTES: usize = 4096;
const CHUNK_BYTES: usize = 256 << 10;
const READERS: u64 = 16;

/// Code pages of the start may still come from the disk; faults count from here on.
const WARM_UP: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default| args.get(index).map_or(Some(default), |text| text.parse::<u64>().ok());
    let (Some(path), Some(mib), Some(seconds)) = (args.first().cloned(), number(1, 1024), number(2, 30)) else {
        eprintln!("usage: residency_pressure FILE [MIB] [SECONDS]");
        return ExitCode::FAILURE;
    };
    let core = Available::of_this_process().expect("affinity").affinity[0];
    let faults = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = Arc::clone(&faults);
    run(&[core], move |context| pressure(context, path.clone(), mib << 20, seconds, Arc::clone(&counted)))
        .expect("the runtime starts");
    match faults.load(std::sync::atomic::Ordering::Relaxed) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

struct Shared {
    env: UringEnv,
    file: UringFile,
    pages: Arc<MappedPages>,
    page_count: u64,
    over: Cell<bool>,
    running: Cell<u64>,
    hits: Cell<u64>,
    loads: Cell<u64>,
    missing_after_load: Cell<u64>,
    written: Cell<u64>,
}

async fn pressure(
    context: ExecutorContext,
    path: String,
    bytes: u64,
    seconds: u64,
    faults: Arc<std::sync::atomic::AtomicU64>,
) {
    let env = context.env.clone();
    let file = env.open(path.as_ref(), OpenOptions::cached(OpenMode::CreateNew)).await.expect("created");
    for at in (0..bytes).step_by(CHUNK_BYTES) {
        file.write_at(at, chunk(at)).await.0.expect("written");
    }
    file.sync().await.expect("synced");
    let pages = env.open_pages(&file, PAGE_BYTES, bytes).expect("mapped");
    let shared = Rc::new(Shared {
        env: env.clone(),
        file,
        pages,
        page_count: bytes / PAGE_BYTES as u64,
        over: Cell::new(false),
        running: Cell::new(READERS + 1),
        hits: Cell::default(),
        loads: Cell::default(),
        missing_after_load: Cell::default(),
        written: Cell::default(),
    });
    for seed in 0..READERS {
        env.spawn(TaskQueue::Serve, read(Rc::clone(&shared), seed));
    }
    env.spawn(TaskQueue::Background, write(Rc::clone(&shared)));

    env.sleep(WARM_UP).await;
    let before = context.counters[0].major_faults.get();
    env.sleep(Duration::from_secs(seconds)).await;
    let during = context.counters[0].major_faults.get() - before;
    shared.over.set(true);
    while shared.running.get() > 0 {
        env.sleep(Duration::from_millis(10)).await;
    }
    env.remove_file(path.as_ref()).await.expect("removed");
    println!(
        "{} hits, {} loads, {} missing again after their load, {} MiB written, {during} major faults in {seconds} s",
        shared.hits.get(),
        shared.loads.get(),
        shared.missing_after_load.get(),
        shared.written.get() >> 20,
    );
    faults.store(during, std::sync::atomic::Ordering::Relaxed);
}

/// Each page holds its own number, over and over.
fn page_content(page: u64) -> Vec<u8> {
    page.to_le_bytes().repeat(PAGE_BYTES / 8)
}

fn chunk(at: u64) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(CHUNK_BYTES);
    for (index, page) in buf.as_mut_slice().chunks_mut(PAGE_BYTES).enumerate() {
        page.copy_from_slice(&page_content(at / PAGE_BYTES as u64 + index as u64));
    }
    buf
}

async fn read(shared: Rc<Shared>, seed: u64) {
    let mut prng = Prng::new(seed);
    while !shared.over.get() {
        let page = prng.below(shared.page_count);
        let checksum = crc32c(0, &page_content(page));
        let want = PageWant { run: PageRun::one(PageId(page)), bytes: PAGE_BYTES as u32, checksum };
        if sum(&shared, &want) {
            shared.hits.set(shared.hits.get() + 1);
        } else {
            shared.loads.set(shared.loads.get() + 1);
            shared.env.load_pages(&shared.pages, vec![want]).await.expect("loaded");
            let missing = !sum(&shared, &want);
            shared.missing_after_load.set(shared.missing_after_load.get() + u64::from(missing));
        }
        shared.env.yield_now().await;
    }
    shared.running.set(shared.running.get() - 1);
}

/// Touches the whole page, if it is there.
fn sum(shared: &Shared, want: &PageWant) -> bool {
    let Some(bytes) = shared.pages.get(want) else { return false };
    assert_eq!(crc32c(0, bytes), want.checksum, "a page that was handed out is right");
    true
}

/// Writes the same bytes again, through the page cache, as a checkpoint does with new pages.
async fn write(shared: Rc<Shared>) {
    let mut prng = Prng::new(99);
    while !shared.over.get() {
        for _ in 0..32 {
            let at = prng.below(shared.page_count * PAGE_BYTES as u64 / CHUNK_BYTES as u64) * CHUNK_BYTES as u64;
            let run = PageRun { first: PageId(at / PAGE_BYTES as u64), count: (CHUNK_BYTES / PAGE_BYTES) as u32 };
            shared.pages.forget(run);
            shared.file.write_at(at, chunk(at)).await.0.expect("written");
            shared.pages.note_written(run);
            shared.written.set(shared.written.get() + CHUNK_BYTES as u64);
        }
        shared.file.sync().await.expect("synced");
        shared.env.sleep(Duration::from_millis(100)).await;
    }
    shared.running.set(shared.running.get() - 1);
}
