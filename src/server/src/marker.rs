//! The marker `PLINTH` in a data directory: which format it has, and what was decided at its first start.
//!
//! Two lines of text: a JSON object, and `crc32c XXXXXXXX` over the first line with its newline. Written once, to a
//! temporary name that is then renamed; the file and the directory are synced. A crash in the middle leaves no marker,
//! or all of it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use plinth_base::MemberId;
use plinth_env::SyncMethod;
use plinth_uring::SyncMedians;
use serde::{Deserialize, Serialize};

use crate::{
    config::{sync_method, sync_method_name},
    start_error::StartError,
    version::PLINTH_VERSION,
};

/// The name of the marker.
pub const MARKER_FILE: &str = "PLINTH";
/// The name it is written under.
const MARKER_TEMPORARY: &str = "PLINTH.tmp";
/// The format of data directories that this release reads and writes.
pub const FORMAT: u32 = 1;

/// What was decided at the first start, for the life of the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marker {
    /// The member whose data this is.
    pub member_id: MemberId,
    /// Its cluster.
    pub cluster_id: u64,
    /// How many shards it has.
    pub shards: u16,
    /// How its log reaches the device.
    pub wal_sync_method: SyncMethod,
    /// What was measured before it was chosen. None: a flag chose it, or nothing could be measured.
    pub wal_sync_medians: Option<SyncMedians>,
    /// Whether its log lies in a directory of its own, which then carries the same marker.
    pub separate_wal: bool,
    /// Random: tells this member's directories from those of another with the same ids.
    pub instance: u64,
}

/// The first line, as JSON. Ids are hex text, as etcd's tools show them.
#[derive(Serialize, Deserialize)]
struct Line {
    format: u32,
    plinth: String,
    member_id: String,
    cluster_id: String,
    shards: u16,
    wal_sync_method: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wal_sync_medians_ns: Option<MediansLine>,
    separate_wal: bool,
    instance: String,
}

/// Nanoseconds by method.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MediansLine {
    write_dsync: u64,
    linked_sync: u64,
    thread_dsync: u64,
}

/// What every format has.
#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
    plinth: String,
}

