//! Writing.

use super::{STATIC_MAX, TABLE_BYTES};

/// Static entries.
const METHOD_POST: u8 = 3;
const SCHEME_HTTP: u8 = 6;
const NAME_AUTHORITY: u8 = 1;
const NAME_PATH: u8 = 4;
const NAME_CONTENT_TYPE: u8 = 31;
const NAME_USER_AGENT: u8 = 58;

/// Writes the heads of one connection's calls.
#[derive(Debug)]
pub struct Encoder {
    authority: String,
    /// Each path, and the insertion at which it went into the other side's table.
    paths: Vec<(&'static str, usize)>,
    /// The same of what all calls share.
    shared: Option<usize>,
    inserted: usize,
    /// The other side has less room than usual: nothing is remembered there.
    is_plain: bool,
    /// The other side has yet to be told.
    must_tell: bool,
}

/// Headers that all calls share and that go into the table: authority, content type, TE and user agent.
const SHARED: usize = 4;
const USER_AGENT: &str = concat!("plinth-bench/", env!("CARGO_PKG_VERSION"));

impl Encoder {
    /// For calls of a server.
    pub fn new(authority: String) -> Self {
        Self { authority, paths: Vec::new(), shared: None, inserted: 0, is_plain: false, must_tell: false }
    }

    /// The other side's table has so much room.
    pub fn set_table_bytes(&mut self, bytes: usize) {
        if bytes < TABLE_BYTES && !self.is_plain {
            (self.is_plain, self.must_tell) = (true, true);
        }
    }

    /// The head of a call.
    pub fn encode(&mut self, path: &'static str, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.must_tell) {
            // The table's new size is 0.
            out.push(0x20);
        }
        out.extend([0x80 | METHOD_POST, 0x80 | SCHEME_HTTP]);
        self.path(path, out);
        if let Some(first) = self.shared.filter(|_| !self.is_plain) {
            for place in 0..SHARED {
                self.refer(first + place, out);
            }
            return;
        }
        self.shared = Some(self.inserted);
        let authority = std::mem::take(&mut self.authority);
        self.literal(NAME_AUTHORITY, "", &authority, out);
        self.authority = authority;
        self.literal(NAME_CONTENT_TYPE, "", "application/grpc", out);
        self.literal(0, "te", "trailers", out);
        self.literal(NAME_USER_AGENT, "", USER_AGENT, out);
    }

    fn path(&mut self, path: &'static str, out: &mut Vec<u8>) {
        if let Some((_, insertion)) = self.paths.iter().find(|(known, _)| *known == path && !self.is_plain) {
            return self.refer(*insertion, out);
        }
        if !self.is_plain {
            self.paths.push((path, self.inserted));
        }
        self.literal(NAME_PATH, "", path, out);
    }

    /// A reference to the entry of an insertion: the newest one is the first behind the static ones.
    fn refer(&self, insertion: usize, out: &mut Vec<u8>) {
        put_integer(0x80, 7, STATIC_MAX + self.inserted - insertion, out);
    }

    /// `index` 0: the name is spelled out.
    fn literal(&mut self, index: u8, name: &str, value: &str, out: &mut Vec<u8>) {
        let (first, prefix) = if self.is_plain { (0, 4) } else { (0x40, 6) };
        put_integer(first, prefix, usize::from(index), out);
        if index == 0 {
            put_string(name, out);
        }
        put_string(value, out);
        self.inserted += 1;
    }
}

fn put_string(text: &str, out: &mut Vec<u8>) {
    put_integer(0, 7, text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

fn put_integer(first: u8, prefix: u32, value: usize, out: &mut Vec<u8>) {
    let mask = (1_usize << prefix) - 1;
    let low = |value: usize| u8::try_from(value & 0xff).expect("it is masked");
    if value < mask {
        out.push(first | low(value));
        return;
    }
    out.push(first | low(mask));
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(low(rest & 0x7f) | 0x80);
        rest >>= 7;
    }
    out.push(low(rest));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_call_is_all_references() {
        let mut encoder = Encoder::new("127.0.0.1:1".to_owned());
        let mut encode = |path| {
            let mut out = Vec::new();
            encoder.encode(path, &mut out);
            out
        };
        assert!(encode("/a").len() > 50);
        // Behind the static 61: the user agent is 62, TE 63, the content type 64, the authority 65, the path 66.
        assert_eq!(encode("/a"), [0x83, 0x86, 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62]);
        assert_eq!(encode("/b"), [0x83, 0x86, 0x44, 2, b'/', b'b', 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63]);
    }

    #[test]
    fn a_server_with_little_room_gets_everything_spelled_out() {
        let mut encoder = Encoder::new("127.0.0.1:1".to_owned());
        encoder.set_table_bytes(0);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        encoder.encode("/a", &mut first);
        encoder.encode("/a", &mut second);
        assert_eq!((first[0], &first[1..]), (0x20, &second[..]));
        assert_eq!(second[2..6], [4, 2, b'/', b'a']);
    }
}
