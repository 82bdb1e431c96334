//! What is fuzzed.

use std::ops::Range;

use plinth_base::Prng;

/// A decoder, or all that opens a file or a connection.
pub trait Target {
    /// Sound inputs to begin with; at least one.
    fn corpus(&self) -> Vec<Vec<u8>>;

    /// Where the structure of an input lies, if most of it is payload: mutations fall there more often.
    fn structure(&self, _input: &[u8]) -> Vec<Range<usize>> {
        Vec::new()
    }

    /// Makes checksums right again after a mutation, as far as there are any.
    fn repair(&self, _input: &mut [u8], _prng: &mut Prng) {}

    /// Takes an input; whether it was accepted, and is worth mutating further. A panic, or never coming back, is what is looked for.
    fn run(&mut self, input: &[u8]) -> bool;
}
