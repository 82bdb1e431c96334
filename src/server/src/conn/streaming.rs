//! A streaming call: its messages go to the handler one after the other, the handler's answers to the client as its windows have room.

use std::{
    cell::{OnceCell, RefCell},
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use plinth_rpc::{
    Call, ChunkSource, Code, Frame, FrameDecoder, FrameError, Gone, Method, Replies, Requests, Status, errors,
};

use super::{
    GrpcMetrics, Runtime, Service,
    call::{Handled, Outcome, TOO_MANY_UNFINISHED, deadline, guarded},
    gate::{Gate, RequestBytes},
    room::{Broken, Room, SMALL_BYTES_MAX, URGENT_BYTES_MAX},
    send::{self, Heads},
    server::Shared,
};

/// Runs one streaming call to its end.
pub async fn serve<S: Service, R: Runtime>(
    shared: &Shared<S, R>,
    gate: &Gate,
    call: Call,
    body: RecvStream,
    respond: SendResponse<Bytes>,
) {
    let Call { method, meta } = call;
    let mut deadline = pin!(deadline(&shared.runtime, meta.timeout));
    let outbound = Outbound::new(respond, gate, method);
    let gone = |cx: &mut Context<'_>| outbound.poll_reset(cx).is_ready();
    match guarded(gate.pass(), gone, deadline.as_mut()).await {
        Outcome::Done(()) => {}
        Outcome::Late => {
            outbound.end(&shared.heads, Err(&errors::CONTEXT_DEADLINE_EXCEEDED));
            return;
        }
        Outcome::Gone => return,
    }
    shared.metrics.note_started(method);
    let handled = Handled::new(&shared.metrics, method);
    let requests = StreamRequests {
        body,
        decoder: FrameDecoder::new(shared.config.message_bytes_max),
        held: gate.hold_request(),
        metrics: &shared.metrics,
        method,
        is_over: false,
    };
    let replies = StreamReplies { outbound: &outbound, heads: &shared.heads, metrics: &shared.metrics, method };
    let work = shared.service.stream(method, meta, requests, replies);
    let end = match guarded(work, gone, deadline.as_mut()).await {
        Outcome::Done(end) => end,
        Outcome::Late => Err(errors::CONTEXT_DEADLINE_EXCEEDED),
        Outcome::Gone => return,
    };
    handled.end(outbound.end(&shared.heads, end.as_ref().copied()));
    outbound.leave().await;
}

/// The messages of a stream, one after the other.
struct StreamRequests<'a> {
    body: RecvStream,
    decoder: FrameDecoder,
    held: RequestBytes<'a>,
    metrics: &'a GrpcMetrics,
    method: Method,
    is_over: bool,
}

impl StreamRequests<'_> {
    /// Takes the next bytes in, once everything before them was asked for. False at the end.
    async fn fill(&mut self) -> Result<bool, Status> {
        let Some(chunk) = poll_fn(|cx| self.body.poll_data(cx)).await else {
            return self.decoder.finish().map(|()| false).map_err(FrameError::status);
        };
        let chunk = chunk.map_err(|_| errors::CONTEXT_CANCELED)?;
        self.body.flow_control().release_capacity(chunk.len()).map_err(|_| errors::CONTEXT_CANCELED)?;
        self.decoder.push(chunk);
        Ok(true)
    }

    async fn message(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.decoder.next_message().map_err(FrameError::status)? {
                self.metrics.note_received(self.method, message.len());
                return Ok(Some(message));
            }
            if !self.held.set(self.decoder.buffered_bytes()) {
                return Err(TOO_MANY_UNFINISHED);
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }
}

impl Requests for StreamRequests<'_> {
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        if self.is_over {
            return None;
        }
        let message = self.message().await.transpose();
        self.is_over = !matches!(message, Some(Ok(_)));
        message
    }
}

/// Where the answers of a stream go.
struct StreamReplies<'a, 'g> {
    outbound: &'a Outbound<'g>,
    heads: &'a Heads,
    metrics: &'a GrpcMetrics,
    method: Method,
}

impl Replies for StreamReplies<'_, '_> {
    async fn send(&mut self, frame: Frame) -> Result<(), Gone> {
        self.metrics.note_sent(self.method, frame.message_len() as u64);
        self.outbound.open(self.heads)?.send(frame.into_bytes()).await.map_err(|_| Gone)
    }

    async fn send_chunked(&mut self, message_len: u64, source: &mut dyn ChunkSource) -> Result<(), Status> {
        if let Some(status) = send::too_large(message_len) {
            return Err(status);
        }
        self.metrics.note_sent(self.method, message_len);
        self.outbound.open(self.heads)?.send_chunks(message_len, source).await.map_err(|broken| match broken {
            Broken::Failed(status) => status,
            Broken::Gone | Broken::Late => Gone.into(),
        })
    }
}

/// The answering side of a stream. Its head goes with the first message: a call that fails before has none.
struct Outbound<'a> {
    respond: RefCell<SendResponse<Bytes>>,
    gate: &'a Gate,
    /// The longest message that goes before bulk data.
    small_bytes_max: usize,
    room: OnceCell<Room<'a>>,
}

impl<'a> Outbound<'a> {
    fn new(respond: SendResponse<Bytes>, gate: &'a Gate, method: Method) -> Self {
        let is_urgent = matches!(method, Method::Watch | Method::LeaseKeepAlive);
        let small_bytes_max = if is_urgent { URGENT_BYTES_MAX } else { SMALL_BYTES_MAX };
        Self { respond: RefCell::new(respond), gate, small_bytes_max, room: OnceCell::new() }
    }

    /// Ready when the client has reset the call.
    fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.room.get() {
            Some(room) => room.poll_reset(cx),
            None => self.respond.borrow_mut().poll_reset(cx).map(drop),
        }
    }

    fn open(&self, heads: &Heads) -> Result<&Room<'a>, Gone> {
        if self.room.get().is_none() {
            let stream = self.respond.borrow_mut().send_response(heads.response(), false).map_err(|_| Gone)?;
            let room = Room::new(stream, self.gate, self.small_bytes_max);
            assert!(self.room.set(room).is_ok(), "looked at above");
        }
        Ok(self.room.get().expect("opened above"))
    }

    /// Ends the call; says how.
    fn end(&self, heads: &Heads, end: Result<(), &Status>) -> Code {
        match self.room.get() {
            None => {
                let ok = Status::fixed(Code::Ok, "");
                send::fail(&mut self.respond.borrow_mut(), end.err().unwrap_or(&ok));
            }
            Some(room) => room.end(end.map_or_else(Status::trailers, |()| heads.trailers())),
        }
        end.map_or_else(|status| status.code, |()| Code::Ok)
    }

    /// Waits until what was sent is no burden for others.
    async fn leave(&self) {
        if let Some(room) = self.room.get() {
            room.leave().await;
        }
    }
}
