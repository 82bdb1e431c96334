//! Rot and damage: told from a torn tail, named with file and offset, and never touched.

use plinth_base::{Corrupt, GroupId, LogIndex, Mark, Term};
use plinth_env::Env;
use plinth_sim_env::{Sim, SimOptions};
use plinth_wal::{HardState, Recovered, Wal, WalError};

use crate::{
    files::{self, BLOCK, batches, content, snapshot},
    model::entry,
    shard::{DIR, create, flush, maintain, options, read_all, seal, segment},
};

const GROUP: GroupId = GroupId(0);

/// A log of several segments, several batches each; sealed if asked.
fn sound_log(seed: u64, is_sealed: bool) -> Sim {
    let sim = Sim::new(seed, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut wal = create(&env).await;
        wal.start_group(GROUP, LogIndex(0), Term(0));
        for index in 1..=12 {
            wal.append(entry(0, index, 1, 9_000));
            flush(&mut wal).await;
        }
        if is_sealed {
            seal(&mut wal).await;
        }
        assert_eq!(wal.stats().segments, 3);
    });
    sim.kill();
    sim
}

fn open(sim: &Sim) -> Result<(Wal<plinth_sim_env::SimEnv>, Recovered), WalError> {
    let env = sim.env();
    sim.block_on(Wal::open(&env, options()))
}

/// Opening fails with corruption, and every file is as it was.
fn refused(sim: &Sim) -> Corrupt {
    let before = snapshot(sim);
    let error = open(sim).err().expect("a corrupt log is refused");
    assert!(snapshot(sim) == before, "a corrupt log is left as it is");
    let WalError::Corrupt(corrupt) = error else { panic!("{error} instead of corruption") };
    corrupt
}

#[test]
fn wal_bit_flip_in_any_field_of_any_batch_of_a_sealed_log_names_file_and_offset() {
    for sequence in 1..=3 {
        let path = segment(sequence);
        let found = batches(&content(&sound_log(1, true), &path));
        // The seal, which is the last batch of all, is the one that can rot unnoticed: it says nothing.
        let count = if sequence == 3 { found.len() - 1 } else { found.len() };
        assert!(count > 1);
        for &at in &found[..count] {
            for byte in [0, 8, 14, 16, 20, 24, 32, 33, 40, 48, 56, 64, 80] {
                let sim = sound_log(1, true);
                assert!(sim.flip_bit(&path, (at + byte) as u64));
                let corrupt = refused(&sim);
                assert_eq!((corrupt.file.as_path(), corrupt.offset), (path.as_path(), at as u64), "{corrupt}");
            }
        }
    }
}

#[test]
fn wal_rotten_seal_is_cut_and_reported() {
    let sim = sound_log(2, true);
    let path = segment(3);
    let at = *batches(&content(&sim, &path)).last().expect("the seal");
    assert!(sim.flip_bit(&path, at as u64 + 8));
    let (wal, recovered) = open(&sim).expect("a torn tail is no corruption");
    assert!(!recovered.sealed);
    assert_eq!(recovered.cut.map(|cut| cut.offset), Some(at as u64));
    assert_eq!(wal.group_tail(GROUP).map(|state| state.last.index), Some(LogIndex(12)));
}

#[test]
fn wal_torn_tail_is_cut_not_replayed_and_never_mistaken_for_corruption_later() {
    let cuts = Mark::TornTailCut.count();
    let sim = sound_log(3, false);
    let path = segment(3);
    let at = *batches(&content(&sim, &path)).last().expect("the last batch");
    assert!(sim.flip_bit(&path, (at + BLOCK) as u64));
    let (wal, recovered) = open(&sim).expect("a torn tail is no corruption");
    let cut = recovered.cut.expect("the torn batch is reported");
    assert_eq!((cut.file, cut.offset, cut.may_hold_acknowledged), (path.clone(), at as u64, true));
    assert!(Mark::TornTailCut.count() > cuts);
    assert_eq!(recovered.groups[&GROUP].last.index, LogIndex(11));
    assert!(recovered.groups[&GROUP].hard_state.is_doubtful, "nobody knows whether entry 12 was acknowledged");
    let torn = content(&sim, &path);
    // The log goes on in a fresh segment; the torn batch stays where it is.
    let mut wal = wal;
    sim.block_on(async {
        wal.append(entry(0, 12, 2, 10));
        flush(&mut wal).await;
        drop(wal);
    });
    assert!(content(&sim, &path) == torn, "what was cut is not written over");
    sim.crash();
    let (wal, recovered) = open(&sim).expect("the cut is in the next segment's start");
    assert_eq!((recovered.cut, recovered.groups[&GROUP].last.term), (None, Term(2)));
    let hard_state = recovered.groups[&GROUP].hard_state;
    assert!(hard_state.is_doubtful, "the doubt outlives the next start");
    let mut wal = wal;
    sim.block_on(async {
        wal.set_hard_state(GROUP, HardState { is_doubtful: false, ..hard_state });
        flush(&mut wal).await;
    });
    sim.crash();
    let (wal, recovered) = open(&sim).expect("the log is sound");
    assert!(!recovered.groups[&GROUP].hard_state.is_doubtful, "until the member has caught up");
    let entries = sim.block_on(read_all(&wal, GROUP, 1 << 20)).expect("entries on both sides of the cut");
    assert_eq!(entries.len(), 12);
}

