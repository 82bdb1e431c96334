//! The Huffman code of HPACK (RFC 7541, appendix B), to be read only: what we send is plain.
//!
//! The code is canonical: the codes of one length ascend with their symbols, and a code's length begins where the shorter ones end. So the
//! lengths are all that has to be known.

use std::sync::LazyLock;

/// Bits of each symbol's code; the last symbol is the end of the string, whose code never appears whole.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6,
    6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8,
    13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15,
    11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23,
    23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26,
    26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21,
    22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27,
    27, 26, 30,
];
const END: u16 = 256;
const LENGTH_MAX: usize = 30;
/// Padding is shorter than a byte.
const PADDING_BITS_MAX: usize = 7;

static CODE: LazyLock<Code> = LazyLock::new(Code::new);

/// The symbols in the order of their codes, and where each length begins.
struct Code {
    symbols: Vec<u16>,
    /// By length: its first code, and that code's place in `symbols`.
    firsts: [(u32, usize); LENGTH_MAX + 2],
}

impl Code {
    fn new() -> Self {
        let (mut symbols, mut firsts) = (Vec::with_capacity(LENGTHS.len()), [(0, 0); LENGTH_MAX + 2]);
        let mut code = 0;
        for (length, first) in firsts.iter_mut().enumerate().take(LENGTH_MAX + 1).skip(1) {
            code <<= 1;
            *first = (code, symbols.len());
            let of_length = (0..=END).filter(|symbol| usize::from(LENGTHS[usize::from(*symbol)]) == length);
            let before = symbols.len();
            symbols.extend(of_length);
            code += u32::try_from(symbols.len() - before).expect("there are 257 symbols");
        }
        firsts[LENGTH_MAX + 1] = (0, symbols.len());
        Self { symbols, firsts }
    }

    /// The symbol of a code, if a code of this length is so.
    fn symbol(&self, code: u32, length: usize) -> Option<u16> {
        let ((first, at), (_, end)) = (self.firsts[length], self.firsts[length + 1]);
        let place = at + usize::try_from(code.checked_sub(first)?).ok()?;
        (place < end).then(|| self.symbols[place])
    }
}

/// The string behind a code; `None` if it isn't one.
pub fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len() * 2);
    let (mut code, mut length) = (0_u32, 0);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| u32::from(byte >> at & 1))) {
        (code, length) = (code << 1 | bit, length + 1);
        match CODE.symbol(code, length) {
            Some(END) => return None,
            Some(symbol) => {
                out.push(u8::try_from(symbol).ok()?);
                (code, length) = (0, 0);
            }
            None if length == LENGTH_MAX => return None,
            None => {}
        }
    }
    // What is left is the beginning of the end's code: ones.
    (length <= PADDING_BITS_MAX && code == (1 << length) - 1).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541, appendix C.4 and C.6.
    #[test]
    fn the_examples_of_the_rfc_are_read() {
        let examples: [(&[u8], &str); 4] = [
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff], "www.example.com"),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf], "custom-value"),
            (&[0x64, 0x02], "302"),
        ];
        for (code, text) in examples {
            assert_eq!(decode(code).as_deref(), Some(text.as_bytes()));
        }
    }

    #[test]
    fn the_end_in_the_middle_and_long_or_wrong_padding_are_refused() {
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(decode(&[0x64, 0x02, 0xff]), None, "eight bits of padding");
        assert_eq!(decode(&[0x18]), None, "padding of zeroes");
        assert_eq!(decode(&[]), Some(Vec::new()));
    }
}
