//! What is kept, what goes, and who holds it.

use std::{collections::BTreeSet, path::PathBuf};

use plinth_base::{GroupId, LogIndex, Mark, MemberId, Term};
use plinth_sim_env::{Sim, SimEnv, SimOptions};
use plinth_wal::{HardState, Wal};

use crate::{
    model::entry,
    shard::{create, flush, maintain, options},
};

const QUIET: GroupId = GroupId(1);
const BUSY: GroupId = GroupId(0);

async fn two_groups(env: &SimEnv) -> Wal<SimEnv> {
    let mut wal = create(env).await;
    wal.start_group(BUSY, LogIndex(0), Term(0));
    wal.start_group(QUIET, LogIndex(0), Term(0));
    wal.append(entry(QUIET.0, 1, 1, 100));
    wal.set_hard_state(
        QUIET,
        HardState { term: Term(4), vote: Some(MemberId(9)), commit: LogIndex(1), is_doubtful: false },
    );
    flush(&mut wal).await;
    wal
}

async fn fill(wal: &mut Wal<SimEnv>, from: u64, to: u64) {
    for index in from..=to {
        wal.append(entry(BUSY.0, index, 1, 9_000));
        flush(wal).await;
        maintain(wal).await;
    }
}

#[test]
fn wal_segment_stays_until_every_group_released_it_and_its_holder_is_named() {
    let sim = Sim::new(1, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut wal = two_groups(&env).await;
        fill(&mut wal, 1, 40).await;
        let segments = wal.stats().segments;
        wal.release(BUSY, LogIndex(40));
        maintain(&mut wal).await;
        assert_eq!(wal.stats().segments, segments, "the quiet group's entry is in the first segment");
        let (holder, bytes) = wal.oldest_holder().expect("something is held");
        assert_eq!(holder, QUIET);
        assert!(bytes > 40 * 9_000);
        wal.release(QUIET, LogIndex(1));
        maintain(&mut wal).await;
        assert_eq!((wal.stats().segments, wal.oldest_holder()), (1, None));
    });
}

#[test]
fn wal_quiet_group_is_carried_by_state_records_over_any_number_of_segments() {
    let sim = Sim::new(2, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut wal = two_groups(&env).await;
        wal.release(QUIET, LogIndex(1));
        for round in 0..20 {
            fill(&mut wal, round * 10 + 1, round * 10 + 10).await;
            wal.release(BUSY, LogIndex(round * 10 + 10));
        }
        maintain(&mut wal).await;
        assert_eq!(wal.stats().segments, 1);
    });
    sim.crash();
    let env = sim.env();
    sim.block_on(async {
        let (mut wal, recovered) = Wal::open(&env, options()).await.expect("sound");
        let quiet = recovered.groups[&QUIET];
        assert_eq!(
            quiet.hard_state,
            HardState { term: Term(4), vote: Some(MemberId(9)), commit: LogIndex(1), is_doubtful: false }
        );
        assert_eq!((quiet.start.index, quiet.last.term), (LogIndex(1), Term(1)));
        assert_eq!(wal.term_of(QUIET, LogIndex(1)), Some(Term(1)));
        wal.append(entry(QUIET.0, 2, 4, 10));
        flush(&mut wal).await;
    });
}

#[test]
fn wal_released_segments_are_recycled_and_files_stay_few() {
    let recycled = Mark::SegmentRecycled.count();
    let sim = Sim::new(3, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut wal = two_groups(&env).await;
        wal.release(QUIET, LogIndex(1));
        for index in 1..=300 {
            fill(&mut wal, index, index).await;
            wal.release(BUSY, LogIndex(index.saturating_sub(3)));
        }
    });
    assert!(Mark::SegmentRecycled.count() > recycled + 30, "the log lives on recycled segments");
    let files = sim.files();
    assert!(files.len() <= 5, "{files:?}");
    let lengths: BTreeSet<_> = files.iter().map(|(_, bytes)| *bytes).collect();
    assert_eq!(lengths, BTreeSet::from([options().segment_bytes]), "recycling keeps the length");
}