#[test]
fn wal_whole_batch_behind_a_torn_one_is_corruption_even_at_the_end() {
    let sim = sound_log(4, false);
    let path = segment(3);
    let found = batches(&content(&sim, &path));
    let at = found[found.len() - 2];
    // Not a bit but the whole header is gone: only the block-by-block search can tell.
    let mut bytes = content(&sim, &path);
    bytes[at..at + BLOCK].fill(0);
    sim.write_file(&path, &bytes).expect("the disk has room");
    let corrupt = refused(&sim);
    assert_eq!((corrupt.file, corrupt.offset), (path, at as u64));
    assert!(corrupt.got.contains("later batch"), "{}", corrupt.got);
}

#[test]
fn wal_torn_start_of_a_segment_is_cut_but_a_rotten_one_is_corruption() {
    let sim = sound_log(5, false);
    let path = segment(3);
    let mut bytes = content(&sim, &path);
    bytes[100] ^= 1;
    sim.write_file(&path, &bytes).expect("the disk has room");
    assert_eq!(refused(&sim).file, path);
    // The same start with nothing behind it was never acknowledged.
    bytes[BLOCK..].fill(0);
    sim.write_file(&path, &bytes).expect("the disk has room");
    let (mut wal, recovered) = open(&sim).expect("a torn start is no corruption");
    let cut = recovered.cut.expect("it is reported");
    assert_eq!((cut.file, cut.offset, cut.may_hold_acknowledged), (path, 0, false));
    let last = recovered.groups[&GROUP].last.index;
    sim.block_on(async {
        for index in last.0 + 1..last.0 + 9 {
            wal.append(entry(0, index, 2, 9_000));
            flush(&mut wal).await;
        }
    });
    drop(wal);
    sim.crash();
    let (_, recovered) = open(&sim).expect("the segment was begun anew");
    assert_eq!(recovered.groups[&GROUP].last.index.0, last.0 + 8);
}

#[test]
fn wal_stale_batches_of_a_recycled_segment_are_empty_not_torn() {
    let sim = Sim::new(6, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut wal = create(&env).await;
        wal.start_group(GROUP, LogIndex(0), Term(0));
        for index in 1..=38 {
            wal.append(entry(0, index, 1, 9_000));
            flush(&mut wal).await;
            wal.release(GROUP, LogIndex(index));
            maintain(&mut wal).await;
        }
    });
    sim.kill();
    let (_, recovered) = open(&sim).expect("stale batches are nobody's");
    assert_eq!((recovered.cut, recovered.groups[&GROUP].last.index), (None, LogIndex(38)));
    // The segment under way is a recycled one, with whole batches of its former life behind the new ones.
    // The next one, ready already, holds a former life from its first block on.
    let begun = (1..100).filter(|&sequence| {
        let bytes = sim.read_file(&segment(sequence));
        bytes.is_some_and(|bytes| files::u64_at(&bytes, files::SEGMENT) == sequence)
    });
    let active = segment(begun.max().expect("one is under way"));
    let bytes = content(&sim, &active);
    let nonce = files::u64_at(&bytes, files::NONCE);
    let is_stale = |block: &[u8]| block.starts_with(b"plinthWL") && files::u64_at(block, files::NONCE) != nonce;
    assert!(bytes.chunks(BLOCK).any(is_stale), "nothing stale in {}", active.display());
}

#[test]
fn wal_missing_segments_and_foreign_segments_are_refused() {
    let sim = sound_log(7, true);
    let env = sim.env();
    let second = content(&sim, &segment(2));
    sim.block_on(env.remove_file(&segment(2))).expect("it is there");
    assert!(matches!(open(&sim), Err(WalError::MissingSegment { file }) if file == segment(2)));
    // The same segment of another log: its nonce is not the one that was promised.
    let other = content(&sound_log(8, true), &segment(2));
    sim.write_file(&segment(2), &other).expect("the disk has room");
    let corrupt = refused(&sim);
    assert_eq!((corrupt.file, corrupt.offset), (segment(2), 0));
    assert!(corrupt.want.contains("nonce"), "{}", corrupt.want);
    // A segment that was cut short.
    sim.write_file(&segment(2), &second[..32_768]).expect("the disk has room");
    let corrupt = refused(&sim);
    assert_eq!((corrupt.file, corrupt.offset), (segment(2), 32_768));
    sim.write_file(&segment(2), &second).expect("the disk has room");
    assert!(open(&sim).is_ok(), "with its own segment the log is sound");
}

