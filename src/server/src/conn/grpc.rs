//! Drives one HTTP/2 connection.
//!
//! A pass, in this order: take calls and let h2 read and encode; judge the client's pings; keepalive and the end of a drain; one
//! write for all that was encoded.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{Ping, PingPong, Reason, server::Connection};
use plinth_base::Instant;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    ConnEnd, Runtime, Service,
    alarm::Alarm,
    call,
    config::STREAMS_MAX,
    gate::Gate,
    keepalive::{Keepalive, KeepaliveStep, PingPolicy},
    lane::Lane,
    registry::Entry,
    scan::goaway,
    server::Shared,
    stream_io::StreamIo,
};

/// What a client may send on one stream before we read it, in bytes: a whole request of the default limit, without a round trip.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;

/// The same for all streams of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Header fields of one request, decoded, in bytes.
const HEADER_LIST_BYTES_MAX: u32 = 256 << 10;

/// Bytes of answers that h2 may hold per stream.
const SEND_BUFFER_BYTES_MAX: usize = 256 << 10;

/// Calls that the client reset before they were taken up. Above it, it plays "rapid reset" and has to go. All calls of a pass may
/// be such, with a client that cancels a batch.
const RESET_UNSEEN_MAX: usize = 1024;

/// How long a client that is sent away may take to read why.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves HTTP/2 on `socket`, of which `ahead` was already read, to its end.
pub async fn serve<T, S, R>(shared: &Rc<Shared<S, R>>, entry: &Entry, socket: T, ahead: Bytes) -> ConnEnd
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service,
    R: Runtime,
{
    let gate = Rc::new(Gate::new(Rc::new(Lane::new(Rc::clone(&shared.lanes_bytes)))));
    let io = StreamIo::new(socket, ahead, Rc::clone(&gate.lane));
    let streams_max = shared.config.streams_max.min(STREAMS_MAX);
    let handshake = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_concurrent_streams(streams_max)
        .max_send_buffer_size(SEND_BUFFER_BYTES_MAX)
        .max_pending_accept_reset_streams(RESET_UNSEEN_MAX)
        .handshake(io.clone());
    // Completes at once: sniffing has seen the whole preface.
    let mut h2 = match handshake.await {
        Ok(h2) => h2,
        Err(error) => return ConnEnd::Failed(error.to_string()),
    };
    let now = shared.runtime.now();
    let config = &shared.config;
    let ping_pong = h2.ping_pong().expect("taken once per connection");
    let mut connection = GrpcConnection {
        shared,
        entry,
        io: io.clone(),
        h2,
        ping_pong,
        gate,
        policy: PingPolicy::new(config.keepalive_min_time),
        keepalive: Keepalive::new(config.keepalive_interval, config.keepalive_timeout, now),
        alarm: Alarm::default(),
        cut_at: None,
        farewell: false,
    };
    let end = poll_fn(|cx| connection.poll(cx)).await;
    drop(connection);
    if end == ConnEnd::TooManyPings {
        say_farewell(&shared.runtime, &io).await;
    }
    end
}

/// Waits, not for long, until the client has the reason for its end.
async fn say_farewell<T: AsyncRead + AsyncWrite + Unpin>(runtime: &impl Runtime, io: &StreamIo<T>) {
    let mut sleep = pin!(runtime.sleep(FAREWELL_TIMEOUT));
    poll_fn(|cx| if io.poll_close(cx).is_ready() { Poll::Ready(()) } else { sleep.as_mut().poll(cx) }).await;
}

struct GrpcConnection<'a, T, S, R> {
    shared: &'a Rc<Shared<S, R>>,
    entry: &'a Entry,
    io: StreamIo<T>,
    h2: Connection<StreamIo<T>, Bytes>,
    ping_pong: PingPong,
    gate: Rc<Gate>,
    policy: PingPolicy,
    keepalive: Keepalive,
    alarm: Alarm,
    /// When a drain that is under way ends.
    cut_at: Option<Instant>,
    /// The client pings too much and is to be sent away.
    farewell: bool,
}

