//! What has changed in a file since one of its generations.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use plinth_base::codec::Malformed;

use super::blocks::Blocks;

/// Blocks with pages that only newer generations use, and how a copy came from the one to the other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Since {
    generation: u64,
    blocks: Blocks,
    moves: u32,
}

impl Since {
    /// Nothing, yet, since this generation.
    #[must_use]
    pub fn generation(generation: u64) -> Self {
        Self { generation, blocks: Blocks::default(), moves: 0 }
    }

    /// A newer generation takes the place of the newest so far while both are held; `changed` are the blocks with pages that only the newer one uses.
    pub fn advance(&mut self, changed: &Blocks) {
        self.blocks.add(changed);
        self.moves = self.moves.saturating_add(1);
    }

    /// The older generation.
    #[must_use]
    pub fn from(&self) -> u64 {
        self.generation
    }

    pub(super) fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// Whether pages that the older and the newest generation use are the same, and all below them: both were held at some time. If there was one between them, a page may
    /// have been let go of before that and used again behind it.
    pub(super) fn keeps_shared_pages(&self) -> bool {
        self.moves <= 1
    }

    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let blocks = self.blocks.encode();
        let mut out = BytesMut::with_capacity(12 + blocks.len());
        out.put_u64_le(self.generation);
        out.put_u32_le(self.moves);
        out.put_slice(&blocks);
        out.freeze()
    }

    /// Reads what [`Since::encode`] made.
    ///
    /// # Errors
    /// It isn't that.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, Malformed> {
        const NOT_ONE: Malformed = Malformed("what should say what has changed doesn't");
        let generation = bytes.try_get_u64_le().map_err(|_| NOT_ONE)?;
        let moves = bytes.try_get_u32_le().map_err(|_| NOT_ONE)?;
        Ok(Self { generation, blocks: Blocks::decode(bytes)?, moves })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_add_up_and_survive_their_bytes() {
        let mut since = Since::generation(7);
        for (page, keeps) in [(3, true), (20, false)] {
            let mut changed = Blocks::none_of(40);
            changed.insert(page, 1);
            since.advance(&changed);
            assert_eq!(since.keeps_shared_pages(), keeps);
        }
        assert_eq!((since.from(), since.blocks().runs().collect::<Vec<_>>()), (7, vec![2..4, 20..22]));
        let bytes = since.encode();
        assert_eq!(Since::decode(&bytes), Ok(since));
        for len in [0, 7, 11, 19, bytes.len() - 1] {
            assert!(Since::decode(&bytes[..len]).is_err(), "{len}");
        }
    }
}
