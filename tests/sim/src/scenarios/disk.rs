//! The simulated disk under random use, held to the promises of [`plinth_env::File`] and [`plinth_env::Env`]: the ground on which
//! every other scenario stands.
//!
//! Each writer owns a file of sectors that all carry a number, and a small file that it replaces by rename. It knows for each sector
//! which numbers a crash may leave: the last durable one and those written since. A failed write or sync ends the writer's
//! life, as it would end a node's.

use std::{cell::RefCell, path::PathBuf, rc::Rc, time::Duration};

use plinth_base::{AlignedBuf, BLOCK_BYTES, Mark, Prng};
use plinth_env::{Env, File, OpenMode, OpenOptions, SyncMethod, TaskQueue};
use plinth_sim_env::{Chance, Faults, Sim, SimEnv, SimFile, SimOptions};

use crate::scenario::{Outcome, Scenario, Violation};

const WRITERS: u64 = 3;
const BLOCKS: u64 = 24;
const SECTOR_BYTES: usize = 512;
const VIRTUAL_TIME_MIN: Duration = Duration::from_secs(61);
const PAUSE_MS_MAX: u64 = 60;

/// See the module.
#[derive(Debug, Default)]
pub struct DiskScenario;

impl Scenario for DiskScenario {
    fn name(&self) -> &'static str {
        "disk"
    }

    fn marks(&self) -> &'static [Mark] {
        &[]
    }

    fn run(&self, seed: u64) -> Result<Outcome, Violation> {
        run(seed, false)
    }
}

/// What one writer knows; it outlives crashes.
struct Ledger {
    dir: PathBuf,
    /// For each sector, the numbers that a crash may leave.
    allowed: Vec<Vec<u64>>,
    /// For each sector, what a read shows.
    live: Vec<u64>,
    /// A sync failed in this life of the machine: no later one can be trusted with what it should have covered.
    sync_failed: bool,
    next_number: u64,
    /// Generation of the replaced file that is certain, and the highest that was tried.
    generation: (u64, u64),
    operations: u64,
    prng: Prng,
}

type Shared = Rc<RefCell<Ledger>>;

fn run(seed: u64, lie_about_flush: bool) -> Result<Outcome, Violation> {
    let faults = Faults {
        write_error: Chance::one_in(500),
        sync_error: Chance::one_in(300),
        lie_about_flush,
        ..Faults::default()
    };
    let sim = Sim::new(seed, SimOptions { faults, ..SimOptions::default() });
    let mut prng = Prng::new(!seed);
    let ledgers: Vec<Shared> = (0..WRITERS).map(|writer| prepare(&sim, writer, prng.fork())).collect();
    while sim.elapsed() < VIRTUAL_TIME_MIN {
        let methods = [SyncMethod::WriteDsync, SyncMethod::LinkedSync, SyncMethod::ThreadDsync];
        for ledger in &ledgers {
            let (env, ledger, method) = (sim.env(), Rc::clone(ledger), methods[prng.index(methods.len())]);
            sim.env().spawn(TaskQueue::Serve, work(env, ledger, method));
        }
        sim.run_for(Duration::from_micros(prng.below(8_000_000)));
        let power_cut = prng.chance(3, 4);
        if power_cut {
            sim.crash();
        } else {
            sim.kill();
        }
        for ledger in &ledgers {
            let mut ledger = ledger.borrow_mut();
            check_after(&sim, &mut ledger, power_cut)?;
        }
    }
    Ok(Outcome {
        operations: ledgers.iter().map(|ledger| ledger.borrow().operations).sum(),
        faults: sim.faults(),
        virtual_time: sim.elapsed(),
        trace_hash: sim.trace_hash(),
    })
}

fn prepare(sim: &Sim, writer: u64, prng: Prng) -> Shared {
    let dir = PathBuf::from(format!("/data/{writer}"));
    let bytes = BLOCKS as usize * BLOCK_BYTES;
    sim.write_file(&dir.join("sectors"), &vec![0; bytes]).expect("the disk is large enough");
    sim.write_file(&dir.join("current"), &vec![0; BLOCK_BYTES]).expect("the disk is large enough");
    let sectors = bytes / SECTOR_BYTES;
    Rc::new(RefCell::new(Ledger {
        dir,
        allowed: vec![vec![0]; sectors],
        live: vec![0; sectors],
        sync_failed: false,
        next_number: 1,
        generation: (0, 0),
        operations: 0,
        prng,
    }))
}

/// A writer's life: until an error, or for ever.
async fn work(env: SimEnv, ledger: Shared, method: SyncMethod) {
    let path = ledger.borrow().dir.join("sectors");
    let options = OpenOptions { sync_method: method, ..OpenOptions::direct(OpenMode::Write) };
    let Ok(file) = env.open(&path, options).await else { return };
    loop {
        let (choice, pause_ms) = {
            let mut ledger = ledger.borrow_mut();
            ledger.operations += 1;
            (ledger.prng.below(10), ledger.prng.below(PAUSE_MS_MAX))
        };
        let done = match choice {
            0 | 1 => sync(&file, &ledger).await,
            2..=4 => write(&file, &ledger, true).await,
            5 | 6 => write(&file, &ledger, false).await,
            7 | 8 => read(&file, &ledger).await,
            _ => replace(&env, &ledger).await,
        };
        if done.is_err() {
            return;
        }
        env.sleep(Duration::from_millis(pause_ms)).await;
    }
}

fn number_in(sector: &[u8]) -> u64 {
    let (first, _) = sector.split_first_chunk().expect("sectors have more than 8 bytes");
    u64::from_le_bytes(*first)
}

