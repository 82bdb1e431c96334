//! The checker: reads a whole log that nobody has open, with the eyes of recovery, and changes nothing.
//!
//! What recovery would accept is sound: every batch's header, checksum and records, the order of sequences, the chain of segments. A torn
//! tail is part of a sound log; it is reported as what the next start will cut.

use std::path::{Path, PathBuf};

use plinth_env::{Env, OpenMode};

use crate::{
    error::WalError,
    log::Wal,
    recovery::Recovered,
    types::{Lsn, WalOptions},
};

/// What the checker found in a sound log.
#[derive(Clone, Debug)]
pub struct Report {
    /// The segments that have begun, oldest first.
    pub segments: Vec<SegmentReport>,
    /// What a start would recover.
    pub recovered: Recovered,
}

/// A segment that was proven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentReport {
    /// The file.
    pub file: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// Where its last batch ends.
    pub end: u64,
    /// Its first batch.
    pub first: Lsn,
}

/// Proves the log in `dir`. The first thing that is wrong is returned with its file and offset.
pub async fn check<E: Env>(env: &E, dir: &Path) -> Result<Report, WalError> {
    let sound = Wal::prove(env, WalOptions::new(dir.to_path_buf()), OpenMode::Read).await?;
    let segments = sound.wal.segments.iter().map(|segment| SegmentReport {
        file: segment.path.clone(),
        bytes: segment.bytes,
        end: segment.end.get(),
        first: Lsn(segment.first_batch),
    });
    Ok(Report { segments: segments.collect(), recovered: sound.recovered })
}
