//! Entries read back: the newest ones, within a bound, whatever happens to the log meanwhile.

use plinth_base::{GroupId, LogIndex, Mark, Term};
use plinth_sim_env::{Sim, SimEnv, SimOptions};
use plinth_wal::{Entry, Wal, WalError};

use crate::{
    model::entry,
    shard::{create, flush, maintain, read_all},
};

const GROUP: GroupId = GroupId(0);

fn with_log<T>(seed: u64, test: impl AsyncFnOnce(&Sim, Wal<SimEnv>) -> T) -> T {
    let sim = Sim::new(seed, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut wal = create(&env).await;
        wal.start_group(GROUP, LogIndex(0), Term(0));
        wal.start_group(GroupId(1), LogIndex(0), Term(0));
        test(&sim, wal).await
    })
}

async fn read(wal: &Wal<SimEnv>, from: u64, bytes_max: usize) -> Vec<Entry> {
    wal.read(GROUP, LogIndex(from), bytes_max).await.expect("a sound log")
}

#[test]
fn wal_read_gives_at_least_one_entry_and_at_most_the_bytes_asked_for() {
    with_log(1, async |_, mut wal| {
        for index in 1..=50 {
            wal.append(entry(0, index, 1, 1000));
            wal.append(entry(1, index, 1, 3000));
        }
        flush(&mut wal).await;
        assert_eq!(read(&wal, 1, 0).await.len(), 1);
        assert_eq!(read(&wal, 1, 5_500).await.len(), 5);
        assert_eq!(read(&wal, 46, 1 << 20).await.len(), 5);
        assert!(read(&wal, 51, 1 << 20).await.is_empty());
    });
}

#[test]
fn wal_read_never_shows_what_is_not_durable_or_was_replaced_in_memory() {
    with_log(2, async |_, mut wal| {
        for index in 1..=10 {
            wal.append(entry(0, index, 1, 50));
        }
        assert!(read(&wal, 1, 1000).await.is_empty(), "nothing is durable yet");
        flush(&mut wal).await;
        wal.append(entry(0, 6, 2, 50));
        assert_eq!(wal.term_of(GROUP, LogIndex(6)), Some(Term(2)));
        assert_eq!(wal.term_of(GROUP, LogIndex(7)), None);
        assert_eq!(read(&wal, 1, 1000).await.len(), 5, "6 to 10 were replaced");
        let flushing = wal.begin_flush().expect("an entry waits");
        assert_eq!(read(&wal, 1, 1000).await.len(), 5);
        let done = flushing.run().await;
        wal.finish_flush(done).expect("sound");
        let terms: Vec<_> = read(&wal, 1, 1000).await.iter().map(|entry| entry.term.0).collect();
        assert_eq!(terms, [1, 1, 1, 1, 1, 2]);
        wal.start_group(GROUP, LogIndex(20), Term(3));
        assert!(read(&wal, 1, 1000).await.is_empty(), "the log starts anew");
        flush(&mut wal).await;
        assert!(matches!(wal.read(GROUP, LogIndex(21), 1000).await, Ok(entries) if entries.is_empty()));
        assert_eq!(wal.term_of(GROUP, LogIndex(20)), Some(Term(3)));
    });
}

#[test]
fn wal_tails_replaced_many_times_within_and_across_batches_read_as_the_last_one() {
    with_log(3, async |_, mut wal| {
        for index in 1..=8 {
            wal.append(entry(0, index, 1, 700));
        }
        for (term, index) in [(2, 5), (2, 6), (3, 6), (3, 7), (4, 5), (4, 6)] {
            wal.append(entry(0, index, term, 300));
        }
        flush(&mut wal).await;
        wal.append(entry(0, 3, 5, 100));
        wal.append(entry(0, 4, 5, 100));
        flush(&mut wal).await;
        let terms = |entries: &[Entry]| entries.iter().map(|entry| entry.term.0).collect::<Vec<_>>();
        assert_eq!(terms(&read(&wal, 1, 1 << 20).await), [1, 1, 5, 5]);
        assert_eq!(terms(&read(&wal, 4, 1 << 20).await), [5]);
        assert!(read(&wal, 5, 1 << 20).await.is_empty());
    });
}

#[test]
fn wal_entry_larger_than_batch_and_segment_is_split_and_read_whole() {
    let splits = Mark::RecordSplit.count();
    with_log(4, async |_, mut wal| {
        wal.append(entry(1, 1, 1, 20_000));
        wal.append(entry(0, 1, 1, 300_000));
        wal.append(entry(1, 2, 1, 100));
        wal.append(entry(0, 2, 1, 60_000));
        wal.append(entry(0, 3, 1, 60_000));
        flush(&mut wal).await;
        assert!(wal.stats().segments > 6);
        let entries = read_all(&wal, GROUP, 1000).await.expect("sound");
        assert_eq!(entries, [entry(0, 1, 1, 300_000), entry(0, 2, 1, 60_000), entry(0, 3, 1, 60_000)]);
        assert_eq!(read_all(&wal, GroupId(1), 1000).await.expect("sound").len(), 2);
    });
    assert_eq!(Mark::RecordSplit.count(), splits + 3);
}

#[test]
fn wal_read_holds_its_segments_and_released_entries_are_gone_afterwards() {
    with_log(5, async |_, mut wal| {
        for index in 1..=30 {
            wal.append(entry(0, index, 1, 9_000));
            flush(&mut wal).await;
        }
        let segments = wal.stats().segments;
        let reading = wal.read(GROUP, LogIndex(1), 50_000);
        wal.release(GROUP, LogIndex(30));
        maintain(&mut wal).await;
        assert_eq!(wal.stats().segments, segments, "a reader holds the oldest segment");
        assert_eq!(reading.await.expect("nothing was recycled under it").len(), 5);
        maintain(&mut wal).await;
        assert_eq!(wal.stats().segments, 1);
        let first = wal.first_index(GROUP).expect("started");
        assert!(first > LogIndex(20));
        assert!(
            matches!(wal.read(GROUP, LogIndex(3), 100).await, Err(WalError::Gone { first: gone }) if gone == first)
        );
    });
}

#[test]
fn wal_read_of_rotten_bytes_names_file_and_offset() {
    with_log(6, async |sim, mut wal| {
        wal.append(entry(0, 1, 1, 9_000));
        flush(&mut wal).await;
        assert!(sim.flip_bit(&crate::shard::segment(1), 4096 + 5000));
        let error = wal.read(GROUP, LogIndex(1), 100).await.expect_err("the checksum tells");
        assert!(matches!(error, WalError::Corrupt(corrupt) if corrupt.offset == 4096));
    });
}
