//! Segments of the log: whatever they hold, opening ends with an error or with a log that takes entries and keeps them.

use std::{ops::Range, path::PathBuf};

use bytes::Bytes;
use plinth_base::{GroupId, LogIndex, Prng, Term, crc32c};
use plinth_env::Env;
use plinth_sim_env::{Sim, SimEnv, SimOptions};
use plinth_wal::{Entry, HardState, SEGMENT_BYTES_MIN, Wal, WalOptions};

use crate::target::Target;

const DIR: &str = "/wal";
const BLOCK: usize = 4096;

// Offsets in the header of a batch, as `docs/format/log.md` has them.
const MAGIC: &[u8] = b"plinthWL";
const CHECKSUM: usize = 8;
const VERSION: usize = 12;
const PAYLOAD_BYTES: usize = 16;
const NONCE: usize = 32;
const HEADER: usize = 64;
/// The header and the first records of a batch.
const STRUCTURE: usize = 200;

/// Entries of all groups in a log that is worth mutating.
const ENTRIES_MIN: u64 = 3;

/// The target: a log of two segments, one of which is the input behind a byte that says which.
pub(super) struct Log {
    segments: Vec<Vec<u8>>,
}

fn options() -> WalOptions {
    WalOptions { segment_bytes: SEGMENT_BYTES_MIN, spares_max: 2, ..WalOptions::new(PathBuf::from(DIR)) }
}

fn segment_path(at: usize) -> PathBuf {
    PathBuf::from(format!("{DIR}/{:016x}.wal", at + 1))
}

fn entry(group: u32, index: u64, term: u64, bytes: usize) -> Entry {
    let payload = Bytes::from(vec![b'e'; bytes]);
    Entry { group: GroupId(group), index: LogIndex(index), term: Term(term), is_change: false, payload }
}

async fn flush(wal: &mut Wal<SimEnv>) {
    while let Some(flush) = wal.begin_flush() {
        let done = flush.run().await;
        wal.finish_flush(done).expect("the disk works");
    }
}

/// Every kind of record, in two segments.
async fn write_sample(env: &SimEnv) {
    env.create_dir(DIR.as_ref()).await.expect("an empty disk takes a directory");
    let mut wal = Wal::create(env, options()).await.expect("an empty directory takes a log");
    for group in 0..3 {
        wal.start_group(GroupId(group), LogIndex(0), Term(0));
        wal.set_hard_state(GroupId(group), HardState { term: Term(1), ..HardState::default() });
        wal.append(entry(group, 1, 1, 100));
    }
    flush(&mut wal).await;
    // Larger than a batch of such a segment: split, and the second segment begins.
    wal.append(entry(1, 2, 1, 70_000));
    flush(&mut wal).await;
    wal.append(entry(1, 2, 2, 70));
    wal.start_group(GroupId(2), LogIndex(7), Term(3));
    wal.append(entry(2, 8, 3, 5000));
    flush(&mut wal).await;
}

impl Log {
    pub(super) fn new() -> Self {
        let sim = Sim::new(1, SimOptions::default());
        sim.block_on(write_sample(&sim.env()));
        let segment = |at| sim.read_file(&segment_path(at)).expect("the sample has two segments");
        Self { segments: (0..2).map(segment).collect() }
    }
}

/// Offsets of what begins like a batch.
fn batches(input: &[u8]) -> Vec<usize> {
    // Behind the byte that says which segment it is.
    (1..input.len()).step_by(BLOCK).filter(|at| input[*at..].starts_with(MAGIC)).collect()
}

impl Target for Log {
    fn corpus(&self) -> Vec<Vec<u8>> {
        let input = |(at, segment): (usize, &Vec<u8>)| {
            let end = segment.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            [&[u8::try_from(at).expect("two segments")][..], &segment[..end]].concat()
        };
        self.segments.iter().enumerate().map(input).collect()
    }

    fn structure(&self, input: &[u8]) -> Vec<Range<usize>> {
        batches(input).into_iter().map(|at| at..input.len().min(at + STRUCTURE)).collect()
    }

    fn repair(&self, input: &mut [u8], _prng: &mut Prng) {
        for at in batches(input) {
            let batch = &mut input[at..];
            let Some(header) = batch.get(..HEADER) else { continue };
            let u32_at = |at| u32::from_le_bytes(*header[at..].first_chunk().expect("within the header"));
            let seed = u32_at(NONCE) ^ u32_at(NONCE + 4);
            let end = HEADER.saturating_add(u32_at(PAYLOAD_BYTES) as usize);
            let Some(covered) = batch.get(VERSION..end) else { continue };
            let checksum = crc32c(seed, covered).to_le_bytes();
            batch[CHECKSUM..VERSION].copy_from_slice(&checksum);
        }
    }

    fn run(&mut self, input: &[u8]) -> bool {
        let Some((&victim, segment)) = input.split_first() else { return false };
        let Some(sound) = self.segments.get(usize::from(victim)) else { return false };
        let mut segment = segment.to_vec();
        segment.resize(sound.len(), 0);
        let sim = Sim::new(2, SimOptions::default());
        for (at, sound) in self.segments.iter().enumerate() {
            let bytes = if at == usize::from(victim) { &segment } else { sound };
            sim.write_file(&segment_path(at), bytes).expect("the disk has room");
        }
        let Some(last) = sim.block_on(use_log(&sim.env())) else { return false };
        let entries: u64 = last.iter().map(|(_, index)| index.0 - 1).sum();
        sim.crash();
        sim.block_on(async {
            let (_, recovered) = Wal::open(&sim.env(), options()).await.unwrap_or_else(|error| panic!("{error}"));
            for (group, index) in last {
                assert_eq!(recovered.groups[&group].last.index, index, "an entry that was durable is there");
            }
        });
        // A log that was cut to nearly nothing is sound, but nothing to go on with.
        entries > ENTRIES_MIN
    }
}

/// Reads a log and appends to every group; their last indexes then, or none if the log is refused.
async fn use_log(env: &SimEnv) -> Option<Vec<(GroupId, LogIndex)>> {
    let (mut wal, recovered) = Wal::open(env, options()).await.ok()?;
    let mut last = Vec::new();
    for (&group, state) in &recovered.groups {
        let mut from = wal.first_index(group)?;
        // Any answer of a read is fine, as long as there is one.
        while let Ok(entries) = wal.read(group, from, 1 << 20).await
            && let Some(last) = entries.last()
        {
            from = last.index.next();
        }
        // The highest term and index leave no room for a next entry.
        let index = LogIndex(state.last.index.0.checked_add(1)?);
        wal.append(Entry {
            group,
            index,
            term: state.last.term,
            is_change: false,
            payload: Bytes::from_static(b"new"),
        });
        last.push((group, index));
    }
    flush(&mut wal).await;
    Some(last)
}
