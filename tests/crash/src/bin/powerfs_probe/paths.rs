//! The ways into the kernel that the server uses, one function each. What the file system saw of them is for the test that
//! started this process to check.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice},
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::Path,
};

use io_uring::{IoUring, opcode, squeue, types};
use memmap2::{Advice, Mmap, MmapOptions};
use plinth_base::{AlignedBuf, BLOCK_BYTES};
use rustix::{
    fs::{FallocateFlags, FlockOperation, fallocate, flock, statvfs},
    io::{ReadWriteFlags, pwritev2},
};

const FILE_BYTES: u64 = 1 << 20;
const BLOCK: u64 = BLOCK_BYTES as u64;

pub fn walk(name: &str, dir: &Path) -> io::Result<()> {
    match name {
        "direct" => direct(dir),
        "o_dsync" => o_dsync(dir),
        "uring_dsync" => uring_dsync(dir),
        "uring_linked" => uring_linked(dir),
        "mapped" => mapped(dir),
        "space" => space(dir),
        "misaligned" => misaligned(dir),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "no such path")),
    }
}

fn ensure(fact: bool, what: &str) -> io::Result<()> {
    if fact { Ok(()) } else { Err(io::Error::other(format!("not so: {what}"))) }
}

fn open(dir: &Path, flags: i32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).custom_flags(flags);
    options.open(dir.join("file"))
}

fn filled(bytes: usize, byte: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(bytes);
    buf.as_mut_slice().fill(byte);
    buf
}

fn allocated(dir: &Path, flags: i32) -> io::Result<File> {
    let file = open(dir, flags)?;
    fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES)?;
    Ok(file)
}

/// Two direct writes with RWF_DSYNC, the second as large as the server's largest.
fn direct(dir: &Path) -> io::Result<()> {
    let file = allocated(dir, libc::O_DIRECT)?;
    for (offset, bytes) in [(0, BLOCK_BYTES), (BLOCK, 512 << 10)] {
        let buf = filled(bytes, 1);
        let written = pwritev2(&file, &[IoSlice::new(buf.as_slice())], offset, ReadWriteFlags::DSYNC)?;
        ensure(written == bytes, "a write is whole")?;
    }
    Ok(())
}

fn o_dsync(dir: &Path) -> io::Result<()> {
    allocated(dir, libc::O_DIRECT | libc::O_DSYNC)?.write_all_at(filled(BLOCK_BYTES, 1).as_slice(), 0)
}

/// Submits `entries`, waits for all of them and checks that each wrote or read `bytes`, or 0 for a sync.
fn complete(ring: &mut IoUring, entries: &[squeue::Entry]) -> io::Result<()> {
    for entry in entries {
        // SAFETY: the callers' buffers and files outlive this function, which returns after the last completion.
        unsafe { ring.submission().push(entry) }.map_err(|_| io::ErrorKind::OutOfMemory)?;
    }
    ring.submit_and_wait(entries.len())?;
    for done in ring.completion() {
        if done.result() < 0 {
            return Err(io::Error::from_raw_os_error(-done.result()));
        }
        let want = if done.user_data() == 0 { 0 } else { BLOCK_BYTES as i32 };
        ensure(done.result() == want, "an operation of the ring is whole")?;
    }
    Ok(())
}

/// Eight direct writes with RWF_DSYNC at once, through a registered file, half of them from a registered buffer.
fn uring_dsync(dir: &Path) -> io::Result<()> {
    let file = allocated(dir, libc::O_DIRECT)?;
    let mut ring = IoUring::new(16)?;
    ring.submitter().register_files(&[file.as_raw_fd()])?;
    let mut fixed = filled(BLOCK_BYTES, 1);
    let iovec = libc::iovec { iov_base: fixed.as_mut_slice().as_mut_ptr().cast(), iov_len: fixed.len() };
    // SAFETY: `fixed` outlives the ring's use of it: `complete` returns after the last completion.
    unsafe { ring.submitter().register_buffers(&[iovec]) }?;
    let plain = filled(BLOCK_BYTES, 2);
    let entries: Vec<_> = (0..8u64)
        .map(|i| {
            let target = types::Fixed(0);
            let len = BLOCK_BYTES as u32;
            let entry = if i % 2 == 0 {
                opcode::WriteFixed::new(target, fixed.as_slice().as_ptr(), len, 0)
                    .offset(i * BLOCK)
                    .rw_flags(libc::RWF_DSYNC)
                    .build()
            } else {
                opcode::Write::new(target, plain.as_slice().as_ptr(), len)
                    .offset(i * BLOCK)
                    .rw_flags(libc::RWF_DSYNC)
                    .build()
            };
            entry.user_data(i + 1)
        })
        .collect();
    complete(&mut ring, &entries)
}

