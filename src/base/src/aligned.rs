//! Memory that direct I/O accepts: aligned to a block, a whole number of blocks long.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The unit of direct I/O and of torn writes in plinth's own formats, in bytes. A multiple of every logical block size in use.
pub const BLOCK_BYTES: usize = 4096;

#[derive(Clone, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK_BYTES]);

/// An owned buffer for direct I/O. Its address and length are multiples of [`BLOCK_BYTES`]; moving it never moves its bytes.
#[derive(Clone)]
pub struct AlignedBuf {
    blocks: Vec<Block>,
}

impl AlignedBuf {
    /// A zeroed buffer of `bytes`, rounded up to whole blocks.
    #[must_use]
    pub fn zeroed(bytes: usize) -> Self {
        Self { blocks: vec![Block([0; BLOCK_BYTES]); bytes.div_ceil(BLOCK_BYTES)] }
    }

    /// Length in bytes, a multiple of [`BLOCK_BYTES`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }

    /// Whether there are no blocks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// All bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.blocks.as_slice().as_bytes()
    }

    /// All bytes, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.blocks.as_mut_slice().as_mut_bytes()
    }

    /// Makes it `bytes` long, rounded up to whole blocks; new blocks are zero. Keeps the allocation when it shrinks.
    pub fn resize(&mut self, bytes: usize) {
        self.blocks.resize(bytes.div_ceil(BLOCK_BYTES), Block([0; BLOCK_BYTES]));
    }
}

impl std::fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_whole_blocks() {
        let mut buf = AlignedBuf::zeroed(5000);
        assert_eq!(buf.len(), 2 * BLOCK_BYTES);
        assert_eq!(buf.as_slice().as_ptr() as usize % BLOCK_BYTES, 0);
        buf.as_mut_slice()[8191] = 7;
        buf.resize(1);
        assert_eq!(buf.len(), BLOCK_BYTES);
        assert_eq!(AlignedBuf::zeroed(0).len(), 0);
    }
}
