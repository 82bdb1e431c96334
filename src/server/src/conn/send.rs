//! Answers on their way out.
//!
//! A stream that fails underneath ends the answer: nobody is left to tell.

use std::{future::Future, pin::Pin};

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use plinth_rpc::{CallRefused, ChunkSource, Code, Frame, Status, errors};

use super::{
    call::{Handled, Outcome, guarded},
    gate::Gate,
    room::{Broken, Room, SMALL_BYTES_MAX},
};

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
    let Ok(stream) = respond.send_response(heads.response(), false) else { return };
    let room = Room::new(stream, gate, SMALL_BYTES_MAX);
    let sent = outcome(guarded(room.send(frame.into_bytes()), |_| false, deadline).await);
    finish(&room, heads, sent);
    room.leave().await;
}

/// Answers with one message that `source` makes piece by piece.
pub async fn chunked(
    heads: &Heads,
    gate: &Gate,
    respond: &mut SendResponse<Bytes>,
    message_len: u64,
    mut source: Box<dyn ChunkSource>,
    deadline: Pin<&mut impl Future<Output = ()>>,
    handled: Handled<'_>,
) {
    if let Some(status) = too_large(message_len) {
        return handled.fail(respond, &status);
    }
    let Ok(stream) = respond.send_response(heads.response(), false) else { return };
    let room = Room::new(stream, gate, SMALL_BYTES_MAX);
    let sent = outcome(guarded(room.send_chunks(message_len, &mut *source), |_| false, deadline).await);
    drop(source);
    handled.end(finish(&room, heads, sent));
    room.leave().await;
}

/// The status of a message that is longer than gRPC can send.
pub fn too_large(message_len: u64) -> Option<Status> {
    (message_len > u64::from(MESSAGE_BYTES_MAX)).then(|| {
        let text = format!("grpc: trying to send message larger than max ({message_len} vs. {MESSAGE_BYTES_MAX})");
        Status::new(Code::ResourceExhausted, text)
    })
}

fn outcome(outcome: Outcome<Result<(), Broken>>) -> Result<(), Broken> {
    match outcome {
        Outcome::Done(done) => done,
        Outcome::Late => Err(Broken::Late),
        Outcome::Gone => Err(Broken::Gone),
    }
}

fn finish(room: &Room<'_>, heads: &Heads, sent: Result<(), Broken>) -> Code {
    let (trailers, code) = match sent {
        Ok(()) => (heads.trailers(), Code::Ok),
        Err(Broken::Failed(status)) => (status.trailers(), status.code),
        Err(Broken::Late) => (errors::CONTEXT_DEADLINE_EXCEEDED.trailers(), Code::DeadlineExceeded),
        Err(Broken::Gone) => {
            room.reset();
            return Code::Canceled;
        }
    };
    room.end(trailers);
    code
}
