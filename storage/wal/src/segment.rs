//! Segment files: their names, how one is made ready, and how batches are found in one.
//!
//! `<sequence, 16 hex digits>.wal` is part of the log, `<sequence>.spare` a file that was, kept for its blocks, `next.tmp` one that
//! is being zeroed. A crash while a segment is made ready leaves one of the last two, or a `.wal` behind the last one without a
//! start batch: all three are "not begun" to recovery.
//!
//! Invariant: a `.wal` file has its full length and every block of it was really written before a batch goes there, so that a
//! commit changes no inode metadata.

use std::{
    cell::Cell,
    io,
    path::{Path, PathBuf},
};

use plinth_base::{AlignedBuf, limits::IO_BYTES_MAX};
use plinth_env::{Env, File, OpenMode, OpenOptions, SyncMethod};

use crate::{
    error::WalError,
    format::{BLOCK, BatchHeader, FORMAT_VERSION, HEADER_BYTES, MAGIC, batch_checksum},
};

/// A file being zeroed; no two are made at once.
pub(crate) const TEMPORARY_NAME: &str = "next.tmp";

/// What a name in the log's directory stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Named {
    Segment(u64),
    Spare,
    Temporary,
    Other,
}

pub(crate) fn segment_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}.wal"))
}

pub(crate) fn spare_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}.spare"))
}

pub(crate) fn parse_name(name: &str) -> Named {
    let sequence = |stem: &str| {
        let digits = stem.len() == 16 && stem.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let sequence = digits.then(|| u64::from_str_radix(stem, 16).ok()).flatten()?;
        // The first is 1, and each has a next one.
        (1..u64::MAX >> 1).contains(&sequence).then_some(sequence)
    };
    if name == TEMPORARY_NAME {
        Named::Temporary
    } else if let Some(found) = name.strip_suffix(".wal").and_then(sequence) {
        Named::Segment(found)
    } else if name.strip_suffix(".spare").and_then(sequence).is_some() {
        Named::Spare
    } else {
        Named::Other
    }
}

/// A segment that has begun. Readers hold it too, and while one does it is not recycled.
pub(crate) struct Segment<F> {
    pub(crate) sequence: u64,
    pub(crate) nonce: u64,
    /// The nonce promised to the segment after this one.
    pub(crate) next_nonce: u64,
    /// Length of the file.
    pub(crate) bytes: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: F,
    /// Sequence of its start batch.
    pub(crate) first_batch: u64,
    /// Where its last durable batch ends.
    pub(crate) end: Cell<u64>,
}

/// How many zeroes are written at once: while the device is busy with them, a write of the log waits.
const ZERO_BYTES: usize = 128 << 10;

/// Makes `target` a segment of `segment_bytes` in `env`'s file system: from `spare` if there is one, else by writing zeroes, after each
/// write of which `pace` is called with its bytes. Durable when it returns. A full device gives [`WalError::NoSpace`] and leaves at most the temporary file.
pub(crate) async fn prepare<E: Env>(
    env: &E,
    target: &Path,
    spare: Option<&Path>,
    segment_bytes: u64,
    sync_method: SyncMethod,
    pace: &mut impl AsyncFnMut(u64),
) -> Result<E::File, WalError> {
    let dir = target.parent().expect("a segment lies in the log's directory");
    let file = if let Some(spare) = spare {
        let options = OpenOptions { sync_method, ..OpenOptions::direct(OpenMode::Write) };
        let file = env.open(spare, options).await.map_err(WalError::io(spare, "opening"))?;
        env.rename(spare, target).await.map_err(WalError::io(spare, "renaming"))?;
        file
    } else {
        let temporary = dir.join(TEMPORARY_NAME);
        let file = create_zeroed(env, &temporary, target, segment_bytes, sync_method, pace).await?;
        env.rename(&temporary, target).await.map_err(WalError::io(&temporary, "renaming"))?;
        file
    };
    env.sync_dir(dir).await.map_err(WalError::io(dir, "syncing"))?;
    Ok(file)
}

/// Writes a file of zeroes at `path`. `target` is what a lack of space is reported for.
pub(crate) async fn create_zeroed<E: Env>(
    env: &E,
    path: &Path,
    target: &Path,
    bytes: u64,
    sync_method: SyncMethod,
    pace: &mut impl AsyncFnMut(u64),
) -> Result<E::File, WalError> {
    match env.remove_file(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(WalError::io(path, "removing")(error)),
        _ => {}
    }
    let full = |what| {
        move |error: io::Error| match error.kind() {
            io::ErrorKind::StorageFull => WalError::NoSpace { file: target.to_path_buf() },
            _ => WalError::io(path, what)(error),
        }
    };
    let options = OpenOptions { sync_method, ..OpenOptions::direct(OpenMode::CreateNew) };
    let file = env.open(path, options).await.map_err(full("creating"))?;
    // Reserved at once for one extent, then written: an extent that is only reserved costs a metadata change at its first write.
    file.allocate(0, bytes).await.map_err(full("allocating"))?;
    let mut zeroes = AlignedBuf::zeroed(ZERO_BYTES);
    let mut offset = 0;
    while offset < bytes {
        zeroes.resize(usize::try_from(bytes - offset).map_or(ZERO_BYTES, |left| left.min(ZERO_BYTES)));
        let written = zeroes.len() as u64;
        let (result, buf) = file.write_at(offset, zeroes).await;
        result.map_err(full("zeroing"))?;
        zeroes = buf;
        offset += written;
        pace(written).await;
    }
    file.sync().await.map_err(full("syncing"))?;
    Ok(file)
}

