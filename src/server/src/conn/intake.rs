//! The way of a client's bytes from its socket to h2: counted, rationed, their frames watched, and their authorities settled.
//!
//! A header block goes to h2 when [`authority`] has settled it; nearly always that is at once, in the buffer that h2 gave. Else its
//! beginning waits in `ahead`, and more is read behind it.
//!
//! Invariants: bytes go on in the order in which they came; at most [`authority::HELD_BYTES_MAX`] and one small read wait.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

use super::{
    authority::{self, Verdict},
    scan::{FrameHead, FrameScanner, kind},
};

/// Bytes one pass may read, so that a fast sender doesn't keep the executor from the calls it already sent.
const PASS_READ_BYTES_MAX: usize = 256 << 10;

/// Bytes read at once while a header block waits for its authority.
const MORE_BYTES: usize = 512;

/// What came by.
pub struct Intake {
    /// Came and is not with h2 yet: what sniffing read, or the beginning of a header block.
    ahead: BytesMut,
    /// How much of `ahead` may go to h2.
    cleared: usize,
    read_quota: usize,
    watch: Watch,
    /// Bytes that came since they were last asked for.
    read_bytes: usize,
}

/// Follows the frames.
struct Watch {
    frames: FrameScanner,
    /// The frame whose header block comes next and isn't settled.
    unsettled: Option<FrameHead>,
    pings: u32,
    last_stream: u32,
}

impl Intake {
    /// For a socket of which `ahead` was already read.
    pub fn new(ahead: Bytes) -> Self {
        let mut watch = Watch { frames: FrameScanner::client(), unsettled: None, pings: 0, last_stream: 0 };
        let mut ahead = BytesMut::from(ahead);
        let cleared = watch.follow(&mut ahead);
        Self { read_bytes: ahead.len(), ahead, cleared, read_quota: PASS_READ_BYTES_MAX, watch }
    }

    /// A pass begins: reading may go on.
    pub fn begin_pass(&mut self) {
        self.read_quota = PASS_READ_BYTES_MAX;
    }

    /// The highest stream that the client has opened.
    pub fn last_stream(&self) -> u32 {
        self.watch.last_stream
    }

    /// Bytes that came and pings that want an answer, since the last time.
    pub fn take_seen(&mut self) -> (usize, u32) {
        (std::mem::take(&mut self.read_bytes), std::mem::take(&mut self.watch.pings))
    }

    /// Reads for h2, from what waits or from `socket`.
    pub fn poll_read<T>(&mut self, socket: &mut T, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>>
    where
        T: AsyncRead + Unpin,
    {
        loop {
            if self.cleared > 0 {
                self.hand_over(buf);
                return Poll::Ready(Ok(()));
            }
            if self.read_quota == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !self.ahead.is_empty() {
                ready!(self.poll_more(socket, cx))?;
                continue;
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut *socket).poll_read(cx, buf))?;
            let bytes = &mut buf.filled_mut()[before..];
            let at_end = bytes.is_empty();
            self.read_bytes += bytes.len();
            self.read_quota = self.read_quota.saturating_sub(bytes.len());
            let cleared = self.watch.follow(bytes);
            self.ahead.extend_from_slice(&bytes[cleared..]);
            buf.set_filled(before + cleared);
            if cleared > 0 || at_end {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn hand_over(&mut self, buf: &mut ReadBuf<'_>) {
        let len = self.cleared.min(buf.remaining());
        buf.put_slice(&self.ahead[..len]);
        self.ahead.advance(len);
        self.cleared -= len;
        if self.ahead.is_empty() {
            // Rarely needed: an idle connection shall not keep it.
            self.ahead = BytesMut::new();
        }
    }

    /// Reads behind the beginning of a header block. When the client has nothing more to say, h2 gets what there is.
    fn poll_more<T: AsyncRead + Unpin>(&mut self, socket: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [0; MORE_BYTES];
        let mut more = ReadBuf::new(&mut space);
        ready!(Pin::new(socket).poll_read(cx, &mut more))?;
        let more = more.filled();
        self.read_bytes += more.len();
        self.read_quota = self.read_quota.saturating_sub(more.len());
        self.ahead.extend_from_slice(more);
        self.cleared = if more.is_empty() { self.ahead.len() } else { self.watch.follow(&mut self.ahead) };
        Poll::Ready(Ok(()))
    }
}

impl Watch {
    /// Takes note of the frames in `bytes`, the next of the stream, and settles their authorities. Returns how many of the bytes may go
    /// on; those behind are to be shown again, with more.
    fn follow(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        loop {
            if let Some(head) = self.unsettled {
                if authority::settle(head, &mut bytes[at..]) == Verdict::NeedsMore {
                    return at;
                }
                self.unsettled = None;
            }
            let (len, head) = self.frames.next_head(&bytes[at..]);
            at += len;
            let Some(head) = head else { return at };
            self.pings += u32::from(head.is_ping());
            if head.kind == kind::HEADERS {
                self.last_stream = self.last_stream.max(head.stream);
                self.unsettled = Some(head);
            }
        }
    }
}

#[cfg(test)]
mod tests;
