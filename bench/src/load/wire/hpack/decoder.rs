//! Reading.

use std::collections::VecDeque;

use super::{super::huffman, STATIC_MAX, TABLE_BYTES};

/// The RFC's estimate of what an entry costs beside its strings.
const ENTRY_BYTES: usize = 32;
/// `:status` with a value each.
const STATIC_STATUS: std::ops::RangeInclusive<usize> = 8..=14;
const STATUSES: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];

/// What of a header block matters.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Head {
    /// HTTP's status.
    pub status: Option<u16>,
    /// gRPC's.
    pub grpc_status: Option<u32>,
    /// Percent-encoded, as it came.
    pub grpc_message: Option<String>,
}

/// A header's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Name {
    Status,
    GrpcStatus,
    GrpcMessage,
    Other,
}

impl Name {
    fn of(name: &[u8]) -> Self {
        match name {
            b":status" => Self::Status,
            b"grpc-status" => Self::GrpcStatus,
            b"grpc-message" => Self::GrpcMessage,
            _ => Self::Other,
        }
    }
}

/// One in the table.
#[derive(Debug)]
struct Entry {
    name: Name,
    name_bytes: usize,
    value: Vec<u8>,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.name_bytes + self.value.len() + ENTRY_BYTES
    }
}

/// Reads the header blocks of one connection, in their order.
#[derive(Debug)]
pub struct Decoder {
    /// The newest first.
    table: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
}

impl Decoder {
    /// An empty table.
    pub fn new() -> Self {
        Self { table: VecDeque::new(), bytes: 0, bytes_max: TABLE_BYTES }
    }

    /// Reads a block; `None` if it isn't one.
    pub fn decode(&mut self, block: &[u8]) -> Option<Head> {
        let (mut head, mut rest) = (Head::default(), block);
        while let Some(first) = rest.first() {
            match first.leading_zeros() {
                // 1.......: a whole entry.
                0 => {
                    let index = integer(&mut rest, 7)?;
                    self.indexed(index, &mut head)?;
                }
                // 01......: to be remembered.
                1 => {
                    let entry = self.literal(&mut rest, 6)?;
                    note(&mut head, entry.name, &entry.value)?;
                    self.insert(entry);
                }
                // 001.....: the table's size.
                2 => {
                    self.bytes_max = integer(&mut rest, 5).filter(|bytes| *bytes <= TABLE_BYTES)?;
                    self.evict();
                }
                // 000x....: not to be remembered.
                _ => {
                    let entry = self.literal(&mut rest, 4)?;
                    note(&mut head, entry.name, &entry.value)?;
                }
            }
        }
        Some(head)
    }

    fn indexed(&self, index: usize, head: &mut Head) -> Option<()> {
        if STATIC_STATUS.contains(&index) {
            head.status = Some(STATUSES[index - STATIC_STATUS.start()]);
        } else if index > STATIC_MAX {
            let entry = self.table.get(index - STATIC_MAX - 1)?;
            note(head, entry.name, &entry.value)?;
        } else if index == 0 {
            return None;
        }
        Some(())
    }

    fn literal(&self, rest: &mut &[u8], prefix: u32) -> Option<Entry> {
        let (name, name_bytes) = match integer(rest, prefix)? {
            0 => {
                let name = string(rest)?;
                (Name::of(&name), name.len())
            }
            index if index <= STATIC_MAX => {
                let name = if STATIC_STATUS.contains(&index) { Name::Status } else { Name::Other };
                (name, STATIC_NAME_BYTES[index - 1])
            }
            index => {
                let entry = self.table.get(index - STATIC_MAX - 1)?;
                (entry.name, entry.name_bytes)
            }
        };
        Some(Entry { name, name_bytes, value: string(rest)? })
    }

    fn insert(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        self.table.push_front(entry);
        self.evict();
    }

    fn evict(&mut self) {
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.table.pop_back() else { return };
            self.bytes -= oldest.bytes();
        }
    }
}

fn note(head: &mut Head, name: Name, value: &[u8]) -> Option<()> {
    let text = || std::str::from_utf8(value).ok();
    match name {
        Name::Status => head.status = Some(text()?.parse().ok()?),
        Name::GrpcStatus => head.grpc_status = Some(text()?.parse().ok()?),
        Name::GrpcMessage => head.grpc_message = Some(String::from_utf8_lossy(value).into_owned()),
        Name::Other => {}
    }
    Some(())
}

/// An integer whose first bits are the lowest `prefix` ones of a byte.
fn integer(rest: &mut &[u8], prefix: u32) -> Option<usize> {
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(*rest.split_off_first()?) & mask;
    if value < mask {
        return Some(value);
    }
    for shift in (0..28).step_by(7) {
        let byte = *rest.split_off_first()?;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn string(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let is_huffman = rest.first()? & 0x80 != 0;
    let bytes = integer(rest, 7)?;
    let string = rest.split_off(..bytes)?;
    if is_huffman { huffman::decode(string) } else { Some(string.to_vec()) }
}

/// Lengths of the static table's names, which entries that refer to them count with.
const STATIC_NAME_BYTES: [usize; STATIC_MAX] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13, 12, 6, 4,
    4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3, 16,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_sends_is_read_and_remembered() {
        let mut decoder = Decoder::new();
        // ":status: 200", then content-type by its static name, to be remembered.
        let mut block = vec![0x88, 0x40 | 31, 16];
        block.extend(b"application/grpc");
        assert_eq!(decoder.decode(&block).expect("well formed").status, Some(200));
        let mut trailers = vec![0x40, 11];
        trailers.extend(b"grpc-status");
        trailers.extend([1, b'0', 0x40, 12]);
        trailers.extend(b"grpc-message");
        trailers.push(0);
        let head = decoder.decode(&trailers).expect("well formed");
        assert_eq!((head.grpc_status, head.grpc_message.as_deref()), (Some(0), Some("")));
        // Both again by reference, the newest first.
        let again = decoder.decode(&[0x80 | 62, 0x80 | 63]).expect("both are in the table");
        assert_eq!(again, head);
        assert_eq!(decoder.decode(&[0x80 | 64]), Some(Head::default()), "the content type");
        assert_eq!(decoder.decode(&[0x80 | 65]), None, "there are three");
    }

    #[test]
    fn a_smaller_table_forgets_the_oldest_and_nonsense_is_refused() {
        let mut decoder = Decoder::new();
        decoder.decode(&[0x48, 3, b'2', b'0', b'1', 0x48, 3, b'2', b'0', b'2']).expect("two statuses");
        assert_eq!(decoder.decode(&[0x80 | 63]).and_then(|head| head.status), Some(201));
        decoder.decode(&[0x3f, 19]).expect("50 bytes are left: room for one");
        assert_eq!(decoder.decode(&[0x80 | 62]).and_then(|head| head.status), Some(202));
        assert_eq!(decoder.decode(&[0x80 | 63]), None);
        for nonsense in [&[0x80][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff], &[0x40, 5, b'a'], &[0x48, 1, b'x']] {
            assert_eq!(decoder.decode(nonsense), None, "{nonsense:?}");
        }
    }
}
