//! Answers on their way out.
//!
//! What fits the client's windows goes to h2 at once. The rest waits here and is counted at the gate, so that h2 never buffers more
//! than the client has asked for. A stream that fails underneath ends the answer: nobody is left to tell.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use plinth_rpc::{CallRefused, ChunkSource, Code, Frame, Status, errors};

use super::{
    call::{Outcome, guarded},
    gate::{Gate, ReplyBytes},
};

/// The most that is handed to h2 at once for one stream.
pub const PIECE_BYTES_MAX: usize = 64 << 10;

/// The largest message gRPC may send, in bytes.
const MESSAGE_BYTES_MAX: u32 = (1 << 31) - 1;

/// Headers that every successful answer has, made once and cloned.
pub struct Heads {
    headers: HeaderMap,
    trailers: HeaderMap,
}

impl Default for Heads {
    fn default() -> Self {
        Self { headers: grpc_headers(), trailers: Status::fixed(Code::Ok, "").trailers() }
    }
}

fn grpc_headers() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(1);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers
}

impl Heads {
    pub fn response(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.headers_mut() = self.headers.clone();
        response
    }

    pub fn trailers(&self) -> HeaderMap {
        self.trailers.clone()
    }
}

/// Answers with a status and nothing else.
pub fn fail(respond: &mut SendResponse<Bytes>, status: &Status) {
    respond_with(respond, StatusCode::OK, status);
}

/// Answers a call that was refused by its head.
pub fn refuse(respond: &mut SendResponse<Bytes>, refused: &CallRefused) {
    respond_with(respond, refused.http_status, &refused.status);
}

fn respond_with(respond: &mut SendResponse<Bytes>, http_status: StatusCode, status: &Status) {
    let mut response = Response::new(());
    *response.status_mut() = http_status;
    *response.headers_mut() = grpc_headers();
    status.write_to(response.headers_mut());
    // Fails if the client has reset the call.
    let _ = respond.send_response(response, true);
}

/// Answers with one message.
pub async fn message(
    heads: &Heads,
    gate: &Gate,
    respond: &mut SendResponse<Bytes>,
    frame: Frame,
    deadline: Pin<&mut impl Future<Output = ()>>,
) {
    if let Some(status) = too_large(frame.message_len() as u64) {
        return fail(respond, &status);
    }
    let bytes = frame.into_bytes();
    let Ok(mut stream) = respond.send_response(heads.response(), false) else { return };
    stream.reserve_capacity(bytes.len());
    let sent = if stream.capacity() >= bytes.len() {
        stream.send_data(bytes, false).map_err(|_| Broken::Gone)
    } else {
        let mut held = gate.hold_reply(bytes.len());
        let mut room = Room(&mut stream);
        outcome(guarded(room.send(bytes, &mut held), |_| false, deadline).await)
    };
    finish(&mut stream, heads, sent);
}

/// Answers with one message that `source` makes piece by piece; says how the call ended.
pub async fn chunked(
    heads: &Heads,
    gate: &Gate,
    respond: &mut SendResponse<Bytes>,
    message_len: u64,
    mut source: Box<dyn ChunkSource>,
    deadline: Pin<&mut impl Future<Output = ()>>,
) -> Code {
    if let Some(status) = too_large(message_len) {
        fail(respond, &status);
        return status.code;
    }
    let Ok(mut stream) = respond.send_response(heads.response(), false) else { return Code::Canceled };
    let mut held = gate.hold_reply(0);
    let mut room = Room(&mut stream);
    let sent = outcome(guarded(room.send_chunks(message_len, &mut *source, &mut held), |_| false, deadline).await);
    finish(&mut stream, heads, sent)
}

fn too_large(message_len: u64) -> Option<Status> {
    (message_len > u64::from(MESSAGE_BYTES_MAX)).then(|| {
        let text = format!("grpc: trying to send message larger than max ({message_len} vs. {MESSAGE_BYTES_MAX})");
        Status::new(Code::ResourceExhausted, text)
    })
}

