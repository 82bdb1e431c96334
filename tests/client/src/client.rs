//! One HTTP/2 connection and the unary calls on it.

use std::{io, net::SocketAddr};

use bytes::{Buf, Bytes, BytesMut};
use h2::{RecvStream, client::SendRequest};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use prost::Message;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    call::{Call, GRPC_PREFIX_BYTES, grpc_timeout},
    status::{Code, Status, status_of},
    stream::Stream,
};

/// Flow control windows: wide, so that a test never waits for one unless it means to.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// The largest answer that is taken; etcd's clients take 2 GiB.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// A connection to a server. Clones share it; it closes with the last one.
#[derive(Clone, Debug)]
pub struct Client {
    send: SendRequest<Bytes>,
    authority: Authority,
}

impl Client {
    /// Connects with prior knowledge of HTTP/2, without TLS. Needs a tokio runtime with I/O and time, on which the connection
    /// then lives.
    pub async fn connect(addr: SocketAddr) -> Result<Self, Status> {
        let stream = TcpStream::connect(addr).await.map_err(|error| unavailable(&error))?;
        stream.set_nodelay(true).map_err(|error| unavailable(&error))?;
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .handshake(stream)
            .await?;
        // A failure of the connection reaches each call on it; nobody else has a use for it.
        tokio::spawn(async { drop(connection.await) });
        let authority = Authority::try_from(addr.to_string()).expect("an address is an authority");
        Ok(Self { send, authority })
    }

    /// Calls a method whose name is known when this is compiled, such as `/etcdserverpb.KV/Put`.
    pub async fn unary<T: Message + Default>(&self, path: &'static str, request: &impl Message) -> Result<T, Status> {
        let answer = self.exchange(PathAndQuery::from_static(path), Call::message(request)).await?;
        T::decode(answer).map_err(|error| Status::new(Code::INTERNAL, format!("undecodable answer: {error}")))
    }

    /// Calls a method that answers with a stream.
    pub async fn server_stream(&self, path: &'static str, request: &impl Message) -> Result<Incoming, Status> {
        let (request, body) = self.exchange_request(PathAndQuery::from_static(path), Call::message(request));
        let mut send = self.send.clone().ready().await?;
        let (response, mut stream) = send.send_request(request, false)?;
        stream.send_data(body, true)?;
        let (head, body) = response.await?.into_parts();
        match status_of(&head.headers) {
            Some(Err(status)) => Err(status),
            _ => Ok(Incoming { body, partial: BytesMut::new() }),
        }
    }

    /// Calls any path with any bytes; the answer is the bytes of its message.
    pub async fn call(&self, path: &str, call: Call) -> Result<Bytes, Status> {
        let path = PathAndQuery::try_from(path)
            .map_err(|error| Status::new(Code::INTERNAL, format!("path {path:?}: {error}")))?;
        self.exchange(path, call).await
    }

    /// Opens a streaming call; what `call` would send as its body is not sent.
    pub async fn stream(&self, path: &str, call: Call) -> Result<Stream, Status> {
        let path = PathAndQuery::try_from(path)
            .map_err(|error| Status::new(Code::INTERNAL, format!("path {path:?}: {error}")))?;
        let (request, _) = self.exchange_request(path, call);
        let (response, send) = self.send.clone().ready().await?.send_request(request, false)?;
        Ok(Stream::new(send, response))
    }

    async fn exchange(&self, path: PathAndQuery, call: Call) -> Result<Bytes, Status> {
        match call.deadline {
            None => self.exchange_undated(path, call).await,
            Some(deadline) => timeout(deadline, self.exchange_undated(path, call))
                .await
                .unwrap_or_else(|_| Err(Status::new(Code::DEADLINE_EXCEEDED, "context deadline exceeded"))),
        }
    }

    async fn exchange_undated(&self, path: PathAndQuery, call: Call) -> Result<Bytes, Status> {
        let (request, body) = self.exchange_request(path, call);
        let mut send = self.send.clone().ready().await?;
        let (response, mut stream) = send.send_request(request, false)?;
        stream.send_data(body, true)?;
        read_answer(response.await?).await
    }

