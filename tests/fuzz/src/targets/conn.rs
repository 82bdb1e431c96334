//! A connection: what a client may send, HTTP/2 or HTTP/1 or neither. It ends, holds nothing afterwards, and the server goes on.

use std::{cell::Cell, future::Future, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use plinth_base::{Instant, Prng, crc32c};
use plinth_rpc::{Frame, Method, Replies, Reply, RequestMeta, Requests, Status};
use plinth_server::conn::{ConnConfig, ConnEnd, GrpcMetrics, Runtime, Server, Service};
use tokio::{
    io::{AsyncWriteExt, duplex},
    task::LocalSet,
    time::sleep,
};

use crate::target::Target;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const CHUNK_BYTES_MAX: usize = 100;
/// What the server may answer before somebody has to read it.
const PIPE_BYTES: usize = 64 << 10;
/// Longer than any of the server's own times.
const HANG: Duration = Duration::from_secs(24 * 3600);

// Types and flags of HTTP/2's frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// tokio with paused time: a sleep ends as soon as nothing else can happen.
#[derive(Clone)]
struct PausedTime(tokio::time::Instant);

impl Runtime for PausedTime {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        sleep(duration)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }
}

/// Answers with what was asked, after a while, and counts.
struct Echo(Rc<Cell<u32>>);

impl Service for Echo {
    fn implements(&self, method: Method) -> bool {
        method != Method::Txn
    }

    async fn unary(&self, method: Method, request: Bytes, _meta: RequestMeta) -> Result<Reply, Status> {
        sleep(Duration::from_millis(1)).await;
        self.0.update(|served| served + 1);
        match method {
            Method::Range => Ok(Reply::Message(Frame::build(request.len(), |out| out.extend_from_slice(&request)))),
            other => Err(other.unimplemented()),
        }
    }

    async fn stream(
        &self,
        method: Method,
        _meta: RequestMeta,
        mut requests: impl Requests,
        mut replies: impl Replies,
    ) -> Result<(), Status> {
        while let Some(request) = requests.next().await {
            let request = request?;
            self.0.update(|served| served + 1);
            replies.send(Frame::build(request.len(), |out| out.extend_from_slice(&request))).await?;
        }
        if method == Method::LeaseKeepAlive { Ok(()) } else { Err(method.unimplemented()) }
    }

    async fn http(&self, request: http::Request<()>) -> http::Response<Bytes> {
        self.0.update(|served| served + 1);
        http::Response::new(Bytes::from(request.uri().to_string()))
    }
}

/// The target.
pub(super) struct Conn {
    runtime: tokio::runtime::Runtime,
}

impl Conn {
    pub(super) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        Self { runtime: runtime.expect("a runtime without I/O needs nothing") }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header field that isn't in HPACK's table, without indexing or compression.
fn header(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")][..], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

/// HEADERS of a call: `:method POST` and `:scheme http` by their place in HPACK's table.
fn call(stream: u32, path: &str, extra: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let fields = [(":path", path), (":authority", "plinth"), ("content-type", "application/grpc"), ("te", "trailers")];
    for (name, value) in fields.iter().chain(extra) {
        block.extend(header(name, value));
    }
    frame(HEADERS, END_HEADERS, stream, &block)
}

fn message(stream: u32, text: &str) -> Vec<u8> {
    let framed = Frame::build(text.len(), |out| out.extend_from_slice(text.as_bytes())).into_bytes();
    frame(DATA, END_STREAM, stream, &framed)
}

impl Target for Conn {
    fn corpus(&self) -> Vec<Vec<u8>> {
        let greeting = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(SETTINGS, 1, 0, &[])].concat();
        let range = |stream| [call(stream, "/etcdserverpb.KV/Range", &[]), message(stream, "request")].concat();
        let timeout = call(5, "/etcdserverpb.KV/Put", &[("grpc-timeout", "5m"), ("grpc-encoding", "identity")]);
        vec![
            [&greeting[..], &range(1)].concat(),
            [&greeting[..], &range(1), &range(3), &timeout, &message(5, "put")].concat(),
            [&greeting[..], &frame(PING, 0, 0, &[7; 8]), &frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]), &range(1)]
                .concat(),
            [&greeting[..], &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 9, 0, 3, 0, 0, 0, 2]), &range(1)].concat(),
            b"GET /health HTTP/1.1\r\nHost: plinth\r\nConnection: close\r\n\r\n".to_vec(),
            b"POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbodyGET / HTTP/1.0\r\n\r\n".to_vec(),
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec(),
        ]
    }

    fn run(&mut self, input: &[u8]) -> bool {
        self.runtime.block_on(LocalSet::new().run_until(serve(input)))
    }
}

/// Sends the input in pieces and hangs up; whether anything was answered and the connection ended in order.
async fn serve(input: &[u8]) -> bool {
    let time = PausedTime(tokio::time::Instant::now());
    let config = ConnConfig { message_bytes_max: 1 << 20, ..ConnConfig::default() };
    let served = Rc::default();
    let server = Server::new(Echo(Rc::clone(&served)), time, config, Arc::new(GrpcMetrics::default()));
    let (mut client, socket) = duplex(PIPE_BYTES);
    let serving = server.clone();
    let ending = tokio::task::spawn_local(async move { serving.serve(socket).await });
    let mut prng = Prng::new(crc32c(0, input).into());
    let mut rest = input;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rest.len().min(1 + prng.index(CHUNK_BYTES_MAX)));
        rest = behind;
        // The server may have hung up already.
        if client.write_all(piece).await.is_err() {
            break;
        }
        if prng.chance(1, 8) {
            sleep(Duration::from_millis(2)).await;
        }
    }
    sleep(Duration::from_millis(2)).await;
    drop(client);
    let end = tokio::time::timeout(HANG, ending).await.expect("the connection ends").expect("and doesn't panic");
    assert_eq!(server.connection_count(), 0);
    served.get() > 0 && end == ConnEnd::Closed
}
