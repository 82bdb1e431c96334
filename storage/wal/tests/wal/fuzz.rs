//! Hostile bytes: whatever a segment holds, opening and reading it ends with a value or an error.

use plinth_base::{GroupId, LogIndex, Prng, Term};
use plinth_sim_env::{Sim, SimOptions};
use plinth_wal::{HardState, Wal};

use crate::{
    files::{self, batches, content},
    model::entry,
    shard::{create, flush, options, read_all, segment},
};

/// A log with every kind of record in two segments.
fn rich_log() -> Sim {
    let sim = Sim::new(1, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut wal = create(&env).await;
        for group in 0..3 {
            wal.start_group(GroupId(group), LogIndex(0), Term(0));
            wal.set_hard_state(GroupId(group), HardState { term: Term(1), ..HardState::default() });
            wal.append(entry(group, 1, 1, 100));
        }
        flush(&mut wal).await;
        wal.append(entry(1, 2, 1, 70_000));
        flush(&mut wal).await;
        wal.append(entry(1, 2, 2, 70));
        wal.start_group(GroupId(2), LogIndex(7), Term(3));
        wal.append(entry(2, 8, 3, 5000));
        flush(&mut wal).await;
    });
    sim.kill();
    sim
}

/// Opens what is on the disk; goes on with it if that works.
fn try_open(sim: &Sim) -> bool {
    let env = sim.env();
    sim.block_on(async {
        let Ok((mut wal, recovered)) = Wal::open(&env, options()).await else { return false };
        for (&group, state) in &recovered.groups {
            let _ = read_all(&wal, group, 1 << 20).await;
            wal.append(plinth_wal::Entry { group, ..entry(0, state.last.index.0 + 1, 9, 10) });
        }
        flush(&mut wal).await;
        true
    })
}

fn mutate(prng: &mut Prng, bytes: &mut [u8]) {
    let found = batches(bytes);
    let at = found[prng.index(found.len())];
    // Mostly where structure is: the header and the first records.
    let span = if prng.chance(1, 4) { bytes.len() - at } else { 300.min(bytes.len() - at) };
    for _ in 0..1 + prng.below(4) {
        let offset = at + prng.index(span);
        match prng.below(4) {
            0 => bytes[offset] ^= 1 << prng.below(8),
            1 => bytes[offset] = prng.below(6) as u8,
            2 => bytes[offset] = 0xff,
            _ => {
                let len = prng.index(40).min(bytes.len() - offset);
                prng.fill(&mut bytes[offset..offset + len]);
            }
        }
    }
    // With a right checksum the decoders behind it have to cope.
    if prng.chance(3, 4) {
        files::stamp(bytes, at);
    }
}

#[test]
fn wal_hostile_segments_give_errors_and_never_a_panic() {
    let sound = rich_log();
    let files: Vec<_> = (1..=2).map(|sequence| (segment(sequence), content(&sound, &segment(sequence)))).collect();
    let mut prng = Prng::new(77);
    let mut opened = 0;
    for round in 0..1500 {
        let sim = Sim::new(round, SimOptions::default());
        let victim = prng.index(files.len());
        for (at, (path, bytes)) in files.iter().enumerate() {
            let mut bytes = bytes.clone();
            if at == victim {
                mutate(&mut prng, &mut bytes);
            }
            sim.write_file(path, &bytes).expect("the disk has room");
        }
        opened += u32::from(try_open(&sim));
    }
    assert!(opened > 10, "mutations that leave the log readable are part of the test, {opened} did");
}

#[test]
fn wal_files_of_noise_are_refused() {
    let mut prng = Prng::new(5);
    for round in 0..100 {
        let sim = Sim::new(round, SimOptions::default());
        let mut bytes = vec![0; prng.index(200_000)];
        prng.fill(&mut bytes);
        sim.write_file(&segment(1 + prng.below(3)), &bytes).expect("the disk has room");
        assert!(!try_open(&sim));
    }
}