/// Why the message of an answer did not go out whole.
enum Broken {
    /// The stream is gone.
    Gone,
    /// The caller's time was up.
    Late,
    /// The source failed.
    Failed(Status),
}

fn outcome(outcome: Outcome<Result<(), Broken>>) -> Result<(), Broken> {
    match outcome {
        Outcome::Done(done) => done,
        Outcome::Late => Err(Broken::Late),
        Outcome::Gone => Err(Broken::Gone),
    }
}

fn finish(stream: &mut SendStream<Bytes>, heads: &Heads, sent: Result<(), Broken>) -> Code {
    let (trailers, code) = match sent {
        Ok(()) => (heads.trailers(), Code::Ok),
        Err(Broken::Failed(status)) => (status.trailers(), status.code),
        Err(Broken::Late) => (errors::CONTEXT_DEADLINE_EXCEEDED.trailers(), Code::DeadlineExceeded),
        Err(Broken::Gone) => {
            stream.send_reset(Reason::CANCEL);
            return Code::Canceled;
        }
    };
    // Fails if the client has reset the call.
    let _ = stream.send_trailers(trailers);
    code
}

/// How many of the bytes that were reserved may be sent now: at least one, when there is room for that; `None` when the stream is gone.
pub fn poll_room(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Poll<Option<usize>> {
    loop {
        let room = stream.capacity();
        if room > 0 {
            return Poll::Ready(Some(room));
        }
        // Tells of additions only, so the capacity is looked at first. A reset ends it.
        if !matches!(ready!(stream.poll_capacity(cx)), Some(Ok(_))) {
            return Poll::Ready(None);
        }
    }
}

/// A stream whose windows are respected.
struct Room<'a>(&'a mut SendStream<Bytes>);

impl Room<'_> {
    /// How many bytes may be sent now: at least one, when there is room for that.
    async fn get(&mut self, wanted: usize) -> Result<usize, Broken> {
        self.0.reserve_capacity(wanted);
        poll_fn(|cx| poll_room(self.0, cx)).await.ok_or(Broken::Gone)
    }

    async fn send(&mut self, mut bytes: Bytes, held: &mut ReplyBytes<'_>) -> Result<(), Broken> {
        while !bytes.is_empty() {
            let room = self.get(bytes.len().min(PIECE_BYTES_MAX)).await?;
            let piece = bytes.split_to(room.min(bytes.len()));
            self.0.send_data(piece, false).map_err(|_| Broken::Gone)?;
            held.set(bytes.len());
        }
        Ok(())
    }

    async fn send_chunks(
        &mut self,
        message_len: u64,
        source: &mut dyn ChunkSource,
        held: &mut ReplyBytes<'_>,
    ) -> Result<(), Broken> {
        let len = u32::try_from(message_len).expect("checked against MESSAGE_BYTES_MAX");
        self.send(Bytes::copy_from_slice(&Frame::header(len)), held).await?;
        let mut missing = message_len;
        while missing > 0 {
            // No chunk is made before the client can take some of it.
            self.get(PIECE_BYTES_MAX).await?;
            let chunk = self.next_chunk(source).await?;
            missing = missing
                .checked_sub(chunk.len() as u64)
                .filter(|_| !chunk.is_empty())
                .ok_or(Broken::Failed(Status::fixed(Code::Internal, "reply and its announced length differ")))?;
            held.set(chunk.len());
            self.send(chunk, held).await?;
        }
        Ok(())
    }

    /// The next chunk, unless the client resets the call while it is made.
    async fn next_chunk(&mut self, source: &mut dyn ChunkSource) -> Result<Bytes, Broken> {
        let mut chunk = source.next_chunk();
        poll_fn(|cx| match chunk.as_mut().poll(cx) {
            Poll::Ready(made) => Poll::Ready(made.map_err(Broken::Failed)),
            Poll::Pending => self.0.poll_reset(cx).map(|_| Err(Broken::Gone)),
        })
        .await
    }
}
