use std::fs;

use super::*;
use crate::fsync::cell::{BLOCK, Neighbour};

const PLACES: u64 = 4;

/// A stretch on a file of four places; through the page cache, which every file system has.
fn stretch(dir: &tempfile::TempDir, file: FileKind, depth: usize, duration: Duration) -> Slice {
    Slice {
        cell: Cell { method: Method::BufferedFdatasync, bytes: BLOCK, depth, file, neighbour: Neighbour::None },
        path: dir.path().join("file"),
        file_bytes: PLACES * BLOCK as u64,
        first: 0,
        duration,
        since: Duration::ZERO,
        core: None,
    }
}

fn run_alone(slice: &Slice) -> Tally {
    let durable = AtomicU64::new(0);
    let tally = run(slice, &|| Duration::ZERO, &durable).expect("every file system can do it");
    assert_eq!(durable.into_inner(), tally.latencies.count(), "whoever watches sees every write");
    assert_eq!(tally.series.iter().sum::<u64>(), tally.latencies.count());
    assert_eq!((tally.writes.count(), tally.syncs.count()), (tally.latencies.count(), tally.latencies.count()));
    tally
}

#[test]
fn a_growing_file_is_used_up_by_as_many_writes_as_it_has_places() {
    for depth in [1, 3] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let slice = stretch(&dir, FileKind::Growing, depth, Duration::from_secs(60));
        let tally = run_alone(&slice);
        assert!(tally.is_used_up && tally.begun == PLACES && tally.latencies.count() == PLACES, "depth {depth}");
        assert_eq!(fs::metadata(&slice.path).expect("there").len(), PLACES * BLOCK as u64);
    }
}

#[test]
fn a_recycled_file_is_written_again_and_again_and_no_longer_than_it_is() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut slice = stretch(&dir, FileKind::Recycled, 1, Duration::from_millis(50));
    // A slow disk may need more than one stretch; each goes on where the last one ended.
    while slice.first <= PLACES {
        let tally = run_alone(&slice);
        assert!(!tally.is_used_up);
        slice.first += tally.begun;
    }
    assert_eq!(fs::metadata(&slice.path).expect("there").len(), PLACES * BLOCK as u64);
}

#[test]
fn a_core_that_is_not_there_ends_the_run() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let slice = stretch(&dir, FileKind::Growing, 1, Duration::from_secs(60));
    let slice = Slice { core: Some(100_000), ..slice };
    assert!(matches!(run(&slice, &|| Duration::ZERO, &AtomicU64::new(0)), Err(Trouble::Io(_))));
}
