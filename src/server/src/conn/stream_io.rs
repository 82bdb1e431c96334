//! The socket as h2 sees it: reads go through [`Intake`], writes are gathered and leave once per pass.
//!
//! h2 flushes after every larger frame; each would be a system call. Here a flush from above does nothing: the connection loop calls
//! [`StreamIo::poll_drain`] when everything that was ready has been encoded.
//!
//! Invariant: bytes leave in the order in which they were written; at most [`OUT_BYTES_MAX`] wait.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    intake::Intake,
    lane::Lane,
    scan::{FrameScanner, kind},
};

/// Bytes gathered before a write goes to the socket in the middle of a pass.
pub const OUT_BYTES_MAX: usize = 64 << 10;

struct Inner<T> {
    socket: T,
    intake: Intake,
    out: Vec<u8>,
    /// How much of `out` the socket has.
    out_sent: usize,
    /// h2 was told to wait for room.
    refused: bool,
    /// The socket took all there was, though there may be more by now.
    emptied: bool,
    answered: bool,
    writes: FrameScanner,
    lane: Rc<Lane>,
}

/// What went by since it was last taken.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Bytes from the client.
    pub read_bytes: usize,
    /// Pings from the client that want an answer.
    pub pings: u32,
    /// Headers or data went to the client.
    pub answered: bool,
}

/// A handle to one connection's socket. h2 owns one, the connection loop another.
pub struct StreamIo<T>(Rc<RefCell<Inner<T>>>);

impl<T> Clone for StreamIo<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> StreamIo<T> {
    /// Wraps `socket`, of which `ahead` was already read. What h2 encodes is told to `lane`.
    pub fn new(socket: T, ahead: Bytes, lane: Rc<Lane>) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            socket,
            intake: Intake::new(ahead),
            out: Vec::new(),
            out_sent: 0,
            refused: false,
            emptied: false,
            answered: false,
            writes: FrameScanner::server(),
            lane,
        })))
    }

    /// A pass begins: reading may go on.
    pub fn begin_pass(&self) {
        self.0.borrow_mut().intake.begin_pass();
    }

    /// What went by since the last time.
    pub fn take_seen(&self) -> Seen {
        let mut inner = self.0.borrow_mut();
        let (read_bytes, pings) = inner.intake.take_seen();
        Seen { read_bytes, pings, answered: std::mem::take(&mut inner.answered) }
    }

    /// The highest stream that the client has opened.
    pub fn last_stream(&self) -> u32 {
        self.0.borrow().intake.last_stream()
    }

    /// Hands everything that was gathered to the socket.
    pub fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_drain(cx)
    }

    /// Whether h2 was refused room since the last time this was asked: it must be polled again after a drain.
    pub fn take_refused(&self) -> bool {
        std::mem::take(&mut self.0.borrow_mut().refused)
    }

    /// Whether the socket took all there was at some moment since the last time this was asked.
    pub fn take_emptied(&self) -> bool {
        std::mem::take(&mut self.0.borrow_mut().emptied)
    }

    /// Appends a frame of our own. False if h2 is in the middle of one of its frames.
    pub fn inject(&self, frame: &[u8]) -> bool {
        let mut inner = self.0.borrow_mut();
        let at_boundary = inner.writes.at_boundary();
        if at_boundary {
            inner.out.extend_from_slice(frame);
        }
        at_boundary
    }

    /// Drains and closes the sending side.
    pub fn poll_close(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_drain(cx))?;
        Pin::new(&mut inner.socket).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Inner<T> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.out_sent < self.out.len() {
            let sent = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.out[self.out_sent..]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out_sent += sent;
        }
        self.out.clear();
        self.out_sent = 0;
        self.emptied = true;
        Pin::new(&mut self.socket).poll_flush(cx)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for StreamIo<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.borrow_mut();
        inner.intake.poll_read(&mut inner.socket, cx, buf)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for StreamIo<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let inner = &mut *self.0.borrow_mut();
        if inner.out.len() >= OUT_BYTES_MAX {
            match inner.poll_drain(cx) {
                Poll::Ready(done) => done?,
                Poll::Pending => {
                    inner.refused = true;
                    return Poll::Pending;
                }
            }
        }
        let taken = &bytes[..bytes.len().min(OUT_BYTES_MAX - inner.out.len())];
        inner.out.extend_from_slice(taken);
        let (answered, lane) = (&mut inner.answered, &inner.lane);
        inner.writes.scan(taken, |head| {
            *answered |= matches!(head.kind, kind::DATA | kind::HEADERS);
            if head.kind == kind::DATA {
                lane.note_encoded(head.stream, head.payload_bytes);
            }
        });
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_close(cx)
    }
}