    fn exchange_request(&self, path: PathAndQuery, call: Call) -> (Request<()>, Bytes) {
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(self.authority.clone()).path_and_query(path);
        let mut request = Request::new(());
        *request.uri_mut() = uri.build().expect("scheme, authority and path make a URI");
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        if let Some(deadline) = call.deadline {
            headers.insert("grpc-timeout", grpc_timeout(deadline));
        }
        headers.extend(call.metadata.into_iter().map(|(name, value)| (Some(name), value)));
        (request, call.body)
    }
}

/// The messages of a stream. As long as nobody asks for them, the server can send no more than the windows take.
#[derive(Debug)]
pub struct Incoming {
    body: RecvStream,
    /// What came and is no whole message yet.
    partial: BytesMut,
}

impl Incoming {
    /// The next message; none at the end.
    pub async fn next<T: Message + Default>(&mut self) -> Result<Option<T>, Status> {
        loop {
            if let Some(header) = self.partial.first_chunk::<GRPC_PREFIX_BYTES>() {
                let [_, a, b, c, d] = *header;
                let bytes = GRPC_PREFIX_BYTES + u32::from_be_bytes([a, b, c, d]) as usize;
                if self.partial.len() >= bytes {
                    let mut message = self.partial.split_to(bytes).freeze();
                    message.advance(GRPC_PREFIX_BYTES);
                    return T::decode(message)
                        .map(Some)
                        .map_err(|error| Status::new(Code::INTERNAL, format!("undecodable message: {error}")));
                }
            }
            let Some(chunk) = self.body.data().await else { break };
            let chunk = chunk?;
            self.body.flow_control().release_capacity(chunk.len())?;
            self.partial.extend_from_slice(&chunk);
        }
        let trailers = self.body.trailers().await?.unwrap_or_default();
        match status_of(&trailers) {
            Some(Ok(())) => Ok(None),
            Some(Err(status)) => Err(status),
            None => Err(Status::new(Code::UNKNOWN, "the stream ends without a grpc-status")),
        }
    }
}

async fn read_answer(response: Response<RecvStream>) -> Result<Bytes, Status> {
    let (head, mut body) = response.into_parts();
    if let Some(Err(status)) = status_of(&head.headers) {
        return Err(status);
    }
    if head.status != http::StatusCode::OK {
        return Err(Status::new(Code::UNKNOWN, format!("HTTP status {}", head.status)));
    }
    let message = read_body(&mut body).await?;
    let trailers = body.trailers().await?.unwrap_or_else(HeaderMap::new);
    match status_of(&trailers).or_else(|| status_of(&head.headers)) {
        Some(Ok(())) => unframe(message),
        Some(Err(status)) => Err(status),
        None => Err(Status::new(Code::UNKNOWN, "the answer ends without a grpc-status")),
    }
}

async fn read_body(body: &mut RecvStream) -> Result<Bytes, Status> {
    let Some(first) = body.data().await else { return Ok(Bytes::new()) };
    let first = first?;
    body.flow_control().release_capacity(first.len())?;
    let Some(second) = body.data().await else { return Ok(first) };
    // Only an answer of several frames is copied.
    let mut all = BytesMut::from(first);
    let mut next = Some(second);
    while let Some(chunk) = next {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        all.extend_from_slice(&chunk);
        if all.len() > MESSAGE_BYTES_MAX {
            return Err(Status::new(Code::INTERNAL, "the answer is larger than this client takes"));
        }
        next = body.data().await;
    }
    Ok(all.freeze())
}

/// The one message of a unary answer.
fn unframe(mut body: Bytes) -> Result<Bytes, Status> {
    if body.len() < GRPC_PREFIX_BYTES {
        return Err(Status::new(Code::INTERNAL, format!("an answer of {} bytes holds no message", body.len())));
    }
    let (compressed, message_bytes) = (body.get_u8(), body.get_u32() as usize);
    if compressed != 0 || message_bytes != body.len() {
        let detail = format!("flag {compressed}, length {message_bytes}, {} bytes there", body.len());
        return Err(Status::new(Code::INTERNAL, format!("the answer is no single plain message: {detail}")));
    }
    Ok(body)
}

fn unavailable(error: &io::Error) -> Status {
    Status::new(Code::UNAVAILABLE, format!("connection: {error}"))
}
