//! What programs see of a directory whose flushes stall, and what the kernel makes of the ways in which a log is flushed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, IoSlice},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use plinth_base::{AlignedBuf, BLOCK_BYTES};
use plinth_fuse::{MountError, slowfs::SlowFs};
use rustix::{
    fs::{FallocateFlags, FlockOperation, fallocate, flock, statvfs},
    io::{ReadWriteFlags, pwritev2},
};
use tempfile::TempDir;

/// Longer than a sound flush takes on any machine that isn't overwhelmed.
const STUCK: Duration = Duration::from_millis(700);
/// For ever, as far as these tests go.
const AN_HOUR: Duration = Duration::from_secs(3600);
const FILE_BYTES: u64 = 1 << 20;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// A slow file system with the directory below it.
struct Place {
    // Unmounted before its directories are removed.
    fs: SlowFs,
    dirs: TempDir,
}

impl Place {
    /// `None` where FUSE can't be used.
    fn new() -> Option<Self> {
        let dirs = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(dirs.path().join("below")).expect("it is empty");
        fs::create_dir(dirs.path().join("mounted")).expect("it is empty");
        match SlowFs::mount(&dirs.path().join("below"), &dirs.path().join("mounted")) {
            Ok(fs) => Some(Self { fs, dirs }),
            Err(MountError::Unavailable(why)) => {
                eprintln!("skipped: {why}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn below(&self, name: &str) -> PathBuf {
        self.dirs.path().join("below").join(name)
    }

    fn open(&self, name: &str, flags: i32) -> File {
        open(&self.fs.path().join(name), flags).expect("it can be opened")
    }
}

fn open(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).custom_flags(flags).open(path)
}

fn filled(bytes: usize, byte: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(bytes);
    buf.as_mut_slice().fill(byte);
    buf
}

fn timed<T>(f: impl FnOnce() -> T) -> (T, Duration) {
    let since = Instant::now();
    (f(), since.elapsed())
}

fn write_dsync(file: &File, offset: u64) -> io::Result<usize> {
    let buf = filled(BLOCK_BYTES, 1);
    Ok(pwritev2(file, &[IoSlice::new(buf.as_slice())], offset, ReadWriteFlags::DSYNC)?)
}

/// Everything that a log does with its directory.
#[test]
fn what_a_log_does_is_passed_through() -> io::Result<()> {
    let Some(place) = Place::new() else { return Ok(()) };
    let root = place.fs.path();
    let file = place.open("file", libc::O_DIRECT);
    fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES)?;
    assert_eq!(file.metadata()?.len(), FILE_BYTES);
    fallocate(&file, FallocateFlags::KEEP_SIZE, FILE_BYTES, FILE_BYTES)?;
    assert_eq!(file.metadata()?.len(), FILE_BYTES);
    // As large as the log's largest batch: the kernel sends it in parts.
    file.write_all_at(filled(512 << 10, 7).as_slice(), BLOCK)?;
    fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 2 * BLOCK, BLOCK)?;
    fallocate(&file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, 4 * BLOCK, BLOCK)?;
    let mut read = filled(8 * BLOCK_BYTES, 9);
    file.read_exact_at(read.as_mut_slice(), 0)?;
    let firsts: Vec<u8> = read.as_slice().chunks(BLOCK_BYTES).map(|block| block[0]).collect();
    assert_eq!(firsts, [0, 7, 0, 7, 0, 7, 7, 7]);
    let misaligned = file.write_at(&filled(BLOCK_BYTES, 1).as_slice()[..100], 0);
    assert!(misaligned.is_err(), "direct I/O takes whole sectors only");
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    assert!(flock(place.open("file", 0), FlockOperation::NonBlockingLockExclusive).is_err(), "a lock excludes others");
    fs::create_dir(root.join("sub"))?;
    fs::rename(root.join("file"), root.join("sub/renamed"))?;
    file.sync_all()?;
    file.sync_data()?;
    for dir in [root.join("sub"), root.to_owned()] {
        File::open(dir)?.sync_all()?;
    }
    let names: Vec<_> = fs::read_dir(root.join("sub"))?.collect::<Result<_, _>>()?;
    assert!(names.len() == 1 && names[0].file_name() == "renamed");
    assert!(statvfs(root)?.f_bfree > 0);
    fs::write(root.join("small"), "what was written")?;
    let small = File::open(root.join("small"))?;
    fs::remove_file(root.join("small"))?;
    assert_eq!(io::read_to_string(&small)?, "what was written", "a file lives on while it is open");
    file.set_len(10)?;
    assert_eq!(fs::read(root.join("sub/renamed"))?, [0; 10]);
    assert_eq!(fs::read(root.join("nothing")).expect_err("it isn't there").kind(), ErrorKind::NotFound);
    Ok(())
}

