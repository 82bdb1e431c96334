//! Accepting, reading and writing on an executor.
//!
//! glommio's streams try the system call first and wait for readiness on the ring only if that would block, so a busy connection
//! costs one recv per batch of requests. Its own read buffer would copy once more: h2 and hyper read into buffers that are larger.
//! What it lacks is a vectored write; h2 then sends frame head and payload in one call.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::io::{AsyncRead as _, AsyncWrite as _};
use glommio::net::{TcpListener, TcpStream};
use plinth_env::Env;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ListenAddr, Listeners};
use crate::{counters::ExecutorCounters, env::UringEnv};

/// First and longest pause after accept failed, for lack of descriptors mostly.
const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// Its address.
    Tcp(SocketAddr),
    /// A process of this machine.
    Unix,
}

/// The listening socket of one executor. Closed when dropped.
pub struct Listener {
    socket: TcpListener,
    is_tcp: bool,
    env: UringEnv,
}

impl Listener {
    /// Takes executor `index`'s socket out of `listeners`; nothing if it has none or it was taken before. Call it on that executor.
    #[allow(unsafe_code)]
    pub fn take(listeners: &Listeners, index: usize, env: &UringEnv) -> Option<Self> {
        let socket = listeners.take(index)?;
        let is_tcp = matches!(listeners.local_addr(), ListenAddr::Tcp(_));
        // SAFETY: the descriptor was just released by its only owner and is given away; the listener closes it. glommio uses it for
        // accept alone, which works the same for TCP and for paths.
        let socket = unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) };
        Some(Self { socket, is_tcp, env: env.clone() })
    }

    /// The next connection. Failures are counted, waited for with growing pauses, and never returned.
    pub async fn accept(&self) -> Connection {
        let counters = &self.env.0.counters;
        let mut pause = BACKOFF_MIN;
        loop {
            // Bound to this executor in the same step, so its descriptor can't leak.
            match self.socket.accept().await {
                Ok(stream) => {
                    counters.accepts.add(1);
                    if let Ok(connection) = Connection::new(stream, self.is_tcp, Arc::clone(counters)) {
                        return connection;
                    }
                }
                Err(_) => {
                    counters.accept_errors.add(1);
                    self.env.sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF_MAX);
                }
            }
        }
    }
}

/// A connection, to be used on the executor that accepted it.
pub struct Connection {
    stream: TcpStream,
    peer: Peer,
    counters: Arc<ExecutorCounters>,
}

impl Connection {
    fn new(stream: TcpStream, is_tcp: bool, counters: Arc<ExecutorCounters>) -> io::Result<Self> {
        let mut connection = Self { stream, peer: Peer::Unix, counters };
        let socket = connection.socket();
        socket.set_cloexec(true)?;
        if is_tcp {
            socket.set_tcp_nodelay(true)?;
            // It may have gone again already; then there is nobody to serve.
            let addr = socket.peer_addr()?.as_socket().ok_or(io::ErrorKind::NotConnected)?;
            connection.peer = Peer::Tcp(addr);
        }
        Ok(connection)
    }

    /// The other end.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    fn socket(&self) -> SockRef<'_> {
        SockRef::from(self)
    }

    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        if matches!(result, Poll::Ready(Ok(_))) {
            self.counters.socket_writes.add(1);
        }
    }
}

impl AsFd for Connection {
    #[allow(unsafe_code)]
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream owns the descriptor and is borrowed as long as the result is used.
        unsafe { BorrowedFd::borrow_raw(self.stream.as_raw_fd()) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let got = match Pin::new(&mut self.stream).poll_read(cx, buf.initialize_unfilled()) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(result) => result?,
        };
        buf.advance(got);
        self.counters.socket_reads.add(1);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.socket().send_vectored_with_flags(bufs, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) {
            // glommio tries the first part once more, and then waits for room.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
                self.as_mut().poll_write(cx, first)
            }
            result => {
                let result = Poll::Ready(result);
                self.wrote(&result);
                result
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is kept back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
