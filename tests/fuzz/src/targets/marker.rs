//! The marker file of a data directory.

use std::fs;

use plinth_base::{MemberId, Prng, crc32c};
use plinth_env::SyncMethod;
use plinth_server::marker::{MARKER_FILE, Marker};
use tempfile::TempDir;

use crate::target::Target;

/// The target: a directory whose marker is the input.
pub(super) struct MarkerFile {
    dir: TempDir,
}

impl MarkerFile {
    pub(super) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory can be made") }
    }
}

impl Target for MarkerFile {
    fn corpus(&self) -> Vec<Vec<u8>> {
        let marker = Marker {
            member_id: MemberId(0x8e9e_05c5_2164_694d),
            cluster_id: 7,
            shards: 2,
            wal_sync_method: SyncMethod::LinkedSync,
            wal_sync_medians: None,
            separate_wal: true,
            instance: 9,
        };
        marker.write(self.dir.path()).expect("the directory is writable");
        vec![fs::read(self.dir.path().join(MARKER_FILE)).expect("it was just written")]
    }

    /// The second line is the checksum of the first.
    fn repair(&self, input: &mut [u8], _prng: &mut Prng) {
        let Some(newline) = input.iter().position(|byte| *byte == b'\n') else { return };
        let (line, rest) = input.split_at_mut(newline + 1);
        let checksum = format!("crc32c {:08x}\n", crc32c(0, line));
        if rest.len() == checksum.len() {
            rest.copy_from_slice(checksum.as_bytes());
        }
    }

    fn run(&mut self, input: &[u8]) -> bool {
        fs::write(self.dir.path().join(MARKER_FILE), input).expect("the directory is writable");
        let Ok(Some(marker)) = Marker::read(self.dir.path()) else { return false };
        marker.write(self.dir.path()).expect("the directory is writable");
        assert_eq!(Marker::read(self.dir.path()), Ok(Some(marker)), "what was read can be written");
        true
    }
}
