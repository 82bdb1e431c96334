//! One call, a task of its own: head, message, handler, answer.
//!
//! The client may vanish or reset the call at any point, and its time may run out: the handler's future is dropped then.

use std::{
    future::{Future, pending, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::Request;
use plinth_rpc::{Call, CallRefused, Code, FrameDecoder, FrameError, Kind, Method, Reply, Status, errors};

use super::{
    GrpcMetrics, Runtime, Service,
    gate::{CallGuard, Gate},
    send,
    server::Shared,
    streaming,
};

/// What one connection's incomplete requests may hold is used up.
pub const TOO_MANY_UNFINISHED: Status =
    Status::fixed(Code::ResourceExhausted, "grpc: too many bytes of unfinished requests");

/// Runs one call to its end.
pub async fn run<S: Service, R: Runtime>(
    shared: Rc<Shared<S, R>>,
    guard: CallGuard,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    match parse(request) {
        Ok((call, _)) if !shared.service.implements(call.method) => {
            send::fail(&mut respond, &call.method.unimplemented());
        }
        Ok((call, body)) if call.method.kind() == Kind::Unary => {
            unary(&shared, &guard, call, body, &mut respond).await;
        }
        Ok((call, body)) => streaming::serve(&shared, &guard, call, body, respond).await,
        Err(refused) => send::refuse(&mut respond, &refused),
    }
}

/// The head of a call that goes on to its message, and where that comes from.
fn parse(request: Request<RecvStream>) -> Result<(Call, RecvStream), CallRefused> {
    let (head, body) = request.into_parts();
    Ok((Call::parse(&head.method, head.uri.path(), &head.headers)?, body))
}

async fn unary<S: Service, R: Runtime>(
    shared: &Shared<S, R>,
    gate: &Gate,
    call: Call,
    mut body: RecvStream,
    respond: &mut SendResponse<Bytes>,
) {
    let Call { method, meta } = call;
    let mut deadline = pin!(deadline(&shared.runtime, meta.timeout));
    let message = collect(gate, &mut body, shared.config.message_bytes_max);
    let message = match guarded(message, |cx| respond.poll_reset(cx).is_ready(), deadline.as_mut()).await {
        Outcome::Done(Ok(message)) => message,
        Outcome::Done(Err(status)) => return send::fail(respond, &status),
        Outcome::Late => return send::fail(respond, &errors::CONTEXT_DEADLINE_EXCEEDED),
        Outcome::Gone => return,
    };
    shared.metrics.note_started(method);
    shared.metrics.note_received(method, message.len());
    // Counts the call as handled on every way out, also when this task is dropped.
    let handled = Handled::new(&shared.metrics, method);
    let answer = shared.service.unary(method, message, meta);
    let reply = match guarded(answer, |cx| respond.poll_reset(cx).is_ready(), deadline.as_mut()).await {
        Outcome::Done(Ok(reply)) => reply,
        Outcome::Done(Err(status)) => return handled.fail(respond, &status),
        Outcome::Late => return handled.fail(respond, &errors::CONTEXT_DEADLINE_EXCEEDED),
        Outcome::Gone => return,
    };
    match reply {
        Reply::Message(frame) => {
            shared.metrics.note_sent(method, frame.message_len() as u64);
            handled.end(Code::Ok);
            send::message(&shared.heads, gate, respond, frame, deadline).await;
        }
        Reply::Chunked { message_len, source } => {
            shared.metrics.note_sent(method, message_len);
            send::chunked(&shared.heads, gate, respond, message_len, source, deadline, handled).await;
        }
    }
}

/// Counts a call as handled, with the code that it ended with; Canceled if nobody said.
pub struct Handled<'a> {
    metrics: &'a GrpcMetrics,
    method: Method,
    code: Code,
}

impl<'a> Handled<'a> {
    pub fn new(metrics: &'a GrpcMetrics, method: Method) -> Self {
        Self { metrics, method, code: Code::Canceled }
    }

    pub fn end(mut self, code: Code) {
        self.code = code;
    }

    pub fn fail(self, respond: &mut SendResponse<Bytes>, status: &Status) {
        self.end(status.code);
        send::fail(respond, status);
    }
}

impl Drop for Handled<'_> {
    fn drop(&mut self) {
        self.metrics.note_handled(self.method, self.code);
    }
}

/// The one message of a unary call. What comes behind it is nobody's business, as in grpc-go.
async fn collect(gate: &Gate, body: &mut RecvStream, message_bytes_max: usize) -> Result<Bytes, Status> {
    gate.pass().await;
    let mut decoder = FrameDecoder::new(message_bytes_max);
    let mut held = gate.hold_request();
    while let Some(chunk) = poll_fn(|cx| body.poll_data(cx)).await {
        // Failures of the stream: whoever reads the status is gone.
        let chunk = chunk.map_err(|_| errors::CONTEXT_CANCELED)?;
        body.flow_control().release_capacity(chunk.len()).map_err(|_| errors::CONTEXT_CANCELED)?;
        decoder.push(chunk);
        if let Some(message) = decoder.next_message().map_err(FrameError::status)? {
            return Ok(message);
        }
        if !held.set(decoder.buffered_bytes()) {
            return Err(TOO_MANY_UNFINISHED);
        }
    }
    Err(FrameError::Truncated.status())
}

/// Completes when the caller's time is up; creates a timer only when it is polled.
pub async fn deadline<R: Runtime>(runtime: &R, timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => runtime.sleep(timeout).await,
        None => pending().await,
    }
}

/// How guarded work came out.
pub enum Outcome<T> {
    /// It is done.
    Done(T),
    /// The caller's time was up first.
    Late,
    /// The caller was gone first.
    Gone,
}

/// Polls `work`, and gives it up when the caller is `gone` or `deadline` completes.
pub async fn guarded<T>(
    work: impl Future<Output = T>,
    mut gone: impl FnMut(&mut Context<'_>) -> bool,
    mut deadline: Pin<&mut impl Future<Output = ()>>,
) -> Outcome<T> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        // The work first: nearly always it is ready, and the rest costs nothing then.
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Outcome::Done(done));
        }
        if gone(cx) {
            return Poll::Ready(Outcome::Gone);
        }
        deadline.as_mut().poll(cx).map(|()| Outcome::Late)
    })
    .await
}
