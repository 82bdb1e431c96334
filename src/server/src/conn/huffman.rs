//! Reads strings in HPACK's Huffman code (RFC 7541, appendix B), as far as header fields of real clients need it.
//!
//! The code is canonical: symbols sorted by length, then value, have ascending codes. So the symbols in that order and the number of
//! codes of each length are the whole table. It stops at 15 bits, which leaves out `\`, most control characters and everything that
//! isn't ASCII: an encoder gains nothing from coding those.

/// The symbols with codes of up to 15 bits, in the order of their codes.
const SYMBOLS: &[u8; 95] =
    b"012aceiost %-./3456789=A_bdfghlmnpru:BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz&*,;XZ!\"()?'+|#>\0$@[]~^}<`{";

/// Lengths of codes in bits, and how many there are of each.
const LENGTHS: [(u32, u32); 10] =
    [(5, 10), (6, 26), (7, 32), (8, 6), (10, 5), (11, 3), (12, 2), (13, 6), (14, 2), (15, 3)];

/// Bits of a coded string that are looked at together; more than the longest code has.
const WINDOW_BITS: u32 = 16;

/// What stands behind the last code: ones, less than a byte of them.
const PADDING: u32 = (1 << WINDOW_BITS) - 1;

/// The text of `coded`, or nothing if that is malformed or uses a symbol beyond the table.
#[must_use]
pub fn decode(coded: &[u8]) -> Option<Vec<u8>> {
    // 5 bits is the shortest code.
    let mut text = Vec::with_capacity(coded.len() * 8 / 5);
    let bits_total = coded.len() * 8;
    let mut at = 0;
    loop {
        let window = window(coded, at);
        let bits_left = bits_total - at;
        if bits_left < 8 && window == PADDING {
            return Some(text);
        }
        let (symbol, bits) = symbol(window)?;
        if bits as usize > bits_left {
            return None;
        }
        text.push(symbol);
        at += bits as usize;
    }
}

/// The bits from bit `at` on, with ones behind the end.
fn window(coded: &[u8], at: usize) -> u32 {
    let bytes: [u8; 3] = std::array::from_fn(|i| coded.get(at / 8 + i).copied().unwrap_or(0xff));
    let [a, b, c] = bytes;
    u32::from_be_bytes([0, a, b, c]) >> (8 - at % 8) & PADDING
}

/// The symbol whose code `window` begins with, and the code's length in bits.
fn symbol(window: u32) -> Option<(u8, u32)> {
    // The lowest window that begins with a code of the length at hand, and the first such symbol.
    let (mut low, mut first) = (0, 0);
    for (bits, count) in LENGTHS {
        let windows_per_code = 1 << (WINDOW_BITS - bits);
        let nth = (window - low) / windows_per_code;
        if nth < count {
            return Some((SYMBOLS[(first + nth) as usize], bits));
        }
        low += count * windows_per_code;
        first += count;
    }
    None
}

/// Encodes what [`decode`] can read.
#[cfg(test)]
pub fn encode(text: &[u8]) -> Vec<u8> {
    let mut bits = Vec::new();
    for byte in text {
        let (window, len) = code(*byte).expect("a symbol of the table");
        bits.extend((0..len).map(|i| window >> (WINDOW_BITS - 1 - i) & 1 == 1));
    }
    bits.resize(bits.len().next_multiple_of(8), true);
    bits.chunks(8).map(|byte| byte.iter().fold(0, |acc, bit| acc << 1 | u8::from(*bit))).collect()
}

/// The lowest window that begins with the code of `byte`, and the code's length in bits.
#[cfg(test)]
fn code(byte: u8) -> Option<(u32, u32)> {
    let mut nth = u32::try_from(SYMBOLS.iter().position(|symbol| *symbol == byte)?).expect("a short table");
    let mut low = 0;
    for (bits, count) in LENGTHS {
        if nth < count {
            return Some((low + (nth << (WINDOW_BITS - bits)), bits));
        }
        low += count << (WINDOW_BITS - bits);
        nth -= count;
    }
    None
}

#[cfg(test)]
mod tests {
    use plinth_base::Prng;

    use super::*;

    fn unhex(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).expect("two digits")).collect()
    }

    #[test]
    fn examples_of_the_rfc_are_read() {
        // RFC 7541, C.4 and C.6.
        for (hex, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95ba97d7f", "custom-key"),
            ("25a849e95bb8e8b4bf", "custom-value"),
            ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("9d29ad171863c78f0b97c8e9ae82ae43d3", "https://www.example.com"),
            (
                "94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
                "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            ),
        ] {
            assert_eq!(decode(&unhex(hex)).as_deref(), Some(text.as_bytes()));
            assert_eq!(encode(text.as_bytes()), unhex(hex), "{text}");
        }
    }

    #[test]
    fn every_symbol_comes_back_at_every_bit_offset() {
        for lead in 0..8 {
            for symbol in SYMBOLS {
                let mut text = vec![b'0'; lead];
                text.push(*symbol);
                assert_eq!(decode(&encode(&text)), Some(text));
            }
        }
    }

    #[test]
    fn long_padding_and_cut_codes_are_malformed() {
        assert_eq!(decode(b""), Some(Vec::new()));
        assert_eq!(decode(&[0xff]), None);
        // A "0" and eleven ones.
        assert_eq!(decode(&[0x07, 0xff]), None);
        assert_eq!(decode(&[0x07]), Some(b"0".to_vec()));
        // Five zeros are a "0"; the zeros behind them are no padding.
        assert_eq!(decode(&[0x00]), None);
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = Prng::new(7);
        for _ in 0..20_000 {
            let mut bytes = vec![0; random.index(20)];
            random.fill(&mut bytes);
            if let Some(text) = decode(&bytes) {
                assert_eq!(encode(&text), bytes);
            }
        }
    }
}