async fn write(file: &SimFile, ledger: &Shared, durably: bool) -> std::io::Result<()> {
    let (block, number, buf) = {
        let mut ledger = ledger.borrow_mut();
        let block = ledger.prng.below(BLOCKS);
        let blocks = 1 + ledger.prng.below((BLOCKS - block).min(8));
        let number = ledger.next_number;
        ledger.next_number += 1;
        let mut buf = AlignedBuf::zeroed(blocks as usize * BLOCK_BYTES);
        for eight in buf.as_mut_slice().chunks_mut(8) {
            eight.copy_from_slice(&number.to_le_bytes());
        }
        (block, number, buf)
    };
    let sectors = sectors_of(block, buf.len());
    for sector in sectors.clone() {
        ledger.borrow_mut().allowed[sector].push(number);
    }
    let offset = block * BLOCK_BYTES as u64;
    let result = if durably { file.write_durable(offset, buf).await.0 } else { file.write_at(offset, buf).await.0 };
    let mut ledger = ledger.borrow_mut();
    match &result {
        Ok(()) => {
            for sector in sectors {
                ledger.live[sector] = number;
                if durably {
                    ledger.allowed[sector] = vec![number];
                }
            }
        }
        // It may have been the sync of a linked pair.
        Err(_) => ledger.sync_failed = true,
    }
    result
}

fn sectors_of(block: u64, bytes: usize) -> std::ops::Range<usize> {
    let first = block as usize * BLOCK_BYTES / SECTOR_BYTES;
    first..first + bytes / SECTOR_BYTES
}

async fn sync(file: &SimFile, ledger: &Shared) -> std::io::Result<()> {
    let result = file.sync().await;
    let ledger = &mut *ledger.borrow_mut();
    match &result {
        Ok(()) if !ledger.sync_failed => {
            for (allowed, live) in ledger.allowed.iter_mut().zip(&ledger.live) {
                *allowed = vec![*live];
            }
        }
        Ok(()) => {}
        Err(_) => ledger.sync_failed = true,
    }
    result
}

async fn read(file: &SimFile, ledger: &Shared) -> std::io::Result<()> {
    let block = ledger.borrow_mut().prng.below(BLOCKS);
    let (result, buf) = file.read_at(block * BLOCK_BYTES as u64, AlignedBuf::zeroed(BLOCK_BYTES)).await;
    if result.is_ok() {
        let ledger = ledger.borrow();
        for (sector, bytes) in sectors_of(block, buf.len()).zip(buf.as_slice().chunks(SECTOR_BYTES)) {
            assert_eq!(number_in(bytes), ledger.live[sector], "sector {sector} of {:?} read wrong", ledger.dir);
        }
    }
    result
}

/// Replaces the small file in the way that survives crashes.
async fn replace(env: &SimEnv, ledger: &Shared) -> std::io::Result<()> {
    let (dir, generation) = {
        let mut ledger = ledger.borrow_mut();
        ledger.generation.1 += 1;
        (ledger.dir.clone(), ledger.generation.1)
    };
    let temp = dir.join("temp");
    if env.list_dir(&dir).await?.iter().any(|entry| entry.name == "temp") {
        env.remove_file(&temp).await?;
    }
    let file = env.open(&temp, OpenOptions::direct(OpenMode::CreateNew)).await?;
    let mut buf = AlignedBuf::zeroed(BLOCK_BYTES);
    buf.as_mut_slice()[..8].copy_from_slice(&generation.to_le_bytes());
    file.write_durable(0, buf).await.0?;
    env.rename(&temp, &dir.join("current")).await?;
    env.sync_dir(&dir).await?;
    ledger.borrow_mut().generation.0 = generation;
    Ok(())
}

/// Compares what the machine left with what it may leave.
fn check_after(sim: &Sim, ledger: &mut Ledger, power_cut: bool) -> Result<(), Violation> {
    let violation = |what: String| Err(Violation(what));
    let read = |name: &str| sim.read_file(&ledger.dir.join(name));
    let (Some(sectors), Some(current)) = (read("sectors"), read("current")) else {
        return violation(format!("a durable file of {} is gone", ledger.dir.display()));
    };
    for (sector, bytes) in sectors.chunks(SECTOR_BYTES).enumerate() {
        let number = number_in(bytes);
        if !ledger.allowed[sector].contains(&number) || bytes.chunks(8).any(|eight| number_in(eight) != number) {
            let allowed = &ledger.allowed[sector];
            return violation(format!(
                "sector {sector} of {} has {number}, not one of {allowed:?}",
                ledger.dir.display()
            ));
        }
        ledger.live[sector] = number;
        if power_cut {
            ledger.allowed[sector] = vec![number];
        }
    }
    if current.len() != BLOCK_BYTES {
        return violation(format!("the replaced file of {} has {} bytes", ledger.dir.display(), current.len()));
    }
    let generation = number_in(&current);
    if generation < ledger.generation.0 || generation > ledger.generation.1 {
        return violation(format!("generation {generation} is outside {:?}", ledger.generation));
    }
    if power_cut {
        // What a reader finds after a power cut is durable.
        ledger.generation.0 = generation;
        ledger.sync_failed = false;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_keeps_its_promises() {
        for seed in 0..10 {
            let outcome = run(seed, false).expect("the simulated disk keeps its promises");
            outcome.check(DiskScenario.floor()).expect("enough happens");
            assert_eq!(run(seed, false), Ok(outcome));
        }
    }

    #[test]
    fn disk_that_drops_flushes_is_caught() {
        let caught = (0..10).filter(|seed| run(*seed, true).is_err()).count();
        assert_eq!(caught, 10);
    }
}
