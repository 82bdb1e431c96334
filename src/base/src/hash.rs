//! A 64-bit hash of contents, the same on every machine: for comparing members, not for hash tables and not against forgers.

/// Odd constants with well-spread bits: the golden ratio and the square root of two, scaled to 64 bits.
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
const START: u64 = 0x6A09_E667_F3BC_C909;

/// Both halves of the 128-bit product, folded: every input bit reaches about half of the output bits.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// The hash of `parts` one after the other. Where one part ends counts: `["ab", "c"]` and `["a", "bc"]` differ.
#[must_use]
pub fn hash64(parts: &[&[u8]]) -> u64 {
    let mut state = START;
    for part in parts {
        let mut chunks = part.chunks_exact(8);
        for chunk in &mut chunks {
            let word = u64::from_le_bytes(chunk.try_into().expect("chunks of 8 bytes"));
            state = fold(state ^ word, MULTIPLIER).wrapping_add(word);
        }
        let mut last = [0; 8];
        last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
        state = fold(state ^ u64::from_le_bytes(last), MULTIPLIER) ^ fold(part.len() as u64 ^ START, MULTIPLIER);
    }
    fold(state ^ MULTIPLIER, START | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_and_every_boundary_counts() {
        let base: Vec<u8> = (0..40).collect();
        let mut seen = std::collections::BTreeSet::from([hash64(&[&base])]);
        for bit in 0..base.len() * 8 {
            let mut changed = base.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(seen.insert(hash64(&[&changed])), "bit {bit} doesn't count");
        }
        for cut in 0..base.len() {
            let (a, b) = base.split_at(cut);
            assert!(seen.insert(hash64(&[a, b])), "the cut at {cut} doesn't count");
        }
    }
}
