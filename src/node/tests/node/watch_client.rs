//! A client of a watch stream, on the same executor as the server.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future as _, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
};

use bytes::Bytes;
use plinth_env::{Env, TaskQueue};
use plinth_node::api::Api;
use plinth_rpc::{ChunkSource, Frame, Gone, Method, Replies, RequestMeta, Requests, Status, etcdserverpb as pb};
use plinth_sim_env::SimEnv;
use prost::Message;

/// Clones share everything. Dropping it doesn't end the stream.
#[derive(Clone, Default)]
pub struct WatchClient(Rc<Shared>);

#[derive(Default)]
struct Shared {
    requests: RefCell<VecDeque<pb::WatchRequest>>,
    is_closed: Cell<bool>,
    received: RefCell<Vec<pb::WatchResponse>>,
    is_paused: Cell<bool>,
    has_vanished: Cell<bool>,
    wakers: RefCell<Vec<Waker>>,
}

impl Shared {
    fn wake(&self) {
        self.wakers.take().into_iter().for_each(Waker::wake);
    }

    async fn until<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        poll_fn(|cx| match ready() {
            Some(done) => Poll::Ready(done),
            None => {
                self.wakers.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

impl WatchClient {
    /// Opens a stream.
    pub fn open(env: &SimEnv, api: &Api<SimEnv>, meta: RequestMeta) -> Self {
        let client = Self::default();
        let (api, side) = (api.clone(), client.clone());
        env.spawn(TaskQueue::Serve, async move {
            let mut stream = pin!(api.stream(Method::Watch, &meta, Side(side.0.clone()), Side(side.0.clone())));
            let mut vanished = pin!(side.0.until(|| side.0.has_vanished.get().then_some(())));
            poll_fn(|cx| match vanished.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => stream.as_mut().poll(cx).map(|end| panic!("the stream ended with {end:?}")),
            })
            .await;
        });
        client
    }

    pub fn create(&self, create: pb::WatchCreateRequest) {
        self.send(pb::watch_request::RequestUnion::CreateRequest(create));
    }

    pub fn cancel(&self, watch_id: i64) {
        self.send(pb::watch_request::RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }));
    }

    pub fn ask_progress(&self) {
        self.send(pb::watch_request::RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
    }

    fn send(&self, request: pb::watch_request::RequestUnion) {
        self.0.requests.borrow_mut().push_back(pb::WatchRequest { request_union: Some(request) });
        self.0.wake();
    }

    /// Requests that the server has not looked at.
    pub fn waiting_requests(&self) -> usize {
        self.0.requests.borrow().len()
    }

    /// Stops or begins to take answers.
    pub fn pause(&self, is_paused: bool) {
        self.0.is_paused.set(is_paused);
        self.0.wake();
    }

    /// Ends the client's side: it only listens from now on.
    pub fn close(&self) {
        self.0.is_closed.set(true);
        self.0.wake();
    }

    /// Resets the stream.
    pub fn vanish(&self) {
        self.0.has_vanished.set(true);
        self.0.wake();
    }

    /// Everything received since the last time.
    pub fn take(&self) -> Vec<pb::WatchResponse> {
        self.0.received.take()
    }

    /// Waits for at least one response.
    pub async fn next(&self) -> pb::WatchResponse {
        let first = || {
            let mut received = self.0.received.borrow_mut();
            (!received.is_empty()).then(|| received.remove(0))
        };
        self.0.until(first).await
    }
}

/// What the server sees.
struct Side(Rc<Shared>);

impl Requests for Side {
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        let shared = &self.0;
        let next = || match shared.requests.borrow_mut().pop_front() {
            Some(request) => Some(Some(Ok(request.encode_to_vec().into()))),
            None => shared.is_closed.get().then_some(None),
        };
        shared.until(next).await
    }
}

impl Replies for Side {
    async fn send(&mut self, frame: Frame) -> Result<(), Gone> {
        self.0.until(|| (!self.0.is_paused.get()).then_some(())).await;
        let response = pb::WatchResponse::decode(frame.message()).expect("the server encodes what it means");
        self.0.received.borrow_mut().push(response);
        self.0.wake();
        Ok(())
    }

    async fn send_chunked(&mut self, message_len: u64, _: &mut dyn ChunkSource) -> Result<(), Status> {
        panic!("a watch response of {message_len} bytes is one frame");
    }
}
