//! What a checkpoint and the making of a segment do to the log's writes, for `docs/decisions/log-first.md`.
//!
//! `cargo run --release -p plinth-uring --example log_beside_others -- DIR [SECONDS]` writes 4 KiB durably, one after the other, alone and beside
//! each kind of neighbour, and prints the latencies.

use std::{
    cell::Cell,
    fs::OpenOptions as StdOptions,
    io::{self, Write},
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use plinth_base::{AlignedBuf, BLOCK_BYTES};
use plinth_env::{Env, File, OpenMode, OpenOptions, TaskQueue};
use plinth_uring::{UringEnv, UringFile, cores::Available, run};

const LOG_BYTES: u64 = 8 << 20;
const NEIGHBOUR_BYTES: u64 = 64 << 20;

/// What runs beside the log.
#[derive(Clone, Copy, Debug)]
enum Neighbour {
    Nobody,
    /// A checkpoint whose pages stay in the page cache until its sync.
    BurstCheckpoint,
    /// A checkpoint as plinth's files write it out.
    Checkpoint,
    /// Zeroes at full speed.
    BurstSegment,
    /// Zeroes in pieces with pauses.
    PacedSegment,
}

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().ok_or_else(|| io::Error::other("usage: log_beside_others DIR [SECONDS]"))?);
    let seconds = args.next().map_or(Ok(4), |text| text.parse::<u64>()).map_err(io::Error::other)?;
    let core = Available::of_this_process().map_err(io::Error::other)?.affinity[0];
    run(&[core], move |context| {
        let dir = dir.clone();
        async move {
            if let Err(error) = all(&context.env, &dir, Duration::from_secs(seconds)).await {
                eprintln!("{error}");
            }
        }
    })
    .map_err(io::Error::other)
}

async fn all(env: &UringEnv, dir: &Path, time: Duration) -> io::Result<()> {
    let log = zeroed(env, &dir.join("beside-log.tmp"), LOG_BYTES).await?;
    println!(
        "{:<16} {:>7} {:>8} {:>8} {:>8} {:>8} {:>7}",
        "neighbour", "writes", "p50 us", "p99 us", "p99.9", "max", "rounds"
    );
    for neighbour in [
        Neighbour::Nobody,
        Neighbour::BurstCheckpoint,
        Neighbour::Checkpoint,
        Neighbour::BurstSegment,
        Neighbour::PacedSegment,
        Neighbour::Nobody,
    ] {
        let (stop, stopped, rounds) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        let (task_env, dir) = (env.clone(), dir.to_owned());
        let (to_stop, has_stopped, count) = (Rc::clone(&stop), Rc::clone(&stopped), Rc::clone(&rounds));
        env.spawn(TaskQueue::Background, async move {
            while !to_stop.get() && !matches!(neighbour, Neighbour::Nobody) {
                if let Err(error) = disturb(&task_env, &dir, neighbour).await {
                    eprintln!("{neighbour:?}: {error}");
                    break;
                }
                count.set(count.get() + 1);
                task_env.sleep(Duration::from_millis(200)).await;
            }
            has_stopped.set(true);
        });
        let times = log_writes(env, &log, time).await?;
        stop.set(true);
        while !stopped.get() {
            env.sleep(Duration::from_millis(10)).await;
        }
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
        println!(
            "{:<16} {:>7} {:>8} {:>8} {:>8} {:>8} {:>7}",
            format!("{neighbour:?}"),
            times.len(),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0),
            rounds.get()
        );
    }
    for name in ["beside-log.tmp", "beside-tree.tmp", "beside-next.tmp"] {
        drop(std::fs::remove_file(dir.join(name)));
    }
    Ok(())
}

/// Microseconds, sorted.
async fn log_writes(env: &UringEnv, log: &UringFile, time: Duration) -> io::Result<Vec<u64>> {
    let (began, mut times, mut offset) = (env.now(), Vec::new(), 0);
    let mut buf = AlignedBuf::zeroed(BLOCK_BYTES);
    while env.now().since(began) < time {
        let at = env.now();
        let (result, back) = log.write_durable(offset, buf).await;
        result?;
        buf = back;
        times.push(env.now().since(at).as_micros() as u64);
        offset = (offset + BLOCK_BYTES as u64) % LOG_BYTES;
    }
    times.sort_unstable();
    Ok(times)
}

async fn disturb(env: &UringEnv, dir: &Path, neighbour: Neighbour) -> io::Result<()> {
    let (tree, next) = (dir.join("beside-tree.tmp"), dir.join("beside-next.tmp"));
    match neighbour {
        Neighbour::Nobody => Ok(()),
        Neighbour::BurstCheckpoint => env.on_helper(move || burst(&tree)).await,
        Neighbour::Checkpoint => {
            drop(std::fs::remove_file(&tree));
            let file = env.open(&tree, OpenOptions::cached(OpenMode::CreateNew)).await?;
            file.allocate(0, NEIGHBOUR_BYTES).await?;
            for at in (0..NEIGHBOUR_BYTES).step_by(512 << 10) {
                file.write_at(at, AlignedBuf::zeroed(512 << 10)).await.0?;
            }
            file.sync().await
        }
        Neighbour::BurstSegment => fill(env, &next, 512 << 10, Duration::ZERO).await,
        Neighbour::PacedSegment => fill(env, &next, 128 << 10, Duration::from_millis(1)).await,
    }
}

fn burst(tree: &Path) -> io::Result<()> {
    drop(std::fs::remove_file(tree));
    let mut file = StdOptions::new().write(true).create_new(true).open(tree)?;
    for _ in 0..NEIGHBOUR_BYTES >> 19 {
        file.write_all(&[0; 512 << 10])?;
    }
    file.sync_data()
}

async fn fill(env: &UringEnv, path: &Path, piece: usize, pause: Duration) -> io::Result<()> {
    drop(std::fs::remove_file(path));
    let file = env.open(path, OpenOptions::direct(OpenMode::CreateNew)).await?;
    file.allocate(0, NEIGHBOUR_BYTES).await?;
    for at in (0..NEIGHBOUR_BYTES).step_by(piece) {
        file.write_at(at, AlignedBuf::zeroed(piece)).await.0?;
        if !pause.is_zero() {
            env.sleep(pause).await;
        }
    }
    file.sync().await
}

async fn zeroed(env: &UringEnv, path: &Path, bytes: u64) -> io::Result<UringFile> {
    drop(std::fs::remove_file(path));
    let file = env.open(path, OpenOptions::direct(OpenMode::CreateNew)).await?;
    file.allocate(0, bytes).await?;
    for at in (0..bytes).step_by(512 << 10) {
        file.write_at(at, AlignedBuf::zeroed(512 << 10)).await.0?;
    }
    file.sync().await?;
    Ok(file)
}
