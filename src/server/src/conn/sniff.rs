//! What does this client speak? Its first bytes tell.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

use super::{Runtime, registry::Entry, scan::PREFACE};

/// What a client speaks, and the bytes that were read to find out.
#[derive(PartialEq, Eq, Debug)]
pub enum Spoken {
    /// HTTP/2 with prior knowledge.
    Http2(Bytes),
    /// Anything else: HTTP/1 says what it thinks of it.
    Http1(Bytes),
    /// The client left or said too little in time, or the server stops.
    Nothing,
}

/// Reads until it is clear what `socket` speaks, for at most `timeout`.
pub async fn sniff<T: AsyncRead + Unpin>(
    socket: &mut T,
    runtime: &impl Runtime,
    entry: &Entry,
    timeout: Duration,
) -> io::Result<Spoken> {
    let mut sleep = pin!(runtime.sleep(timeout));
    let mut got = BytesMut::new();
    poll_fn(|cx| {
        if entry.poll_stopping(cx) {
            return Poll::Ready(Ok(Spoken::Nothing));
        }
        loop {
            let mut space = [0; PREFACE.len()];
            let mut buf = ReadBuf::new(&mut space);
            match Pin::new(&mut *socket).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if buf.filled().is_empty() => return Poll::Ready(Ok(Spoken::Nothing)),
                Poll::Ready(Ok(())) => got.extend_from_slice(buf.filled()),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return sleep.as_mut().poll(cx).map(|()| Ok(Spoken::Nothing)),
            }
            let known = got.len().min(PREFACE.len());
            if got[..known] != PREFACE[..known] {
                return Poll::Ready(Ok(Spoken::Http1(std::mem::take(&mut got).freeze())));
            }
            if known == PREFACE.len() {
                return Poll::Ready(Ok(Spoken::Http2(std::mem::take(&mut got).freeze())));
            }
        }
    })
    .await
}
