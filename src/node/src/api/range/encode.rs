//! A range reply, put together from pages without an intermediate message.
//!
//! Field by field as etcd's `RangeResponse`: header (1), kvs (2), more (3), count (4). The conformance cases and the simulator decode it with the
//! generated type.

use bytes::{BufMut, Bytes, BytesMut};
use plinth_base::codec::{put_varint, varint_len};
use plinth_kv::{
    QueryResult,
    query::{Item, Sink, Taken},
};
use plinth_rpc::etcdserverpb as pb;
use prost::Message as _;

const TAG_HEADER: u8 = 0x0a;
const TAG_KVS: u8 = 0x12;
const TAG_MORE: u8 = 0x18;
const TAG_COUNT: u8 = 0x20;
const TAG_KEY: u8 = 0x0a;

/// Tag and length of a `kvs` element, and tag and length of its key.
const PREFIX_BYTES_MAX: usize = 22;

/// What stands in front of the keys.
pub(in crate::api) fn put_header(out: &mut BytesMut, header: &pb::ResponseHeader) {
    out.put_u8(TAG_HEADER);
    put_varint(out, header.encoded_len() as u64);
    header.encode(out).expect("a growing buffer has room");
}

/// What stands behind them.
pub(super) fn put_result(out: &mut BytesMut, result: QueryResult) {
    if result.more {
        out.put_slice(&[TAG_MORE, 1]);
    }
    if result.count != 0 {
        out.put_u8(TAG_COUNT);
        put_varint(out, result.count as u64);
    }
}

/// A key as an element of `kvs`.
struct Entry<'a> {
    message_bytes: usize,
    key: &'a [u8],
    fields: &'a [u8],
    value: &'a [u8],
    lease: &'a [u8],
}

impl<'a> Entry<'a> {
    fn new(item: &Item<'a>) -> Self {
        let record = &item.record;
        let (fields, value_bytes) =
            if item.with_value { (record.fields(), record.value_bytes()) } else { (record.fields_without_value(), 0) };
        let lease = if item.with_lease { record.lease_field() } else { &[] };
        let key_bytes = 1 + varint_len(item.key.len() as u64) + item.key.len();
        let message_bytes = key_bytes + fields.len() + value_bytes + lease.len();
        Self { message_bytes, key: item.key, fields, value: item.value.unwrap_or_default(), lease }
    }

    fn len(&self) -> usize {
        1 + varint_len(self.message_bytes as u64) + self.message_bytes
    }

    fn put_prefix(&self, out: &mut BytesMut) {
        out.put_u8(TAG_KVS);
        put_varint(out, self.message_bytes as u64);
        out.put_u8(TAG_KEY);
        put_varint(out, self.key.len() as u64);
    }

    fn put(&self, out: &mut BytesMut) {
        out.reserve(self.message_bytes + 11);
        self.put_prefix(out);
        out.put_slice(self.key);
        out.put_slice(self.fields);
        out.put_slice(self.value);
        out.put_slice(self.lease);
    }

    /// Appends the bytes from `skip` on, at most `room` of them.
    fn put_part(&self, out: &mut BytesMut, mut skip: usize, mut room: usize) {
        let mut prefix = BytesMut::with_capacity(PREFIX_BYTES_MAX);
        self.put_prefix(&mut prefix);
        for part in [&prefix[..], self.key, self.fields, self.value, self.lease] {
            let skipped = skip.min(part.len());
            let part = &part[skipped..];
            let part = &part[..room.min(part.len())];
            out.put_slice(part);
            skip -= skipped;
            room -= part.len();
        }
    }
}

/// Takes whole keys into one buffer, as long as it stays below a limit.
pub(super) struct OneBuffer {
    out: BytesMut,
    bytes_max: usize,
}

impl OneBuffer {
    /// Goes on with a buffer that holds what comes before the keys, to at most `bytes_max` bytes.
    pub(super) fn new(out: BytesMut, bytes_max: usize) -> Self {
        Self { out, bytes_max }
    }

    pub(super) fn into_inner(self) -> BytesMut {
        self.out
    }
}

impl Sink for OneBuffer {
    fn push(&mut self, item: &Item<'_>) -> Taken {
        let entry = Entry::new(item);
        if self.out.len() + entry.message_bytes > self.bytes_max {
            return Taken::Full;
        }
        entry.put(&mut self.out);
        Taken::Whole
    }
}

/// Takes the bytes of keys, and parts of keys, until a chunk is full.
pub(super) struct Window<'a> {
    pub(super) out: &'a mut BytesMut,
    /// The chunk's length.
    pub(super) bytes_max: usize,
    /// Bytes of the next key that an earlier chunk has.
    pub(super) sent: &'a mut usize,
}

impl Sink for Window<'_> {
    fn push(&mut self, item: &Item<'_>) -> Taken {
        let entry = Entry::new(item);
        let (room, left) = (self.bytes_max - self.out.len(), entry.len() - *self.sent);
        if *self.sent == 0 && left <= room {
            entry.put(self.out);
            return Taken::Whole;
        }
        entry.put_part(self.out, *self.sent, room);
        if left <= room {
            *self.sent = 0;
            return Taken::Whole;
        }
        *self.sent += room;
        Taken::Full
    }
}

/// Adds up what the keys take in a reply.
#[derive(Default)]
pub(super) struct Measure {
    pub(super) bytes: u64,
}

impl Sink for Measure {
    const SEES_VALUES: bool = false;

    fn push(&mut self, item: &Item<'_>) -> Taken {
        self.bytes += Entry::new(item).len() as u64;
        Taken::Whole
    }
}

/// The keys of one message of a stream: at most so many. They are kept while they are few bytes, and measured in any case.
pub(super) struct StreamChunk {
    pub(super) bytes: u64,
    pub(super) keys_left: u64,
    /// `None` when they were too much to be kept.
    kept: Option<OneBuffer>,
}

impl StreamChunk {
    pub(super) fn new(keys_max: u64, kept_bytes_max: usize) -> Self {
        Self { bytes: 0, keys_left: keys_max, kept: Some(OneBuffer::new(BytesMut::new(), kept_bytes_max)) }
    }

    pub(super) fn into_kept(self) -> Option<Bytes> {
        self.kept.map(|kept| kept.into_inner().freeze())
    }
}

impl Sink for StreamChunk {
    fn push(&mut self, item: &Item<'_>) -> Taken {
        if self.keys_left == 0 {
            return Taken::Full;
        }
        self.keys_left -= 1;
        self.bytes += Entry::new(item).len() as u64;
        if self.kept.as_mut().is_some_and(|kept| kept.push(item) == Taken::Full) {
            self.kept = None;
        }
        Taken::Whole
    }
}