/// What a scan expects of the next batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expect {
    pub(crate) segment: u64,
    pub(crate) nonce: u64,
    pub(crate) sequence: u64,
}

/// What lies where the next batch should.
#[derive(Debug)]
pub(crate) enum Probe {
    /// The batch, whole.
    Valid(BatchHeader),
    /// Something that claims to be the batch and isn't whole.
    Bad(&'static str),
    /// Nothing of this segment's present life.
    Foreign,
}

/// A part of a segment in memory.
pub(crate) struct Window<F> {
    file: F,
    path: PathBuf,
    file_bytes: u64,
    chunk_bytes: usize,
    base: u64,
    valid: usize,
    buf: AlignedBuf,
}

impl<F: File> Window<F> {
    /// Reads `file` in steps of `chunk_bytes`, at most `IO_BYTES_MAX`.
    pub(crate) fn new(file: F, path: PathBuf, file_bytes: u64, chunk_bytes: usize) -> Self {
        assert!(chunk_bytes <= IO_BYTES_MAX);
        Self { file, path, file_bytes, chunk_bytes, base: 0, valid: 0, buf: AlignedBuf::zeroed(0) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// `bytes` from `offset` on, fewer if the file ends before. At most `IO_BYTES_MAX`.
    pub(crate) async fn load(&mut self, offset: u64, bytes: usize) -> Result<&[u8], WalError> {
        let left = usize::try_from(self.file_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let bytes = bytes.min(left);
        let inside = offset >= self.base && offset + bytes as u64 <= self.base + self.valid as u64;
        if !inside {
            let want = self.chunk_bytes.max(bytes).min(left);
            let mut buf = std::mem::replace(&mut self.buf, AlignedBuf::zeroed(0));
            buf.resize(want);
            let (result, buf) = self.file.read_at(offset, buf).await;
            (self.buf, self.base, self.valid) = (buf, offset, 0);
            result.map_err(WalError::io(&self.path, "reading"))?;
            self.valid = want;
        }
        let from = usize::try_from(offset - self.base).expect("inside the window");
        Ok(&self.buf.as_slice()[from..from + bytes])
    }

    /// The header's batch without its header; it must have been found valid.
    pub(crate) async fn payload(&mut self, offset: u64, header: &BatchHeader) -> Result<&[u8], WalError> {
        let end = HEADER_BYTES + header.payload_bytes.get() as usize;
        self.load(offset, end).await.map(|batch| &batch[HEADER_BYTES..])
    }

    /// Looks for the expected batch at `offset`.
    pub(crate) async fn probe(&mut self, offset: u64, expect: &Expect) -> Result<Probe, WalError> {
        let room = self.file_bytes.saturating_sub(offset).min(IO_BYTES_MAX as u64);
        let Some(header) = BatchHeader::peek(self.load(offset, HEADER_BYTES).await?) else {
            return Ok(Probe::Foreign);
        };
        // One rotten bit hits one field: what is left of the header still tells whose it is.
        let ours = header.nonce.get() == expect.nonce;
        let named =
            header.magic == MAGIC && header.segment.get() == expect.segment && header.sequence.get() == expect.sequence;
        if !ours && !named {
            return Ok(Probe::Foreign);
        }
        if header.magic != MAGIC {
            return Ok(Probe::Bad("a header without plinth's mark"));
        }
        if header.version.get() != FORMAT_VERSION {
            return Ok(Probe::Bad("a header of another format version"));
        }
        if !ours || header.segment.get() != expect.segment {
            return Ok(Probe::Bad("a header of another segment"));
        }
        if header.sequence.get() != expect.sequence {
            return Ok(Probe::Bad("a batch out of sequence"));
        }
        if !header.lengths_fit(room) {
            return Ok(Probe::Bad("a header with impossible lengths"));
        }
        let used = HEADER_BYTES + header.payload_bytes.get() as usize;
        let batch = self.load(offset, used).await?;
        if batch_checksum(expect.nonce, batch) != header.checksum.get() {
            return Ok(Probe::Bad("a batch whose checksum is wrong"));
        }
        // A batch knows only of batches before it.
        if header.durable.get() >= header.sequence.get() {
            return Ok(Probe::Bad("a batch that knows the future"));
        }
        Ok(Probe::Valid(header))
    }

    /// The first block from `offset` on that begins a batch of this segment with a sequence above `expect`'s: proof that the
    /// expected batch was durable once. The nonce is in the header, and no client knows it.
    pub(crate) async fn find_later(&mut self, mut offset: u64, expect: &Expect) -> Result<Option<u64>, WalError> {
        while offset < self.file_bytes {
            if let Some(header) = BatchHeader::peek(self.load(offset, HEADER_BYTES).await?)
                && header.magic == MAGIC
                && header.nonce.get() == expect.nonce
                && header.segment.get() == expect.segment
                && header.sequence.get() > expect.sequence
            {
                return Ok(Some(offset));
            }
            offset += BLOCK;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
