//! The Watch service: one stream, its requests and its responses.

mod encode;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use plinth_env::Env;
use plinth_kv::KeyRange;
use plinth_rpc::{Replies, RequestMeta, Requests, Status, errors, etcdserverpb as pb};

use super::{Api, decode};
use crate::watch::{Create, Item, StreamGuard};
use encode::Encoder;
use pb::{watch_create_request::FilterType, watch_request::RequestUnion};

/// What etcd adds to the limit of requests before it splits a response into fragments.
const FRAGMENT_OVERHEAD_BYTES: usize = 512 << 10;

impl<E: Env> Api<E> {
    /// Serves a watch stream until its client goes away. One that only ends its side is still told of events.
    ///
    /// # Errors
    /// What ends the stream.
    pub async fn watch(
        &self,
        meta: &RequestMeta,
        mut requests: impl Requests,
        mut replies: impl Replies,
    ) -> Result<(), Status> {
        let stream = self.hub.open();
        let reading = async {
            loop {
                stream.room().await;
                match requests.next().await {
                    Some(request) => self.take_watch_request(&stream, decode(request?)?),
                    // It only listens from now on, as the callers of the JSON gateway do.
                    None => return std::future::pending().await,
                }
            }
        };
        let writing = async {
            loop {
                let item = stream.next().await;
                self.send_item(item, &mut replies).await?;
            }
        };
        let noticing = async { if meta.has_leader { self.leader_lost().await } else { std::future::pending().await } };
        first_of(reading, writing, first_of(self.notify_progress(&stream), noticing, std::future::pending())).await
    }

    fn take_watch_request(&self, stream: &StreamGuard<E>, request: pb::WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => stream.create(watcher(create)),
            Some(RequestUnion::CancelRequest(cancel)) => stream.cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})) => stream.request_progress(),
            // Of a kind that a later version may know.
            None => {}
        }
    }

    async fn send_item(&self, item: Item, replies: &mut impl Replies) -> Result<(), Status> {
        let encoder = Encoder { header: |revision| self.header(revision) };
        match item {
            Item::Events(delivery) => {
                let bytes_max = self.options.request_bytes_max + FRAGMENT_OVERHEAD_BYTES;
                for frame in encoder.events(&delivery, bytes_max) {
                    replies.send(frame).await?;
                }
            }
            item => replies.send(encoder.control(&item)).await?,
        }
        Ok(())
    }

    /// Never ends.
    async fn notify_progress(&self, stream: &StreamGuard<E>) -> Result<(), Status> {
        let env = self.executor.env();
        // Streams that were opened together are not told together.
        let jitter = u32::try_from(env.random_u64() % 100).expect("a remainder below 100");
        let interval = self.options.watch_progress_interval;
        let interval = interval + interval / 1000 * jitter;
        loop {
            env.sleep(interval).await;
            stream.notify_progress();
        }
    }

    /// Ends when this member has known no leader for some time.
    async fn leader_lost(&self) -> Result<(), Status> {
        /// How often it is looked at within the time after which a leader counts as lost.
        const LOOKS: u32 = 6;
        let mut missed = 0;
        while missed < LOOKS {
            self.executor.env().sleep(self.options.leader_loss_timeout / LOOKS).await;
            missed = if self.has_leader() { 0 } else { missed + 1 };
        }
        Err(errors::NO_LEADER)
    }
}

fn watcher(create: pb::WatchCreateRequest) -> Create {
    let has_filter = |filter: FilterType| create.filters.contains(&(filter as i32));
    let (without_puts, without_deletes) = (has_filter(FilterType::Noput), has_filter(FilterType::Nodelete));
    let key = if create.key.is_empty() { bytes::Bytes::from_static(&[0]) } else { create.key };
    Create {
        watch_id: create.watch_id,
        range: KeyRange { key, end: create.range_end },
        start: create.start_revision,
        without_puts,
        without_deletes,
        with_prev: create.prev_kv,
        may_split: create.fragment,
        wants_progress: create.progress_notify,
    }
}

/// The end of whichever of three ends first.
async fn first_of<T>(
    first: impl Future<Output = T>,
    second: impl Future<Output = T>,
    third: impl Future<Output = T>,
) -> T {
    let (mut first, mut second, mut third) = (pin!(first), pin!(second), pin!(third));
    poll_fn(|cx| {
        for end in [first.as_mut().poll(cx), second.as_mut().poll(cx), third.as_mut().poll(cx)] {
            if end.is_ready() {
                return end;
            }
        }
        Poll::Pending
    })
    .await
}

/// How often quiet watchers are told of progress, at least.
pub const WATCH_PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);
