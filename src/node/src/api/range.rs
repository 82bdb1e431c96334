//! Range: one buffer for what is short, chunks of a known length for what is long.
//!
//! A reply is encoded straight from the pages into one buffer. If that becomes too long, the reply is begun anew: it is measured first, then
//! made again piece by piece as the client takes it, at the same revision. Unsorted and without filters and a limit, at the newest revision, its
//! length is known without a walk: branches carry it.

mod chunks;
pub(super) mod encode;
mod stream;

use std::sync::Arc;

use bytes::BytesMut;
use plinth_env::Env;
use plinth_kv::{
    Query, QueryResult, QueryRun,
    query::{Progress, Sink},
};
use plinth_rpc::{Frame, Reply, Status, errors, etcdserverpb as pb};
use prost::Message as _;

use super::{Api, convert, convert::status};
use crate::{published::Root, readers::Reading};
use chunks::RangeChunks;
use encode::{Measure, OneBuffer, put_header, put_result};

/// Reserved for a reply at first: header and one small key.
const REPLY_BYTES: usize = 507;

/// A read of the newest revision is begun anew so often if that is compacted before it is read.
const LATEST_TRIES_MAX: usize = 3;

/// A range read under way.
struct Read {
    run: QueryRun,
    /// Once it takes more than a slice.
    reading: Option<Reading>,
}

impl<E: Env> Api<E> {
    /// A range read as it goes to the client.
    pub(super) async fn range_reply(&self, request: pb::RangeRequest) -> Result<Reply, Status> {
        let (serializable, is_latest) = (request.serializable, request.revision <= 0);
        let query = convert::query(request).map_err(status)?;
        if !serializable {
            self.read_index().await?;
        }
        let began = self.executor.env().now();
        let mut reply = self.read_range(query.clone()).await;
        for _ in 0..LATEST_TRIES_MAX {
            if !(is_latest && reply.as_ref().is_err_and(|status| *status == errors::COMPACTED)) {
                break;
            }
            // What was the newest revision is gone: this member got a snapshot meanwhile. Nobody asked for that revision.
            reply = self.read_range(query.clone()).await;
        }
        self.ranges.observe(reply.is_ok(), self.executor.env().now().since(began));
        reply
    }

    /// The answer, or at least its length and what it begins with.
    async fn read_range(&self, query: Query) -> Result<Reply, Status> {
        let root = self.root();
        let run = QueryRun::new(query, root.state.revision, root.state.compacted).map_err(status)?;
        let header = self.header(root.state.revision);
        let mut head = Frame::begin(REPLY_BYTES);
        put_header(&mut head, &header);
        let (mut read, mut buffer) =
            (Read { run, reading: None }, OneBuffer::new(head, self.options.reply_buffer_bytes));
        if self.advance(&mut read, root, &mut buffer).await? == Progress::Done {
            let mut message = buffer.into_inner();
            put_result(&mut message, read.run.result());
            return Ok(Reply::Message(Frame::finish(message)));
        }
        drop(buffer);
        let source = self.range_chunks(read, &header).await?;
        Ok(Reply::Chunked { message_len: source.left(), source: Box::new(source) })
    }

    /// A range read.
    ///
    /// # Errors
    /// etcd's status for whatever is wrong.
    pub async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
        let message = self.range_reply(request).await?.into_message().await?;
        pb::RangeResponse::decode(message).map_err(|error| Status::undecodable(&error))
    }

    /// The same read from its beginning, in chunks.
    async fn range_chunks(&self, read: Read, header: &pb::ResponseHeader) -> Result<RangeChunks<E>, Status> {
        let mut read = Read { run: read.run.again(), ..read };
        self.hold(&mut read);
        let (kvs_bytes, result) = self.measure(&mut read).await?;
        let (mut head, mut tail) = (BytesMut::new(), BytesMut::new());
        put_header(&mut head, header);
        put_result(&mut tail, result);
        let run = read.run.again();
        Ok(RangeChunks::new(self.clone(), Read { run, ..read }, head.freeze(), kvs_bytes, tail.freeze()))
    }

    /// The bytes that the keys of a reply take in it, and what it says beside them.
    async fn measure(&self, read: &mut Read) -> Result<(u64, QueryResult), Status> {
        let root = self.root();
        if root.state.revision == read.run.revision()
            && let Some(totals) = self.slice(&root, |view, _| read.run.query().totals(view)).await?
        {
            let count = i64::try_from(totals.entries).expect("fewer keys than revisions");
            return Ok((totals.weight, QueryResult { count, more: false }));
        }
        let mut measure = Measure::default();
        let progress = self.advance(read, root, &mut measure).await?;
        assert_eq!(progress, Progress::Done, "nothing is too much to be measured");
        Ok((measure.bytes, read.run.result()))
    }

    /// Goes on with a read, slice by slice, until it is done or the sink is full. The first slice is done at `root`, each other at the newest root, at
    /// the read's own revision, so that no page is held back for longer than a slice.
    async fn advance(
        &self,
        read: &mut Read,
        mut root: Arc<Root<E::Pages>>,
        sink: &mut impl Sink,
    ) -> Result<Progress, Status> {
        loop {
            if !root.state.holds(read.run.revision()) {
                return Err(errors::COMPACTED);
            }
            let current = root.state.revision;
            let (run, reading) = (&mut read.run, &mut read.reading);
            let slice = self.slice(&root, |view, budget| {
                let progress = run.run(view, current, budget, sink);
                if progress.is_err() {
                    // While its pages are loaded, the newest root becomes one that no longer holds its revision.
                    reading.get_or_insert_with(|| self.group().readers.enter(run.revision()));
                }
                progress
            });
            match slice.await? {
                Progress::More => {
                    self.hold(read);
                    self.pause().await;
                }
                end @ (Progress::Done | Progress::Full) => return Ok(end),
            }
            root = self.root();
        }
    }

    /// From now on a sweep waits for this read, unless it takes very long.
    fn hold(&self, read: &mut Read) {
        read.reading.get_or_insert_with(|| self.group().readers.enter(read.run.revision()));
    }
}