#[test]
fn contents_survive_a_mount() -> io::Result<()> {
    let Some(place) = Place::new() else { return Ok(()) };
    fs::create_dir(place.fs.path().join("wal"))?;
    write_dsync(&place.open("wal/file", libc::O_DIRECT), 0)?;
    assert_eq!(fs::read(place.below("wal/file"))?, [1; BLOCK_BYTES]);
    let Place { fs: mounted, dirs } = place;
    let at = mounted.path().to_owned();
    drop(mounted);
    assert!(fs::read_dir(&at)?.next().is_none(), "it is mounted no more");
    let again = SlowFs::mount(&dirs.path().join("below"), &at).expect("it was possible before");
    assert_eq!(fs::read(again.path().join("wal/file"))?, [1; BLOCK_BYTES]);
    Ok(())
}

/// A flush gets stuck whichever way it is asked for of those that a log may use, and is one flush.
#[test]
fn each_way_to_flush_gets_stuck() {
    let Some(place) = Place::new() else { return };
    let direct = place.open("direct", libc::O_DIRECT);
    fallocate(&direct, FallocateFlags::empty(), 0, FILE_BYTES).expect("there is room");
    let ways: [(&str, &dyn Fn() -> io::Result<()>); 6] = [
        ("fsync", &|| direct.sync_all()),
        ("fdatasync", &|| direct.sync_data()),
        ("pwritev2 with RWF_DSYNC", &|| write_dsync(&direct, 0).map(drop)),
        ("fsync of a directory", &|| File::open(place.fs.path())?.sync_all()),
        ("a ring's write with RWF_DSYNC", &|| ring_write(&direct, true)),
        ("a ring's write with a linked fdatasync", &|| ring_write(&direct, false)),
    ];
    for (name, way) in ways {
        way().expect("the disk is sound");
        let before = place.fs.stats();
        place.fs.stick_next(STUCK);
        let (outcome, took) = timed(way);
        outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(took >= STUCK, "{name} took {took:?}");
        let after = place.fs.stats();
        assert_eq!(after.flushes - before.flushes, 1, "{name}");
        let is_dsync = after.dsync_writes > before.dsync_writes;
        assert_eq!(is_dsync, name.contains("RWF_DSYNC"), "{name}");
    }
}

/// A thread that submits a write to its ring has other things to do than wait for the disk.
#[test]
fn a_ring_takes_writes_while_the_disk_is_stuck() {
    let Some(place) = Place::new() else { return };
    let file = place.open("file", libc::O_DIRECT);
    // Writes that make a file longer are waited for.
    fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES).expect("there is room");
    for is_dsync in [true, false] {
        place.fs.stick(AN_HOUR);
        ring_write_with(&file, is_dsync, |ring| {
            assert_eq!(ring.submit()?, if is_dsync { 1 } else { 2 });
            await_waiting(&place, 1);
            place.fs.heal();
            Ok(())
        })
        .expect("the disk is sound in the end");
    }
}

/// A block by way of the ring, durable when this returns.
fn ring_write(file: &File, is_dsync: bool) -> io::Result<()> {
    ring_write_with(file, is_dsync, |_| Ok(()))
}

/// The same; `meanwhile` gets the ring before the write is waited for.
fn ring_write_with(
    file: &File,
    is_dsync: bool,
    meanwhile: impl FnOnce(&mut io_uring::IoUring) -> io::Result<()>,
) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    use io_uring::{opcode, squeue, types};

    let mut ring = io_uring::IoUring::new(4)?;
    let buf = filled(BLOCK_BYTES, 1);
    let target = types::Fd(file.as_raw_fd());
    let write = opcode::Write::new(target, buf.as_slice().as_ptr(), BLOCK_BYTES as u32).offset(0);
    let mut entries = Vec::new();
    if is_dsync {
        entries.push(write.rw_flags(libc::RWF_DSYNC).build());
    } else {
        entries.push(write.build().flags(squeue::Flags::IO_LINK));
        entries.push(opcode::Fsync::new(target).flags(types::FsyncFlags::DATASYNC).build());
    }
    for entry in &entries {
        push(&mut ring, entry)?;
    }
    meanwhile(&mut ring)?;
    ring.submit_and_wait(entries.len())?;
    for done in ring.completion() {
        if done.result() < 0 {
            return Err(io::Error::from_raw_os_error(-done.result()));
        }
    }
    Ok(())
}

