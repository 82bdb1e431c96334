//! Everything that is not gRPC: hyper's HTTP/1 in front of [`Service::http`].

use std::{
    cell::Cell,
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::Request;
use http_body_util::Full;
use hyper::{
    body::Incoming,
    rt::{Read, ReadBufCursor, Write},
    server::conn::http1,
    service::service_fn,
};
use plinth_base::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ConnEnd, Runtime, Service, alarm::Alarm, registry::Entry, server::Shared};

/// The head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// One read from the socket, in bytes.
const READ_BYTES: usize = 4 << 10;

/// Whether the connection works for a request, or since when not.
#[derive(Clone, Copy)]
enum Activity {
    Busy,
    IdleSince(Instant),
}

/// Serves HTTP/1 on `socket`, of which `ahead` was already read, to its end.
pub async fn serve<T, S, R>(shared: &Rc<Shared<S, R>>, entry: &Entry, socket: T, ahead: Bytes) -> ConnEnd
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service,
    R: Runtime,
{
    let runtime = &shared.runtime;
    let activity = Cell::new(Activity::IdleSince(runtime.now()));
    let service = service_fn(async |request: Request<Incoming>| {
        activity.set(Activity::Busy);
        let (head, _body) = request.into_parts();
        let response = shared.service.http(Request::from_parts(head, ())).await;
        activity.set(Activity::IdleSince(runtime.now()));
        Ok::<_, Infallible>(response.map(Full::new))
    });
    let connection =
        http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).serve_connection(Http1Io { socket, ahead }, service);
    let mut connection = pin!(connection);
    let mut alarm = Alarm::default();
    let mut cut_at = None;
    poll_fn(|cx| {
        if cut_at.is_none() && entry.poll_stopping(cx) {
            cut_at = Some(runtime.now() + shared.config.drain_timeout);
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(done) = connection.as_mut().poll(cx) {
            return Poll::Ready(done.map_or_else(|error| ConnEnd::Failed(error.to_string()), |()| ConnEnd::Closed));
        }
        loop {
            let now = runtime.now();
            // A request under way has no limit of its own: checks and scrapes have theirs.
            let idle_until = match activity.get() {
                Activity::IdleSince(since) => Some(since + shared.config.http1_idle),
                Activity::Busy => None,
            };
            match (cut_at, idle_until) {
                (Some(at), _) if at <= now => return Poll::Ready(ConnEnd::Cut),
                (_, Some(until)) if until <= now => return Poll::Ready(ConnEnd::Silent),
                (None, None) => return Poll::Pending,
                (cut, idle) => {
                    let due = [cut, idle].into_iter().flatten().min().unwrap_or(now);
                    ready!(alarm.poll(cx, runtime, now, due));
                }
            }
        }
    })
    .await
}

/// A socket as hyper wants it.
struct Http1Io<T> {
    socket: T,
    ahead: Bytes,
}

impl<T: AsyncRead + Unpin> Read for Http1Io<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut out: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let len = self.ahead.len().min(out.remaining());
            out.put_slice(&self.ahead[..len]);
            self.ahead.advance(len);
            return Poll::Ready(Ok(()));
        }
        // hyper's cursor can be filled in place only by unsafe code; requests here are small.
        let mut space = [0; READ_BYTES];
        let len = space.len().min(out.remaining());
        let mut buf = ReadBuf::new(&mut space[..len]);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buf))?;
        out.put_slice(buf.filled());
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> Write for Http1Io<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
