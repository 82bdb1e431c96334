//! The running hash of everything a simulation did: equal for equal runs.

/// A 64-bit hash over a sequence of numbers; order matters.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trace(u64);

impl Trace {
    /// Adds one step.
    pub(crate) fn note(&mut self, words: [u64; 3]) {
        for word in words {
            // The finalizer of splitmix64: every input bit reaches every output bit.
            let mut z = (self.0 ^ word).wrapping_add(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            self.0 = z ^ (z >> 31);
        }
    }

    pub(crate) fn hash(self) -> u64 {
        self.0
    }
}
