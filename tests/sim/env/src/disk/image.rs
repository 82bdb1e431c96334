//! The bytes of one file at one point of time: sparse blocks and a length.
//!
//! Blocks are shared between images until one of them changes, so copying an image costs its map, not its bytes.
//! Invariant: bytes of a block behind the length are zero, and no block lies wholly behind the length.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use plinth_base::BLOCK_BYTES;

/// The content of a block.
pub(crate) type Block = [u8; BLOCK_BYTES];

const BLOCK: u64 = BLOCK_BYTES as u64;
const ZERO: Block = [0; BLOCK_BYTES];

/// A file's content. A block that is not in the map is a hole: zeroes that take no room.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    len: u64,
    blocks: BTreeMap<u64, Arc<Block>>,
}

/// Splits `offset..offset + bytes` at block borders: block index, range in the block.
fn pieces(offset: u64, bytes: u64) -> impl Iterator<Item = (u64, Range<usize>)> {
    let end = offset.checked_add(bytes).expect("offsets stay below 2^63");
    (offset / BLOCK..end.div_ceil(BLOCK)).map(move |block| {
        let start = block * BLOCK;
        let from = offset.max(start) - start;
        let to = end.min(start + BLOCK) - start;
        (block, from as usize..to as usize)
    })
}

impl Image {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Blocks that take room.
    pub(crate) fn block_count(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// The block with this index, unless it is a hole.
    pub(crate) fn block(&self, index: u64) -> Option<&Arc<Block>> {
        self.blocks.get(&index)
    }

    /// How many blocks of the range are holes.
    pub(crate) fn holes(&self, offset: u64, bytes: u64) -> u64 {
        pieces(offset, bytes).filter(|(block, _)| !self.blocks.contains_key(block)).count() as u64
    }

    /// Fills `out` from `offset`; zeroes behind the end.
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) {
        let mut rest = out;
        for (block, range) in pieces(offset, rest.len() as u64) {
            let (head, tail) = rest.split_at_mut(range.len());
            match self.blocks.get(&block) {
                Some(bytes) => head.copy_from_slice(&bytes[range]),
                None => head.fill(0),
            }
            rest = tail;
        }
    }

    /// Writes `data` at `offset`; the file becomes long enough.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        let mut rest = data;
        for (block, range) in pieces(offset, data.len() as u64) {
            let (head, tail) = rest.split_at(range.len());
            if let Ok(whole) = <&Block>::try_from(head) {
                self.blocks.insert(block, Arc::new(*whole));
            } else {
                self.block_mut(block)[range].copy_from_slice(head);
            }
            rest = tail;
        }
        self.len = self.len.max(offset + data.len() as u64);
    }

    /// Turns holes into zeroed blocks and makes the file long enough.
    pub(crate) fn reserve(&mut self, offset: u64, bytes: u64) {
        let zero = Arc::new(ZERO);
        for (block, _) in pieces(offset, bytes) {
            self.blocks.entry(block).or_insert_with(|| Arc::clone(&zero));
        }
        self.len = self.len.max(offset + bytes);
    }

    /// Zeroes the range; blocks that lie in it whole become holes.
    pub(crate) fn punch(&mut self, offset: u64, bytes: u64) {
        let touched: Vec<_> = pieces(offset, bytes).filter(|(block, _)| self.blocks.contains_key(block)).collect();
        for (block, range) in touched {
            if range.len() == BLOCK_BYTES {
                self.blocks.remove(&block);
            } else {
                self.block_mut(block)[range].fill(0);
            }
        }
    }

    /// Cuts or extends with a hole.
    pub(crate) fn set_len(&mut self, bytes: u64) {
        if bytes < self.len {
            self.blocks.split_off(&bytes.div_ceil(BLOCK));
            let within = (bytes % BLOCK) as usize;
            if within > 0 && self.blocks.contains_key(&(bytes / BLOCK)) {
                self.block_mut(bytes / BLOCK)[within..].fill(0);
            }
        }
        self.len = bytes;
    }

    /// Flips one bit; false if the offset lies in a hole or behind the end.
    pub(crate) fn flip_bit(&mut self, offset: u64, bit: u8) -> bool {
        let there = offset < self.len && self.blocks.contains_key(&(offset / BLOCK));
        if there {
            self.block_mut(offset / BLOCK)[(offset % BLOCK) as usize] ^= 1 << (bit % 8);
        }
        there
    }

    fn block_mut(&mut self, block: u64) -> &mut Block {
        Arc::make_mut(self.blocks.entry(block).or_insert_with(|| Arc::new(ZERO)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(image: &Image, offset: u64, bytes: usize) -> Vec<u8> {
        let mut out = vec![0xee; bytes];
        image.read(offset, &mut out);
        out
    }

    #[test]
    fn image_behaves_as_a_byte_array() {
        let mut prng = plinth_base::Prng::new(1);
        let (mut image, mut plain) = (Image::default(), Vec::<u8>::new());
        for _ in 0..2000 {
            let offset = prng.below(60_000);
            let bytes = prng.below(20_000);
            let end = (offset + bytes) as usize;
            match prng.below(4) {
                0 => {
                    let mut data = vec![0; bytes as usize];
                    prng.fill(&mut data);
                    image.write(offset, &data);
                    plain.resize(plain.len().max(end), 0);
                    plain[offset as usize..end].copy_from_slice(&data);
                }
                1 => {
                    image.reserve(offset, bytes);
                    plain.resize(plain.len().max(end), 0);
                }
                2 => {
                    image.punch(offset, bytes);
                    let end = end.min(plain.len());
                    if (offset as usize) < end {
                        plain[offset as usize..end].fill(0);
                    }
                }
                _ => {
                    image.set_len(offset);
                    plain.resize(offset as usize, 0);
                }
            }
            assert_eq!(image.len(), plain.len() as u64);
            assert_eq!(read(&image, 0, plain.len()), plain);
            assert_eq!(read(&image, image.len(), 5000), vec![0; 5000]);
        }
    }
}
