//! What the kernel's FUSE client makes of the server's system calls: `powerfs` relies on these facts.

use std::process::Command;

use plinth_crash::powerfs::{Image, MountError, PowerFs, Stats};

/// Walks one path on a fresh mount; `None` where FUSE can't be used.
fn walk(name: &str) -> Option<Stats> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let fs = match PowerFs::mount(Image::new(), dir.path()) {
        Ok(fs) => fs,
        Err(MountError::Unavailable(why)) => {
            eprintln!("skipped: {why}");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let probe = Command::new(env!("CARGO_BIN_EXE_powerfs_probe")).args(["path", name]).arg(fs.path()).output();
    let probe = probe.expect("the probe starts");
    assert!(probe.status.success(), "{}", String::from_utf8_lossy(&probe.stderr));
    Some(fs.stats())
}

#[test]
fn rwf_dsync_arrives_as_o_dsync_and_a_sync_of_the_same_thread() {
    let Some(stats) = walk("direct") else { return };
    assert_eq!(stats, Stats { writes: 2, dsync_writes: 2, range_syncs: 2, ..Stats::default() });
}

#[test]
fn o_dsync_arrives_as_rwf_dsync_does() {
    let Some(stats) = walk("o_dsync") else { return };
    assert_eq!(stats, Stats { writes: 1, dsync_writes: 1, range_syncs: 1, ..Stats::default() });
}

#[test]
fn ring_writes_with_rwf_dsync_are_each_synced_before_they_complete() {
    let Some(stats) = walk("uring_dsync") else { return };
    assert_eq!(stats, Stats { writes: 8, dsync_writes: 8, range_syncs: 8, ..Stats::default() });
}

#[test]
fn a_linked_fdatasync_syncs_the_whole_file() {
    let Some(stats) = walk("uring_linked") else { return };
    assert_eq!(stats, Stats { writes: 1, file_syncs: 1, ..Stats::default() });
}

#[test]
fn a_mapping_sees_cached_and_direct_writes_and_punched_holes() {
    let Some(stats) = walk("mapped") else { return };
    assert_eq!((stats.file_syncs, stats.range_syncs), (1, 0));
}

#[test]
fn space_names_and_locks_behave() {
    let Some(stats) = walk("space") else { return };
    assert_eq!(stats.dir_syncs, 2);
}

#[test]
fn direct_io_takes_whole_sectors_only() {
    walk("misaligned");
}
