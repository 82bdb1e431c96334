//! Segment files as bytes: the layout of `docs/format/log.md`, read a second time and independently.

use std::path::{Path, PathBuf};

use plinth_sim_env::Sim;

pub const BLOCK: usize = 4096;
pub const HEADER: usize = 64;

/// Offsets of the header's fields.
pub const CHECKSUM: usize = 8;
pub const VERSION: usize = 12;
pub const PAYLOAD_BYTES: usize = 16;
pub const BLOCKS: usize = 20;
pub const NONCE: usize = 32;
pub const SEGMENT: usize = 40;

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Offsets of the batches at the start of a segment that was never recycled.
pub fn batches(segment: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < segment.len() && segment[at..].starts_with(b"plinthWL") {
        found.push(at);
        at += u32_at(segment, at + BLOCKS) as usize * BLOCK;
    }
    found
}

/// Makes the checksum of the batch at `at` right again, as far as its lengths allow.
pub fn stamp(segment: &mut [u8], at: usize) {
    let nonce = u64_at(segment, at + NONCE);
    let seed = (nonce as u32) ^ ((nonce >> 32) as u32);
    let end = at + HEADER + u32_at(segment, at + PAYLOAD_BYTES) as usize;
    let Some(covered) = segment.get(at + VERSION..end) else { return };
    let checksum = plinth_base::crc32c(seed, covered);
    segment[at + CHECKSUM..at + VERSION].copy_from_slice(&checksum.to_le_bytes());
}

/// Every file with its bytes.
pub fn snapshot(sim: &Sim) -> Vec<(PathBuf, Vec<u8>)> {
    sim.files().into_iter().map(|(path, _)| (path.clone(), content(sim, &path))).collect()
}

pub fn content(sim: &Sim, path: &Path) -> Vec<u8> {
    sim.read_file(path).expect("the file is there")
}
