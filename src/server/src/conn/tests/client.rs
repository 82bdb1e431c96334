//! A small gRPC client on the h2 crate.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request};
use plinth_rpc::{FRAME_HEADER_BYTES, Frame, FrameDecoder, Method};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// One connection.
#[derive(Clone)]
pub struct Client {
    requests: SendRequest<Bytes>,
}

/// A client's end of a pipe from which only as much is read as the test allows.
pub struct Throttled {
    pipe: DuplexStream,
    allowed: Rc<Allowance>,
}

/// What may be read.
#[derive(Default)]
pub struct Allowance {
    bytes: Cell<usize>,
    waker: RefCell<Option<Waker>>,
}

impl Allowance {
    /// So many bytes more.
    pub fn add(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes);
        self.waker.take().into_iter().for_each(Waker::wake);
    }
}

impl Throttled {
    pub fn new(pipe: DuplexStream) -> (Self, Rc<Allowance>) {
        let allowed = Rc::new(Allowance::default());
        (Self { pipe, allowed: Rc::clone(&allowed) }, allowed)
    }
}

impl AsyncRead for Throttled {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let allowed = Rc::clone(&self.allowed);
        if allowed.bytes.get() == 0 {
            allowed.waker.replace(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        let mut space = vec![0; allowed.bytes.get().min(buf.remaining())];
        let mut part = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.pipe).poll_read(cx, &mut part))?;
        buf.put_slice(part.filled());
        allowed.bytes.set(allowed.bytes.get() - part.filled().len());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Throttled {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// How a call came out.
#[derive(Debug)]
pub struct Answer {
    pub http_status: u16,
    pub headers: HeaderMap,
    pub message: Option<Bytes>,
    pub trailers: HeaderMap,
}

impl Answer {
    /// `grpc-status` and `grpc-message`, from the trailers or, if there was no message, from the headers.
    pub fn status(&self) -> (i32, String) {
        let from = if self.headers.contains_key("grpc-status") { &self.headers } else { &self.trailers };
        let text = |name| from.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        (text("grpc-status").parse().unwrap_or(-1), text("grpc-message"))
    }
}

/// A request whose body the test sends itself.
pub struct Open {
    pub answer: ResponseFuture,
    pub body: SendStream<Bytes>,
}

pub fn request(path: &str) -> Request<()> {
    Request::post(format!("http://plinth{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("valid parts")
}

pub fn frame(message: &[u8]) -> Bytes {
    Frame::build(message.len(), |out| out.extend_from_slice(message)).into_bytes()
}

impl Client {
    pub async fn new<T: AsyncRead + AsyncWrite + Unpin + 'static>(io: T) -> Self {
        Self::with_window(io, 8 << 20).await
    }

    /// A client whose windows are `window_bytes` for each stream and large for the connection.
    pub async fn with_window<T: AsyncRead + AsyncWrite + Unpin + 'static>(io: T, window_bytes: u32) -> Self {
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(window_bytes)
            .initial_connection_window_size(1 << 30)
            .handshake(io)
            .await
            .expect("handshake");
        tokio::task::spawn_local(async move {
            // How it ends is the server's story.
            let _ = connection.await;
        });
        Self { requests }
    }

    pub async fn open(&self, request: Request<()>) -> Result<Open, h2::Error> {
        let mut requests = self.requests.clone().ready().await?;
        let (answer, body) = requests.send_request(request, false)?;
        Ok(Open { answer, body })
    }

    /// Sends `body` as it is, then reads the whole answer.
    pub async fn raw(&self, request: Request<()>, body: Bytes) -> Result<Answer, h2::Error> {
        let mut open = self.open(request).await?;
        open.body.send_data(body, true)?;
        read(open.answer).await
    }

    pub async fn call(&self, method: Method, message: &[u8]) -> Answer {
        self.raw(request(method.path()), frame(message)).await.expect("the call has an answer")
    }

    pub async fn call_within(&self, method: Method, message: &[u8], timeout: &'static str) -> Answer {
        let mut request = request(method.path());
        request.headers_mut().insert("grpc-timeout", http::HeaderValue::from_static(timeout));
        self.raw(request, frame(message)).await.expect("the call has an answer")
    }
}

/// The messages of a stream's answer, as they come.
pub struct Messages {
    body: RecvStream,
    decoder: FrameDecoder,
}

impl Messages {
    pub async fn of(answer: ResponseFuture) -> Result<Self, h2::Error> {
        Ok(Self { body: answer.await?.into_body(), decoder: FrameDecoder::new(1 << 20) })
    }

    /// The next one; `None` when the trailers come.
    pub async fn next(&mut self) -> Result<Option<Bytes>, h2::Error> {
        loop {
            if let Some(message) = self.decoder.next_message().expect("sound frames") {
                return Ok(Some(message));
            }
            let Some(chunk) = poll_fn(|cx| self.body.poll_data(cx)).await else { return Ok(None) };
            let chunk = chunk?;
            self.body.flow_control().release_capacity(chunk.len())?;
            self.decoder.push(chunk);
        }
    }

    /// `grpc-status` of the trailers.
    pub async fn status(&mut self) -> Result<i32, h2::Error> {
        let trailers = poll_fn(|cx| self.body.poll_trailers(cx)).await?.unwrap_or_default();
        Ok(trailers.get("grpc-status").and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(-1))
    }
}

pub async fn read(answer: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut body) = answer.await?.into_parts();
    let message = read_message(&mut body).await?;
    let trailers = poll_fn(|cx| body.poll_trailers(cx)).await?.unwrap_or_default();
    Ok(Answer { http_status: head.status.as_u16(), headers: head.headers, message, trailers })
}

async fn read_message(body: &mut RecvStream) -> Result<Option<Bytes>, h2::Error> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = poll_fn(|cx| body.poll_data(cx)).await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        bytes.extend_from_slice(&chunk);
    }
    Ok((!bytes.is_empty()).then(|| bytes.freeze().slice(FRAME_HEADER_BYTES..)))
}

/// Lets everything else happen that can without time passing.
pub async fn settle() {
    tokio::time::sleep(Duration::from_nanos(1)).await;
}