impl Marker {
    /// The marker of `dir`; none if it has none.
    pub fn read(dir: &Path) -> Result<Option<Self>, StartError> {
        let path = dir.join(MARKER_FILE);
        let text = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StartError::failed(format!("cannot read {}: {error}", path.display()))),
        };
        Self::decode(&text).map(Some).map_err(|reason| StartError::failed(format!("{}: {reason}", path.display())))
    }

    /// Makes `dir` carry this marker, durably.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let temporary = dir.join(MARKER_TEMPORARY);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(self.encode().as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, dir.join(MARKER_FILE))?;
        File::open(dir)?.sync_all()
    }

    /// A number for [`Marker::instance`].
    pub fn random_instance() -> io::Result<u64> {
        let mut bytes = [0; 8];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn encode(&self) -> String {
        let line = Line {
            format: FORMAT,
            plinth: PLINTH_VERSION.to_owned(),
            member_id: format!("{:016x}", self.member_id.0),
            cluster_id: format!("{:016x}", self.cluster_id),
            shards: self.shards,
            wal_sync_method: sync_method_name(self.wal_sync_method).to_owned(),
            wal_sync_medians_ns: self.wal_sync_medians.map(|medians| MediansLine {
                write_dsync: medians.write_dsync_ns,
                linked_sync: medians.linked_sync_ns,
                thread_dsync: medians.thread_dsync_ns,
            }),
            separate_wal: self.separate_wal,
            instance: format!("{:016x}", self.instance),
        };
        let mut text = serde_json::to_string(&line).expect("numbers and texts always have a JSON form");
        text.push('\n');
        let checksum = plinth_base::crc32c(0, text.as_bytes());
        text + &format!("crc32c {checksum:08x}\n")
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        const DAMAGED: &str = "the marker is damaged: restore the directory from a backup, or start on another one";
        let line_bytes = bytes.iter().position(|&b| b == b'\n').ok_or(DAMAGED)? + 1;
        let (line, rest) = bytes.split_at(line_bytes);
        if rest != format!("crc32c {:08x}\n", plinth_base::crc32c(0, line)).as_bytes() {
            return Err(DAMAGED.to_owned());
        }
        let any: AnyFormat = serde_json::from_slice(line).map_err(|_| DAMAGED)?;
        if any.format != FORMAT {
            return Err(format!(
                "the directory has format {}, written by plinth {}; this is plinth {PLINTH_VERSION}, which reads format {FORMAT}: \
                 start that version, or choose another directory",
                any.format, any.plinth
            ));
        }
        let line: Line = serde_json::from_slice(line).map_err(|_| DAMAGED)?;
        let id = |text: &str| u64::from_str_radix(text, 16).map_err(|_| DAMAGED);
        Ok(Self {
            member_id: MemberId(id(&line.member_id)?),
            cluster_id: id(&line.cluster_id)?,
            shards: line.shards,
            wal_sync_method: sync_method(&line.wal_sync_method).ok_or(DAMAGED)?,
            wal_sync_medians: line.wal_sync_medians_ns.map(|medians| SyncMedians {
                write_dsync_ns: medians.write_dsync,
                linked_sync_ns: medians.linked_sync,
                thread_dsync_ns: medians.thread_dsync,
            }),
            separate_wal: line.separate_wal,
            instance: id(&line.instance)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker() -> Marker {
        Marker {
            member_id: MemberId(0x8e9e_05c5_2164_694d),
            cluster_id: 7,
            shards: 2,
            wal_sync_method: SyncMethod::LinkedSync,
            wal_sync_medians: Some(SyncMedians { write_dsync_ns: 300, linked_sync_ns: 200, thread_dsync_ns: 250 }),
            separate_wal: true,
            instance: 9,
        }
    }

    #[test]
    fn a_marker_reads_back_as_written() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(Marker::read(dir.path()), Ok(None));
        marker().write(dir.path()).expect("writable");
        assert_eq!(Marker::read(dir.path()), Ok(Some(marker())));
        let unmeasured = Marker { wal_sync_medians: None, ..marker() };
        assert_eq!(Marker::decode(unmeasured.encode().as_bytes()), Ok(unmeasured));
        let names: Vec<_> =
            fs::read_dir(dir.path()).expect("readable").map(|e| e.expect("an entry").file_name()).collect();
        assert_eq!(names, [MARKER_FILE], "no temporary file stays");
        assert_eq!(
            fs::read_to_string(dir.path().join(MARKER_FILE)).expect("readable").lines().next(),
            Some(
                format!(
                    "{{\"format\":1,\"plinth\":\"{PLINTH_VERSION}\",\"member_id\":\"8e9e05c52164694d\",\
                     \"cluster_id\":\"0000000000000007\",\"shards\":2,\"wal_sync_method\":\"linked-sync\",\
                     \"wal_sync_medians_ns\":{{\"write-dsync\":300,\"linked-sync\":200,\"thread-dsync\":250}},\"separate_wal\":true,\
                     \"instance\":\"0000000000000009\"}}"
                )
                .as_str()
            )
        );
    }

    #[test]
    fn every_changed_or_missing_byte_is_found() {
        let good = marker().encode().into_bytes();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Marker::decode(&bad).is_err(), "byte {at}");
            assert!(Marker::decode(&good[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn another_format_is_named_and_not_read() {
        let line = "{\"format\":2,\"plinth\":\"9.9\",\"other\":{}}\n";
        let text = format!("{line}crc32c {:08x}\n", plinth_base::crc32c(0, line.as_bytes()));
        let error = Marker::decode(text.as_bytes()).expect_err("not ours");
        assert!(error.contains("format 2") && error.contains("plinth 9.9"), "{error}");
    }
}