/// The buffer and the file of `entry` must live until the ring has completed it.
#[expect(unsafe_code, reason = "the kernel is given addresses")]
fn push(ring: &mut io_uring::IoUring, entry: &io_uring::squeue::Entry) -> io::Result<()> {
    // SAFETY: the one caller keeps both until after the last completion.
    unsafe { ring.submission().push(entry) }.map_err(|_| ErrorKind::OutOfMemory.into())
}

/// Waits until so many flushes wait.
fn await_waiting(place: &Place, flushes: usize) {
    while place.fs.waiting() < flushes {
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn one_stuck_flush_holds_up_nothing_else() {
    let Some(place) = Place::new() else { return };
    let stuck = place.open("stuck", libc::O_DIRECT);
    stuck.write_all_at(filled(BLOCK_BYTES, 3).as_slice(), 0).expect("writes don't wait");
    place.fs.stick_next(AN_HOUR);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| stuck.sync_data());
        await_waiting(&place, 1);
        // More than the session has threads.
        for i in 0..10 {
            let other = place.open(&format!("other{i}"), libc::O_DIRECT);
            write_dsync(&other, 0).expect("another file's flush");
            let mut read = filled(BLOCK_BYTES, 0);
            stuck.read_exact_at(read.as_mut_slice(), 0).expect("a read of the same file");
            assert_eq!(read.as_slice()[0], 3);
        }
        assert_eq!(place.fs.waiting(), 1, "the others were done before it");
        place.fs.heal();
        waiting.join().expect("it doesn't panic").expect("it succeeds in the end");
    });
}

#[test]
fn a_stuck_disk_lets_no_flush_go_until_its_time_is_over_or_it_is_healed() {
    let Some(place) = Place::new() else { return };
    let files: Vec<File> = (0..8).map(|i| place.open(&format!("file{i}"), 0)).collect();
    // How long it takes until all flushes have ended that begin while the disk is stuck.
    let all_ended = |duration: Duration, is_healed: bool| {
        place.fs.stick(duration);
        let since = Instant::now();
        thread::scope(|scope| {
            for file in &files {
                scope.spawn(|| file.sync_all().expect("it succeeds in the end"));
            }
            await_waiting(&place, files.len());
            if is_healed {
                place.fs.heal();
            }
        });
        since.elapsed()
    };
    assert!(all_ended(STUCK, false) >= STUCK);
    assert!(all_ended(AN_HOUR, true) < AN_HOUR);
}

#[test]
fn a_slow_disk_takes_its_time_for_each_flush() {
    let Some(place) = Place::new() else { return };
    let file = place.open("file", 0);
    let [low, high] = [20, 60].map(Duration::from_millis);
    place.fs.slow_down(low..=low);
    assert!((0..5).map(|_| timed(|| file.sync_all()).1).all(|took| took >= low));
    place.fs.slow_down(low..=high);
    let took: Vec<Duration> = (0..10).map(|_| timed(|| file.sync_all()).1).collect();
    assert!(took.iter().all(|took| *took >= low), "{took:?}");
    assert!(took.iter().any(|took| *took >= (low + high) / 2), "{took:?}");
}

#[test]
fn errors_are_passed_on_until_the_disk_is_healed() {
    let Some(place) = Place::new() else { return };
    let file = place.open("file", libc::O_DIRECT);
    place.fs.fail();
    let code = |outcome: io::Result<()>| outcome.expect_err("flushes fail").raw_os_error();
    assert_eq!(code(file.sync_data()), Some(libc::EIO));
    assert_eq!(code(write_dsync(&file, 0).map(drop)), Some(libc::EIO));
    let dir = File::open(place.fs.path()).expect("it is there");
    assert_eq!(code(dir.sync_all()), Some(libc::EIO));
    assert_eq!((place.fs.stats().flushes, place.fs.stats().flushes_failed), (0, 3));
    place.fs.heal();
    write_dsync(&file, 0).expect("the disk is sound");
    dir.sync_all().expect("the disk is sound");
}

#[test]
fn a_mount_can_go_while_a_flush_is_stuck() {
    let Some(place) = Place::new() else { return };
    let file = place.open("file", 0);
    place.fs.stick(AN_HOUR);
    let thread = thread::spawn(move || file.sync_all());
    await_waiting(&place, 1);
    drop(place);
    // It may have been answered, or have lost its file system.
    thread.join().expect("it doesn't panic").ok();
}
