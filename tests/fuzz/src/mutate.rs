//! Inputs out of other inputs.

use std::ops::Range;

use plinth_base::Prng;

/// Mutations of one input, at most.
const MUTATIONS_MAX: u64 = 4;
/// Bytes that one mutation changes, inserts or removes, at most.
const SPAN_BYTES_MAX: usize = 40;
/// No input gets longer.
const INPUT_BYTES_MAX: usize = 4 << 20;

/// Numbers that lengths, counts and offsets go wrong at.
const EDGES: &[u64] =
    &[0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];

/// A mutation of `base`, with pieces of `corpus`; three of four changes fall into what `structure` gives for it.
pub fn mutant(
    prng: &mut Prng,
    base: &[u8],
    corpus: &[Vec<u8>],
    structure: impl Fn(&[u8]) -> Vec<Range<usize>>,
) -> Vec<u8> {
    let mut input = base.to_vec();
    for _ in 0..1 + prng.below(MUTATIONS_MAX) {
        let len = input.len();
        let mut spots = structure(&input);
        spots.retain(|spot| !spot.is_empty() && spot.end <= len);
        let everywhere = spots.is_empty() || prng.chance(1, 4);
        let within = if everywhere { 0..len } else { spots.swap_remove(prng.index(spots.len())) };
        change(prng, &mut input, &within, corpus);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

/// Changes `input` once, somewhere in `within`.
fn change(prng: &mut Prng, input: &mut Vec<u8>, within: &Range<usize>, corpus: &[Vec<u8>]) {
    if within.is_empty() {
        input.push(prng.next_u64() as u8);
        return;
    }
    let at = within.start + prng.index(within.len());
    let span = at..input.len().min(at + 1 + prng.index(SPAN_BYTES_MAX));
    match prng.below(12) {
        0 | 1 => input[at] ^= 1 << prng.below(8),
        2 | 3 => input[at] = prng.next_u64() as u8,
        4 => input[at] = input[at].wrapping_add(if prng.chance(1, 2) { 1 } else { u8::MAX }),
        5 | 6 => overwrite(input, at, &edge(prng)),
        7 => prng.fill(&mut input[span]),
        8 => drop(input.drain(span)),
        9 => drop(input.splice(at..at, input[span].to_vec())),
        10 => input.truncate(at),
        _ => {
            // A piece of another input, or of this one, elsewhere.
            let other = &corpus[prng.index(corpus.len())];
            if !other.is_empty() {
                let from = prng.index(other.len());
                let piece = &other[from..other.len().min(from + 1 + prng.index(SPAN_BYTES_MAX))];
                overwrite(input, at, piece);
            }
        }
    }
}

/// A number of 1 to 8 bytes, either end first.
fn edge(prng: &mut Prng) -> Vec<u8> {
    let number = EDGES[prng.index(EDGES.len())].to_le_bytes();
    let mut bytes = number[..1 << prng.below(4)].to_vec();
    if prng.chance(1, 2) {
        bytes.reverse();
    }
    bytes
}

fn overwrite(input: &mut [u8], at: usize, bytes: &[u8]) {
    let len = bytes.len().min(input.len() - at);
    input[at..at + len].copy_from_slice(&bytes[..len]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs_and_most_differ_from_what_they_are_made_of() {
        let corpus = vec![b"GET /health HTTP/1.1\r\n\r\n".to_vec(), vec![0; 300]];
        let inputs = |seed| {
            let mut prng = Prng::new(seed);
            (0..200).map(|_| mutant(&mut prng, &corpus[0], &corpus, |_| Vec::new())).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        assert!(inputs(1).iter().filter(|input| !corpus.contains(input)).count() > 150);
    }

    #[test]
    fn mutations_fall_where_the_structure_is() {
        let corpus = vec![vec![0; 10_000]];
        let mut prng = Prng::new(3);
        let changed = (0..400).filter(|_| {
            let input = mutant(&mut prng, &corpus[0], &corpus, |_| vec![100..110, 0..0, 9_999..20_000]);
            input.len() != 10_000 || input[100..150] != corpus[0][100..150]
        });
        assert!(changed.count() > 200);
    }
}
