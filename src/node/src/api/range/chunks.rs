//! The message of a range reply, made piece by piece.
//!
//! Invariant: nothing of the reply is kept between two pieces, only where the next one begins; so a client that stops reading costs nothing but
//! this. The pieces together are as long as was promised: the keys at a revision never change, and a sweep that has passed it ends the reply.

use bytes::{Buf, Bytes, BytesMut};
use plinth_env::Env;
use plinth_kv::query::Progress;
use plinth_rpc::{Chunk, ChunkSource, Code, Status, errors};

use super::{Read, encode::Window};
use crate::api::Api;

/// See the module.
pub(super) struct RangeChunks<E: Env> {
    api: Api<E>,
    read: Read,
    /// What is left of the bytes before the keys, of the keys, of the part of the next key that is sent, and of the bytes behind the keys.
    head: Bytes,
    kvs_bytes: u64,
    sent: usize,
    tail: Bytes,
}

impl<E: Env> RangeChunks<E> {
    /// `head`, then the `kvs_bytes` of the keys that `read` comes by, then `tail`.
    pub(super) fn new(api: Api<E>, read: Read, head: Bytes, kvs_bytes: u64, tail: Bytes) -> Self {
        Self { api, read, head, kvs_bytes, sent: 0, tail }
    }

    /// Bytes that are still to come.
    pub(super) fn left(&self) -> u64 {
        self.head.len() as u64 + self.kvs_bytes + self.tail.len() as u64
    }

    async fn make(&mut self, bytes_max: usize) -> Result<Bytes, Status> {
        let bytes_max = usize::try_from(self.left()).map_or(bytes_max, |left| left.min(bytes_max));
        let mut out = BytesMut::with_capacity(bytes_max);
        take(&mut self.head, &mut out, bytes_max);
        while self.kvs_bytes > 0 && out.len() < bytes_max {
            let before = out.len();
            let progress = self.make_kvs(&mut out, bytes_max).await?;
            let made = (out.len() - before) as u64;
            self.kvs_bytes = self.kvs_bytes.checked_sub(made).ok_or(NOT_AS_MEASURED)?;
            match progress {
                Progress::Done if self.kvs_bytes > 0 => return Err(NOT_AS_MEASURED),
                // Whoever sends this lets others go first.
                Progress::More if !out.is_empty() => return Ok(out.freeze()),
                Progress::More => self.api.pause().await,
                Progress::Done | Progress::Full => {}
            }
        }
        take(&mut self.tail, &mut out, bytes_max);
        Ok(out.freeze())
    }

    /// One slice of the walk over the keys.
    async fn make_kvs(&mut self, out: &mut BytesMut, bytes_max: usize) -> Result<Progress, Status> {
        let (root, run, sent) = (self.api.root(), &mut self.read.run, &mut self.sent);
        if !root.state.holds(run.revision()) {
            return Err(errors::COMPACTED);
        }
        // A message of a stream ends before the walk does.
        let bytes_max = usize::try_from(self.kvs_bytes).map_or(bytes_max, |kvs| bytes_max.min(out.len() + kvs));
        let mut window = Window { out, bytes_max, sent };
        let current = root.state.revision;
        self.api.slice(&root, |view, budget| run.run(view, current, budget, &mut window)).await
    }
}

impl<E: Env> ChunkSource for RangeChunks<E> {
    fn next_chunk(&mut self, bytes_max: usize) -> Chunk<'_> {
        Box::pin(self.make(bytes_max))
    }
}

const NOT_AS_MEASURED: Status = Status::fixed(Code::Internal, "a range reply is not as long as it was measured");

/// Moves bytes to `out` until it is full.
fn take(from: &mut Bytes, out: &mut BytesMut, bytes_max: usize) {
    let len = from.len().min(bytes_max - out.len());
    out.extend_from_slice(&from[..len]);
    from.advance(len);
}
