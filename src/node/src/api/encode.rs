//! A range reply, put together from pages without an intermediate message.
//!
//! Field by field as etcd's `RangeResponse`: header (1), kvs (2), more (3), count (4). The conformance cases and the simulator decode it with the generated type.

use bytes::{BufMut, BytesMut};
use plinth_base::codec::{put_varint, varint_len};
use plinth_kv::{
    QueryResult,
    query::{Item, Sink},
};
use plinth_rpc::{Frame, Reply, etcdserverpb as pb};
use prost::Message as _;

const TAG_HEADER: u8 = 0x0a;
const TAG_KVS: u8 = 0x12;
const TAG_MORE: u8 = 0x18;
const TAG_COUNT: u8 = 0x20;
const TAG_KEY: u8 = 0x0a;

/// Reserved for a reply at first: header and one small key.
const REPLY_BYTES: usize = 507;

/// The reply so far, behind room for its frame's header.
pub(crate) struct RangeEncoder {
    message: BytesMut,
}

impl RangeEncoder {
    pub(crate) fn new(header: &pb::ResponseHeader) -> Self {
        let mut message = Frame::begin(REPLY_BYTES);
        message.put_u8(TAG_HEADER);
        put_varint(&mut message, header.encoded_len() as u64);
        header.encode(&mut message).expect("a growing buffer has room");
        Self { message }
    }

    pub(crate) fn finish(mut self, result: QueryResult) -> Reply {
        if result.more {
            self.message.put_slice(&[TAG_MORE, 1]);
        }
        if result.count != 0 {
            self.message.put_u8(TAG_COUNT);
            put_varint(&mut self.message, result.count as u64);
        }
        Reply::Message(Frame::finish(self.message))
    }
}

impl Sink for RangeEncoder {
    fn push(&mut self, item: &Item<'_>) {
        let (fields, value) = match item.value {
            Some(value) => (item.record.fields(), value),
            None => (item.record.fields_without_value(), &[][..]),
        };
        let lease = if item.with_lease { item.record.lease_field() } else { &[] };
        let key_bytes = 1 + varint_len(item.key.len() as u64) + item.key.len();
        let message_bytes = key_bytes + fields.len() + value.len() + lease.len();
        let out = &mut self.message;
        out.reserve(message_bytes + 11);
        out.put_u8(TAG_KVS);
        put_varint(out, message_bytes as u64);
        out.put_u8(TAG_KEY);
        put_varint(out, item.key.len() as u64);
        out.put_slice(item.key);
        out.put_slice(fields);
        out.put_slice(value);
        out.put_slice(lease);
    }
}
