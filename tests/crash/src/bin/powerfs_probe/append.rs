//! The smallest log: one record per block of a preallocated file, each written with O_DIRECT and RWF_DSYNC.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use plinth_base::{AlignedBuf, BLOCK_BYTES, crc32c};
use rustix::io::{ReadWriteFlags, pwritev2};

/// Records the file has room for.
const RECORDS_MAX: u64 = 16 << 10;
/// Where a record keeps its checksum, behind its number; the rest is filled from the number.
const NUMBER: std::ops::Range<usize> = 0..8;
const CHECKSUM: std::ops::Range<usize> = 8..12;

fn open(dir: &Path, create: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(create).custom_flags(libc::O_DIRECT);
    options.open(dir.join("records"))
}

fn fill(record: &mut [u8], number: u64) {
    record.fill((number % 251) as u8);
    record[NUMBER].copy_from_slice(&number.to_le_bytes());
    record[CHECKSUM].fill(0);
    let checksum = crc32c(0, record);
    record[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
}

fn preallocate(dir: &Path) -> io::Result<File> {
    let file = open(dir, true)?;
    let zeroes = AlignedBuf::zeroed(BLOCK_BYTES * 128);
    for chunk in 0..RECORDS_MAX / 128 {
        file.write_all_at(zeroes.as_slice(), chunk * zeroes.len() as u64)?;
    }
    file.sync_all()?;
    File::open(dir)?.sync_all()?;
    Ok(file)
}

/// Appends until the disk fails or the file is full; prints the number of each record once it is durable.
pub fn append(dir: &Path, flush: bool) -> io::Result<()> {
    let file = preallocate(dir)?;
    let mut record = AlignedBuf::zeroed(BLOCK_BYTES);
    let flags = if flush { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
    let mut out = io::stdout().lock();
    for number in 0..RECORDS_MAX {
        fill(record.as_mut_slice(), number);
        let written = pwritev2(&file, &[IoSlice::new(record.as_slice())], number * BLOCK_BYTES as u64, flags)?;
        if written != BLOCK_BYTES {
            return Err(io::ErrorKind::WriteZero.into());
        }
        writeln!(out, "{number}")?;
        out.flush()?;
    }
    Ok(())
}

/// Prints how many whole records the file begins with.
pub fn check(dir: &Path) -> io::Result<()> {
    let file = open(dir, false)?;
    let mut got = AlignedBuf::zeroed(BLOCK_BYTES);
    let mut want = AlignedBuf::zeroed(BLOCK_BYTES);
    let mut whole = 0;
    while whole < RECORDS_MAX {
        file.read_exact_at(got.as_mut_slice(), whole * BLOCK_BYTES as u64)?;
        fill(want.as_mut_slice(), whole);
        if got.as_slice() != want.as_slice() {
            break;
        }
        whole += 1;
    }
    println!("{whole}");
    Ok(())
}