#[test]
fn wal_opened_with_another_segment_size_keeps_old_segments_and_makes_new_ones() {
    let sim = Sim::new(4, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut wal = two_groups(&env).await;
        fill(&mut wal, 1, 20).await;
    });
    sim.crash();
    let env = sim.env();
    let larger = plinth_wal::WalOptions { segment_bytes: 256 << 10, ..options() };
    sim.block_on(async {
        let (mut wal, _) = Wal::open(&env, larger.clone()).await.expect("sound");
        fill(&mut wal, 21, 80).await;
        wal.release(BUSY, LogIndex(70));
        wal.release(QUIET, LogIndex(1));
        maintain(&mut wal).await;
    });
    let files = sim.files();
    let is_old = |(path, bytes): &(PathBuf, u64)| *bytes == options().segment_bytes || path.ends_with(".tmp");
    assert!(!files.iter().any(is_old), "segments of the old size are removed, not recycled: {files:?}");
    sim.crash();
    let env = sim.env();
    sim.block_on(async {
        let (_, recovered) = Wal::open(&env, larger).await.expect("sound");
        assert_eq!(recovered.groups[&BUSY].last.index, LogIndex(80));
    });
}

#[test]
fn wal_seal_is_written_once_and_only_when_idle() {
    let sim = Sim::new(5, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut wal = two_groups(&env).await;
        wal.append(entry(BUSY.0, 1, 1, 10));
        assert!(wal.begin_seal().is_none(), "an entry waits");
        flush(&mut wal).await;
        crate::shard::seal(&mut wal).await;
        assert!(wal.begin_seal().is_none(), "it is sealed");
        wal.append(entry(BUSY.0, 2, 1, 10));
        flush(&mut wal).await;
        crate::shard::seal(&mut wal).await;
    });
    sim.crash();
    let env = sim.env();
    sim.block_on(async {
        let (mut wal, recovered) = Wal::open(&env, options()).await.expect("sound");
        assert!(recovered.sealed && recovered.cut.is_none());
        assert!(wal.begin_seal().is_none(), "a sealed log stays sealed");
    });
}

#[test]
fn wal_group_whose_start_still_waits_is_not_in_a_new_segments_states() {
    let sim = Sim::new(6, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut wal = two_groups(&env).await;
        fill(&mut wal, 1, 1).await;
        // The first batch begins a segment while the start waits in the second.
        wal.append(entry(BUSY.0, 2, 1, 50_000));
        wal.append(entry(BUSY.0, 3, 1, 50_000));
        wal.start_group(GroupId(5), LogIndex(0), Term(0));
        let done = wal.begin_flush().expect("entries wait").run().await;
        assert!(wal.finish_flush(done).expect("sound").rotated);
        flush(&mut wal).await;
    });
    sim.crash();
    let env = sim.env();
    let (_, recovered) = sim.block_on(Wal::open(&env, options())).expect("states agree with the records before");
    assert_eq!(recovered.groups.len(), 3);
}

#[test]
fn wal_replaced_tail_outlives_the_segment_of_what_it_replaced() {
    let sim = Sim::new(7, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut wal = two_groups(&env).await;
        wal.release(QUIET, LogIndex(1));
        fill(&mut wal, 1, 6).await;
        // From here on all is replaced, in another segment than the one that has it first.
        wal.append(entry(BUSY.0, 5, 2, 30_000));
        wal.append(entry(BUSY.0, 6, 2, 30_000));
        flush(&mut wal).await;
        wal.release(BUSY, LogIndex(4));
        maintain(&mut wal).await;
        assert_eq!(wal.first_index(BUSY), Some(LogIndex(5)), "what was replaced holds nothing");
    });
    sim.crash();
    let env = sim.env();
    sim.block_on(async {
        let (wal, recovered) = Wal::open(&env, options()).await.expect("sound");
        let state = recovered.groups[&BUSY];
        assert_eq!((state.start.index, state.start.term, state.last.index), (LogIndex(4), Term(1), LogIndex(6)));
        let entries = wal.read(BUSY, LogIndex(5), 1 << 20).await.expect("both are there");
        assert_eq!(entries.iter().map(|entry| entry.term.0).collect::<Vec<_>>(), [2, 2]);
    });
}
