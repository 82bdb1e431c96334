//! What the tests share: a local executor with a clock that jumps, a service that does what its requests say, and pipes.

use std::{
    cell::{Cell, RefCell},
    future::{Future, pending},
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use plinth_base::Instant;
use plinth_rpc::{Chunk, ChunkSource, Code, Frame, Method, Replies, Reply, RequestMeta, Requests, Status, errors};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    task::LocalSet,
};

use super::super::{ConnConfig, ConnEnd, GrpcMetrics, GrpcTotals, Runtime, Server, Service};

/// tokio's current-thread runtime with paused time: a sleep ends as soon as nothing else can happen.
#[derive(Clone)]
pub struct TestRuntime(tokio::time::Instant);

impl Runtime for TestRuntime {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.0.elapsed().as_nanos()).expect("tests are short"))
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        tokio::time::sleep(duration)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }
}

/// Runs a test to its end.
pub fn run(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    runtime.block_on(LocalSet::new().run_until(async {
        tokio::time::timeout(Duration::from_secs(24 * 3600), test()).await.expect("the test hangs");
    }));
}

/// What the service saw.
#[derive(Default)]
pub struct Seen {
    pub dropped: Cell<usize>,
    pub finished: Cell<usize>,
    pub running: Cell<usize>,
    pub running_max: Cell<usize>,
    pub chunks_made: Cell<usize>,
    pub meta: RefCell<Option<RequestMeta>>,
}

/// Answers by method: Range echoes, Put fails, Compact never ends, Txn sleeps a second, Hash answers as many bytes as its request says,
/// HashKV the same in chunks, Alarm breaks off in the middle. Of the streams, LeaseKeepAlive echoes every message, Observe sends as many messages of
/// 10,000 bytes as its request says, Snapshot sends one and fails, Watch sends one and never ends, RangeStream fails at once.
pub struct TestService(pub Rc<Seen>);

struct Running<'a>(&'a Seen, bool);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
        let counter = if self.1 { &self.0.finished } else { &self.0.dropped };
        counter.set(counter.get() + 1);
    }
}

/// The number in a request's text.
fn number(request: &Bytes) -> usize {
    std::str::from_utf8(request).ok().and_then(|text| text.parse().ok()).expect("the test sends a number")
}

/// Chunks of at most 10,000 bytes; the last one fails if it should.
struct TestChunks {
    left: usize,
    fail: bool,
    seen: Rc<Seen>,
}

impl ChunkSource for TestChunks {
    fn next_chunk(&mut self, bytes_max: usize) -> Chunk<'_> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.seen.chunks_made.set(self.seen.chunks_made.get() + 1);
            let len = self.left.min(10_000).min(bytes_max);
            self.left -= len;
            if self.left == 0 && self.fail { Err(errors::CORRUPT) } else { Ok(Bytes::from(vec![b'c'; len])) }
        })
    }
}

impl Service for TestService {
    fn implements(&self, method: Method) -> bool {
        !matches!(method, Method::UserAdd | Method::HealthWatch)
    }