/// A direct write and an fdatasync linked behind it.
fn uring_linked(dir: &Path) -> io::Result<()> {
    let file = allocated(dir, libc::O_DIRECT)?;
    let mut ring = IoUring::new(16)?;
    let buf = filled(BLOCK_BYTES, 3);
    let target = types::Fd(file.as_raw_fd());
    let write = opcode::Write::new(target, buf.as_slice().as_ptr(), BLOCK_BYTES as u32).offset(0).build();
    let sync = opcode::Fsync::new(target).flags(types::FsyncFlags::DATASYNC).build();
    complete(&mut ring, &[write.user_data(1).flags(squeue::Flags::IO_LINK), sync.user_data(0)])
}

fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is shared with writes of this process on purpose; bytes are compared, never kept as references.
    unsafe { MmapOptions::new().len(FILE_BYTES as usize).map(file) }
}

fn resident_pages(map: &Mmap) -> io::Result<usize> {
    let mut residency = vec![0u8; map.len().div_ceil(BLOCK_BYTES)];
    // SAFETY: the range is a whole mapping and the vector has a byte for each of its pages.
    let result = unsafe { libc::mincore(map.as_ptr().cast_mut().cast(), map.len(), residency.as_mut_ptr()) };
    if result == 0 {
        Ok(residency.iter().filter(|byte| **byte & 1 == 1).count())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A shared mapping sees cached and direct writes, can be populated, and says what is resident.
fn mapped(dir: &Path) -> io::Result<()> {
    let cached = allocated(dir, 0)?;
    cached.write_all_at(&vec![1; FILE_BYTES as usize], 0)?;
    cached.sync_data()?;
    let map = map(&cached)?;
    rustix::fs::fadvise(&cached, 0, None, rustix::fs::Advice::DontNeed)?;
    ensure(resident_pages(&map)? < 256, "dropped pages are not resident")?;
    map.advise(Advice::PopulateRead)?;
    ensure(resident_pages(&map)? == 256, "populated pages are resident")?;
    ensure(map.iter().all(|byte| *byte == 1), "the mapping has what was written")?;
    cached.write_all_at(&[2; 8192], 4096)?;
    ensure(map[4095..=12_288] == [&[1][..], &[2; 8192], &[1]].concat(), "the mapping sees a cached write")?;
    let direct = open(dir, libc::O_DIRECT)?;
    ensure(map[0] == 1, "the mapping outlives another open")?;
    direct.write_all_at(filled(BLOCK_BYTES, 3).as_slice(), 8192)?;
    ensure(map[8191..=12_288] == [&[2][..], &[3; 4096], &[1]].concat(), "the mapping sees a direct write")?;
    fallocate(&cached, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 4096, 4096)?;
    map.advise_range(Advice::PopulateRead, 4096, 4096)?;
    ensure(map[4096..8192].iter().all(|byte| *byte == 0), "the mapping sees a punched hole")
}

/// Reserving, punching, room, renaming, syncing a directory, locking.
fn space(dir: &Path) -> io::Result<()> {
    let before = statvfs(dir)?.f_bfree;
    let file = allocated(dir, 0)?;
    ensure(file.metadata()?.len() == FILE_BYTES, "an allocation makes the file longer")?;
    ensure(before - statvfs(dir)?.f_bfree == FILE_BYTES / BLOCK, "an allocation takes room")?;
    fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, FILE_BYTES / 2)?;
    ensure(before - statvfs(dir)?.f_bfree == FILE_BYTES / BLOCK / 2, "a punched hole gives room back")?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    ensure(flock(&open(dir, 0)?, FlockOperation::NonBlockingLockExclusive).is_err(), "a lock excludes others")?;
    std::fs::create_dir(dir.join("sub"))?;
    std::fs::rename(dir.join("file"), dir.join("sub/renamed"))?;
    File::open(dir.join("sub"))?.sync_all()?;
    File::open(dir)?.sync_all()?;
    let names: Vec<_> = std::fs::read_dir(dir.join("sub"))?.collect::<Result<_, _>>()?;
    ensure(names.len() == 1 && names[0].file_name() == "renamed", "a directory lists what was moved there")?;
    file.set_len(10)?;
    ensure(std::fs::read(dir.join("sub/renamed"))? == [0; 10], "a cut file is as long as it was cut to")
}

fn misaligned(dir: &Path) -> io::Result<()> {
    let direct = allocated(dir, libc::O_DIRECT)?;
    let refused = direct.write_at(&filled(BLOCK_BYTES, 1).as_slice()[..100], 0);
    ensure(refused.is_err(), "direct I/O takes whole sectors only")
}
