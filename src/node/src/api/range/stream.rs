//! RangeStream: the same reply in several messages, all at the revision of the first.
//!
//! Each message holds whole keys. The first few are few, and how many the next one gets follows from the length of the one before, so that messages
//! come near the size of the largest request. Header, count and `more` are known when the walk is done, and go with the last message. A message
//! that is too long for one buffer is made in chunks, as a long reply is.

use bytes::{BufMut, Bytes, BytesMut};
use plinth_base::codec::{put_varint, varint_len};
use plinth_env::Env;
use plinth_kv::{Query, QueryRun, query::Progress};
use plinth_rpc::{Frame, Replies, Requests, Status, errors, etcdserverpb as pb};

use super::{
    Read,
    chunks::RangeChunks,
    encode::{StreamChunk, put_header, put_result},
};
use crate::api::{Api, convert, convert::status, decode};

/// Keys of the first message.
const FIRST_KEYS_MAX: u64 = 10;

/// Field 1 of `RangeStreamResponse`.
const TAG_RANGE_RESPONSE: u8 = 0x0a;

impl<E: Env> Api<E> {
    /// A range read in several messages.
    pub(crate) async fn range_stream(
        &self,
        mut requests: impl Requests,
        mut replies: impl Replies,
    ) -> Result<(), Status> {
        let request: pb::RangeRequest = decode(requests.next().await.ok_or(errors::NO_REQUEST)??)?;
        let serializable = request.serializable;
        let query = stream_query(request)?;
        if !serializable {
            self.read_index().await?;
        }
        let mut root = self.root();
        // As it is now, also if an older revision is read.
        let header = self.header(root.state.revision);
        let run = QueryRun::new(query, root.state.revision, root.state.compacted).map_err(status)?;
        let mut read = Read { run, reading: None };
        self.hold(&mut read);
        let mut keys_max = FIRST_KEYS_MAX;
        loop {
            let start = read.run.clone();
            let mut chunk = StreamChunk::new(keys_max, self.options.reply_buffer_bytes);
            let is_last = self.advance(&mut read, root, &mut chunk).await? == Progress::Done;
            let (kvs_bytes, mut head, mut tail) = (chunk.bytes, BytesMut::new(), BytesMut::new());
            if is_last {
                put_header(&mut head, &header);
                put_result(&mut tail, read.run.result());
            }
            let response_bytes = head.len() as u64 + kvs_bytes + tail.len() as u64;
            let (head, tail) = (wrapped(response_bytes, &head), tail.freeze());
            let message_bytes = head.len() as u64 + kvs_bytes + tail.len() as u64;
            if let Some(kvs) = chunk.into_kept() {
                let frame = Frame::build(head.len() + kvs.len() + tail.len(), |out| {
                    [head, kvs, tail].iter().for_each(|part| out.put_slice(part));
                });
                replies.send(frame).await?;
            } else {
                let read = Read { run: start, reading: None };
                let mut source = RangeChunks::new(self.clone(), read, head, kvs_bytes, tail);
                replies.send_chunked(message_bytes, &mut source).await?;
            }
            if is_last {
                return Ok(());
            }
            keys_max = next_keys_max(keys_max, response_bytes, self.options.request_bytes_max as u64);
            self.pause().await;
            root = self.root();
            if root.state.compacted > read.run.revision() {
                return Err(errors::COMPACTED);
            }
        }
    }
}

/// What may be asked for, in the order of etcd's checks. Without an order the target means nothing here.
fn stream_query(request: pb::RangeRequest) -> Result<Query, Status> {
    use pb::range_request::{SortOrder, SortTarget};
    let sort = (request.sort_order, request.sort_target);
    if sort.0 != SortOrder::None as i32 && sort != (SortOrder::Ascend as i32, SortTarget::Key as i32) {
        return Err(errors::RANGE_STREAM_SORT);
    }
    let revisions =
        [request.min_mod_revision, request.max_mod_revision, request.min_create_revision, request.max_create_revision];
    if revisions != [0; 4] {
        return Err(errors::RANGE_STREAM_FILTER);
    }
    let query = convert::query(request).map_err(status)?;
    Ok(Query { target: plinth_kv::SortTarget::Key, ..query })
}

/// The next message may have twice as many keys after one that was short, and half as many after a long one.
fn next_keys_max(keys_max: u64, response_bytes: u64, target_bytes: u64) -> u64 {
    match response_bytes {
        short if short < target_bytes / 2 => keys_max.saturating_mul(2),
        long if long > target_bytes.saturating_mul(2) => (keys_max / 2).max(1),
        _ => keys_max,
    }
}

/// The beginning of a message whose `RangeResponse` is `response_bytes` long and begins with `head`.
fn wrapped(response_bytes: u64, head: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + varint_len(response_bytes) + head.len());
    out.put_u8(TAG_RANGE_RESPONSE);
    put_varint(&mut out, response_bytes);
    out.put_slice(head);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_grow_and_shrink_towards_the_largest_request() {
        assert_eq!(next_keys_max(10, 499, 1000), 20);
        assert_eq!(next_keys_max(10, 500, 1000), 10);
        assert_eq!(next_keys_max(10, 2000, 1000), 10);
        assert_eq!(next_keys_max(10, 2001, 1000), 5);
        assert_eq!(next_keys_max(1, 2001, 1000), 1);
        assert_eq!(next_keys_max(u64::MAX, 0, 1000), u64::MAX);
    }
}
