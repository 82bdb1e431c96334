//! Watch responses. An event is encoded once, whoever it goes to; a response is put together by copying.

use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use plinth_base::codec::{put_varint, varint_len};
use plinth_rpc::{Frame, etcdserverpb as pb, mvccpb};
use prost::Message as _;

use crate::{
    api::{convert, range::encode::put_header},
    watch::{Delivery, Item, Occurrence},
};

const TAG_WATCH_ID: u8 = 0x10;
const TAG_FRAGMENT: u8 = 0x38;
const TAG_EVENTS: u8 = 0x5a;

/// Of an event.
const TAG_PREV_KV: u8 = 0x1a;

/// What a response takes beside its events, at most: header, id, flag.
const HEAD_BYTES_MAX: usize = 72;

/// The id of a response that is about no watcher, or about all of a stream.
const NO_WATCHER: i64 = -1;

/// Makes responses with the headers that `header` gives for a revision.
pub(super) struct Encoder<H> {
    pub(super) header: H,
}

impl<H: Fn(i64) -> pb::ResponseHeader> Encoder<H> {
    /// A response without events.
    ///
    /// # Panics
    /// If it has events.
    pub(super) fn control(&self, item: &Item) -> Frame {
        let response = |revision, watch_id| pb::WatchResponse {
            header: Some((self.header)(revision)),
            watch_id,
            ..pb::WatchResponse::default()
        };
        Frame::encode(&match *item {
            Item::Created { watch_id, revision } => pb::WatchResponse { created: true, ..response(revision, watch_id) },
            Item::Refused { reason, revision } => pb::WatchResponse {
                created: true,
                canceled: true,
                cancel_reason: reason.to_owned(),
                ..response(revision, NO_WATCHER)
            },
            Item::Canceled { watch_id, revision } => {
                pb::WatchResponse { canceled: true, ..response(revision, watch_id) }
            }
            Item::Compacted { watch_id, compacted } => {
                pb::WatchResponse { canceled: true, compact_revision: compacted, ..response(0, watch_id) }
            }
            Item::Progress { watch_id, revision } => response(revision, watch_id),
            Item::Events(_) => panic!("events have an encoding of their own"),
        })
    }

    /// One response with all events; or, where the watcher takes that, as many as it needs for each to stay below `bytes_max`.
    pub(super) fn events(&self, delivery: &Delivery, bytes_max: usize) -> impl Iterator<Item = Frame> {
        let mut rest = delivery.events.as_slice();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (some, behind) = rest.split_at(Self::fitting(delivery, rest, bytes_max));
            rest = behind;
            Some(self.response(delivery, some, !rest.is_empty()))
        })
    }

    /// How many of `events` go into the next response: at least one.
    fn fitting(delivery: &Delivery, events: &[Rc<Occurrence>], bytes_max: usize) -> usize {
        if !delivery.may_split {
            return events.len();
        }
        let mut bytes = HEAD_BYTES_MAX;
        let fits = |event: &&Rc<Occurrence>| {
            bytes += 1 + field_bytes(event_bytes(event, delivery.with_prev));
            bytes < bytes_max
        };
        events.iter().take_while(fits).count().max(1)
    }

    fn response(&self, delivery: &Delivery, events: &[Rc<Occurrence>], has_more: bool) -> Frame {
        let header = (self.header)(delivery.revision);
        let event_fields = |event: &Rc<Occurrence>| 1 + field_bytes(event_bytes(event, delivery.with_prev));
        let bytes = HEAD_BYTES_MAX + events.iter().map(event_fields).sum::<usize>();
        Frame::build(bytes, |out| {
            put_header(out, &header);
            if delivery.watch_id != 0 {
                out.put_u8(TAG_WATCH_ID);
                put_varint(out, delivery.watch_id as u64);
            }
            if has_more {
                out.put_slice(&[TAG_FRAGMENT, 1]);
            }
            for event in events {
                out.put_u8(TAG_EVENTS);
                put_varint(out, event_bytes(event, delivery.with_prev) as u64);
                let (plain, prev_kv) = encoded(event);
                out.put_slice(plain);
                if delivery.with_prev {
                    out.put_slice(prev_kv);
                }
            }
        })
    }
}

/// Length of a field behind its tag.
fn field_bytes(message_bytes: usize) -> usize {
    varint_len(message_bytes as u64) + message_bytes
}

fn event_bytes(event: &Occurrence, with_prev: bool) -> usize {
    let (plain, prev_kv) = encoded(event);
    plain.len() + if with_prev { prev_kv.len() } else { 0 }
}

/// The event's message without its last field, and that field: `prev_kv`.
fn encoded(occurrence: &Occurrence) -> &(Bytes, Bytes) {
    occurrence.encoded.get_or_init(|| {
        let event = &occurrence.event;
        let kind = if event.is_put { mvccpb::event::EventType::Put } else { mvccpb::event::EventType::Delete };
        let kv = Some(convert::key_value(event.kv.clone()));
        let plain = mvccpb::Event { r#type: kind as i32, kv, prev_kv: None }.encode_to_vec();
        let mut prev_field = BytesMut::new();
        if let Some(prev_kv) = &occurrence.prev_kv {
            let prev_kv = convert::key_value(prev_kv.clone());
            prev_field.reserve(1 + field_bytes(prev_kv.encoded_len()));
            prev_field.put_u8(TAG_PREV_KV);
            put_varint(&mut prev_field, prev_kv.encoded_len() as u64);
            prev_kv.encode(&mut prev_field).expect("a growing buffer has room");
        }
        (plain.into(), prev_field.freeze())
    })
}
