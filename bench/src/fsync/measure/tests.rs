use super::*;
use crate::{
    facts::Facts,
    fsync::{
        cell::{BLOCK, FileKind},
        files::Sizes,
        method::Method,
    },
};

const PLACES: u64 = 8;

#[test]
fn cells_of_a_group_get_their_time_and_a_file_that_is_used_up_is_made_again() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let sizes = Sizes { file: PLACES * BLOCK as u64, neighbour: 0, own_files: 2 };
    let files = Files::new(dir.path(), sizes);
    let duration = Duration::from_millis(100);
    let progress = Progress::new(duration);
    let mut measuring = Measuring { files: &files, duration, core: None, disk: None, progress };
    let plain = Cell::plain(Method::BufferedFdatasync);
    let group = [plain, Cell { file: FileKind::Growing, ..plain }];
    let outcomes = measuring.in_turns(&group, 4).expect("every file system can do it");
    for outcome in &outcomes {
        let measured = outcome.measured().expect("both are possible");
        let count = measured.tally.latencies.count();
        assert!(count > PLACES || measured.tally.elapsed >= duration, "{count} writes");
        assert_eq!((measured.device_flushes, measured.neighbour_per_second), (None, None));
    }
    assert!(!files.path(group[1], 1).exists(), "files of their own go at once");
}

#[test]
fn what_is_impossible_takes_nothing_from_the_others() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let files = Files::new(dir.path(), Sizes { file: PLACES * BLOCK as u64, neighbour: 0, own_files: 0 });
    let duration = Duration::from_millis(20);
    let progress = Progress::new(duration);
    let mut measuring = Measuring { files: &files, duration, core: None, disk: None, progress };
    let plain = Cell::plain(Method::BufferedFsync);
    // No device has blocks as small as this.
    let impossible = Cell { bytes: 1, ..Cell::plain(Method::DirectFdatasync) };
    let outcomes = measuring.in_turns(&[impossible, plain], 2).expect("the other one can be done");
    assert!(outcomes[1].measured().is_some_and(|measured| measured.tally.latencies.count() > 0));
    // In memory even that works.
    assert!(outcomes[0].measured().is_none() || Facts::look(dir.path()).device.is_none());
}