#[test]
fn wal_unknown_format_version_is_named() {
    let sim = sound_log(9, true);
    let mut bytes = content(&sim, &segment(2));
    bytes[files::VERSION] = 9;
    files::stamp(&mut bytes, 0);
    sim.write_file(&segment(2), &bytes).expect("the disk has room");
    let before = snapshot(&sim);
    let error = open(&sim).err().expect("refused");
    assert!(matches!(&error, WalError::UnknownVersion { file, found: 9 } if *file == segment(2)), "{error}");
    assert!(snapshot(&sim) == before);
}

#[test]
fn wal_directories_without_or_with_a_log_are_told_apart() {
    let sim = Sim::new(10, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        env.create_dir(DIR.as_ref()).await.expect("a new directory");
        assert!(matches!(Wal::open(&env, options()).await, Err(WalError::NoLog { .. })));
        drop(Wal::create(&env, options()).await.expect("an empty directory"));
        assert!(matches!(Wal::create(&env, options()).await, Err(WalError::LogExists { .. })));
        assert!(Wal::open(&env, options()).await.is_ok());
    });
}

#[test]
fn wal_payload_that_looks_like_a_batch_is_only_payload() {
    let sim = Sim::new(11, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut wal = create(&env).await;
        wal.start_group(GROUP, LogIndex(0), Term(0));
        wal.append(entry(0, 1, 1, 10));
        flush(&mut wal).await;
    });
    // A client stores a copy of a batch of this log, without knowing its nonce, on every block boundary.
    let mut copy = content(&sim, &segment(1))[BLOCK..2 * BLOCK].to_vec();
    copy[files::NONCE..files::NONCE + 8].fill(7);
    copy[48] += 1;
    files::stamp(&mut copy, 0);
    let mut bait = vec![0; BLOCK - files::HEADER - 40];
    bait.extend(copy.repeat(4));
    sim.kill();
    let (mut wal, _) = open(&sim).expect("sound");
    sim.block_on(async {
        wal.append(plinth_wal::Entry { payload: bait.into(), ..entry(0, 2, 1, 0) });
        flush(&mut wal).await;
    });
    drop(wal);
    sim.kill();
    // The batch that carries the bait rots at its header: still a torn tail, not corruption.
    let at = batches(&content(&sim, &segment(1)))[2];
    assert!(content(&sim, &segment(1))[at + BLOCK..].starts_with(b"plinthWL"), "the bait lies on a block boundary");
    assert!(sim.flip_bit(&segment(1), at as u64 + 8));
    let (_, recovered) = open(&sim).expect("no client can make a batch");
    assert_eq!(recovered.cut.map(|cut| cut.offset), Some(at as u64));
}

#[test]
fn wal_check_proves_a_sound_log_and_changes_nothing() {
    let sim = sound_log(7, true);
    let before = snapshot(&sim);
    let report = sim.block_on(plinth_wal::check(&sim.env(), DIR.as_ref())).expect("sound");
    assert!(snapshot(&sim) == before, "the checker only reads");
    assert!(report.recovered.sealed && report.recovered.cut.is_none());
    assert_eq!(report.recovered.groups[&GROUP].last.index, LogIndex(12));
    let files: Vec<_> = report.segments.iter().map(|found| found.file.clone()).collect();
    assert_eq!(files, [segment(1), segment(2), segment(3)]);
    assert!(report.segments.is_sorted_by_key(|found| found.first));
    assert!(report.segments.iter().all(|found| found.end > BLOCK as u64 && found.end <= found.bytes));
}

#[test]
fn wal_check_tells_a_torn_tail_from_rot_and_leaves_both() {
    let sim = sound_log(8, false);
    let path = segment(3);
    let found = batches(&content(&sim, &path));
    let (&last, &earlier) = (found.last().expect("several"), &found[found.len() - 2]);
    assert!(sim.flip_bit(&path, last as u64 + 100));
    let before = snapshot(&sim);
    let report = sim.block_on(plinth_wal::check(&sim.env(), DIR.as_ref())).expect("a torn tail is sound");
    let cut = report.recovered.cut.expect("the last batch isn't whole");
    assert_eq!((cut.file, cut.offset), (path.clone(), last as u64));
    assert!(snapshot(&sim) == before, "nothing is cut by looking");
    assert!(sim.flip_bit(&path, earlier as u64 + 100));
    let before = snapshot(&sim);
    let error = sim.block_on(plinth_wal::check(&sim.env(), DIR.as_ref())).expect_err("two bad batches are no tear");
    assert!(snapshot(&sim) == before);
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()) && text.contains("restore the member"), "{text}");
}