impl<T, S, R> GrpcConnection<'_, T, S, R>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service,
    R: Runtime,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnEnd> {
        self.poll_stop(cx);
        loop {
            self.io.begin_pass();
            if let Poll::Ready(end) = self.poll_accept(cx) {
                return Poll::Ready(end);
            }
            let now = self.shared.runtime.now();
            self.judge_pings(now);
            if self.farewell && self.poll_farewell() {
                return Poll::Ready(ConnEnd::TooManyPings);
            }
            let drained = self.io.poll_drain(cx);
            self.gate.lane.wake();
            if self.io.take_emptied() {
                // A client that takes bulk data as fast as it can shall not keep its other calls from beginning.
                self.gate.set_socket_full(false);
            }
            self.gate.set_socket_full(drained.is_pending());
            match drained {
                Poll::Ready(Err(error)) => return Poll::Ready(ConnEnd::Failed(error.to_string())),
                // h2 waits for room that there is now.
                Poll::Ready(Ok(())) if self.io.take_refused() => {}
                _ => match ready!(self.poll_times(cx, now)) {
                    Some(end) => return Poll::Ready(end),
                    // A ping is to be encoded.
                    None => continue,
                },
            }
        }
    }

    /// Begins the drain when the server stops.
    fn poll_stop(&mut self, cx: &Context<'_>) {
        if self.cut_at.is_none() && self.entry.poll_stopping(cx) {
            self.h2.graceful_shutdown();
            self.cut_at = Some(self.shared.runtime.now() + self.shared.config.drain_timeout);
        }
    }

    /// Lets h2 work and starts every call that came. Ready when the connection is over.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<ConnEnd> {
        loop {
            match ready!(self.h2.poll_accept(cx)) {
                Some(Ok((request, respond))) => {
                    let call = call::run(Rc::clone(self.shared), self.gate.enter(), request, respond);
                    self.shared.runtime.spawn(call);
                }
                Some(Err(error)) => return Poll::Ready(ConnEnd::Failed(error.to_string())),
                None => return Poll::Ready(ConnEnd::Closed),
            }
        }
    }

    fn judge_pings(&mut self, now: Instant) {
        let seen = self.io.take_seen();
        if seen.read_bytes > 0 {
            self.keepalive.note_read(now);
        }
        if seen.answered {
            self.policy.note_answered();
        }
        let calls = self.gate.calls();
        let allowed = (0..seen.pings).all(|_| self.policy.allow(now, calls));
        self.farewell |= !allowed;
    }

    /// Puts the last frame in, which names the reason; false while h2 is in the middle of a frame.
    fn poll_farewell(&self) -> bool {
        let last_stream = self.io.last_stream();
        self.io.inject(&goaway(last_stream, Reason::ENHANCE_YOUR_CALM, b"too_many_pings"))
    }

    /// Ready when a time has come: with the connection's end, or with nothing if h2 has something to encode.
    fn poll_times(&mut self, cx: &mut Context<'_>, mut now: Instant) -> Poll<Option<ConnEnd>> {
        loop {
            if self.cut_at.is_some_and(|cut_at| cut_at <= now) {
                return Poll::Ready(Some(ConnEnd::Cut));
            }
            let due = match self.keepalive.step(now) {
                KeepaliveStep::Close => return Poll::Ready(Some(ConnEnd::KeepaliveTimeout)),
                KeepaliveStep::Ping => {
                    // Clears the answer to an earlier one. Sending fails while one is unanswered: it serves as this one.
                    let _ = self.ping_pong.poll_pong(cx);
                    let _ = self.ping_pong.send_ping(Ping::opaque());
                    return Poll::Ready(None);
                }
                KeepaliveStep::WaitUntil(due) => due,
            };
            let due = self.cut_at.map_or(due, |cut_at| cut_at.min(due));
            ready!(self.alarm.poll(cx, &self.shared.runtime, now, due));
            now = self.shared.runtime.now();
        }
    }
}