    async fn unary(&self, method: Method, request: Bytes, meta: RequestMeta) -> Result<Reply, Status> {
        let seen = &self.0;
        seen.running.set(seen.running.get() + 1);
        seen.running_max.set(seen.running_max.get().max(seen.running.get()));
        let mut running = Running(seen, false);
        seen.meta.replace(Some(meta));
        let chunked = |fail| {
            let len = number(&request);
            let source = Box::new(TestChunks { left: len, fail, seen: Rc::clone(seen) });
            Reply::Chunked { message_len: len as u64, source }
        };
        let reply = match method {
            Method::Range => Ok(Reply::Message(Frame::build(request.len(), |out| out.extend_from_slice(&request)))),
            Method::Put => Err(errors::EMPTY_KEY),
            Method::Compact => pending().await,
            Method::Txn => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(Reply::Message(Frame::build(0, |_| ())))
            }
            Method::Hash => Ok(Reply::Message(Frame::build(0, |out| out.resize(out.len() + number(&request), b'h')))),
            Method::HashKv => Ok(chunked(false)),
            Method::Alarm => Ok(chunked(true)),
            other => Err(other.unimplemented()),
        };
        running.1 = true;
        reply
    }

    async fn stream(
        &self,
        method: Method,
        meta: RequestMeta,
        mut requests: impl Requests,
        mut replies: impl Replies,
    ) -> Result<(), Status> {
        let seen = &self.0;
        seen.running.set(seen.running.get() + 1);
        let mut running = Running(seen, false);
        seen.meta.replace(Some(meta));
        let answer = |bytes: &[u8]| Frame::build(bytes.len(), |out| out.extend_from_slice(bytes));
        let end = match method {
            Method::LeaseKeepAlive => {
                while let Some(request) = requests.next().await {
                    replies.send(answer(&request?)).await?;
                }
                Ok(())
            }
            Method::Observe => {
                let request = requests.next().await.expect("the test sends a message")?;
                for _ in 0..number(&request) {
                    replies.send(answer(&[b'o'; 10_000])).await?;
                    seen.chunks_made.set(seen.chunks_made.get() + 1);
                }
                Ok(())
            }
            Method::Snapshot => {
                replies.send(answer(b"one")).await?;
                Err(errors::CORRUPT)
            }
            Method::Watch => {
                replies.send(answer(b"up")).await?;
                pending().await
            }
            Method::RangeStream => Err(errors::EMPTY_KEY),
            other => Err(other.unimplemented()),
        };
        running.1 = true;
        end
    }

    async fn http(&self, request: http::Request<()>) -> http::Response<Bytes> {
        let text = format!("{} {}", request.method(), request.uri());
        let status = if request.uri().path() == "/health" { 200 } else { 404 };
        http::Response::builder()
            .status(status)
            .header("content-type", "text/plain")
            .body(Bytes::from(text))
            .expect("valid parts")
    }
}

/// Counts what the server does to its end of a pipe.
pub struct Counted {
    pipe: DuplexStream,
    pub writes: Rc<Cell<usize>>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.pipe).poll_write(cx, bytes);
        self.writes.set(self.writes.get() + usize::from(written.is_ready()));
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// A server with its service's view.
pub struct Rig {
    pub server: Server<TestService, TestRuntime>,
    pub seen: Rc<Seen>,
    pub writes: Rc<Cell<usize>>,
    metrics: Arc<GrpcMetrics>,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(ConnConfig { message_bytes_max: 2 << 20, ..ConnConfig::default() })
    }

    pub fn with(config: ConnConfig) -> Self {
        let seen = Rc::new(Seen::default());
        let metrics = Arc::new(GrpcMetrics::default());
        let runtime = TestRuntime(tokio::time::Instant::now());
        let server = Server::new(TestService(Rc::clone(&seen)), runtime, config, Arc::clone(&metrics));
        Self { server, seen, writes: Rc::default(), metrics }
    }

    /// A new connection: the client's end, and how it ends. The pipe holds `pipe_bytes` in each direction.
    pub fn connect(&self, pipe_bytes: usize) -> (DuplexStream, Ending) {
        let (client, pipe) = duplex(pipe_bytes);
        let socket = Counted { pipe, writes: Rc::clone(&self.writes) };
        let server = self.server.clone();
        (client, Ending(tokio::task::spawn_local(async move { server.serve(socket).await })))
    }

    pub fn totals(&self) -> GrpcTotals {
        GrpcTotals::sum([&*self.metrics])
    }

    /// Asserts that nothing of any call is left, and that every started call was handled.
    pub fn assert_quiet(&self) {
        assert_eq!(self.seen.running.get(), 0, "handlers still run");
        assert_eq!(self.server.lanes_bytes(), 0, "bytes are left in the lanes");
        for method in self.totals().methods {
            assert_eq!(method.started, method.handled.iter().sum::<u64>(), "{:?}", method.method);
        }
    }

    pub fn handled(&self, method: Method, code: Code) -> u64 {
        self.totals().method(method).handled_with(code)
    }
}

/// A connection's end, to be awaited.
pub struct Ending(tokio::task::JoinHandle<ConnEnd>);

impl Ending {
    pub async fn get(self) -> ConnEnd {
        self.0.await.expect("the connection must not panic")
    }

    pub fn is_over(&self) -> bool {
        self.0.is_finished()
    }
}
