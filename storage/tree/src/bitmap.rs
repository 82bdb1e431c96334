//! One bit for each page of the file.

/// Bits below `len`, all others are 0.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Bitmap {
    words: Vec<u64>,
    len: u64,
    ones: u64,
}

impl Bitmap {
    pub fn new(len: u64) -> Self {
        let mut bitmap = Self::default();
        bitmap.grow(len);
        bitmap
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// How many bits are 1.
    pub fn ones(&self) -> u64 {
        self.ones
    }

    /// Makes it `len` bits long; new ones are 0.
    pub fn grow(&mut self, len: u64) {
        assert!(len >= self.len, "a bitmap only grows");
        self.words.resize(usize::try_from(len.div_ceil(64)).expect("a bitmap fits memory"), 0);
        self.len = len;
    }

    pub fn get(&self, bit: u64) -> bool {
        bit < self.len && self.words[(bit / 64) as usize] >> (bit % 64) & 1 == 1
    }

    /// Sets a bit that was 0.
    pub fn set(&mut self, bit: u64) {
        assert!(bit < self.len && !self.get(bit), "bit {bit} of {} is 0 before it is set", self.len);
        self.words[(bit / 64) as usize] |= 1 << (bit % 64);
        self.ones += 1;
    }

    /// Clears a bit that was 1.
    pub fn clear(&mut self, bit: u64) {
        assert!(self.get(bit), "bit {bit} of {} is 1 before it is cleared", self.len);
        self.words[(bit / 64) as usize] &= !(1 << (bit % 64));
        self.ones -= 1;
    }

    /// The first bit from `from` on that is `value`, or `len`.
    pub fn find(&self, value: bool, from: u64) -> u64 {
        let mut at = from;
        while at < self.len {
            let word = self.words[(at / 64) as usize];
            let word = if value { word } else { !word } & (u64::MAX << (at % 64));
            if word != 0 {
                return (at / 64 * 64 + u64::from(word.trailing_zeros())).min(self.len);
            }
            at = (at / 64 + 1) * 64;
        }
        self.len
    }

    /// Runs of 1 bits as (first, count), in order, from `from` on.
    pub fn runs(&self, from: u64) -> impl Iterator<Item = (u64, u64)> {
        let mut at = from;
        std::iter::from_fn(move || {
            let first = self.find(true, at);
            at = self.find(false, first);
            (first < self.len).then(|| (first, at - first))
        })
    }

    /// Bits that are 1 here and not in `other`, which may be shorter.
    pub fn minus(&self, other: &Self) -> Self {
        let others = other.words.iter().copied().chain(std::iter::repeat(0));
        let words: Vec<u64> = self.words.iter().zip(others).map(|(word, other)| word & !other).collect();
        let ones = words.iter().map(|word| u64::from(word.count_ones())).sum();
        Self { words, len: self.len, ones }
    }

    /// Bits that are 1 here or in `other`, which may be shorter.
    pub fn plus(&self, other: &Self) -> Self {
        let others = other.words.iter().copied().chain(std::iter::repeat(0));
        let words: Vec<u64> = self.words.iter().zip(others).map(|(word, other)| word | other).collect();
        let ones = words.iter().map(|word| u64::from(word.count_ones())).sum();
        Self { words, len: self.len, ones }
    }

    /// Bytes of its stored form.
    pub fn stored_bytes(len: u64) -> usize {
        usize::try_from(len.div_ceil(64) * 8).expect("a bitmap fits memory")
    }

    /// Appends the stored form: little-endian words.
    pub fn store(&self, out: &mut Vec<u8>) {
        for word in &self.words {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    /// Reads the stored form of `len` bits; None if bits behind the end are set or the length is wrong.
    pub fn load(bytes: &[u8], len: u64) -> Option<Self> {
        let (chunks, rest) = bytes.as_chunks::<8>();
        let words: Vec<u64> = chunks.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect();
        if !rest.is_empty() || words.len() as u64 != len.div_ceil(64) {
            return None;
        }
        if !len.is_multiple_of(64) && words.last().is_some_and(|last| last >> (len % 64) != 0) {
            return None;
        }
        let ones = words.iter().map(|word| u64::from(word.count_ones())).sum();
        Some(Self { words, len, ones })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_stored_form_agree_with_the_bits() {
        let mut bitmap = Bitmap::new(130);
        for bit in [0, 1, 63, 64, 65, 129] {
            bitmap.set(bit);
        }
        assert_eq!(bitmap.runs(0).collect::<Vec<_>>(), [(0, 2), (63, 3), (129, 1)]);
        assert_eq!(bitmap.find(true, 2), 63);
        assert_eq!(bitmap.find(false, 129), 130);
        let mut bytes = Vec::new();
        bitmap.store(&mut bytes);
        assert_eq!(bytes.len(), Bitmap::stored_bytes(130));
        assert_eq!(Bitmap::load(&bytes, 130).as_ref(), Some(&bitmap));
        let mut other = Bitmap::new(65);
        [1, 2, 64].into_iter().for_each(|bit| other.set(bit));
        assert_eq!(bitmap.minus(&other).runs(0).collect::<Vec<_>>(), [(0, 1), (63, 1), (65, 1), (129, 1)]);
        assert_eq!(bitmap.minus(&other).ones(), 4);
        bytes[23] = 0xff;
        assert_eq!(Bitmap::load(&bytes, 130), None);
    }
}
